//! Accepting deliveries.

use std::{collections::HashSet, iter::zip, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio_postgres::{
    Row,
    types::{FromSql, ToSql},
};
use tower_klikit::{
    dedupe::{BodyDigest, StoreError},
    inbox::{Acceptance, DeliveryState, NewDelivery, OrderingKey, SearchTerm, TermKind},
};

use super::{
    batches::{Added, Arrival},
    hand_off::HandOff,
};
use crate::{
    connection::{Failure, Params, SharedFailure, Sql, TRIES, UserStatement},
    store::{PostgresStore, Shared},
    values::{Body, Digest, bytes, seconds, storable},
};

/// The number of locks that all ordering keys share. More locks mean fewer waits between deliveries with different keys.
/// Fewer locks mean that a delivery with thousands of keys takes less space in the server's lock table.
const LOCKS: u32 = 1024;

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

/// The columns that operators search by.
struct Labels<'a> {
    event_id: Option<String>,
    event_type: Option<String>,
    tenant: String,
    ordering_keys: Vec<&'a str>,
    branch: Option<&'a str>,
    /// The terms of the orders, in lines of a text. A term contains no control characters.
    orders: Option<String>,
}

impl<'a> Labels<'a> {
    fn of(new: &'a NewDelivery) -> Self {
        let of_kind = |kind| new.terms().iter().filter(move |term| term.kind() == Some(kind)).map(SearchTerm::as_str);
        let orders: Vec<_> = of_kind(TermKind::Order).collect();
        Self {
            event_id: new.event_id().map(storable),
            event_type: new.event_type().map(storable),
            tenant: storable(new.tenant()),
            ordering_keys: new.ordering_keys().iter().map(OrderingKey::as_str).collect(),
            branch: of_kind(TermKind::Branch).next(),
            orders: (!orders.is_empty()).then(|| orders.join("\n")),
        }
    }
}

/// Adds the deliveries of a batch.
async fn add_together(shared: Arc<Shared>, arrivals: Vec<Arrival>) -> Vec<Added> {
    let mut outcomes = vec![Added::MustRunAlone; arrivals.len()];
    // Add each key once. Copies run alone afterwards, and find the key known.
    let mut keys = HashSet::new();
    let arrivals = arrivals.into_iter().enumerate();
    let (positions, first): (Vec<_>, Vec<_>) =
        arrivals.filter(|(_, arrival)| keys.insert(*arrival.new.claim().key())).unzip();
    match add_all(&shared, &shared.inbox.begin_together, &first, Cases::UsualIfPossible).await {
        Ok(added) => {
            for (position, is_new) in zip(positions, added) {
                outcomes[position] = if is_new { Added::New } else { Added::NotNew };
            }
        }
        Err(failure) if failure.may_be_of_one_row() => {}
        Err(failure) => {
            let failure = SharedFailure::from(failure);
            for position in positions {
                outcomes[position] = Added::Failed(failure.clone());
            }
        }
    }
    outcomes
}

/// The cases in which [`add_all`] stores a delivery.
#[derive(Clone, Copy)]
enum Cases {
    /// Any case in which the key is new.
    All,
    /// Only the usual case, in which no DONE delivery is replaced, with a statement that takes less time to plan. If a
    /// delivery has ordering keys or a new tenant, all cases.
    UsualIfPossible,
}

/// Adds deliveries with different keys. Returns for each whether it was stored.
async fn add_all(shared: &Shared, begin: &str, arrivals: &[Arrival], cases: Cases) -> Result<Vec<bool>, Failure> {
    let mut columns = Columns::default();
    arrivals.iter().for_each(|arrival| columns.push(arrival));
    let locks = locks(arrivals.iter().flat_map(|arrival| arrival.new.ordering_keys()));
    let params = columns.params(&locks);
    let are_tenants_known = shared.tenants.contains_all(&columns.tenants);
    let statement = match cases {
        Cases::UsualIfPossible if are_tenants_known && columns.ordering_keys.is_empty() => {
            (&shared.inbox.accept_simply, &params[..COLUMNS_IN_USUAL_CASE])
        }
        Cases::UsualIfPossible | Cases::All => (&shared.inbox.accept, &params[..]),
    };
    let answers = shared.connections.run_together(begin, &[statement]).await?;
    let mut added = vec![false; arrivals.len()];
    for row in answers.iter().flat_map(|answer| &answer.rows) {
        let position = usize::try_from(row.try_get::<_, i64>(0).map_err(Failure::Statement)?).unwrap_or_default();
        added[position - 1] = true;
    }
    if !are_tenants_known {
        // The statement adds the tenants of the stored deliveries only.
        let tenants = zip(&columns.tenants, &added).filter(|(_, is_added)| **is_added);
        shared.tenants.add(tenants.map(|(tenant, _)| tenant));
    }
    Ok(added)
}

