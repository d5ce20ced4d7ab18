//! The ledger's table within a transaction, and the calls on it.

use std::time::Duration;

use rusqlite::{Connection, Row, ToSql, named_params, params, types::ValueRef};
use tower_klikit::dedupe::{BodyDigest, Claim, ClaimOutcome, ClaimTerms, EventKey, LedgerEntry, LedgerState};

use super::{
    slice::Slice,
    sql::{CLAIMED, DONE, LedgerSql},
};
use crate::{
    error::SqliteError,
    fault::Fault,
    isolation::Isolation,
    timestamp::{Timestamp, time},
    values::{count, digest, event_key, integer},
};

/// An entry under a key that prevents another token from claiming the key.
pub(crate) enum LiveEntry {
    Done { digest: BodyDigest },
    InFlight { digest: BodyDigest, remaining: Duration },
}

impl From<LiveEntry> for ClaimOutcome {
    fn from(found: LiveEntry) -> Self {
        match found {
            LiveEntry::Done { digest } => Self::Done { digest },
            LiveEntry::InFlight { digest, remaining } => Self::InFlight { digest, remaining },
        }
    }
}

/// The ledger's table within a transaction.
///
/// Each call writes with at most one statement, so that a failed call leaves no partial change and needs no savepoint.
pub(crate) struct Entries<'a> {
    connection: &'a Connection,
    sql: &'a LedgerSql,
    isolation: Isolation<'a>,
    timestamp: Timestamp,
}

impl<'a> Entries<'a> {
    pub(crate) fn new(
        connection: &'a Connection,
        sql: &'a LedgerSql,
        isolation: Isolation<'a>,
        timestamp: Timestamp,
    ) -> Self {
        Self { connection, sql, isolation, timestamp }
    }

    pub(crate) fn claim(&self, claim: &Claim, terms: &ClaimTerms) -> rusqlite::Result<ClaimOutcome> {
        let changed = self.connection.prepare_cached(&self.sql.claim)?.execute(named_params! {
            ":key": claim.key().as_bytes(),
            ":event_key": claim.is_conflict().then(|| claim.event().as_bytes()),
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
        self.find(claim).map(Into::into)
    }

    fn kept_until(&self, terms: &ClaimTerms) -> i64 {
        self.timestamp.after(terms.lease.saturating_add(terms.grace))
    }

    /// Inserts a done entry, unless a live entry is under the key. Returns the live entry then.
    pub(crate) fn accept(
        &self,
        claim: &Claim,
        digest: &BodyDigest,
        retention: Duration,
    ) -> rusqlite::Result<Option<LiveEntry>> {
        if self.insert_done(claim, digest, retention, Existing::Keep)? {
            return Ok(None);
        }
        self.find(claim).map(Some)
    }

    /// Inserts a done entry, and replaces an existing one.
    pub(crate) fn accept_anyway(&self, claim: &Claim, retention: Duration) -> rusqlite::Result<()> {
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
            ":event_key": claim.is_conflict().then(|| claim.event().as_bytes()),
            ":digest": digest.as_bytes(),
            ":token": claim.token().as_bytes(),
            ":until": self.timestamp.after(retention),
            ":now": self.timestamp.now(),
            ":system_time": self.timestamp.system(),
            ":replace": existing == Existing::Replace,
        })?;
        Ok(changed > 0)
    }

    /// Reads the entry under the key. Returns an error if the entry cannot be read, so that it does not count as a
    /// duplicate.
    fn find(&self, claim: &Claim) -> rusqlite::Result<LiveEntry> {
        let unreadable = |fault: Fault| rusqlite::Error::from(fault.within("the ledger row cannot be read"));
        self.connection.prepare_cached(&self.sql.find)?.query_row([claim.key().as_bytes()], |row| {
            let digest = digest(row.get_ref(1)?).map_err(unreadable)?;
            match row.get_ref(0)? {
                ValueRef::Integer(DONE) => Ok(LiveEntry::Done { digest }),
                ValueRef::Integer(CLAIMED) => {
                    let until = integer(row.get_ref(2)?, "until").map_err(unreadable)?;
                    let remaining = until.saturating_sub(self.timestamp.now()).unsigned_abs();
                    Ok(LiveEntry::InFlight { digest, remaining: Duration::from_millis(remaining) })
                }
                other => Err(unreadable(unknown_state(other))),
            }
        })
    }

    pub(crate) fn complete(&self, claim: &Claim, retention: Duration) -> rusqlite::Result<bool> {
        let changed = self.connection.prepare_cached(&self.sql.complete)?.execute(named_params! {
            ":key": claim.key().as_bytes(),
            ":token": claim.token().as_bytes(),
            ":until": self.timestamp.after(retention),
            ":now": self.timestamp.now(),
        })?;
        Ok(changed > 0)
    }

