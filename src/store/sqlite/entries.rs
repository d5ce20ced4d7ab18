//! The ledger's table, and what is done to it.

use std::time::Duration;

use rusqlite::{Connection, named_params, params};

use super::moment::Moment;
use crate::dedupe::{BodyDigest, Claim, ClaimOutcome, EventKey};

const CLAIMED: i64 = 0;
const DONE: i64 = 1;

/// Which columns and indexes the table has. One more with every change to them.
pub(super) const VERSION: i64 = 1;

/// The statements, with the names of the tables in them.
pub(super) struct Sql {
    create: String,
    claim: String,
    accept: String,
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
    pub(super) fn new(prefix: &str) -> Self {
        let ledger = format!("{prefix}ledger");
        Self {
            // An event has no index entry unless it is a conflict's, which is rare. There is no index on the times: it would
            // add a quarter to each row, and purging does well without.
            create: format!(
                "CREATE TABLE IF NOT EXISTS {ledger} (
                    key BLOB NOT NULL PRIMARY KEY,
                    event BLOB, -- NULL: it is the key
                    digest BLOB NOT NULL,
                    token BLOB NOT NULL,
                    state INTEGER NOT NULL, -- 0: claimed, 1: done
                    until INTEGER NOT NULL, -- milliseconds since 1970, as is claimed_at
                    claimed_at INTEGER NOT NULL
                ) WITHOUT ROWID;
                CREATE INDEX IF NOT EXISTS {ledger}_event ON {ledger} (event) WHERE event IS NOT NULL;"
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
            accept: format!(
                "INSERT INTO {ledger} (key, event, digest, token, state, until, claimed_at)
                VALUES (:key, :event, :digest, :token, {DONE}, :until, :now)
                ON CONFLICT (key) DO UPDATE SET
                    event = excluded.event, digest = excluded.digest, token = excluded.token,
                    state = {DONE}, until = excluded.until, claimed_at = :now
                WHERE until <= :now OR :anyway"
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
        }
    }

    pub(super) fn create(&self) -> &str {
        &self.create
    }
}

/// The table, within a transaction.
///
/// Each call writes with one statement at most. So a call that fails leaves nothing behind, without a savepoint.
pub(super) struct Entries<'a> {
    connection: &'a Connection,
    sql: &'a Sql,
    moment: Moment,
}

impl<'a> Entries<'a> {
    pub(super) fn new(connection: &'a Connection, sql: &'a Sql, moment: Moment) -> Self {
        Self { connection, sql, moment }
    }

    pub(super) fn claim(&self, claim: &Claim, lease: Duration) -> rusqlite::Result<ClaimOutcome> {
        let changed = self.connection.prepare_cached(&self.sql.claim)?.execute(named_params! {
            ":key": claim.key().as_bytes(),
            ":event": claim.is_conflict().then(|| claim.event().as_bytes()),
            ":digest": claim.digest().as_bytes(),
            ":token": claim.token().as_bytes(),
            ":until": self.moment.after(lease),
            ":now": self.moment.now(),
        })?;
        if changed > 0 {
            return Ok(ClaimOutcome::Claimed);
        }
        self.look(claim)
    }

    /// Makes the entry done at once, if it is absent.
    pub(super) fn accept(
        &self,
        claim: &Claim,
        digest: &BodyDigest,
        retention: Duration,
    ) -> rusqlite::Result<ClaimOutcome> {
        if self.insert_done(claim, digest, retention, false)? {
            return Ok(ClaimOutcome::Claimed);
        }
        self.look(claim)
    }

    /// Makes the entry done at once, whatever is there.
    pub(super) fn accept_anyway(&self, claim: &Claim, retention: Duration) -> rusqlite::Result<()> {
        self.insert_done(claim, claim.digest(), retention, true).map(drop)
    }

    fn insert_done(
        &self,
        claim: &Claim,
        digest: &BodyDigest,
        retention: Duration,
        anyway: bool,
    ) -> rusqlite::Result<bool> {
        let changed = self.connection.prepare_cached(&self.sql.accept)?.execute(named_params! {
            ":key": claim.key().as_bytes(),
            ":event": claim.is_conflict().then(|| claim.event().as_bytes()),
            ":digest": digest.as_bytes(),
            ":token": claim.token().as_bytes(),
            ":until": self.moment.after(retention),
            ":now": self.moment.now(),
            ":anyway": anyway,
        })?;
        Ok(changed > 0)
    }

    fn look(&self, claim: &Claim) -> rusqlite::Result<ClaimOutcome> {
        self.connection.prepare_cached(&self.sql.look)?.query_row([claim.key().as_bytes()], |row| {
            let digest = BodyDigest::from(row.get::<_, [u8; 32]>(1)?);
            Ok(match row.get(0)? {
                DONE => ClaimOutcome::Done { digest },
                _ => {
                    let remaining = row.get::<_, i64>(2)?.saturating_sub(self.moment.now());
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
            ":until": self.moment.after(time),
            ":now": self.moment.now(),
        })?;
        Ok(changed > 0)
    }

    pub(super) fn release(&self, claim: &Claim) -> rusqlite::Result<()> {
        let mut release = self.connection.prepare_cached(&self.sql.release)?;
        release.execute(params![claim.key().as_bytes(), claim.token().as_bytes()])?;
        Ok(())
    }

    pub(super) fn forget(&self, event: &EventKey) -> rusqlite::Result<u64> {
        self.count(&self.sql.forget, params![event.as_bytes(), self.moment.now()])
    }

    /// Forgets what was claimed from the one time until before the other, among the next `rows` rows.
    pub(super) fn forget_claimed(&self, slice: &Slice, from: i64, before: i64) -> rusqlite::Result<u64> {
        self.count(&self.sql.forget_claimed, params![slice.after, slice.last, from, before, self.moment.now()])
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
        Ok(purge.execute(params![slice.after, slice.last, self.moment.now(), limit])? as u64)
    }

    /// The next `rows` rows after a key, or fewer at the table's end.
    pub(super) fn slice(&self, after: &[u8], rows: u32) -> rusqlite::Result<Slice> {
        self.connection.prepare_cached(&self.sql.slice)?.query_row(params![after, rows], |row| {
            let last: Option<Vec<u8>> = row.get(0)?;
            let is_full = row.get::<_, i64>(1)? == i64::from(rows);
            Ok(Slice { after: after.to_vec(), last: last.unwrap_or_else(|| after.to_vec()), is_full })
        })
    }
}

/// A run of rows in the order of their keys.
pub(super) struct Slice {
    after: Vec<u8>,
    last: Vec<u8>,
    is_full: bool,
}

impl Slice {
    /// After which key it begins, and with which it ends.
    pub(super) fn bounds(&self) -> (&[u8], &[u8]) {
        (&self.after, &self.last)
    }

    /// After which key the next one begins, unless the table ends here.
    pub(super) fn next(self) -> Option<Vec<u8>> {
        self.is_full.then_some(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_walk_goes_through_the_whole_table() {
        let connection = Connection::open_in_memory().unwrap();
        let sql = Sql::new("k_");
        connection.execute_batch(&sql.create).unwrap();
        let statements = [
            &sql.claim,
            &sql.accept,
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
}