/// The parameters of the statement that adds deliveries.
#[derive(Default)]
struct Columns<'a> {
    keys: Vec<&'a [u8]>,
    events: Vec<&'a [u8]>,
    tokens: Vec<&'a [u8]>,
    digests: Vec<&'a [u8]>,
    retentions: Vec<f64>,
    heads: Vec<&'a str>,
    bodies: Vec<Body<'a>>,
    event_ids: Vec<Option<String>>,
    event_types: Vec<Option<String>>,
    tenants: Vec<String>,
    branches: Vec<Option<&'a str>>,
    orders: Vec<Option<String>>,
    ordering_keys: Vec<&'a str>,
    positions: Vec<i64>,
}

/// The number of parameters in the usual case, which are the first ones.
const COLUMNS_IN_USUAL_CASE: usize = 12;

impl<'a> Columns<'a> {
    fn push(&mut self, Arrival { new, retention }: &'a Arrival) {
        let claim = new.claim();
        self.keys.push(bytes(claim.key()));
        self.events.push(bytes(claim.event()));
        self.tokens.push(claim.token().as_bytes());
        self.digests.push(claim.digest().as_bytes());
        self.retentions.push(seconds(*retention));
        self.heads.push(new.head());
        self.bodies.push(Body(new.body()));
        let labels = Labels::of(new);
        self.event_ids.push(labels.event_id);
        self.event_types.push(labels.event_type);
        self.tenants.push(labels.tenant);
        self.branches.push(labels.branch);
        self.orders.push(labels.orders);
        let position = i64::try_from(self.keys.len()).unwrap_or(i64::MAX);
        for key in labels.ordering_keys {
            self.ordering_keys.push(key);
            self.positions.push(position);
        }
    }

    fn params<'p>(&'p self, locks: &'p Vec<i32>) -> [&'p (dyn ToSql + Sync); 15] {
        [
            &self.keys,
            &self.events,
            &self.tokens,
            &self.digests,
            &self.retentions,
            &self.heads,
            &self.bodies,
            &self.event_ids,
            &self.event_types,
            &self.tenants,
            &self.branches,
            &self.orders,
            &self.ordering_keys,
            &self.positions,
            locks,
        ]
    }
}

/// Returns the locks of these keys, sorted: all callers take them in the same order, so that they cannot deadlock.
fn locks<'a>(keys: impl Iterator<Item = &'a OrderingKey>) -> Vec<i32> {
    let mut locks: Vec<_> = keys.map(lock).collect();
    locks.sort_unstable();
    locks.dedup();
    locks
}

/// Returns the lock of a key: its FNV-1a hash, which is the same on all nodes and in all builds.
fn lock(key: &OrderingKey) -> i32 {
    let hash =
        key.as_str().bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    i32::try_from(hash % LOCKS).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_sorted_and_distinct() {
        let keys: Vec<_> = (0..2_000).map(|n| OrderingKey::from_text(&format!("order:{n}@warung"))).collect();
        let all = locks(keys.iter());
        assert!(all.is_sorted_by(|a, b| a < b));
        assert!(all.len() > 700 && all.iter().all(|lock| (0..1024).contains(lock)), "{}", all.len());
    }

    /// Nodes that run different versions share a database.
    #[test]
    fn lock_of_a_key_never_changes() {
        // FNV-1a of these is 0x811c9dc5 and 0xe40c292c.
        assert_eq!(["", "a"].map(|key| lock(&OrderingKey::from_text(key))), [0x1c5, 0x12c]);
    }
}