    pub(crate) fn renew(
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

    pub(crate) fn release(&self, claim: &Claim) -> rusqlite::Result<()> {
        self.connection.prepare_cached(&self.sql.release)?.execute(named_params! {
            ":key": claim.key().as_bytes(),
            ":token": claim.token().as_bytes(),
            ":now": self.timestamp.now(),
        })?;
        Ok(())
    }

    /// Lists up to `limit` unexpired rows of an event with keys after `after`. Leaves out unreadable rows.
    pub(crate) fn list(&self, event: &EventKey, after: &[u8], limit: usize) -> rusqlite::Result<Vec<LedgerEntry>> {
        let parameters = params![event.as_bytes(), after, self.timestamp.now()];
        self.listed(&self.sql.list_of_event, parameters, limit)
    }

    /// Lists up to `limit` unexpired rows of a slice that were claimed in the window from `from` to `before`, exclusive.
    /// Both are system times in milliseconds. Leaves out unreadable rows.
    pub(crate) fn list_claimed(
        &self,
        slice: &Slice,
        from: i64,
        before: i64,
        limit: usize,
    ) -> rusqlite::Result<Vec<LedgerEntry>> {
        let parameters = params![slice.after, slice.last, from, before, self.timestamp.now()];
        self.listed(&self.sql.list_claimed, parameters, limit)
    }

    fn listed(&self, sql: &str, parameters: &[&dyn ToSql], limit: usize) -> rusqlite::Result<Vec<LedgerEntry>> {
        let mut list = self.connection.prepare_cached(sql)?;
        let rows = list.query_map(parameters, |row| Ok(self.entry(row).ok()))?;
        rows.filter_map(Result::transpose).take(limit).collect()
    }

    fn entry(&self, row: &Row<'_>) -> rusqlite::Result<LedgerEntry> {
        let key = event_key(row.get_ref(0)?, "key")?;
        let state = match row.get_ref(3)? {
            ValueRef::Integer(CLAIMED) => LedgerState::Claimed,
            ValueRef::Integer(DONE) => LedgerState::Done,
            other => return Err(unknown_state(other).into()),
        };
        Ok(LedgerEntry {
            key,
            event: match row.get_ref(1)? {
                ValueRef::Null => key,
                event => event_key(event, "event_key")?,
            },
            digest: digest(row.get_ref(2)?)?,
            state,
            claimed_at: time(integer(row.get_ref(4)?, "claimed_at")?),
            until: self.timestamp.system_time(integer(row.get_ref(5)?, "until")?),
            kept_until: self.timestamp.system_time(integer(row.get_ref(6)?, "kept_until")?),
        })
    }

    /// Returns the number of rows that [`forget`](Self::forget) would count.
    pub(crate) fn count(&self, event: &EventKey) -> rusqlite::Result<u64> {
        self.counted(&self.sql.count_of_event, params![event.as_bytes(), self.timestamp.now()])
    }

    /// Returns the number of rows that [`forget_claimed`](Self::forget_claimed) would count.
    pub(crate) fn count_claimed(&self, slice: &Slice, from: i64, before: i64) -> rusqlite::Result<u64> {
        self.counted(&self.sql.count_claimed, params![slice.after, slice.last, from, before, self.timestamp.now()])
    }

    fn counted(&self, sql: &str, parameters: &[&dyn ToSql]) -> rusqlite::Result<u64> {
        self.connection.prepare_cached(sql)?.query_row(parameters, |row| count(row, 0))
    }

    pub(crate) fn forget(&self, event: &EventKey) -> rusqlite::Result<u64> {
        self.delete(&self.sql.forget, params![event.as_bytes(), self.timestamp.now()])
    }

    /// Forgets the rows of a slice that were claimed in the window from `from` to `before`, exclusive. Both are system
    /// times in milliseconds.
    pub(crate) fn forget_claimed(&self, slice: &Slice, from: i64, before: i64) -> rusqlite::Result<u64> {
        self.delete(&self.sql.forget_claimed, params![slice.after, slice.last, from, before, self.timestamp.now()])
    }

    /// Runs a statement that deletes rows and returns for each whether it was unexpired. Returns how many were.
    fn delete(&self, sql: &str, parameters: &[&dyn ToSql]) -> rusqlite::Result<u64> {
        let mut delete = self.connection.prepare_cached(sql)?;
        let counts = delete.query_map(parameters, |row| row.get::<_, bool>(0))?;
        counts.map(|counts| counts.map(u64::from)).sum()
    }

    /// Deletes up to `limit` rows of a slice whose retention or grace has expired.
    pub(crate) fn purge(&self, slice: &Slice, limit: u32) -> rusqlite::Result<u64> {
        let mut purge = self.connection.prepare_cached(&self.sql.purge)?;
        Ok(purge.execute(params![slice.after, slice.last, self.timestamp.now(), limit])? as u64)
    }

    /// Returns the next `rows` rows after a key, or fewer at the table's end.
    pub(crate) fn slice(&self, after: &[u8], rows: u32) -> rusqlite::Result<Slice> {
        self.connection.prepare_cached(&self.sql.slice)?.query_row(params![after, rows], |row| {
            let last: Option<Vec<u8>> = row.get(0)?;
            let is_full = row.get::<_, i64>(1)? == i64::from(rows);
            Ok(Slice { after: after.to_vec(), last: last.unwrap_or_else(|| after.to_vec()), is_full })
        })
    }
}

fn unknown_state(state: ValueRef<'_>) -> Fault {
    Fault::new(format!("its state is unknown: {state:?}"))
}

/// How an insert handles an entry that is already under the key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    /// Keeps a live entry: one that is done, or whose claim has not expired.
    Keep,
    Replace,
}
