//! The ledger's table, and the statements on it.

use std::time::Duration;

use rusqlite::{Connection, named_params, params, types::ValueRef};

use super::{
    error::SqliteError,
    isolation::Isolation,
    timestamp::Timestamp,
    values::{Fault, digest, integer},
};
use crate::dedupe::{BodyDigest, Claim, ClaimOutcome, ClaimTerms, EventKey};

const CLAIMED: i64 = 0;
const DONE: i64 = 1;

/// The version of the table. It grows with every change to the columns and indexes.
pub(super) const VERSION: i64 = 2;

/// The statements, with the names of the tables in them.
pub(super) struct Sql {
    create: String,
    claim: String,
    accept: String,
    find: String,
    complete: String,
    renew: String,
    release: String,
    forget: String,
    slice: String,
    forget_claimed: String,
    purge: String,
}

impl Sql {
    /// Makes the statements for tables whose names begin with `prefix`.
    pub(super) fn new(prefix: &str) -> Self {
        let ledger = format!("{prefix}ledger");
        Self {
            // An event has no index entry unless it is a conflict's, which is rare. There is no index on the times: it would
            // add a quarter to each row, and purging does well without.
            create: format!(
                "
                CREATE TABLE IF NOT EXISTS {ledger} (
                    key BLOB NOT NULL PRIMARY KEY,
                    event BLOB,                  -- NULL: the key itself
                    digest BLOB NOT NULL,
                    token BLOB NOT NULL,
                    state INTEGER NOT NULL,      -- 0: claimed, 1: done
                    until INTEGER NOT NULL,      -- end of the lease or the retention, in milliseconds of the store's time
                    claimed_at INTEGER NOT NULL, -- milliseconds since 1970, by the system clock
                    kept_until INTEGER           -- claimed: end of the grace; done: NULL
                ) WITHOUT ROWID;

                CREATE INDEX IF NOT EXISTS {ledger}_event
                    ON {ledger} (event)
                    WHERE event IS NOT NULL;
                "
            ),
            claim: format!(
                "
                INSERT INTO {ledger} (key, event, digest, token, state, until, claimed_at, kept_until)
                VALUES (:key, :event, :digest, :token, {CLAIMED}, :until, :system_time, :kept_until)
                ON CONFLICT (key) DO UPDATE SET
                    event = excluded.event,
                    digest = excluded.digest,
                    token = excluded.token,
                    state = {CLAIMED},
                    until = excluded.until,
                    kept_until = excluded.kept_until,
                    -- Claiming again with the own token is a renewal.
                    claimed_at = CASE
                        WHEN state = {CLAIMED} AND token = excluded.token AND kept_until > :now THEN claimed_at
                        ELSE :system_time
                    END
                WHERE
                    until <= :now
                    OR (state = {CLAIMED} AND token = excluded.token)
                "
            ),
            accept: format!(
                "
                INSERT INTO {ledger} (key, event, digest, token, state, until, claimed_at)
                VALUES (:key, :event, :digest, :token, {DONE}, :until, :system_time)
                ON CONFLICT (key) DO UPDATE SET
                    event = excluded.event,
                    digest = excluded.digest,
                    token = excluded.token,
                    state = {DONE},
                    until = excluded.until,
                    kept_until = NULL,
                    claimed_at = :system_time
                WHERE until <= :now OR :replace
                "
            ),
            find: format!("SELECT state, digest, until FROM {ledger} WHERE key = ?1"),
            complete: format!(
                "
                UPDATE {ledger} SET
                    until = CASE state WHEN {DONE} THEN until ELSE :until END,
                    kept_until = NULL,
                    state = {DONE}
                WHERE
                    key = :key
                    AND token = :token
                    AND coalesce(kept_until, until) > :now
                "
            ),
            renew: format!(
                "
                UPDATE {ledger} SET until = :until, kept_until = :kept_until
                WHERE
                    key = :key
                    AND token = :token
                    AND state = {CLAIMED}
                    AND kept_until > :now
                "
            ),
            release: format!(
                "
                DELETE FROM {ledger}
                WHERE
                    key = :key
                    AND token = :token
                    AND state = {CLAIMED}
                    AND kept_until > :now
                "
            ),
            forget: format!(
                "
                DELETE FROM {ledger}
                WHERE (key = ?1 AND event IS NULL) OR event = ?1
                RETURNING coalesce(kept_until, until) > ?2
                "
            ),
            slice: format!(
                "
                SELECT max(key), count(*)
                FROM (SELECT key FROM {ledger} WHERE key > ?1 ORDER BY key LIMIT ?2)
                "
            ),
            forget_claimed: format!(
                "
                DELETE FROM {ledger}
                WHERE
                    key > ?1 AND key <= ?2
                    AND claimed_at >= ?3 AND claimed_at < ?4
                RETURNING coalesce(kept_until, until) > ?5
                "
            ),
            purge: format!(
                "
                DELETE FROM {ledger}
                WHERE key IN (
                    SELECT key FROM {ledger}
                    WHERE
                        key > ?1 AND key <= ?2
                        AND coalesce(kept_until, until) <= ?3
                    LIMIT ?4
                )
                "
            ),
        }
    }

