//! Accepting deliveries.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio_postgres::{Row, types::FromSql};
use tower_klikit::{
    dedupe::{BodyDigest, StoreError},
    inbox::{Acceptance, DeliveryState, NewDelivery},
};

use super::{
    arrivals::{Cases, Labels, add_all, add_together},
    batches::{Added, Arrival},
    hand_off::HandOff,
};
use crate::{
    connection::{Failure, Params, Sql, TRIES, UserStatement},
    store::PostgresStore,
    values::{Body, Digest, bytes, seconds},
};

/// The state of a delivery's key in the inbox and the ledger.
enum KeyState {
    /// The delivery is READY or LEASED, or it was handled and its ledger row is left.
    Known(BodyDigest),
    /// The delivery is READY or LEASED, but its ledger row is missing.
    LedgerRowMissing(BodyDigest),
    /// The delivery is DEAD. There is no digest if its content is missing.
    Dead(Option<BodyDigest>),
    /// The dedupe layer holds a claim on the key.
    InFlight {
        digest: BodyDigest,
        /// The time that remains of the claim's lease.
        remaining: Duration,
    },
    Absent,
}

impl KeyState {
    /// Reads the state from a row of the statement that reads keys.
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let (state, stored): (Option<i16>, Option<Digest>) = (row.try_get(0)?, row.try_get(1)?);
        let (is_done, claimed): (Option<bool>, Option<Digest>) = (row.try_get(2)?, row.try_get(3)?);
        let remaining: Option<f64> = row.try_get(4)?;
        let state = state.and_then(DeliveryState::from_code);
        let is_unfinished = state.is_some_and(DeliveryState::is_unfinished);
        Ok(match (stored, is_done.zip(claimed)) {
            (stored, _) if state == Some(DeliveryState::Dead) => Self::Dead(stored.map(|Digest(digest)| digest)),
            (Some(Digest(digest)), Some(_)) if is_unfinished => Self::Known(digest),
            (Some(Digest(digest)), None) if is_unfinished => Self::LedgerRowMissing(digest),
            (_, Some((true, Digest(digest)))) => Self::Known(digest),
            (_, Some((false, Digest(digest)))) => {
                let remaining = Duration::try_from_secs_f64(remaining.unwrap_or_default()).unwrap_or_default();
                Self::InFlight { digest, remaining }
            }
            (_, None) => Self::Absent,
        })
    }
}

impl PostgresStore {
    /// Accepts a delivery. Stores a new delivery with one statement. Otherwise reads the state of the key and acts on it,
    /// and starts over if the state has changed since it was read.
    pub(super) async fn store(&self, new: &NewDelivery, retention: Duration) -> Result<Acceptance, StoreError> {
        for attempt in 0..TRIES {
            let added = match &self.shared.hand_off {
                Some(hand_off) => self.hand_off(new, hand_off, retention).await.map_err(StoreError::new)?,
                None if attempt == 0 => self.add_in_batch(new, retention).await?,
                None => self.add_alone(new, retention).await?,
            };
            if added {
                self.shared.sweeper.completed();
                return Ok(Acceptance::Accepted);
            }
            match self.key_state(new).await? {
                KeyState::Known(digest) => return self.known(new, digest).await,
                KeyState::InFlight { digest, remaining } => return Ok(Acceptance::InFlight { digest, remaining }),
                KeyState::LedgerRowMissing(digest) => {
                    if self.restore_ledger_row(new, retention).await? {
                        return self.known(new, digest).await;
                    }
                }
                KeyState::Dead(Some(digest)) if !new.is_same_as(&digest) => return self.known(new, digest).await,
                KeyState::Dead(digest) if !new.revives() => {
                    let head = match &digest {
                        Some(digest) => self.stored(&self.shared.inbox.read_head, new, digest).await?,
                        None => None,
                    };
                    return Ok(Acceptance::Dead { head });
                }
                KeyState::Dead(digest) => {
                    if self.revive(new, digest.as_ref(), retention).await? {
                        self.shared.sweeper.completed();
                        return Ok(Acceptance::Revived);
                    }
                }
                KeyState::Absent => {}
            }
        }
        Err(StoreError::new("another node kept changing the delivery"))
    }

    /// Stores a delivery together with those that arrive at the same time. Returns whether it was stored. If not, its key may
    /// still be new: the batch leaves out deliveries that replace a DONE one.
    ///
    /// If the server rejects the batch, each delivery is stored by itself, so that only the one that the server rejects fails.
    async fn add_in_batch(&self, new: &NewDelivery, retention: Duration) -> Result<bool, StoreError> {
        let (shared, arrival) = (Arc::clone(&self.shared), Arrival { new: new.clone(), retention });
        let added = shared.batches.arrivals.run(arrival, {
            let shared = Arc::clone(&shared);
            move |arrivals| add_together(Arc::clone(&shared), arrivals)
        });
        match added.await {
            Some(Added::New) => Ok(true),
            Some(Added::NotNew) => Ok(false),
            Some(Added::Failed(failure)) => Err(StoreError::new(failure)),
            Some(Added::MustRunAlone) | None => self.add_alone(new, retention).await,
        }
    }

    /// Stores a delivery by itself if its key is new. Returns whether the key was new.
    async fn add_alone(&self, new: &NewDelivery, retention: Duration) -> Result<bool, StoreError> {
        let shared = &*self.shared;
        let alone = [Arrival { new: new.clone(), retention }];
        let _permit = shared.batches.alone.acquire().await.expect("the semaphore is never closed");
        match add_all(shared, shared.connections.begin(), &alone, Cases::All).await {
            Ok(added) => Ok(added == [true]),
            Err(failure) if failure.is_collision() => Ok(false),
            Err(failure) => Err(StoreError::new(failure)),
        }
    }

