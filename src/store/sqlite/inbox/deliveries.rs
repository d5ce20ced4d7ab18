//! Accepting and retrying deliveries.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, named_params, params};

use super::sql::Sql;
use crate::{
    dedupe::{BodyDigest, ClaimOutcome},
    inbox::{Acceptance, DeliveryId, DeliveryState, NewDelivery, OrderingKey},
    store::sqlite::{entries::Entries, timestamp::Timestamp},
};

/// The tables, within a transaction.
///
/// Calls write with several statements. One that fails leaves behind what it has done so far: the transaction has to be rolled
/// back.
pub(in super::super) struct Deliveries<'a> {
    pub(super) connection: &'a Connection,
    pub(super) sql: &'a Sql,
    pub(super) ledger: Entries<'a>,
    pub(super) timestamp: Timestamp,
}

impl<'a> Deliveries<'a> {
    pub(in super::super) fn new(
        connection: &'a Connection,
        sql: &'a Sql,
        ledger: Entries<'a>,
        timestamp: Timestamp,
    ) -> Self {
        Self { connection, sql, ledger, timestamp }
    }

    pub(super) fn accept(&self, new: &NewDelivery, retention: Duration) -> rusqlite::Result<Acceptance> {
        let mut find = self.connection.prepare_cached(&self.sql.find)?;
        let found = find.query_row([new.claim().key().as_bytes()], |row| {
            Ok(Stored {
                id: row.get(0)?,
                state: DeliveryState::from_code(row.get(1)?),
                digest: row.get::<_, [u8; 32]>(2)?.into(),
            })
        });
        let stored = match found.optional()? {
            Some(Stored { id, state: Some(DeliveryState::Dead), digest }) if new.is_same_as(&digest) => {
                self.ledger.accept_anyway(new.claim(), retention)?;
                self.revive(id, new)?;
                return Ok(Acceptance::Revived);
            }
            Some(dead @ Stored { state: Some(DeliveryState::Dead), .. }) => {
                return self.known(new, dead.digest, Some(&dead));
            }
            Some(unfinished) if unfinished.state != Some(DeliveryState::Done) => {
                // The digest of the stored delivery, whatever this copy has for a body.
                self.ledger.accept(new.claim(), &unfinished.digest, retention)?;
                return self.known(new, unfinished.digest, Some(&unfinished));
            }
            done_or_absent => done_or_absent,
        };
        match self.ledger.accept(new.claim(), new.claim().digest(), retention)? {
            ClaimOutcome::Done { digest } => self.known(new, digest, stored.as_ref()),
            ClaimOutcome::InFlight { digest, remaining } => Ok(Acceptance::InFlight { digest, remaining }),
            ClaimOutcome::Claimed => {
                if stored.is_some() {
                    self.delete_finished(new.claim().key().as_bytes())?;
                }
                self.insert(new)?;
                Ok(Acceptance::Accepted)
            }
        }
    }

    /// The key of `new` is known by a body with this digest.
    fn known(&self, new: &NewDelivery, digest: BodyDigest, stored: Option<&Stored>) -> rusqlite::Result<Acceptance> {
        let body = match stored.filter(|stored| stored.digest == digest && !new.is_same_as(&digest)) {
            None => None,
            Some(stored) => {
                let mut find = self.connection.prepare_cached(&self.sql.find_body)?;
                find.query_row([stored.id], |row| row.get::<_, Vec<u8>>(0)).optional()?.map(Into::into)
            }
        };
        Ok(Acceptance::Known { digest, body })
    }

    fn insert(&self, new: &NewDelivery) -> rusqlite::Result<()> {
        let (claim, ordering) = (new.claim(), ordering_of(new));
        self.connection.prepare_cached(&self.sql.insert)?.execute(named_params! {
            ":key": claim.key().as_bytes(),
            ":event": claim.is_conflict().then(|| claim.event().as_bytes()),
            ":now": self.timestamp.now(),
            ":system_time": self.timestamp.system(),
            ":ordering": ordering,
        })?;
        let id = self.connection.last_insert_rowid();
        self.write_delivery(&self.sql.insert_delivery, id, new)?;
        self.enqueue(id, ordering.as_deref())
    }

    fn revive(&self, id: i64, new: &NewDelivery) -> rusqlite::Result<()> {
        let ordering = ordering_of(new);
        self.connection.prepare_cached(&self.sql.revive)?.execute(named_params! {
            ":id": id,
            ":now": self.timestamp.now(),
            ":ordering": ordering,
        })?;
        self.write_delivery(&self.sql.revive_delivery, id, new)?;
        self.enqueue(id, ordering.as_deref())
    }

    fn write_delivery(&self, sql: &str, id: i64, new: &NewDelivery) -> rusqlite::Result<()> {
        let mut write = self.connection.prepare_cached(sql)?;
        write.execute(params![id, new.claim().digest().as_bytes(), new.head(), &new.body()[..]])?;
        Ok(())
    }

    pub(super) fn delete_delivery(&self, id: i64) -> rusqlite::Result<()> {
        self.connection.prepare_cached(&self.sql.delete_delivery)?.execute([id])?;
        Ok(())
    }

    /// Makes a dead delivery ready, in its old place.
    pub(super) fn retry(&self, id: DeliveryId) -> rusqlite::Result<bool> {
        let mut retry = self.connection.prepare_cached(&self.sql.retry)?;
        let ordering = retry
            .query_row(params![id.get(), self.timestamp.now()], |row| row.get::<_, Option<Vec<u8>>>(0))
            .optional()?;
        let Some(ordering) = ordering else { return Ok(false) };
        self.enqueue(id.get(), ordering.as_deref())?;
        Ok(true)
    }

    /// Puts a delivery into its queues.
    pub(super) fn enqueue(&self, id: i64, ordering: Option<&[u8]>) -> rusqlite::Result<()> {
        self.for_each_key(&self.sql.insert_ordering, id, ordering)
    }

    /// Takes a delivery out of its queues.
    pub(super) fn dequeue(&self, id: i64, ordering: Option<&[u8]>) -> rusqlite::Result<()> {
        self.for_each_key(&self.sql.delete_ordering, id, ordering)
    }

    fn for_each_key(&self, sql: &str, id: i64, ordering: Option<&[u8]>) -> rusqlite::Result<()> {
        let Some(ordering) = ordering else { return Ok(()) };
        let mut each = self.connection.prepare_cached(sql)?;
        split_keys(ordering).try_for_each(|key| each.execute(params![key, id]).map(drop))
    }
}

/// A delivery that is already under a key.
struct Stored {
    id: i64,
    state: Option<DeliveryState>,
    digest: BodyDigest,
}

/// The ordering keys as they are stored.
fn ordering_of(new: &NewDelivery) -> Option<Vec<u8>> {
    let keys = new.ordering_keys();
    (!keys.is_empty()).then(|| keys.iter().flat_map(OrderingKey::as_bytes).copied().collect())
}

/// Splits the stored ordering keys.
pub(super) fn split_keys(ordering: &[u8]) -> impl Iterator<Item = &[u8]> {
    ordering.chunks(size_of::<OrderingKey>())
}

/// Reads the stored ordering keys.
pub(super) fn ordering_keys(ordering: &[u8]) -> impl Iterator<Item = OrderingKey> {
    split_keys(ordering).filter_map(|key| key.try_into().ok()).map(OrderingKey::from_bytes)
}
