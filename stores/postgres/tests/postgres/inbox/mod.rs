//! Tests of the inbox in Postgres.

mod accept;
mod admin;
mod batches;
mod by_hand;
mod damage;
mod extend;
mod faults;
mod finish;
mod hand_off;
mod lease;
mod old_snapshot;
mod ordering;
mod plans;
mod settle;
mod start;
mod tables;
mod two_nodes;
mod usual_case;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use tower::{Layer, ServiceExt};
use tower_klikit::{
    KlikitVerifyLayer,
    dedupe::{BodyDigest, ConflictPolicy, LedgerSelection, StoreError},
    inbox::{
        Acceptance, ActivePause, Counts, DeliveryId, DeliveryState, Entry, Filter, Inbox, InboxAdmin, InboxStore,
        Lease, LeaseBatch, LeaseRequest, Leased, LedgerRows, NewDelivery, OrderBy, Page, Pause, SettleOutcome,
        Settlement, ShowBody,
    },
    testing::SignedDelivery,
};
use tower_klikit_postgres::PostgresStore;

use crate::RETENTION;

pub(crate) const SECRET: &str = "klikit-test-secret";
const TIME: Duration = Duration::from_secs(60);
const ATTEMPTS: u32 = 25;
pub(crate) const WORKER: &str = "kitchen-1";

/// Lists dead letters.
pub(crate) async fn dead_letters(store: &PostgresStore, after: Option<DeliveryId>, limit: u32) -> Vec<Entry> {
    store.find(&Filter::new().states([DeliveryState::Dead]), after, limit).await.unwrap().entries
}

/// Returns the delivery that an acceptor stores for this id.
async fn delivery(id: &str, body: &str) -> NewDelivery {
    made(id, body, &[], ConflictPolicy::Process, None).await
}

/// Returns a delivery with these ordering keys.
pub(crate) async fn ordered(id: &str, keys: &[&str]) -> NewDelivery {
    made(id, id, keys, ConflictPolicy::Process, None).await
}

/// Returns a delivery that matches any body of its id.
async fn of_any_body(id: &str, body: &str) -> NewDelivery {
    made(id, body, &[], ConflictPolicy::TrustEventId, None).await
}

/// Returns a delivery whose id was used with another body before.
async fn conflicting(id: &str, body: &str) -> NewDelivery {
    made(id, body, &[], ConflictPolicy::Process, Some(BodyDigest::of(b"another"))).await
}

async fn made(id: &str, body: &str, keys: &[&str], policy: ConflictPolicy, found: Option<BodyDigest>) -> NewDelivery {
    let caught = Catch { found: Arc::new(Mutex::new(found)), given: Arc::default() };
    let keys: Vec<String> = keys.iter().map(|&key| key.into()).collect();
    let inbox = Inbox::new(caught.clone()).order_by(OrderBy::keys(move |_, _| keys.clone())).on_conflict(policy);
    assert_eq!(send(&inbox, id, body).await, StatusCode::OK);
    let given = caught.given.lock().unwrap().take();
    given.expect("the acceptor passes the delivery to the store").reviving()
}

/// Sends a delivery to the inbox's acceptor.
pub(crate) async fn send(inbox: &Inbox, id: &str, body: &str) -> StatusCode {
    let request = SignedDelivery::new(SECRET, body.to_owned()).event_id(id).request::<Full<Bytes>>();
    KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor()).oneshot(request).await.unwrap().status()
}

pub(crate) async fn accept(store: &PostgresStore, delivery: &NewDelivery) -> Acceptance {
    store.accept(delivery, RETENTION).await.unwrap()
}

async fn accept_all(store: &PostgresStore, deliveries: &[NewDelivery]) {
    for delivery in deliveries {
        assert_eq!(accept(store, delivery).await, Acceptance::Accepted);
    }
}

/// Returns the outcome for a copy of a delivery with this body.
fn known(body: &str) -> Acceptance {
    Acceptance::Known { digest: BodyDigest::of(body.as_bytes()), body: None }
}

/// Returns the outcome for a delivery with another body than this stored one.
fn known_and_stored(body: &str) -> Acceptance {
    Acceptance::Known { digest: BodyDigest::of(body.as_bytes()), body: Some(body.to_owned().into()) }
}

fn request(limit: u32) -> LeaseRequest<'static> {
    LeaseRequest { limit, free_handlers: limit, duration: TIME, max_attempts: ATTEMPTS, held: &[], worker: WORKER }
}

/// Leases deliveries and starts them.
pub(crate) async fn lease(store: &PostgresStore, limit: u32) -> Vec<Leased> {
    lease_and_start(store, request(limit)).await.leased
}

/// Leases deliveries and starts them. Dead-letters those with an expired lease.
async fn lease_last(store: &PostgresStore, limit: u32) -> LeaseBatch {
    lease_and_start(store, LeaseRequest { max_attempts: 1, ..request(limit) }).await
}

async fn lease_and_start(store: &PostgresStore, request: LeaseRequest<'_>) -> LeaseBatch {
    let batch = lease_with(store, request).await;
    let uncounted = batch.leased.iter().filter(|leased| !leased.is_attempt_counted());
    let uncounted: Vec<_> = uncounted.map(|leased| *leased.lease()).collect();
    assert_eq!(store.start(&uncounted, WORKER).await.unwrap(), vec![true; uncounted.len()]);
    batch
}