    pub(super) fn create(&self) -> &str {
        &self.create
    }
}

/// The table, within a transaction.
///
/// Each call writes with one statement at most, so that a call that fails leaves nothing behind, without a savepoint.
pub(super) struct Entries<'a> {
    connection: &'a Connection,
    sql: &'a Sql,
    isolation: Isolation<'a>,
    timestamp: Timestamp,
}

impl<'a> Entries<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        sql: &'a Sql,
        isolation: Isolation<'a>,
        timestamp: Timestamp,
    ) -> Self {
        Self { connection, sql, isolation, timestamp }
    }

    pub(super) fn claim(&self, claim: &Claim, terms: &ClaimTerms) -> rusqlite::Result<ClaimOutcome> {
        let changed = self.connection.prepare_cached(&self.sql.claim)?.execute(named_params! {
            ":key": claim.key().as_bytes(),
            ":event": claim.is_conflict().then(|| claim.event().as_bytes()),
            ":digest": claim.digest().as_bytes(),
            ":token": claim.token().as_bytes(),
            ":until": self.timestamp.after(terms.lease),
            ":kept_until": self.kept_until(terms),
            ":now": self.timestamp.now(),
            ":system_time": self.timestamp.system(),
        })?;
        if changed > 0 {
            return Ok(ClaimOutcome::Claimed);
        }
        self.find(claim)
    }

    fn kept_until(&self, terms: &ClaimTerms) -> i64 {
        self.timestamp.after(terms.lease.saturating_add(terms.grace))
    }

    /// Makes the entry done at once, if it is absent or its claim has expired.
    pub(super) fn accept(
        &self,
        claim: &Claim,
        digest: &BodyDigest,
        retention: Duration,
    ) -> rusqlite::Result<ClaimOutcome> {
        if self.insert_done(claim, digest, retention, Existing::Keep)? {
            return Ok(ClaimOutcome::Claimed);
        }
        self.find(claim)
    }

    /// Makes the entry done at once, and replaces any other.
    pub(super) fn accept_anyway(&self, claim: &Claim, retention: Duration) -> rusqlite::Result<()> {
        self.insert_done(claim, claim.digest(), retention, Existing::Replace).map(drop)
    }

    fn insert_done(
        &self,
        claim: &Claim,
        digest: &BodyDigest,
        retention: Duration,
        existing: Existing,
    ) -> rusqlite::Result<bool> {
        let changed = self.connection.prepare_cached(&self.sql.accept)?.execute(named_params! {
            ":key": claim.key().as_bytes(),
            ":event": claim.is_conflict().then(|| claim.event().as_bytes()),
            ":digest": digest.as_bytes(),
            ":token": claim.token().as_bytes(),
            ":until": self.timestamp.after(retention),
            ":now": self.timestamp.now(),
            ":system_time": self.timestamp.system(),
            ":replace": existing == Existing::Replace,
        })?;
        Ok(changed > 0)
    }

    /// Reads the entry under the key. An entry that cannot be read is an error, and not a duplicate.
    fn find(&self, claim: &Claim) -> rusqlite::Result<ClaimOutcome> {
        let unreadable = |fault: Fault| rusqlite::Error::from(fault.within("the ledger row cannot be read"));
        self.connection.prepare_cached(&self.sql.find)?.query_row([claim.key().as_bytes()], |row| {
            let digest = digest(row.get_ref(1)?).map_err(unreadable)?;
            match row.get_ref(0)? {
                ValueRef::Integer(DONE) => Ok(ClaimOutcome::Done { digest }),
                ValueRef::Integer(CLAIMED) => {
                    let until = integer(row.get_ref(2)?, "until").map_err(unreadable)?;
                    let remaining = until.saturating_sub(self.timestamp.now()).unsigned_abs();
                    Ok(ClaimOutcome::InFlight { digest, remaining: Duration::from_millis(remaining) })
                }
                other => Err(unreadable(Fault::new(format!("its state is none: {other:?}")))),
            }
        })
    }

    pub(super) fn complete(&self, claim: &Claim, retention: Duration) -> rusqlite::Result<bool> {
        let changed = self.connection.prepare_cached(&self.sql.complete)?.execute(named_params! {
            ":key": claim.key().as_bytes(),
            ":token": claim.token().as_bytes(),
            ":until": self.timestamp.after(retention),
            ":now": self.timestamp.now(),
        })?;
        Ok(changed > 0)
    }

    pub(super) fn renew(
        &self,
        claims: &[Claim],
        terms: &ClaimTerms,
    ) -> rusqlite::Result<Result<Vec<bool>, SqliteError>> {
        self.isolation.each(claims, |claim| self.renew_one(claim, terms))
    }

    fn renew_one(&self, claim: &Claim, terms: &ClaimTerms) -> rusqlite::Result<bool> {
        let changed = self.connection.prepare_cached(&self.sql.renew)?.execute(named_params! {
            ":key": claim.key().as_bytes(),
            ":token": claim.token().as_bytes(),
            ":until": self.timestamp.after(terms.lease),
            ":kept_until": self.kept_until(terms),
            ":now": self.timestamp.now(),
        })?;
        Ok(changed > 0)
    }

    pub(super) fn release(&self, claim: &Claim) -> rusqlite::Result<()> {
        self.connection.prepare_cached(&self.sql.release)?.execute(named_params! {
            ":key": claim.key().as_bytes(),
            ":token": claim.token().as_bytes(),
            ":now": self.timestamp.now(),
        })?;
        Ok(())
    }

    pub(super) fn forget(&self, event: &EventKey) -> rusqlite::Result<u64> {
        self.count(&self.sql.forget, params![event.as_bytes(), self.timestamp.now()])
    }

    /// Forgets the rows of a slice that were claimed at `from` or later, but before `before`.
    pub(super) fn forget_claimed(&self, slice: &Slice, from: i64, before: i64) -> rusqlite::Result<u64> {
        self.count(&self.sql.forget_claimed, params![slice.after, slice.last, from, before, self.timestamp.now()])
    }

    /// Runs a statement that returns for each row it deletes whether the row was still kept. Returns how many were.
    fn count(&self, sql: &str, parameters: &[&dyn rusqlite::ToSql]) -> rusqlite::Result<u64> {
        let mut delete = self.connection.prepare_cached(sql)?;
        let counts = delete.query_map(parameters, |row| row.get::<_, bool>(0))?;
        counts.map(|counts| counts.map(u64::from)).sum()
    }

    /// Deletes up to `limit` rows of a slice whose retention or grace is over.
    pub(super) fn purge(&self, slice: &Slice, limit: u32) -> rusqlite::Result<u64> {
        let mut purge = self.connection.prepare_cached(&self.sql.purge)?;
        Ok(purge.execute(params![slice.after, slice.last, self.timestamp.now(), limit])? as u64)
    }

    /// Returns the next `rows` rows after a key, or fewer at the table's end.
    pub(super) fn slice(&self, after: &[u8], rows: u32) -> rusqlite::Result<Slice> {
        self.connection.prepare_cached(&self.sql.slice)?.query_row(params![after, rows], |row| {
            let last: Option<Vec<u8>> = row.get(0)?;
            let is_full = row.get::<_, i64>(1)? == i64::from(rows);
            Ok(Slice { after: after.to_vec(), last: last.unwrap_or_else(|| after.to_vec()), is_full })
        })
    }
}

