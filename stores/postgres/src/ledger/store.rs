//! The implementation of `Ledger`.

use std::time::Duration;

use tokio_postgres::{
    GenericClient, Row,
    types::{ToSql, Type},
};
use tower_klikit::dedupe::{
    Claim, ClaimOutcome, ClaimTerms, EventKey, Ledger, LedgerAdmin, LedgerEntry, LedgerSelection, LedgerState,
    StoreError,
};

use crate::{
    connection::{Failure, Sql, TRIES},
    store::{PostgresStore, Shared},
    values::{Digest, Key, bytes, count, seconds, within_calendar},
};

impl PostgresStore {
    /// Returns the statement that completes a claim, for your own transaction with any driver.
    ///
    /// | parameter | type | value |
    /// |---|---|---|
    /// | `$1` | `bytea` | [`Claim::key`], 16 bytes |
    /// | `$2` | `bytea` | [`Claim::token`], 16 bytes |
    /// | `$3` | `float8` | how long to remember the delivery, in seconds |
    ///
    /// The statement changes one row if this token still holds the claim, even if its lease has expired. If it changes no
    /// row, roll back: another copy of the delivery is being handled, or was handled. Completing twice changes one row each
    /// time.
    pub fn complete_sql(&self) -> &str {
        self.shared.ledger.complete.text()
    }

    /// Completes `claim` in the transaction that is open on your connection. Returns `false` if this token no longer holds
    /// the claim: then roll back.
    ///
    /// `client` is a client or a transaction of `tokio-postgres`; those of `deadpool-postgres` dereference to them.
    ///
    /// # Errors
    ///
    /// Returns an error if Postgres rejects the statement or does not answer within the
    /// [deadline](crate::PostgresStoreBuilder::deadline). Then roll back.
    pub async fn complete_in(
        &self,
        client: &impl GenericClient,
        claim: &Claim,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let (key, token) = key_and_token(claim);
        let seconds = seconds(retention);
        let params: [(&(dyn ToSql + Sync), Type); 3] =
            [(&key, Type::BYTEA), (&token, Type::BYTEA), (&seconds, Type::FLOAT8)];
        let complete = client.execute_typed(self.complete_sql(), &params);
        self.within(1, complete).await.map(|changed| changed > 0)
    }

    /// Runs the statement for an event, or the statement for a window. Returns the number that the statement returns.
    pub(crate) async fn count_selected(
        &self,
        selection: &LedgerSelection,
        of_event: &Sql,
        claimed: &Sql,
    ) -> Result<u64, StoreError> {
        let answer = match selection {
            LedgerSelection::Event(event) => self.run_long(of_event, &[&bytes(event)]).await?,
            LedgerSelection::Claimed(window) => {
                let (start, end) = (within_calendar(window.start), within_calendar(window.end));
                self.run_long(claimed, &[&start, &end]).await?
            }
        };
        count(&answer)
    }

    async fn claim_or_read(&self, claim: &Claim, terms: &ClaimTerms) -> Result<ClaimOutcome, Failure> {
        let Shared { connections, ledger, .. } = &*self.shared;
        let ((key, token), event) = (key_and_token(claim), bytes(claim.event()));
        let digest = &claim.digest().as_bytes()[..];
        let (lease, kept) = in_seconds(terms);
        for _ in 0..TRIES {
            let claimed = connections.run(&ledger.claim, &[&key, &event, &token, &digest, &lease, &kept]).await?;
            if !claimed.rows.is_empty() {
                return Ok(ClaimOutcome::Claimed);
            }
            // Read with a second statement. After waiting for another node's claim, a single statement would still see the
            // table as it was before, without that claim.
            let there = connections.run(&ledger.read, &[&key, &token]).await?;
            if let Some(row) = there.rows.first()
                && let Some(outcome) = outcome(row).map_err(Failure::Statement)?
            {
                return Ok(outcome);
            }
        }
        Err(Failure::Contended)
    }
}

impl Ledger for PostgresStore {
    async fn claim(&self, claim: &Claim, terms: &ClaimTerms) -> Result<ClaimOutcome, StoreError> {
        self.within(1, self.claim_or_read(claim, terms)).await
    }