/// Leases deliveries ahead of need.
async fn lease_ahead(store: &PostgresStore, limit: u32) -> Vec<Lease> {
    let leased = lease_with(store, LeaseRequest { free_handlers: 0, ..request(limit) }).await.leased;
    leased.iter().map(|leased| *leased.lease()).collect()
}

async fn lease_with(store: &PostgresStore, request: LeaseRequest<'_>) -> LeaseBatch {
    let batch = store.lease(&request).await.unwrap();
    assert!(batch.unreadable.is_empty(), "{batch:?}");
    batch
}

async fn lease_one(store: &PostgresStore) -> Leased {
    lease(store, 1).await.pop().expect("a delivery can be leased")
}

async fn extend(store: &PostgresStore, lease: &Lease) -> bool {
    store.extend(&[*lease], TIME).await.unwrap() == [true]
}

async fn settle(store: &PostgresStore, lease: &Lease, settlement: Settlement) -> SettleOutcome {
    let outcomes = store.settle(&[(*lease, settlement)]).await.unwrap();
    assert_eq!(outcomes.len(), 1);
    outcomes[0]
}

fn done(keep: Duration) -> Settlement {
    Settlement::Done { keep, history: Duration::ZERO, status: Some(200) }
}

fn failed(delay: Duration, reason: &str) -> Settlement {
    Settlement::Reschedule { delay, reason: reason.into(), unordered: false, status: Some(500) }
}

fn dead(reason: &str) -> Settlement {
    Settlement::DeadLetter { reason: reason.into(), status: Some(400) }
}

pub(crate) async fn finish(store: &PostgresStore, lease: &Lease, keep: Duration) {
    assert_eq!(settle(store, lease, done(keep)).await, SettleOutcome::Settled);
}

async fn reschedule(store: &PostgresStore, lease: &Lease, delay: Duration, reason: &str) {
    assert_eq!(settle(store, lease, failed(delay, reason)).await, SettleOutcome::Settled);
}

pub(crate) async fn dead_letter(store: &PostgresStore, lease: &Lease, reason: &str) {
    assert_eq!(settle(store, lease, dead(reason)).await, SettleOutcome::Settled);
}

async fn release(store: &PostgresStore, lease: &Lease) {
    assert_eq!(settle(store, lease, Settlement::Release).await, SettleOutcome::Settled);
}

/// Retries a dead letter. Returns whether it is pending again.
pub(crate) async fn retry(store: &PostgresStore, id: DeliveryId) -> Result<bool, StoreError> {
    Ok(store.requeue(&[id], &[DeliveryState::Dead]).await? == 1)
}

/// Returns the bodies. Most tests give each delivery another body.
fn bodies(leased: &[Leased]) -> Vec<String> {
    leased.iter().map(|leased| String::from_utf8(leased.body().to_vec()).unwrap()).collect()
}

/// Makes all leases and delays end.
async fn pass(client: &tokio_postgres::Client) {
    let sql = "UPDATE klikit_inbox SET due = due - interval '10 days'";
    client.execute(sql, &[]).await.unwrap();
}

/// A store that captures the delivery that an acceptor passes to it.
#[derive(Clone)]
struct Catch {
    /// The digest that accepting the first delivery returns, if any.
    found: Arc<Mutex<Option<BodyDigest>>>,
    given: Arc<Mutex<Option<NewDelivery>>>,
}

const NEVER: &str = "an acceptor calls only `accept`";

impl InboxStore for Catch {
    async fn accept(&self, delivery: &NewDelivery, _: Duration) -> Result<Acceptance, StoreError> {
        if let Some(digest) = self.found.lock().unwrap().take() {
            return Ok(Acceptance::Known { digest, body: None });
        }
        *self.given.lock().unwrap() = Some(delivery.clone());
        Ok(Acceptance::Accepted)
    }

    async fn backlog(&self, _: u64) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn stored(&self, _: u64) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn lease(&self, _: &LeaseRequest<'_>) -> Result<LeaseBatch, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn start(&self, _: &[Lease], _: &str) -> Result<Vec<bool>, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn extend(&self, _: &[Lease], _: Duration) -> Result<Vec<bool>, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn settle(&self, _: &[(Lease, Settlement)]) -> Result<Vec<SettleOutcome>, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn purge_done(&self, _: u32) -> Result<u64, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn evict_done(&self, _: u32) -> Result<u64, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn purge_dead(&self, _: Duration, _: u32) -> Result<u64, StoreError> {
        unreachable!("{NEVER}")
    }
}

impl InboxAdmin for Catch {
    async fn find(&self, _: &Filter, _: Option<DeliveryId>, _: u32) -> Result<Page, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn dead_letter(&self, _: &[DeliveryId], _: &[DeliveryState], _: &str) -> Result<u64, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn delete(&self, _: &[DeliveryId], _: &[DeliveryState], _: LedgerRows) -> Result<u64, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn show(&self, _: DeliveryId, _: ShowBody) -> Result<Option<Entry>, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn requeue(&self, _: &[DeliveryId], _: &[DeliveryState]) -> Result<u64, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn pause(&self, _: &Pause, _: &str) -> Result<u64, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn resume(&self, _: &Pause) -> Result<bool, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn pauses(&self) -> Result<Vec<ActivePause>, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn count_keys(&self, _: &LedgerSelection) -> Result<u64, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn forget_keys(&self, _: &LedgerSelection) -> Result<u64, StoreError> {
        unreachable!("{NEVER}")
    }
}
