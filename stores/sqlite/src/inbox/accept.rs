//! The call that accepts a delivery.

use std::time::Duration;

use rusqlite::{OptionalExtension, Row, named_params, params, types::ValueRef};
use tower_klikit::{
    dedupe::{BodyDigest, EventKey},
    inbox::{Acceptance, DeliveryState, NewDelivery},
};

use super::{deliveries::Deliveries, ordering_keys, state::state_of, terms::StoredTerms};
use crate::{
    fault::Fault,
    ledger::LiveEntry,
    values::{digest, text},
};

/// A delivery that is already stored under the key of a new one.
struct ExistingDelivery {
    id: i64,
    state: DeliveryState,
    digest: Result<BodyDigest, Fault>,
    /// The head, or a fault if the head or the body is unreadable.
    head: Result<String, Fault>,
}

impl ExistingDelivery {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let (id, state) = (row.get(0)?, state_of(row.get_ref(1)?));
        if row.get_ref(2)? == ValueRef::Null {
            let missing = Fault::new("its head and its body are missing");
            return Ok(Self { id, state, digest: Err(missing.clone()), head: Err(missing) });
        }
        // Check only the type of the body, since reading it would take long.
        let head = match row.get_ref(5)?.as_str() {
            Ok("blob") => text(row.get_ref(4)?, "head").map(Into::into),
            _ => Err(Fault::new("its body is not a Blob")),
        };
        Ok(Self { id, state, digest: digest(row.get_ref(3)?), head })
    }

    fn unreadable(&self, fault: &Fault) -> Fault {
        fault.clone().within(&format!("delivery {}, which has the same key, cannot be read", self.id))
    }
}

