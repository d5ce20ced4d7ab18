//! A delivery is stored, or found.

use std::time::Duration;

use super::{
    super::{
        connection::{Failure, Params, run, run_both, run_within},
        store::{PostgresStore, TRIES},
        sweep,
        values::{Body, Digest, bytes, seconds},
    },
    HandOff,
};
use crate::{
    dedupe::{BodyDigest, StoreError},
    inbox::{Acceptance, DeliveryState, NewDelivery, OrderingKey},
};

/// How many locks there are for all ordering keys. More would let fewer deliveries wait for those of other keys; fewer keep
/// one with thousands of keys from filling the server's table of locks.
const LOCKS: u16 = 1024;

/// Where a key stands.
enum Standing {
    Known(BodyDigest),
    /// It waits to be handled, and the ledger does not know it.
    Unremembered(BodyDigest),
    Dead(BodyDigest),
    InFlight(BodyDigest, Duration),
    Absent,
}

impl PostgresStore {
    /// One statement when it is new. The others read what is there, and then do what has to be done about it, if that is still
    /// so.
    pub(super) async fn store(&self, new: &NewDelivery, retention: Duration) -> Result<Acceptance, StoreError> {
        let shared = &*self.shared;
        for _ in 0..TRIES {
            if self.add(new, retention).await? {
                sweep::completed(&self.shared);
                return Ok(Acceptance::Accepted);
            }
            match self.standing(new).await? {
                Standing::Known(digest) => return Ok(Acceptance::Known { digest }),
                Standing::InFlight(digest, remaining) => return Ok(Acceptance::InFlight { digest, remaining }),
                Standing::Unremembered(digest) => {
                    let (key, token) = (bytes(new.claim().key()), &new.claim().token().as_bytes()[..]);
                    let params: Params<'_> = &[&key, &token, &seconds(retention)];
                    let again =
                        run(&shared.pool, &shared.inbox.remember_again, params).await.map_err(StoreError::new)?;
                    if again.changed > 0 {
                        return Ok(Acceptance::Known { digest });
                    }
                }
                Standing::Dead(digest) if !new.is_same_as(&digest) => return Ok(Acceptance::Known { digest }),
                Standing::Dead(digest) => {
                    if self.revive(new, &digest, retention).await? {
                        sweep::completed(&self.shared);
                        return Ok(Acceptance::Revived);
                    }
                }
                Standing::Absent => {}
            }
        }
        Err(StoreError::new("the delivery changed again and again meanwhile"))
    }

    /// Whether it was new.
    async fn add(&self, new: &NewDelivery, retention: Duration) -> Result<bool, StoreError> {
        let shared = &*self.shared;
        let claim = new.claim();
        let (key, event, token) = (bytes(claim.key()), bytes(claim.event()), &claim.token().as_bytes()[..]);
        let (digest, retention) = (&claim.digest().as_bytes()[..], seconds(retention));
        let added = if let Some(hand_off) = &shared.hand_off {
            let remember: Params<'_> = &[&key, &event, &token, &digest, &retention];
            self.enqueue(new, hand_off, &shared.inbox.remember, remember).await
        } else {
            let (head, body) = (new.head(), Body(new.body()));
            let (ordering, locks) = (keys(new.ordering_keys()), locks(new.ordering_keys()));
            let params: Params<'_> = &[&key, &event, &token, &digest, &retention, &head, &body, &ordering, &locks];
            run(&shared.pool, &shared.inbox.accept, params).await.map(|answer| answer.changed > 0)
        };
        match added {
            Err(failure) if failure.is_collision() && shared.hand_off.is_none() => Ok(false),
            added => added.map_err(StoreError::new),
        }
    }

