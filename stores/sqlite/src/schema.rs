//! The tables: their names, versions and creation.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::{
    clock,
    error::{SqliteError, SqliteErrorKind},
    inbox, ledger,
};

/// The tables whose names begin with one prefix, and the statements on them.
pub(super) struct Schema {
    pub(super) clock: clock::Sql,
    pub(super) ledger: ledger::Sql,
    pub(super) inbox: inbox::Sql,
    find_versions: String,
    create_versions: String,
    version: String,
    set_version: String,
}

/// Tables that are created together.
struct Set<'a> {
    name: &'static str,
    /// Grows with every change to the columns and indexes.
    version: i64,
    create: &'a str,
}

impl Schema {
    pub(super) fn new(prefix: &str) -> Result<Self, SqliteError> {
        if !is_prefix(prefix) {
            return Err(SqliteError::new(SqliteErrorKind::TablePrefix));
        }
        let versions = format!("{prefix}versions");
        Ok(Self {
            clock: clock::Sql::new(prefix),
            ledger: ledger::Sql::new(prefix),
            inbox: inbox::Sql::new(prefix),
            find_versions: format!(
                "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '{versions}' COLLATE NOCASE"
            ),
            create_versions: format!(
                "
                CREATE TABLE IF NOT EXISTS {versions} (
                    name TEXT NOT NULL PRIMARY KEY,
                    version INTEGER NOT NULL
                ) WITHOUT ROWID;
                "
            ),
            version: format!("SELECT version FROM {versions} WHERE name = ?1"),
            set_version: format!("INSERT INTO {versions} VALUES (?1, ?2)"),
        })
    }

    /// Creates the tables that are missing.
    pub(super) fn create_tables(&self, connection: &mut Connection) -> Result<(), SqliteError> {
        // Mostly none is, and then nothing is locked.
        if self.missing(connection)?.is_empty() {
            return Ok(());
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(&self.create_versions)?;
        for set in self.missing(&transaction)? {
            transaction.execute_batch(set.create)?;
            transaction.execute(&self.set_version, params![set.name, set.version])?;
        }
        Ok(transaction.commit()?)
    }

    fn missing(&self, connection: &Connection) -> Result<Vec<Set<'_>>, SqliteError> {
        let has_versions = connection.query_row(&self.find_versions, [], |_| Ok(())).optional()?.is_some();
        let mut missing = Vec::new();
        for set in self.sets() {
            let version = match has_versions {
                true => connection.query_row(&self.version, [set.name], |row| row.get::<_, i64>(0)).optional()?,
                false => None,
            };
            match version {
                None => missing.push(set),
                Some(version) if version == set.version => {}
                Some(other) => {
                    let Set { name, version, .. } = set;
                    let found =
                        format!("the {name}'s tables are of version {other}; this crate knows version {version}");
                    return Err(SqliteError::because(SqliteErrorKind::Schema, found));
                }
            }
        }
        Ok(missing)
    }

    fn sets(&self) -> [Set<'_>; 3] {
        [
            Set { name: "clock", version: clock::VERSION, create: self.clock.create() },
            Set { name: "ledger", version: ledger::VERSION, create: self.ledger.create() },
            Set { name: "inbox", version: inbox::VERSION, create: self.inbox.create() },
        ]
    }
}

fn is_prefix(prefix: &str) -> bool {
    let mut bytes = prefix.bytes();
    prefix.len() <= 32
        && bytes.next().is_some_and(|first| first == b'_' || first.is_ascii_alphabetic())
        && bytes.all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
        && !prefix.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_identifiers_as_prefixes() {
        for prefix in ["k", "_", "klikit_", "Orders2", &"x".repeat(32)] {
            assert!(is_prefix(prefix), "{prefix}");
        }
        for prefix in ["", "2x", "a b", "a\"", "a;", "a-b", "é", "sqlite_", "SQLite_x", &"x".repeat(33)] {
            assert!(!is_prefix(prefix), "{prefix}");
        }
    }
}
