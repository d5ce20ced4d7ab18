//! The inbox in Postgres.

mod accepting;
mod faults;
mod finishing;
mod hand_off;
mod leasing;
mod operating;
mod ordering;
mod plans;
mod tables;

use std::{
    ops::Range,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use tower::{Layer, ServiceExt};
use tower_klikit::{
    KlikitVerifyLayer,
    dedupe::{BodyDigest, ConflictPolicy, EventKey, StoreError},
    inbox::{Acceptance, Counts, DeliveryId, Entry, Inbox, InboxStore, Lease, Leased, NewDelivery, OrderBy},
    store::postgres::PostgresStore,
    testing::SignedDelivery,
};

use crate::RETENTION;

const SECRET: &str = "klikit-test-secret";
const TIME: Duration = Duration::from_secs(60);
const ATTEMPTS: u32 = 25;

/// What an acceptor would have stored, from a delivery of this id.
async fn delivery(id: &str, body: &str) -> NewDelivery {
    made(id, body, &[], ConflictPolicy::Process, None).await
}

/// To be handled after those that share one of these keys.
async fn ordered(id: &str, keys: &[&str]) -> NewDelivery {
    made(id, id, keys, ConflictPolicy::Process, None).await
}

/// The same delivery whatever its body.
async fn of_any_body(id: &str, body: &str) -> NewDelivery {
    made(id, body, &[], ConflictPolicy::TrustEventId, None).await
}

/// What is stored after this id was found with another body.
async fn conflicting(id: &str, body: &str) -> NewDelivery {
    made(id, body, &[], ConflictPolicy::Process, Some(BodyDigest::of(b"another"))).await
}

async fn made(id: &str, body: &str, keys: &[&str], policy: ConflictPolicy, found: Option<BodyDigest>) -> NewDelivery {
    let caught = Catch { found: Arc::new(Mutex::new(found)), given: Arc::default() };
    let keys: Vec<String> = keys.iter().map(|&key| key.into()).collect();
    let inbox = Inbox::new(caught.clone()).order_by(OrderBy::keys(move |_, _| keys.clone())).on_conflict(policy);
    assert_eq!(send(&inbox, id, body).await, StatusCode::OK);
    let given = caught.given.lock().unwrap().take();
    given.expect("the acceptor gives it to the store")
}

/// Sends a delivery to the inbox's acceptor.
async fn send(inbox: &Inbox, id: &str, body: &str) -> StatusCode {
    let request = SignedDelivery::new(SECRET, body.to_owned()).event_id(id).request::<Full<Bytes>>();
    KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor()).oneshot(request).await.unwrap().status()
}

async fn accept(store: &PostgresStore, delivery: &NewDelivery) -> Acceptance {
    store.accept(delivery, RETENTION).await.unwrap()
}

async fn accept_all(store: &PostgresStore, deliveries: &[NewDelivery]) {
    for delivery in deliveries {
        assert_eq!(accept(store, delivery).await, Acceptance::Accepted);
    }
}

fn known(body: &str) -> Acceptance {
    Acceptance::Known { digest: BodyDigest::of(body.as_bytes()) }
}

async fn lease(store: &PostgresStore, limit: u32) -> Vec<Leased> {
    store.lease(limit, TIME, ATTEMPTS).await.unwrap()
}

async fn lease_one(store: &PostgresStore) -> Leased {
    lease(store, 1).await.pop().expect("there is one to lease")
}

/// The bodies, which most tests make different.
fn bodies(leased: &[Leased]) -> Vec<String> {
    leased.iter().map(|leased| String::from_utf8(leased.body().to_vec()).unwrap()).collect()
}

/// Has all leases run out, and all pauses end.
async fn pass(client: &tokio_postgres::Client) {
    let sql = "UPDATE klikit_deliveries_inbox SET due = due - interval '10 days'";
    client.execute(sql, &[]).await.unwrap();
}

/// A store that keeps what it is given to accept.
#[derive(Clone)]
struct Catch {
    /// What the first one runs into.
    found: Arc<Mutex<Option<BodyDigest>>>,
    given: Arc<Mutex<Option<NewDelivery>>>,
}

const NEVER: &str = "an acceptor only accepts";

impl InboxStore for Catch {
    async fn accept(&self, delivery: &NewDelivery, _: Duration) -> Result<Acceptance, StoreError> {
        if let Some(digest) = self.found.lock().unwrap().take() {
            return Ok(Acceptance::Known { digest });
        }
        *self.given.lock().unwrap() = Some(delivery.clone());
        Ok(Acceptance::Accepted)
    }

    async fn backlog(&self, _: u64) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn lease(&self, _: u32, _: Duration, _: u32) -> Result<Vec<Leased>, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn extend(&self, _: &Lease, _: Duration) -> Result<bool, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn finish(&self, _: &Lease, _: Duration) -> Result<bool, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn postpone(&self, _: &Lease, _: Duration, _: &str) -> Result<bool, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn bury(&self, _: &Lease, _: &str) -> Result<bool, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn give_back(&self, _: &Lease) -> Result<bool, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn dead(&self, _: Option<DeliveryId>, _: u32) -> Result<Vec<Entry>, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn show(&self, _: DeliveryId) -> Result<Option<Entry>, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn retry(&self, _: DeliveryId) -> Result<bool, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn forget_event(&self, _: &EventKey) -> Result<u64, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn forget_accepted(&self, _: Range<SystemTime>) -> Result<u64, StoreError> {
        unreachable!("{NEVER}")
    }

    async fn purge_done(&self, _: u32) -> Result<u64, StoreError> {
        unreachable!("{NEVER}")
    }
}