    async fn complete(&self, claim: &Claim, retention: Duration) -> Result<bool, StoreError> {
        let (key, token) = key_and_token(claim);
        let answer = self.run(&self.shared.ledger.complete, &[&key, &token, &seconds(retention)]).await?;
        self.shared.sweeper.completed();
        Ok(answer.changed > 0)
    }

    async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        let (key, token) = key_and_token(claim);
        self.run(&self.shared.ledger.release, &[&key, &token]).await?;
        Ok(())
    }

    async fn renew(&self, claims: &[Claim], terms: &ClaimTerms) -> Result<Vec<bool>, StoreError> {
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        let (keys, tokens): (Vec<_>, Vec<_>) = claims.iter().map(key_and_token).unzip();
        let (lease, kept) = in_seconds(terms);
        let answer = self.run(&self.shared.ledger.renew, &[&keys, &tokens, &lease, &kept]).await?;
        let renewed: Result<Vec<_>, _> = answer.rows.iter().map(|row| row.try_get(0)).collect();
        renewed.map_err(StoreError::new)
    }

    async fn forget(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        let Shared { ledger, .. } = &*self.shared;
        self.count_selected(selection, &ledger.forget, &ledger.forget_claimed).await
    }

    async fn purge(&self, limit: u32) -> Result<u64, StoreError> {
        Ok(self.run_long(&self.shared.ledger.purge, &[&i64::from(limit)]).await?.changed)
    }
}

impl LedgerAdmin for PostgresStore {
    async fn entries(
        &self,
        selection: &LedgerSelection,
        after: Option<EventKey>,
        limit: u32,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        let ledger = &self.shared.ledger;
        let (after, limit) = (after.as_ref().map(bytes), i64::from(limit));
        let answer = match selection {
            LedgerSelection::Event(event) => self.run_long(&ledger.list, &[&bytes(event), &after, &limit]).await?,
            LedgerSelection::Claimed(window) => {
                let (start, end) = (within_calendar(window.start), within_calendar(window.end));
                self.run_long(&ledger.list_claimed, &[&start, &end, &after, &limit]).await?
            }
        };
        answer.rows.iter().map(entry).collect::<Result<_, _>>().map_err(StoreError::new)
    }

    async fn count(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        let Shared { ledger, .. } = &*self.shared;
        self.count_selected(selection, &ledger.count, &ledger.count_claimed).await
    }
}

/// Returns the key and the token of a claim.
fn key_and_token(claim: &Claim) -> (&[u8], &[u8]) {
    (bytes(claim.key()), claim.token().as_bytes())
}

/// Returns the seconds until a claim expires, and until the end of its grace.
fn in_seconds(terms: &ClaimTerms) -> (f64, f64) {
    (seconds(terms.lease), seconds(terms.lease.saturating_add(terms.grace)))
}

/// Reads an entry.
fn entry(row: &Row) -> Result<LedgerEntry, tokio_postgres::Error> {
    let key: Key = row.try_get(0)?;
    let event: Option<Key> = row.try_get(1)?;
    let digest: Digest = row.try_get(2)?;
    let is_done: bool = row.try_get(3)?;
    Ok(LedgerEntry {
        key: key.0,
        event: event.map_or(key.0, |event| event.0),
        digest: digest.0,
        state: if is_done { LedgerState::Done } else { LedgerState::Claimed },
        claimed_at: row.try_get(4)?,
        until: row.try_get(5)?,
        kept_until: row.try_get(6)?,
    })
}

/// Returns the outcome of a claim that found this entry. Returns `None` if the token itself holds the entry, so that it must
/// claim once more.
fn outcome(row: &Row) -> Result<Option<ClaimOutcome>, tokio_postgres::Error> {
    let (done, mine): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
    let (digest, remaining): (Digest, f64) = (row.try_get(2)?, row.try_get(3)?);
    Ok(match (done, mine) {
        (true, _) => Some(ClaimOutcome::Done { digest: digest.0 }),
        (false, true) => None,
        (false, false) => Some(ClaimOutcome::InFlight {
            digest: digest.0,
            remaining: Duration::try_from_secs_f64(remaining).unwrap_or_default(),
        }),
    })
}
