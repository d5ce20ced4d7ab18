//! Brings the tables of a database to the version that this crate knows.

use deadpool_postgres::Client;
use tokio_postgres::types::Type;

use super::{inbox, ledger, migration::Migration};
use crate::{
    connection::{Connections, Failure},
    names::Names,
};

/// An advisory lock that keeps two nodes from migrating at the same time. It can be any number that nothing else uses:
/// these are the letters "klikit".
pub(super) const MIGRATION_LOCK: i64 = 0x6b6c_696b_6974;

/// The schema of one store: the steps of each of its parts.
pub(crate) struct Schema {
    names: Names,
    parts: Vec<Part>,
}

struct Part {
    name: &'static str,
    /// The statements that bring the part to version 1, 2 and so on.
    steps: Vec<String>,
}

/// The reason why a schema cannot be used.
#[derive(Debug)]
pub(crate) enum SchemaFailure {
    /// The server could not be asked.
    Failed(Failure),
    /// There is the table of a release before version 1.
    Outdated(String),
    /// The part has a version that this crate does not know.
    Newer { part: &'static str, found: u32, known: u32 },
    /// The step to this version failed, and nothing has changed.
    Step { part: &'static str, version: u32, failure: Failure },
}

impl Schema {
    pub(crate) fn ledger_only(names: &Names) -> Self {
        Self { names: names.clone(), parts: vec![Part { name: "ledger", steps: ledger::steps(names) }] }
    }

    pub(crate) fn whole(names: &Names) -> Self {
        let mut schema = Self::ledger_only(names);
        schema.parts.push(Part { name: "inbox", steps: inbox::steps(names) });
        schema
    }

    /// Adds a step that no release has.
    #[cfg(test)]
    pub(super) fn with_step(mut self, part: &str, sql: &str) -> Self {
        let part = self.parts.iter_mut().find(|known| known.name == part).expect("the part exists");
        part.steps.push(sql.to_owned());
        self
    }

    /// Leaves out all steps except the first of each part.
    #[cfg(test)]
    pub(super) fn first_version(mut self) -> Self {
        self.parts.iter_mut().for_each(|part| part.steps.truncate(1));
        self
    }

    /// Returns all steps, in order.
    pub(crate) fn migrations(&self) -> Vec<Migration> {
        self.parts.iter().flat_map(|part| self.steps_after(part, 0)).collect()
    }

    /// Returns whether nothing has to be migrated. Reads only.
    pub(crate) async fn is_current(&self, connections: &Connections) -> Result<bool, SchemaFailure> {
        let lent = connections.lend().await?;
        let missing = self.missing(lent.client()).await?;
        lent.give_back();
        Ok(missing.is_empty())
    }

    /// Runs the missing steps in one transaction, while no other node does.
    pub(crate) async fn migrate(&self, connections: &Connections) -> Result<(), SchemaFailure> {
        let mut lent = connections.lend().await?;
        lent.begun();
        let client = lent.client();
        let begin = format!("BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({MIGRATION_LOCK})");
        client.batch_execute(&begin).await.map_err(Failure::Statement)?;
        for step in self.missing(client).await? {
            if let Err(error) = client.batch_execute(step.sql()).await {
                let part = self.parts.iter().find(|part| part.name == step.part()).map_or("", |part| part.name);
                return Err(SchemaFailure::Step { part, version: step.version(), failure: Failure::Statement(error) });
            }
        }
        client.batch_execute("COMMIT").await.map_err(Failure::Statement)?;
        lent.give_back();
        Ok(())
    }

    /// Returns the steps that the database lacks.
    async fn missing(&self, client: &Client) -> Result<Vec<Migration>, SchemaFailure> {
        let mut missing = Vec::new();
        for (part, version) in self.parts.iter().zip(self.versions(client).await?) {
            let known = u32::try_from(part.steps.len()).unwrap_or(u32::MAX);
            if version > known {
                return Err(SchemaFailure::Newer { part: part.name, found: version, known });
            }
            if version == 0 {
                self.reject_outdated(client).await?;
            }
            missing.extend(self.steps_after(part, version));
        }
        Ok(missing)
    }

    /// Reads the version of each part: 0 if it is missing.
    async fn versions(&self, client: &Client) -> Result<Vec<u32>, Failure> {
        let table = self.names.of("schema");
        if !is_table(client, &table).await? {
            return Ok(vec![0; self.parts.len()]);
        }
        let rows =
            client.query_typed(&format!("SELECT part, version FROM {table}"), &[]).await.map_err(Failure::Statement)?;
        let mut versions = vec![0; self.parts.len()];
        for row in rows {
            let part: &str = row.try_get(0).map_err(Failure::Statement)?;
            let version: i32 = row.try_get(1).map_err(Failure::Statement)?;
            if let Some(place) = self.parts.iter().position(|known| known.name == part) {
                versions[place] = u32::try_from(version).unwrap_or_default();
            }
        }
        Ok(versions)
    }

    /// Looks for the tables of releases before version 1, whose names began with the ledger's, `klikit_deliveries`.
    async fn reject_outdated(&self, client: &Client) -> Result<(), SchemaFailure> {
        const OUTDATED: [&str; 4] =
            ["deliveries", "deliveries_inbox", "deliveries_inbox_delivery", "deliveries_inbox_ordering"];
        for name in OUTDATED {
            if is_table(client, &self.names.of(name)).await? {
                return Err(SchemaFailure::Outdated(self.names.plain(name)));
            }
        }
        Ok(())
    }

    fn steps_after(&self, part: &Part, version: u32) -> Vec<Migration> {
        let steps = (1..).zip(&part.steps).skip_while(|(step, _)| *step <= version);
        steps
            .map(|(step, sql)| Migration::new(part.name, step, format!("{sql}\n\n{}", self.record(part, step))))
            .collect()
    }

    /// Returns the statement that records a version.
    fn record(&self, part: &Part, version: u32) -> String {
        let (schema, part) = (self.names.of("schema"), part.name);
        if version == 1 {
            return format!("INSERT INTO {schema} (part, version) VALUES ('{part}', 1);");
        }
        format!("UPDATE {schema} SET version = {version}, applied_at = now() WHERE part = '{part}';")
    }
}

/// Returns whether there is a table of this name.
///
/// Reading `pg_class` makes the session notice what other nodes have just created, which `to_regclass` alone does not.
async fn is_table(client: &Client, name: &str) -> Result<bool, Failure> {
    let sql = "SELECT count(*) FROM pg_class WHERE oid = to_regclass($1) AND relkind IN ('r', 'p')";
    let count = client.query_typed_one(sql, &[(&name, Type::TEXT)]).await.and_then(|row| row.try_get::<_, i64>(0));
    Ok(count.map_err(Failure::Statement)? > 0)
}

impl From<Failure> for SchemaFailure {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
