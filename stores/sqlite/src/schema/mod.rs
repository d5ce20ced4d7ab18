//! The schema: the tables, their versions, and the steps that create and change them.

mod migration;
mod prefix;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

pub use self::migration::Migration;
use crate::error::{SqliteError, SqliteErrorKind};

/// The steps in the order in which they are applied. A step that was released never changes.
const STEPS: [(&str, u32, &str); 2] =
    [(LEDGER, 1, include_str!("sql/ledger_1.sql")), (INBOX, 1, include_str!("sql/inbox_1.sql"))];

/// The ledger's tables, and those that every store needs.
const LEDGER: &str = "ledger";
/// The inbox's tables, which ledger-only stores do without.
const INBOX: &str = "inbox";

/// The tables whose names begin with one prefix.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    prefix: String,
    migrations: Vec<Migration>,
}

impl Schema {
    /// Returns the schema with all of its parts.
    pub(super) fn new(prefix: &str) -> Result<Self, SqliteError> {
        prefix::check(prefix)?;
        let step = |(part, version, sql)| Migration::new(part, version, sql, prefix);
        Ok(Self { prefix: prefix.into(), migrations: STEPS.into_iter().map(step).collect() })
    }

    /// Leaves the inbox out.
    pub(super) fn ledger_only(mut self) -> Self {
        self.migrations.retain(|migration| migration.part() == LEDGER);
        self
    }

    /// Appends a step to a part.
    #[cfg(test)]
    pub(super) fn append(mut self, part: &'static str, sql: &str) -> Self {
        let step = Migration::new(part, self.known(part) + 1, sql, &self.prefix);
        self.migrations.push(step);
        self
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn migrations(&self) -> &[Migration] {
        &self.migrations
    }

    /// Applies the steps that are missing, all in one transaction.
    pub(super) fn migrate(&self, connection: &mut Connection) -> Result<(), SqliteError> {
        // Mostly none is missing, and then nothing is locked.
        if self.missing(connection)?.is_empty() {
            return Ok(());
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for migration in self.missing(&transaction)? {
            transaction.execute_batch(migration.sql()).map_err(|error| failed(migration, error))?;
        }
        Ok(transaction.commit()?)
    }

    /// Checks that the file has everything that the steps make. The versions that it records do not tell.
    pub(super) fn check(&self, connection: &Connection) -> Result<(), SqliteError> {
        let made = Connection::open_in_memory()?;
        for migration in &self.migrations {
            made.execute_batch(migration.sql()).map_err(|error| failed(migration, error))?;
        }
        let found = self.objects(connection)?;
        let is_missing = |object: &String| !found.iter().any(|found| found.eq_ignore_ascii_case(object));
        self.objects(&made)?.into_iter().find(is_missing).map_or(Ok(()), |object| {
            Err(SqliteError::with_message(
                SqliteErrorKind::Tables,
                format!("{object} is missing: restore it, or make it with the SQL of `migrations()`"),
            ))
        })
    }

    /// Lists the tables, their columns, the triggers and the views. An index may be missing: the store is slow then.
    fn objects(&self, connection: &Connection) -> rusqlite::Result<Vec<String>> {
        let list = "
            WITH own AS (
                SELECT type, name
                FROM sqlite_schema
                WHERE substr(name, 1, length(?1)) = ?1 COLLATE NOCASE
            )
            SELECT 1 AS place, 'the table ' || name AS object
            FROM own
            WHERE own.type = 'table'
            UNION ALL
            SELECT 2, 'the column ' || c.name || ' of the table ' || own.name
            FROM own, pragma_table_info(own.name) AS c
            WHERE own.type = 'table'
            UNION ALL
            SELECT 3, 'the ' || type || ' ' || name
            FROM own
            WHERE type IN ('trigger', 'view')
            ORDER BY place, object
            ";
        let mut objects = connection.prepare(list)?;
        objects.query_map([&self.prefix], |row| row.get("object"))?.collect()
    }

    /// Returns the steps that were not applied to this file.
    fn missing(&self, connection: &Connection) -> Result<Vec<&Migration>, SqliteError> {
        let prefix = &self.prefix;
        if has_table(connection, &format!("{prefix}versions"))? {
            return Err(SqliteError::with_message(
                SqliteErrorKind::OutdatedSchema,
                format!(
                    "the table {prefix}versions is from before version 1 of the schema, which this release cannot \
                     migrate: let the release that made the tables handle all deliveries and delete the tables then, \
                     or choose another table_prefix"
                ),
            ));
        }
        if !has_table(connection, &format!("{prefix}schema"))? {
            return Ok(self.migrations.iter().collect());
        }
        let (ledger, inbox) = (self.version(connection, LEDGER)?, self.version(connection, INBOX)?);
        let found = |part: &str| if part == LEDGER { ledger } else { inbox };
        for part in [LEDGER, INBOX] {
            let (version, known) = (found(part), self.known(part));
            if version > known && known > 0 {
                return Err(SqliteError::with_message(
                    SqliteErrorKind::NewerSchema,
                    format!(
                        "the tables of the {part} are of version {version}, and this release knows no version after \
                         {known}: use the release that migrated them, or a later one"
                    ),
                ));
            }
        }
        // In the order of the list, since a step of one part may need what a step of the other has made.
        Ok(self.migrations.iter().filter(|step| step.version() > found(step.part())).collect())
    }

    /// Returns the version of a part in this file: 0 if the part has no tables there.
    fn version(&self, connection: &Connection, part: &str) -> Result<u32, SqliteError> {
        let version = format!("SELECT version FROM {}schema WHERE part = ?1", self.prefix);
        let version = connection.query_row(&version, [part], |row| row.get(0)).optional()?;
        Ok(version.unwrap_or_default())
    }

    /// Returns the latest version of a part: 0 if the store does without it.
    fn known(&self, part: &str) -> u32 {
        let versions = self.migrations.iter().filter(|step| step.part() == part).map(Migration::version);
        versions.max().unwrap_or_default()
    }
}

fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    let find = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE";
    Ok(connection.query_row(find, [name], |_| Ok(())).optional()?.is_some())
}

/// Adds the step to the error. If the disk is full, say, the kind says so.
fn failed(migration: &Migration, error: rusqlite::Error) -> SqliteError {
    let (part, version) = (migration.part(), migration.version());
    let step = format!("cannot migrate the {part} to version {version}: {error}");
    let error = match SqliteError::from(error) {
        error if error.kind() == SqliteErrorKind::Statement => SqliteError::because(SqliteErrorKind::Migration, error),
        error => error,
    };
    error.and_message(step)
}

#[cfg(test)]
mod tests;