    /// Hands off a delivery if its key is new, and remembers the key in the ledger. Returns whether the key was new.
    async fn hand_off(&self, new: &NewDelivery, hand_off: &HandOff, retention: Duration) -> Result<bool, Failure> {
        let claim = new.claim();
        let (key, event, token) = (bytes(claim.key()), bytes(claim.event()), &claim.token().as_bytes()[..]);
        let (digest, retention) = (&claim.digest().as_bytes()[..], seconds(retention));
        let remember: Params<'_> = &[&key, &event, &token, &digest, &retention];
        self.enqueue(new, hand_off, &self.shared.inbox.remember, remember).await
    }

    /// Runs `record`, which records the key, and puts the delivery into the user's queue if `record` changes a row. Returns
    /// whether it did.
    async fn enqueue(
        &self,
        new: &NewDelivery,
        hand_off: &HandOff,
        record: &Sql,
        params: Params<'_>,
    ) -> Result<bool, Failure> {
        let shared = &*self.shared;
        let hex = hex::encode(bytes(new.claim().key()));
        let (head, body) = (new.head(), Body(new.body()));
        let enqueue = UserStatement { sql: hand_off.sql(), types: &HandOff::TYPES, params: &[&body, &head, &hex] };
        shared.connections.run_both((record, params), enqueue).await
    }

    /// Reads the state of a delivery's key, after the transactions that change its ledger row have ended.
    async fn key_state(&self, new: &NewDelivery) -> Result<KeyState, StoreError> {
        let shared = &*self.shared;
        let key: Params<'_> = &[&bytes(new.claim().key())];
        let statements = [(&shared.inbox.lock, key), (&shared.inbox.read, key)];
        let answers = shared.connections.run_within(shared.connections.begin(), &statements).await;
        let answers = answers.map_err(StoreError::new)?;
        let row = answers[1].rows.first().ok_or_else(|| StoreError::new("a key without a row"))?;
        KeyState::read(row).map_err(StoreError::new)
    }

    /// Returns `Known` with the digest. Reads the stored body only if the new one does not match it, which is rare.
    async fn known(&self, new: &NewDelivery, digest: BodyDigest) -> Result<Acceptance, StoreError> {
        let body = if new.is_same_as(&digest) { None } else { self.stored_body(new, &digest).await? };
        Ok(Acceptance::Known { digest, body })
    }

    async fn stored_body(&self, new: &NewDelivery, digest: &BodyDigest) -> Result<Option<Bytes>, StoreError> {
        let body: Option<Vec<u8>> = self.stored(&self.shared.inbox.read_body, new, digest).await?;
        Ok(body.map(Into::into))
    }

    /// Reads a column of the content that is stored under the key with this digest. Returns `None` if the content is
    /// damaged. Nothing is lost then: the new delivery is treated as a conflict, or replaces the content.
    async fn stored<T: for<'a> FromSql<'a>>(
        &self,
        read: &Sql,
        new: &NewDelivery,
        digest: &BodyDigest,
    ) -> Result<Option<T>, StoreError> {
        let params: Params<'_> = &[&bytes(new.claim().key()), &&digest.as_bytes()[..]];
        let answer = match self.shared.connections.run(read, params).await {
            Err(failure) if failure.damage().is_some() => return Ok(None),
            answer => answer.map_err(StoreError::new)?,
        };
        // There is no body once only the history of the delivery is kept.
        let stored: Option<Option<T>> =
            answer.rows.first().map(|row| row.try_get(0)).transpose().map_err(StoreError::new)?;
        Ok(stored.flatten())
    }

    /// Restores the ledger row of a pending delivery. Returns whether the delivery is still pending.
    async fn restore_ledger_row(&self, new: &NewDelivery, retention: Duration) -> Result<bool, StoreError> {
        let shared = &*self.shared;
        let (key, token) = (bytes(new.claim().key()), &new.claim().token().as_bytes()[..]);
        let params: Params<'_> = &[&key, &token, &seconds(retention)];
        let answer = shared.connections.run(&shared.inbox.restore_ledger_row, params).await.map_err(StoreError::new)?;
        Ok(answer.changed > 0)
    }

    /// Revives a delivery, if it is still DEAD and its digest is still `dead`. Returns whether it was revived.
    ///
    /// If deliveries are handed off, the new delivery is handed off and the DEAD one is deleted, because the inbox may have no
    /// worker.
    async fn revive(
        &self,
        new: &NewDelivery,
        dead: Option<&BodyDigest>,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let shared = &*self.shared;
        let claim = new.claim();
        let (key, event, token) = (bytes(claim.key()), bytes(claim.event()), &claim.token().as_bytes()[..]);
        let (digest, retention) = (&claim.digest().as_bytes()[..], seconds(retention));
        let dead = dead.map(|digest| &digest.as_bytes()[..]);
        if let Some(hand_off) = &shared.hand_off {
            let params: Params<'_> = &[&key, &event, &token, &digest, &retention, &dead];
            let moved = self.enqueue(new, hand_off, &shared.inbox.move_to_queue, params).await;
            return moved.map_err(StoreError::new);
        }
        let (head, body, labels) = (new.head(), Body(new.body()), Labels::of(new));
        let Labels { event_id, event_type, tenant, ordering_keys, branch, orders } = &labels;
        let params: Params<'_> = &[
            &key,
            &event,
            &token,
            &digest,
            &retention,
            &head,
            &body,
            event_id,
            event_type,
            tenant,
            ordering_keys,
            &dead,
            branch,
            orders,
        ];
        let statements = [(&shared.inbox.revive, params)];
        let revived = shared.connections.run_within(&shared.inbox.begin_alone, &statements).await;
        Ok(revived.map_err(StoreError::new)?.iter().any(|answer| answer.changed > 0))
    }
}
