//! The table, and what is done to it.

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params, params};

use super::error::{SqliteError, SqliteErrorKind};
use crate::dedupe::{BodyDigest, Claim, ClaimOutcome, EventKey};

const CLAIMED: i64 = 0;
const DONE: i64 = 1;

/// Which columns and indexes the table has. One more with every change to them.
const VERSION: i64 = 1;

/// The statements, with the names of the tables in them.
pub(super) struct Sql {
    find_versions: String,
    version: String,
    create: String,
    claim: String,
    look: String,
    complete: String,
    renew: String,
    release: String,
    forget: String,
    slice: String,
    forget_claimed: String,
    purge: String,
}

impl Sql {
    /// For tables whose names begin with `prefix`.
    pub(super) fn new(prefix: &str) -> Result<Self, SqliteError> {
        if !is_prefix(prefix) {
            return Err(SqliteError::new(SqliteErrorKind::TablePrefix));
        }
        let ledger = format!("{prefix}ledger");
        let versions = format!("{prefix}versions");
        Ok(Self {
            find_versions: format!(
                "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '{versions}' COLLATE NOCASE"
            ),
            version: format!("SELECT version FROM {versions} WHERE name = 'ledger'"),
            // An event has no index entry unless it is a conflict's, which is rare. There is no index on the times: it would
            // add a quarter to each row, and purging does well without.
            create: format!(
                "CREATE TABLE IF NOT EXISTS {versions} (
                    name TEXT NOT NULL PRIMARY KEY,
                    version INTEGER NOT NULL
                ) WITHOUT ROWID;
                CREATE TABLE IF NOT EXISTS {ledger} (
                    key BLOB NOT NULL PRIMARY KEY,
                    event BLOB, -- NULL: it is the key
                    digest BLOB NOT NULL,
                    token BLOB NOT NULL,
                    state INTEGER NOT NULL, -- 0: claimed, 1: done
                    until INTEGER NOT NULL, -- milliseconds since 1970, as is claimed_at
                    claimed_at INTEGER NOT NULL
                ) WITHOUT ROWID;
                CREATE INDEX IF NOT EXISTS {ledger}_event ON {ledger} (event) WHERE event IS NOT NULL;
                INSERT INTO {versions} VALUES ('ledger', {VERSION}) ON CONFLICT DO NOTHING;"
            ),
            claim: format!(
                "INSERT INTO {ledger} (key, event, digest, token, state, until, claimed_at)
                VALUES (:key, :event, :digest, :token, {CLAIMED}, :until, :now)
                ON CONFLICT (key) DO UPDATE SET
                    event = excluded.event, digest = excluded.digest, token = excluded.token,
                    state = {CLAIMED}, until = excluded.until,
                    claimed_at = CASE WHEN until <= :now THEN :now ELSE claimed_at END
                WHERE until <= :now OR (state = {CLAIMED} AND token = excluded.token)"
            ),
            look: format!("SELECT state, digest, until FROM {ledger} WHERE key = ?1"),
            complete: format!(
                "UPDATE {ledger} SET until = CASE state WHEN {DONE} THEN until ELSE :until END, state = {DONE}
                WHERE key = :key AND token = :token AND until > :now"
            ),
            renew: format!(
                "UPDATE {ledger} SET until = :until
                WHERE key = :key AND token = :token AND until > :now AND state = {CLAIMED}"
            ),
            release: format!("DELETE FROM {ledger} WHERE key = ?1 AND token = ?2 AND state = {CLAIMED}"),
            forget: format!(
                "DELETE FROM {ledger} WHERE (key = ?1 AND event IS NULL) OR event = ?1 RETURNING until > ?2"
            ),
            slice: format!(
                "SELECT max(key), count(*) FROM (SELECT key FROM {ledger} WHERE key > ?1 ORDER BY key LIMIT ?2)"
            ),
            forget_claimed: format!(
                "DELETE FROM {ledger} WHERE key > ?1 AND key <= ?2 AND claimed_at >= ?3 AND claimed_at < ?4
                RETURNING until > ?5"
            ),
            purge: format!(
                "DELETE FROM {ledger} WHERE key IN
                (SELECT key FROM {ledger} WHERE key > ?1 AND key <= ?2 AND until <= ?3 LIMIT ?4)"
            ),
        })
    }

    /// Creates the tables, if they are not there.
    pub(super) fn create_tables(&self, connection: &mut Connection) -> Result<(), SqliteError> {
        // Mostly they are, and then nothing is locked.
        if self.has_tables(connection)? {
            return Ok(());
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if !self.has_tables(&transaction)? {
            transaction.execute_batch(&self.create)?;
        }
        Ok(transaction.commit()?)
    }

    fn has_tables(&self, connection: &Connection) -> Result<bool, SqliteError> {
        if connection.query_row(&self.find_versions, [], |_| Ok(())).optional()?.is_none() {
            return Ok(false);
        }
        match connection.query_row(&self.version, [], |row| row.get(0)).optional()? {
            None => Ok(false),
            Some(VERSION) => Ok(true),
            Some(other) => Err(SqliteError::because(
                SqliteErrorKind::Schema,
                format!("the file's tables are of version {other}, and this crate knows version {VERSION}"),
            )),
        }
    }
}