impl Deliveries<'_> {
    /// Accepts a delivery.
    ///
    /// Returns an error if the existing delivery under its key is unfinished and unreadable: the two may differ, and
    /// the existing one may never be handled. klikit then sends the delivery again. By that time the existing delivery
    /// is dead, and the new request revives it, unless that could replace a different body.
    pub(crate) fn accept(&self, new: &NewDelivery, retention: Duration) -> rusqlite::Result<Acceptance> {
        let stored = self.stored_under(new.claim().key())?;
        match &stored {
            None | Some(ExistingDelivery { state: DeliveryState::Done, .. }) => {
                self.accept_new(new, stored.as_ref(), retention)
            }
            Some(dead @ ExistingDelivery { state: DeliveryState::Dead, .. }) => match (&dead.digest, &dead.head) {
                (Ok(digest), _) if !new.is_same_as(digest) => self.known(new, *digest, Some(dead)),
                (Ok(_), head) | (Err(_), head @ Err(_)) if !new.revives() => {
                    Ok(Acceptance::Dead { head: head.clone().ok() })
                }
                (Ok(_), _) | (Err(_), Err(_)) => self.revive(dead.id, new, retention),
                (Err(fault), Ok(_)) => Err(dead.unreadable(fault).into()),
            },
            Some(unfinished) => match (&unfinished.digest, &unfinished.head) {
                (Ok(digest), Ok(_)) => {
                    // Record the digest of the existing delivery, since the body of this copy may differ.
                    self.ledger.accept(new.claim(), digest, retention)?;
                    self.known(new, *digest, Some(unfinished))
                }
                (Err(fault), _) | (_, Err(fault)) => Err(unfinished.unreadable(fault).into()),
            },
        }
    }

    fn stored_under(&self, key: &EventKey) -> rusqlite::Result<Option<ExistingDelivery>> {
        let key = [key.as_bytes()];
        let mut find = self.connection.prepare_cached(&self.sql.accept.find_by_key)?;
        let fault = match self.isolation.isolate(|| find.query_row(key, ExistingDelivery::from_row).optional())? {
            Ok(found) => return Ok(found),
            Err(fault) => fault,
        };
        let mut find = self.connection.prepare_cached(&self.sql.accept.find_state_by_key)?;
        let stored = find.query_row(key, |row| {
            let (id, state) = (row.get(0)?, state_of(row.get_ref(1)?));
            Ok(ExistingDelivery { id, state, digest: Err(fault.clone()), head: Err(fault) })
        });
        stored.optional()
    }

    /// Accepts a delivery, unless the ledger has a live entry under its key. Deletes a kept delivery under the key.
    fn accept_new(
        &self,
        new: &NewDelivery,
        kept: Option<&ExistingDelivery>,
        retention: Duration,
    ) -> rusqlite::Result<Acceptance> {
        match self.ledger.accept(new.claim(), new.claim().digest(), retention)? {
            Some(LiveEntry::Done { digest }) => self.known(new, digest, kept),
            Some(LiveEntry::InFlight { digest, remaining }) => Ok(Acceptance::InFlight { digest, remaining }),
            None => {
                if let Some(kept) = kept {
                    self.delete(kept.id)?;
                }
                self.insert(new)?;
                Ok(Acceptance::Accepted)
            }
        }
    }

    /// Returns the outcome for a key that is known with this digest. Includes the stored body if it differs from that
    /// of `new`.
    fn known(
        &self,
        new: &NewDelivery,
        digest: BodyDigest,
        stored: Option<&ExistingDelivery>,
    ) -> rusqlite::Result<Acceptance> {
        let body = match stored.filter(|stored| stored.digest == Ok(digest) && !new.is_same_as(&digest)) {
            None => None,
            // The caller compares the two bodies as JSON. It cannot do so if the stored body is unreadable.
            Some(stored) => self.body(stored.id)?.map(Into::into),
        };
        Ok(Acceptance::Known { digest, body })
    }

    /// Makes a dead delivery pending again, with the new request.
    fn revive(&self, id: i64, new: &NewDelivery, retention: Duration) -> rusqlite::Result<Acceptance> {
        self.ledger.accept_anyway(new.claim(), retention)?;
        if self.isolation.isolate(|| self.replace(id, new))?.is_ok() {
            return Ok(Acceptance::Revived);
        }
        // The row of the old request is on a damaged page and cannot be replaced, so insert a new delivery.
        self.delete(id)?;
        self.insert(new)?;
        Ok(Acceptance::Accepted)
    }

    fn insert(&self, new: &NewDelivery) -> rusqlite::Result<()> {
        let (claim, terms) = (new.claim(), StoredTerms::new(new));
        self.connection.prepare_cached(&self.sql.accept.insert)?.execute(named_params! {
            ":key": claim.key().as_bytes(),
            ":event_key": claim.is_conflict().then(|| claim.event().as_bytes()),
            ":now": self.timestamp.now(),
            ":system_time": self.timestamp.system(),
            ":event_id": new.event_id(),
            ":event_type": new.event_type(),
            ":tenant": new.tenant(),
            ":ordering_keys": ordering_keys::to_json(new.ordering_keys()),
            ":branch": terms.branch,
            ":orders": terms.orders,
        })?;
        let id = self.connection.last_insert_rowid();
        self.write_body(&self.sql.accept.insert_body, id, new)?;
        self.enqueue(id, new.ordering_keys())
    }

    fn replace(&self, id: i64, new: &NewDelivery) -> rusqlite::Result<()> {
        let terms = StoredTerms::new(new);
        self.connection.prepare_cached(&self.sql.accept.revive)?.execute(named_params! {
            ":id": id,
            ":now": self.timestamp.now(),
            ":event_id": new.event_id(),
            ":event_type": new.event_type(),
            ":tenant": new.tenant(),
            ":ordering_keys": ordering_keys::to_json(new.ordering_keys()),
            ":branch": terms.branch,
            ":orders": terms.orders,
        })?;
        self.write_body(&self.sql.accept.replace_body, id, new)
    }

    fn write_body(&self, sql: &str, id: i64, new: &NewDelivery) -> rusqlite::Result<()> {
        let mut write = self.connection.prepare_cached(sql)?;
        write.execute(params![id, new.claim().digest().as_bytes(), new.head(), &new.body()[..]])?;
        Ok(())
    }
}
