//! The schema: the tables, their versions, and the migrations that create and change them.

mod migration;
mod prefix;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

pub use self::migration::Migration;
use crate::error::{SqliteError, SqliteErrorKind};

/// The migrations in the order in which they are applied, each with its part and version. A released migration never
/// changes.
const STEPS: [(&str, u32, &str); 3] = [
    (LEDGER, 1, include_str!("sql/ledger_1.sql")),
    (INBOX, 1, include_str!("sql/inbox_1.sql")),
    (INBOX, 2, include_str!("sql/inbox_2.sql")),
];

/// The part with the tables that every store needs: the ledger, the clock and the versions.
const LEDGER: &str = "ledger";
/// The part with the inbox's tables, which ledger-only stores do not have.
const INBOX: &str = "inbox";

/// The schema of a store: its table prefix and its migrations.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    prefix: String,
    migrations: Vec<Migration>,
}

impl Schema {
    /// Returns the schema with both parts.
    pub(super) fn new(prefix: &str) -> Result<Self, SqliteError> {
        prefix::check(prefix)?;
        let step = |(part, version, sql)| Migration::new(part, version, sql, prefix);
        Ok(Self { prefix: prefix.into(), migrations: STEPS.into_iter().map(step).collect() })
    }

    /// Removes the inbox part.
    pub(super) fn ledger_only(mut self) -> Self {
        self.migrations.retain(|migration| migration.part() == LEDGER);
        self
    }

    /// Appends a migration to a part.
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

    /// Returns the migrations that were not applied to this file.
    pub(super) fn pending(&self, connection: &Connection) -> Result<Vec<Migration>, SqliteError> {
        Ok(self.missing(connection)?.into_iter().cloned().collect())
    }

    /// Applies the missing migrations, all in one transaction.
    pub(super) fn migrate(&self, connection: &mut Connection) -> Result<(), SqliteError> {
        // Check without a lock first: usually no migration is missing.
        if self.missing(connection)?.is_empty() {
            return Ok(());
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for migration in self.missing(&transaction)? {
            transaction.execute_batch(migration.sql()).map_err(|error| failed(migration, error))?;
        }
        Ok(transaction.commit()?)
    }

    /// Checks that the file contains everything that the migrations create. A recorded version does not prove that: a
    /// table may have been dropped.
    pub(super) fn check(&self, connection: &Connection) -> Result<(), SqliteError> {
        let expected = Connection::open_in_memory()?;
        for migration in &self.migrations {
            expected.execute_batch(migration.sql()).map_err(|error| failed(migration, error))?;
        }
        let found = self.objects(connection)?;
        let is_missing = |object: &String| !found.iter().any(|found| found.eq_ignore_ascii_case(object));
        self.objects(&expected)?.into_iter().find(is_missing).map_or(Ok(()), |object| {
            Err(SqliteError::with_message(
                SqliteErrorKind::Tables,
                format!("{object} is missing: restore it, or create it with the SQL of its migration"),
            ))
        })
    }

    /// Lists the tables, their columns, the triggers and the views. Leaves out indexes: without one, the store works,
    /// though slowly.
    fn objects(&self, connection: &Connection) -> rusqlite::Result<Vec<String>> {
        let list = "
            -- The objects whose names begin with the prefix.
            WITH own AS (
                SELECT type, name
                FROM sqlite_schema
                WHERE substr(name, 1, length(?1)) = ?1 COLLATE NOCASE
            )
            -- Tables first, since a missing table is the cause of missing columns and triggers.
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

    /// Returns the migrations that were not applied to this file.
    fn missing(&self, connection: &Connection) -> Result<Vec<&Migration>, SqliteError> {
        let prefix = &self.prefix;
        if has_table(connection, &format!("{prefix}versions"))? {
            return Err(SqliteError::with_message(
                SqliteErrorKind::OutdatedSchema,
                format!(
                    "the table {prefix}versions is from a release before schema version 1, which this release cannot \
                     migrate: let the old release handle all deliveries and then delete its tables, or choose another \
                     table prefix"
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
                        "the tables of the {part} have version {version}, and this release knows no version after \
                         {known}: use the release that migrated them, or a later one"
                    ),
                ));
            }
        }
        // Keep the order of the list, since a migration of one part may need tables of the other part.
        Ok(self.migrations.iter().filter(|step| step.version() > found(step.part())).collect())
    }

    /// Returns the version of a part in this file, or 0 if the file does not have the part.
    fn version(&self, connection: &Connection, part: &str) -> Result<u32, SqliteError> {
        let version = format!("SELECT version FROM {}schema WHERE part = ?1", self.prefix);
        let version = connection.query_row(&version, [part], |row| row.get(0)).optional()?;
        Ok(version.unwrap_or_default())
    }

    /// Returns the latest version of a part that this release knows, or 0 if the store does not use the part.
    fn known(&self, part: &str) -> u32 {
        let versions = self.migrations.iter().filter(|step| step.part() == part).map(Migration::version);
        versions.max().unwrap_or_default()
    }
}

fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    let find = "
        SELECT 1
        FROM sqlite_schema
        WHERE type = 'table' AND name = ?1 COLLATE NOCASE
        ";
    Ok(connection.query_row(find, [name], |_| Ok(())).optional()?.is_some())
}

/// Returns the error for a failed migration. Keeps the kind of an error that says more than that a statement failed,
/// such as a full disk.
fn failed(migration: &Migration, error: rusqlite::Error) -> SqliteError {
    let (part, version) = (migration.part(), migration.version());
    let message = format!("cannot migrate the {part} to version {version}: {error}");
    let error = match SqliteError::from(error) {
        error if error.kind() == SqliteErrorKind::Statement => SqliteError::because(SqliteErrorKind::Migration, error),
        error => error,
    };
    error.and_message(message)
}

#[cfg(test)]
mod tests;