/// Whether an entry that is already under a key stays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    /// It stays if it is done or its claim has not expired.
    Keep,
    Replace,
}

/// How much of the keys' space is skipped at first where a page is damaged: a part of 4096.
pub(super) const SKIPPED: u16 = 1 << 4;

/// Returns a key that is further on by so many parts of 65,536, or `None` at the end: from there on, keys may be readable again.
pub(super) fn skip_damaged(after: &[u8], parts: u16) -> Option<Vec<u8>> {
    let first = u16::from_be_bytes(std::array::from_fn(|n| after.get(n).copied().unwrap_or_default()));
    first.checked_add(parts).map(|next| next.to_be_bytes().to_vec())
}

/// A run of rows in the order of their keys.
pub(super) struct Slice {
    after: Vec<u8>,
    last: Vec<u8>,
    is_full: bool,
}

impl Slice {
    /// Returns the key before the slice, and the last one in it.
    pub(super) fn bounds(&self) -> (&[u8], &[u8]) {
        (&self.after, &self.last)
    }

    /// Returns the key before the next slice, unless the table ends here.
    pub(super) fn next(self) -> Option<Vec<u8>> {
        self.is_full.then_some(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_walks_scan_the_table() {
        let connection = Connection::open_in_memory().unwrap();
        let sql = Sql::new("k_");
        connection.execute_batch(&sql.create).unwrap();
        let statements = [
            &sql.claim,
            &sql.accept,
            &sql.find,
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