    /// Puts it into the user's queue if this statement, which says what is remembered, changes a row. Whether it has.
    async fn enqueue(
        &self,
        new: &NewDelivery,
        hand_off: &HandOff,
        remember: &str,
        params: Params<'_>,
    ) -> Result<bool, Failure> {
        let shared = &*self.shared;
        let hex: String = bytes(new.claim().key()).iter().map(|byte| format!("{byte:02x}")).collect();
        let (head, body) = (new.head(), Body(new.body()));
        let enqueue: Params<'_> = &[&body, &head, &hex];
        let enqueue = (hand_off.sql(), &HandOff::TYPES[..], enqueue);
        run_both(&shared.pool, &shared.inbox.begin, (remember, params), enqueue).await
    }

    async fn standing(&self, new: &NewDelivery) -> Result<Standing, StoreError> {
        let shared = &*self.shared;
        let read =
            run(&shared.pool, &shared.inbox.read, &[&bytes(new.claim().key())]).await.map_err(StoreError::new)?;
        let row = read.rows.first().ok_or_else(|| StoreError::new("a key without a row"))?;
        (|| {
            let (state, waiting): (Option<i16>, Option<Digest>) = (row.try_get(0)?, row.try_get(1)?);
            let (done, held): (Option<bool>, Option<Digest>) = (row.try_get(2)?, row.try_get(3)?);
            let remaining: Option<f64> = row.try_get(4)?;
            let state = state.and_then(DeliveryState::from_code);
            Ok(match (state.zip(waiting), done.zip(held)) {
                (Some((DeliveryState::Ready | DeliveryState::Leased, Digest(digest))), Some(_)) => {
                    Standing::Known(digest)
                }
                (Some((DeliveryState::Ready | DeliveryState::Leased, Digest(digest))), None) => {
                    Standing::Unremembered(digest)
                }
                (Some((DeliveryState::Dead, Digest(digest))), _) => Standing::Dead(digest),
                (_, Some((true, Digest(digest)))) => Standing::Known(digest),
                (_, Some((false, Digest(digest)))) => {
                    let remaining = Duration::try_from_secs_f64(remaining.unwrap_or_default()).unwrap_or_default();
                    Standing::InFlight(digest, remaining)
                }
                (_, None) => Standing::Absent,
            })
        })()
        .map_err(|error: tokio_postgres::Error| StoreError::new(error))
    }

    /// Whether it was dead still, and had this digest.
    ///
    /// Where deliveries are handed off it is put into the queue, and is dead no more: here nobody may be there to handle it.
    async fn revive(&self, new: &NewDelivery, dead: &BodyDigest, retention: Duration) -> Result<bool, StoreError> {
        let shared = &*self.shared;
        let claim = new.claim();
        let (key, event, token) = (bytes(claim.key()), bytes(claim.event()), &claim.token().as_bytes()[..]);
        let (digest, retention) = (&claim.digest().as_bytes()[..], seconds(retention));
        let dead = &dead.as_bytes()[..];
        if let Some(hand_off) = &shared.hand_off {
            let params: Params<'_> = &[&key, &event, &token, &digest, &retention, &dead];
            let taken = self.enqueue(new, hand_off, &shared.inbox.take_out, params).await;
            return taken.map_err(StoreError::new);
        }
        let (head, body, ordering) = (new.head(), Body(new.body()), keys(new.ordering_keys()));
        let params: Params<'_> = &[&key, &event, &token, &digest, &retention, &head, &body, &ordering, &dead];
        let revived = run_within(&shared.pool, &shared.inbox.begin_alone, &shared.inbox.revive, params).await;
        revived.map(|answer| answer.changed > 0).map_err(StoreError::new)
    }
}

fn keys(keys: &[OrderingKey]) -> Vec<&[u8]> {
    keys.iter().map(|key| &key.as_bytes()[..]).collect()
}

/// The locks on these keys, in the one order in which everybody takes them.
fn locks(keys: &[OrderingKey]) -> Vec<i32> {
    let mut locks: Vec<_> = keys.iter().map(lock).collect();
    locks.sort_unstable();
    locks.dedup();
    locks
}

fn lock(key: &OrderingKey) -> i32 {
    let [first, second, ..] = *key.as_bytes();
    i32::from(u16::from_be_bytes([first, second]) % LOCKS)
}
