//! The schema of a store, and the migrations that bring a database to its version.

use deadpool_postgres::Client;
use tokio_postgres::types::Type;

use super::{inbox, ledger, migration::Migration};
use crate::{
    connection::{Connections, Failure},
    names::Names,
};

/// The advisory lock that keeps two nodes from migrating at the same time: the letters "klikit".
pub(super) const MIGRATION_LOCK: i64 = 0x6b6c_696b_6974;

/// The schema of one store: the steps of each of its parts.
pub(crate) struct Schema {
    names: Names,
    parts: Vec<Part>,
}

/// A part of the schema, with its own version.
struct Part {
    name: &'static str,
    /// The statements that bring the part to version 1, 2 and so on.
    steps: Vec<String>,
}

/// The reason why a schema cannot be used.
#[derive(Debug)]
pub(crate) enum SchemaFailure {
    /// A statement failed before the migrations.
    Failed(Failure),
    /// The database has this table of a release before version 1.
    Outdated(String),
    /// The part has a version that this crate does not know.
    Newer { part: &'static str, found: u32, known: u32 },
    /// The step to this version failed. Nothing has changed.
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

    /// Adds an unreleased step.
    #[cfg(test)]
    pub(super) fn with_step(mut self, part: &str, sql: &str) -> Self {
        let part = self.parts.iter_mut().find(|known| known.name == part).expect("the part exists");
        part.steps.push(sql.to_owned());
        self
    }

    /// Keeps only the first step of each part.
    #[cfg(test)]
    pub(super) fn first_version(mut self) -> Self {
        self.parts.iter_mut().for_each(|part| part.steps.truncate(1));
        self
    }

    /// Returns all steps, in order.
    pub(crate) fn migrations(&self) -> Vec<Migration> {
        self.parts.iter().flat_map(|part| self.steps_after(part, 0)).collect()
    }

    /// Returns the steps that the database lacks, in order. Only reads.
    pub(crate) async fn pending(&self, connections: &Connections) -> Result<Vec<Migration>, SchemaFailure> {
        let acquired = connections.acquire().await?;
        let missing = self.missing(acquired.client()).await?;
        acquired.release();
        Ok(missing)
    }

    /// Runs the missing steps in one transaction, one node at a time.
    pub(crate) async fn migrate(&self, connections: &Connections) -> Result<(), SchemaFailure> {
        let mut acquired = connections.acquire().await?;
        acquired.require_rollback();
        let client = acquired.client();
        let begin = format!("BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({MIGRATION_LOCK})");
        client.batch_execute(&begin).await.map_err(Failure::Statement)?;
        for step in self.missing(client).await? {
            if let Err(error) = client.batch_execute(step.sql()).await {
                let part = self.parts.iter().find(|part| part.name == step.part()).map_or("", |part| part.name);
                return Err(SchemaFailure::Step { part, version: step.version(), failure: Failure::Statement(error) });
            }
        }
        client.batch_execute("COMMIT").await.map_err(Failure::Statement)?;
        acquired.release();
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

    /// Reads the version of each part, or 0 if the part is missing.
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

    /// Returns an error if the database has tables of a release before version 1. Their names began with `klikit_deliveries`,
    /// the name of the ledger.
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

/// Returns whether a table of this name exists.
///
/// Reading `pg_class` makes the session notice tables that other nodes have just created. `to_regclass` alone does not.
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