fn is_prefix(prefix: &str) -> bool {
    let mut bytes = prefix.bytes();
    prefix.len() <= 32
        && bytes.next().is_some_and(|first| first == b'_' || first.is_ascii_alphabetic())
        && bytes.all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
        && !prefix.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"))
}

/// The table, within a transaction.
///
/// Each call writes with one statement at most. So a call that fails leaves nothing behind, without a savepoint.
pub(super) struct Entries<'a> {
    connection: &'a Connection,
    sql: &'a Sql,
    /// In milliseconds since 1970.
    now: i64,
}

impl<'a> Entries<'a> {
    pub(super) fn new(connection: &'a Connection, sql: &'a Sql, now: SystemTime) -> Self {
        Self { connection, sql, now: milliseconds(now) }
    }

    pub(super) fn claim(&self, claim: &Claim, lease: Duration) -> rusqlite::Result<ClaimOutcome> {
        let changed = self.connection.prepare_cached(&self.sql.claim)?.execute(named_params! {
            ":key": claim.key().as_bytes(),
            ":event": claim.is_conflict().then(|| claim.event().as_bytes()),
            ":digest": claim.digest().as_bytes(),
            ":token": claim.token().as_bytes(),
            ":until": self.after(lease),
            ":now": self.now,
        })?;
        if changed > 0 {
            return Ok(ClaimOutcome::Claimed);
        }
        self.connection.prepare_cached(&self.sql.look)?.query_row([claim.key().as_bytes()], |row| {
            let digest = BodyDigest::from(row.get::<_, [u8; 32]>(1)?);
            Ok(match row.get(0)? {
                DONE => ClaimOutcome::Done { digest },
                _ => {
                    let remaining = row.get::<_, i64>(2)?.saturating_sub(self.now);
                    ClaimOutcome::InFlight { digest, remaining: Duration::from_millis(remaining.unsigned_abs()) }
                }
            })
        })
    }

    pub(super) fn complete(&self, claim: &Claim, retention: Duration) -> rusqlite::Result<bool> {
        self.prolong(&self.sql.complete, claim, retention)
    }

    pub(super) fn renew(&self, claim: &Claim, lease: Duration) -> rusqlite::Result<bool> {
        self.prolong(&self.sql.renew, claim, lease)
    }

    fn prolong(&self, sql: &str, claim: &Claim, time: Duration) -> rusqlite::Result<bool> {
        let changed = self.connection.prepare_cached(sql)?.execute(named_params! {
            ":key": claim.key().as_bytes(),
            ":token": claim.token().as_bytes(),
            ":until": self.after(time),
            ":now": self.now,
        })?;
        Ok(changed > 0)
    }

    pub(super) fn release(&self, claim: &Claim) -> rusqlite::Result<()> {
        let mut release = self.connection.prepare_cached(&self.sql.release)?;
        release.execute(params![claim.key().as_bytes(), claim.token().as_bytes()])?;
        Ok(())
    }

    pub(super) fn forget(&self, event: &EventKey) -> rusqlite::Result<u64> {
        self.count(&self.sql.forget, params![event.as_bytes(), self.now])
    }

    /// Forgets what was claimed from the one time until before the other, among the next `rows` rows.
    pub(super) fn forget_claimed(&self, slice: &Slice, from: i64, before: i64) -> rusqlite::Result<u64> {
        self.count(&self.sql.forget_claimed, params![slice.after, slice.last, from, before, self.now])
    }

