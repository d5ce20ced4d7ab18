//! Deliveries to accept: what an inbox makes of requests.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http_body_util::Full;
use tower::{Layer, ServiceExt};
use tower_klikit::{
    KlikitVerifyLayer,
    dedupe::{BodyDigest, EventKey, StoreError},
    inbox::{Acceptance, Counts, DeliveryId, Entry, Inbox, InboxStore, Lease, Leased, NewDelivery, OrderBy},
    testing::SignedDelivery,
};

const SECRET: &str = "warung-secret";

/// The delivery of this event with this body, in these lines.
pub(crate) async fn delivery(event: &str, body: &str, lines: &[&str]) -> NewDelivery {
    let lines: Vec<_> = lines.iter().map(|&line| line.to_owned()).collect();
    made(Notebook::default(), event, body, OrderBy::keys(move |_, _| lines.clone())).await
}

/// The same for a body that came when there was another under its id.
pub(crate) async fn conflict(event: &str, body: &str) -> NewDelivery {
    let notebook = Notebook { another: Some(BodyDigest::of(b"another")), ..Notebook::default() };
    made(notebook, event, body, OrderBy::nothing()).await
}

async fn made(notebook: Notebook, event: &str, body: &str, order_by: OrderBy) -> NewDelivery {
    let inbox = Inbox::new(notebook.clone()).order_by(order_by);
    let service = KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor());
    let request = SignedDelivery::new(SECRET, body.to_owned()).event_id(event).request::<Full<Bytes>>();
    assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
    notebook.accepted.lock().unwrap().pop().unwrap()
}

/// Notes down what it is given.
#[derive(Clone, Default)]
struct Notebook {
    accepted: Arc<Mutex<Vec<NewDelivery>>>,
    /// What the first of them finds under its key.
    another: Option<BodyDigest>,
}

impl InboxStore for Notebook {
    async fn accept(&self, delivery: &NewDelivery, _: Duration) -> Result<Acceptance, StoreError> {
        let mut accepted = self.accepted.lock().unwrap();
        accepted.push(delivery.clone());
        Ok(match &self.another {
            Some(digest) if accepted.len() == 1 => Acceptance::Known { digest: *digest },
            _ => Acceptance::Accepted,
        })
    }

    async fn backlog(&self, _: u64) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn lease(&self, _: u32, _: Duration, _: u32) -> Result<Vec<Leased>, StoreError> {
        unused()
    }

    async fn extend(&self, _: &Lease, _: Duration) -> Result<bool, StoreError> {
        unused()
    }

    async fn finish(&self, _: &Lease, _: Duration) -> Result<bool, StoreError> {
        unused()
    }

    async fn postpone(&self, _: &Lease, _: Duration, _: &str) -> Result<bool, StoreError> {
        unused()
    }

    async fn bury(&self, _: &Lease, _: &str) -> Result<bool, StoreError> {
        unused()
    }

    async fn give_back(&self, _: &Lease) -> Result<bool, StoreError> {
        unused()
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        unused()
    }

    async fn dead(&self, _: Option<DeliveryId>, _: u32) -> Result<Vec<Entry>, StoreError> {
        unused()
    }

    async fn show(&self, _: DeliveryId) -> Result<Option<Entry>, StoreError> {
        unused()
    }

    async fn retry(&self, _: DeliveryId) -> Result<bool, StoreError> {
        unused()
    }

    async fn forget_event(&self, _: &EventKey) -> Result<u64, StoreError> {
        unused()
    }

    async fn forget_accepted(&self, _: Range<SystemTime>) -> Result<u64, StoreError> {
        unused()
    }

    async fn purge_done(&self, _: u32) -> Result<u64, StoreError> {
        unused()
    }
}

fn unused<T>() -> T {
    unreachable!("an acceptor accepts")
}
