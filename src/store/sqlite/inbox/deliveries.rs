//! The inbox's tables, within a transaction, and how deliveries come into them and leave.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, named_params, params};

use super::sql::Sql;
use crate::{
    dedupe::{BodyDigest, ClaimOutcome},
    inbox::{Acceptance, DeliveryId, DeliveryState, NewDelivery, OrderingKey},
    store::sqlite::{entries::Entries, moment::Moment},
};

/// The tables, within a transaction.
///
/// Calls write with several statements. One that fails leaves behind what it has done so far: the transaction has to be rolled
/// back.
pub(in super::super) struct Deliveries<'a> {
    pub(super) connection: &'a Connection,
    pub(super) sql: &'a Sql,
    pub(super) ledger: Entries<'a>,
    pub(super) moment: Moment,
}

impl<'a> Deliveries<'a> {
    pub(in super::super) fn new(connection: &'a Connection, sql: &'a Sql, ledger: Entries<'a>, moment: Moment) -> Self {
        Self { connection, sql, ledger, moment }
    }

    pub(super) fn accept(&self, new: &NewDelivery, retention: Duration) -> rusqlite::Result<Acceptance> {
        let mut find = self.connection.prepare_cached(&self.sql.find)?;
        let found = find
            .query_row([new.claim().key().as_bytes()], |row| {
                let digest = BodyDigest::from(row.get::<_, [u8; 32]>(2)?);
                Ok((row.get::<_, i64>(0)?, row.get(1).map(DeliveryState::from_code)?, digest))
            })
            .optional()?;
        let has_done = match found {
            None => false,
            Some((_, Some(DeliveryState::Done), _)) => true,
            Some((id, Some(DeliveryState::Dead), digest)) if new.is_same_as(&digest) => {
                self.ledger.accept_anyway(new.claim(), retention)?;
                self.revive(id, new)?;
                return Ok(Acceptance::Revived);
            }
            Some((_, Some(DeliveryState::Dead), digest)) => return Ok(Acceptance::Known { digest }),
            Some((_, _, digest)) => {
                // Of the delivery that is here, whatever this copy has for a body.
                self.ledger.accept(new.claim(), &digest, retention)?;
                return Ok(Acceptance::Known { digest });
            }
        };
        match self.ledger.accept(new.claim(), new.claim().digest(), retention)? {
            ClaimOutcome::Done { digest } => Ok(Acceptance::Known { digest }),
            ClaimOutcome::InFlight { digest, remaining } => Ok(Acceptance::InFlight { digest, remaining }),
            ClaimOutcome::Claimed => {
                if has_done {
                    self.delete_finished(new.claim().key().as_bytes())?;
                }
                self.insert(new)?;
                Ok(Acceptance::Accepted)
            }
        }
    }

    fn insert(&self, new: &NewDelivery) -> rusqlite::Result<()> {
        let (claim, ordering) = (new.claim(), ordering_of(new));
        self.connection.prepare_cached(&self.sql.insert)?.execute(named_params! {
            ":key": claim.key().as_bytes(),
            ":event": claim.is_conflict().then(|| claim.event().as_bytes()),
            ":now": self.moment.now(),
            ":ordering": ordering,
        })?;
        let id = self.connection.last_insert_rowid();
        self.write_delivery(&self.sql.insert_delivery, id, new)?;
        self.stand_in_line(id, ordering.as_deref())
    }

    fn revive(&self, id: i64, new: &NewDelivery) -> rusqlite::Result<()> {
        let ordering = ordering_of(new);
        self.connection.prepare_cached(&self.sql.revive)?.execute(named_params! {
            ":id": id,
            ":now": self.moment.now(),
            ":ordering": ordering,
        })?;
        self.write_delivery(&self.sql.revive_delivery, id, new)?;
        self.stand_in_line(id, ordering.as_deref())
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

    /// A dead one is as if it had just been accepted, in its old place.
    pub(super) fn retry(&self, id: DeliveryId) -> rusqlite::Result<bool> {
        let mut retry = self.connection.prepare_cached(&self.sql.retry)?;
        let ordering =
            retry.query_row(params![id.get(), self.moment.now()], |row| row.get::<_, Option<Vec<u8>>>(0)).optional()?;
        let Some(ordering) = ordering else { return Ok(false) };
        self.stand_in_line(id.get(), ordering.as_deref())?;
        Ok(true)
    }

    fn stand_in_line(&self, id: i64, ordering: Option<&[u8]>) -> rusqlite::Result<()> {
        self.for_each_key(&self.sql.insert_ordering, id, ordering)
    }

    pub(super) fn leave_line(&self, id: i64, ordering: Option<&[u8]>) -> rusqlite::Result<()> {
        self.for_each_key(&self.sql.delete_ordering, id, ordering)
    }

    fn for_each_key(&self, sql: &str, id: i64, ordering: Option<&[u8]>) -> rusqlite::Result<()> {
        let Some(ordering) = ordering else { return Ok(()) };
        let mut each = self.connection.prepare_cached(sql)?;
        keys(ordering).try_for_each(|key| each.execute(params![key, id]).map(drop))
    }
}

/// As they are stored.
fn ordering_of(new: &NewDelivery) -> Option<Vec<u8>> {
    let keys = new.ordering_keys();
    (!keys.is_empty()).then(|| keys.iter().flat_map(OrderingKey::as_bytes).copied().collect())
}

/// The keys, read back.
pub(super) fn keys(ordering: &[u8]) -> impl Iterator<Item = &[u8]> {
    ordering.chunks(size_of::<OrderingKey>())
}