    /// Runs what returns for each row it deletes whether that row counted.
    fn count(&self, sql: &str, parameters: &[&dyn rusqlite::ToSql]) -> rusqlite::Result<u64> {
        let mut delete = self.connection.prepare_cached(sql)?;
        let counts = delete.query_map(parameters, |row| row.get::<_, bool>(0))?;
        counts.map(|counts| counts.map(u64::from)).sum()
    }

    /// Deletes at most `limit` rows of a slice whose time is up.
    pub(super) fn purge(&self, slice: &Slice, limit: u32) -> rusqlite::Result<u64> {
        let mut purge = self.connection.prepare_cached(&self.sql.purge)?;
        Ok(purge.execute(params![slice.after, slice.last, self.now, limit])? as u64)
    }

    /// The next `rows` rows after a key, or fewer at the table's end.
    pub(super) fn slice(&self, after: &[u8], rows: u32) -> rusqlite::Result<Slice> {
        self.connection.prepare_cached(&self.sql.slice)?.query_row(params![after, rows], |row| {
            let last: Option<Vec<u8>> = row.get(0)?;
            let is_full = row.get::<_, i64>(1)? == i64::from(rows);
            Ok(Slice { after: after.to_vec(), last: last.unwrap_or_else(|| after.to_vec()), is_full })
        })
    }

    #[cfg(test)]
    pub(super) fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.execute_batch(sql)
    }

    fn after(&self, time: Duration) -> i64 {
        // Rounded up: never shorter than was asked for.
        let time = time.as_nanos().div_ceil(1_000_000);
        self.now.saturating_add(i64::try_from(time).unwrap_or(i64::MAX))
    }
}

/// A run of rows in the order of their keys.
pub(super) struct Slice {
    after: Vec<u8>,
    last: Vec<u8>,
    is_full: bool,
}

impl Slice {
    /// After which key the next one begins, unless the table ends here.
    pub(super) fn next(self) -> Option<Vec<u8>> {
        self.is_full.then_some(self.last)
    }
}

/// Since 1970, rounded down; before it, up.
pub(super) fn milliseconds(time: SystemTime) -> i64 {
    let saturate = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => saturate(since),
        Err(before) => -saturate(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_identifiers_are_prefixes() {
        for prefix in ["k", "_", "klikit_", "Orders2", &"x".repeat(32)] {
            assert!(is_prefix(prefix), "{prefix}");
        }
        for prefix in ["", "2x", "a b", "a\"", "a;", "a-b", "é", "sqlite_", "SQLite_x", &"x".repeat(33)] {
            assert!(!is_prefix(prefix), "{prefix}");
        }
    }

    #[test]
    fn nothing_but_a_walk_goes_through_the_whole_table() {
        let connection = Connection::open_in_memory().unwrap();
        let sql = Sql::new("k_").unwrap();
        connection.execute_batch(&sql.create).unwrap();
        let statements = [
            &sql.claim,
            &sql.look,
            &sql.complete,
            &sql.renew,
            &sql.release,
            &sql.forget,
            &sql.slice,
            &sql.forget_claimed,
            &sql.purge,
        ];
        for statement in statements {
            let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
            let parameters = vec![rusqlite::types::Null; explain.parameter_count()];
            let steps =
                explain.query_map(rusqlite::params_from_iter(parameters), |row| row.get::<_, String>(3)).unwrap();
            for step in steps {
                let step = step.unwrap();
                assert!(!step.starts_with("SCAN k_ledger"), "{step}: {statement}");
            }
        }
    }

    #[test]
    fn times_are_in_range_and_rounded_up() {
        let connection = Connection::open_in_memory().unwrap();
        let sql = Sql::new("k_").unwrap();
        let entries = Entries::new(&connection, &sql, SystemTime::UNIX_EPOCH + Duration::from_millis(1000));
        assert_eq!(entries.after(Duration::ZERO), 1000);
        assert_eq!(entries.after(Duration::from_nanos(1)), 1001);
        assert_eq!(entries.after(Duration::MAX), i64::MAX);
        assert_eq!(milliseconds(SystemTime::UNIX_EPOCH - Duration::from_millis(5)), -5);
    }
}
