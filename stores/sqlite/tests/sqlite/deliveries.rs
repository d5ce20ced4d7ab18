//! Deliveries for the tests, and shorthands for the inbox's calls and settlements.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tower_klikit::{
    dedupe::{BodyDigest, Claim},
    inbox::{
        Acceptance, DeliveryId, DeliveryState, Entry, Filter, InboxAdmin, InboxStore, Lease, LeaseBatch, LeaseRequest,
        Leased, NewDelivery, SettleOutcome, Settlement, ShowBody,
    },
};
use tower_klikit_sqlite::SqliteStore;

use crate::support::{LEASE, RETENTION, bytes};

/// The name of the worker.
pub(crate) const WORKER: &str = "kitchen-1/4711";

/// Lists up to `limit` dead letters, in the order of their ids. Starts after the id `after`.
pub(crate) async fn dead_letters(store: &SqliteStore, after: Option<DeliveryId>, limit: u32) -> Vec<Entry> {
    store.find(&Filter::new().states([DeliveryState::Dead]), after, limit).await.unwrap().entries
}

/// Returns a delivery of this event with this body and these ordering keys.
pub(crate) fn delivery(event: &str, body: &str, ordering_keys: &[&str]) -> NewDelivery {
    let key = key_of(event);
    new_delivery(event, key, key, body).with_ordering_keys(ordering_keys)
}

/// Returns a conflict: a delivery whose event id has already been used with a different body.
pub(crate) fn conflict(event: &str, body: &str) -> NewDelivery {
    new_delivery(event, key_of(&format!("{event} {body}")), key_of(event), body)
}

/// Returns a delivery with a token of its own.
fn new_delivery(event: &str, key: [u8; 16], event_key: [u8; 16], body: &str) -> NewDelivery {
    static TOKENS: AtomicU64 = AtomicU64::new(0);
    let digest = BodyDigest::of(body.as_bytes());
    let claim = Claim::new(key, event_key, digest, bytes(TOKENS.fetch_add(1, Ordering::Relaxed)));
    let labels = format!(r#""event_id":"{event}","event_type":"order.created","tenant":"default""#);
    let rest = r#""method":"POST","uri":"/webhooks/klikit","secret_id":"one","received_at":1700000000000"#;
    let head = format!("{{{labels},{rest}}}");
    NewDelivery::new(claim, head, body.to_owned())
}

/// Returns the first half of a digest of this name.
fn key_of(name: &str) -> [u8; 16] {
    let digest = BodyDigest::of(name.as_bytes());
    std::array::from_fn(|n| digest.as_bytes()[n])
}

/// Accepts a new delivery of this event, with a body that names the event.
pub(crate) async fn accept(store: &SqliteStore, event: &str, ordering_keys: &[&str]) {
    let new = delivery(event, &format!("body of {event}"), ordering_keys);
    assert_eq!(store.accept(&new, RETENTION).await.unwrap(), Acceptance::Accepted);
}

/// Returns a request for up to `limit` leases, for as many free handlers.
pub(crate) fn request(limit: u32, max_attempts: u32) -> LeaseRequest<'static> {
    LeaseRequest { limit, free_handlers: limit, duration: LEASE, max_attempts, held: &[], worker: WORKER }
}

/// Leases deliveries and counts their attempts, as a worker does before it runs their handlers.
pub(crate) async fn lease(store: &SqliteStore, limit: u32, max_attempts: u32) -> Vec<Leased> {
    let leased = lease_batch(store, limit, max_attempts).await.leased;
    for uncounted in leased.iter().filter(|leased| !leased.is_attempt_counted()) {
        assert!(start(store, uncounted.lease()).await, "the delivery is no longer leased");
    }
    leased
}

/// Counts the attempt of a lease. Returns `false` if the lease is no longer held.
pub(crate) async fn start(store: &SqliteStore, lease: &Lease) -> bool {
    store.start(&[*lease], WORKER).await.unwrap()[0]
}

/// Makes a dead delivery ready. Returns whether it was dead.
pub(crate) async fn retry(store: &SqliteStore, id: i64) -> bool {
    store.requeue(&[DeliveryId::new(id)], &[DeliveryState::Dead]).await.unwrap() == 1
}

/// Returns a delivery with its body.
pub(crate) async fn show(store: &SqliteStore, id: i64) -> Option<Entry> {
    store.show(DeliveryId::new(id), ShowBody::Include).await.unwrap()
}

/// Leases deliveries, but does not call [`start`] to count their attempts.
pub(crate) async fn lease_batch(store: &SqliteStore, limit: u32, max_attempts: u32) -> LeaseBatch {
    store.lease(&request(limit, max_attempts)).await.unwrap()
}

pub(crate) async fn extend(store: &SqliteStore, lease: &Lease, duration: Duration) -> bool {
    store.extend(&[*lease], duration).await.unwrap()[0]
}

pub(crate) async fn settle(store: &SqliteStore, lease: &Lease, settlement: Settlement) -> SettleOutcome {
    store.settle(&[(*lease, settlement)]).await.unwrap()[0]
}

/// Settles a delivery. Asserts that the settlement was recorded.
pub(crate) async fn settled(store: &SqliteStore, leased: &Leased, settlement: Settlement) {
    assert_eq!(settle(store, leased.lease(), settlement).await, SettleOutcome::Settled);
}

/// Returns a settlement that deletes a handled delivery.
pub(crate) fn done() -> Settlement {
    keep_for(Duration::ZERO)
}

/// Returns a settlement that keeps a handled delivery as DONE for this time.
pub(crate) fn keep_for(keep: Duration) -> Settlement {
    Settlement::Done { keep, history: Duration::ZERO, status: Some(200) }
}

pub(crate) fn reschedule(delay: Duration) -> Settlement {
    Settlement::Reschedule { delay, reason: "500".into(), unordered: false, status: Some(500) }
}

pub(crate) fn dead_letter(reason: &str) -> Settlement {
    Settlement::DeadLetter { reason: reason.into(), status: None }
}

pub(crate) fn ids(leased: &[Leased]) -> Vec<i64> {
    leased.iter().map(|leased| leased.lease().id().get()).collect()
}
