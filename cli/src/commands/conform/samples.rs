//! Deliveries of made-up orders, each with a new event id and a new order id.

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use tower_klikit::{
    WebhookSecret,
    testing::{
        SignedDelivery,
        orders::{self, FakeOrder},
    },
};

use crate::random::random;

/// The smallest order id. The ids fit into 32 bits, as receivers may expect, and are far above those of real orders.
const FIRST_ORDER: i64 = 2_000_000_000;

/// The number of ids from which a run chooses its first.
const RUNS: u64 = 140_000_000;

/// A source of deliveries of made-up orders, each with a new event id and a new order id.
pub(super) struct Samples {
    secret: WebhookSecret,
    /// A random number, so that the ids differ from those of other runs.
    run: u64,
    orders: AtomicU32,
}

impl Samples {
    pub(super) fn new(secret: WebhookSecret) -> Self {
        Self { secret, run: random(), orders: AtomicU32::new(0) }
    }

    /// Makes a delivery of a small order.
    pub(super) fn delivery(&self) -> SignedDelivery {
        self.signed(self.body())
    }

    /// Makes the body of a small order.
    pub(super) fn body(&self) -> String {
        self.body_of([self.order()])
    }

    /// Makes a body of these orders.
    pub(super) fn body_of(&self, orders: impl IntoIterator<Item = FakeOrder>) -> String {
        orders::body(663, 2, orders)
    }

    /// Makes a small order.
    pub(super) fn order(&self) -> FakeOrder {
        FakeOrder::new(self.order_id()).item("Nasi goreng", 2, 25_000).item("Es teh", 1, 8_000)
    }

    /// Makes an order of about 20 kB.
    pub(super) fn large_order(&self) -> FakeOrder {
        FakeOrder::large(self.order_id())
    }

    /// Signs a body, and gives the delivery a new event id.
    pub(super) fn signed(&self, body: impl Into<Bytes>) -> SignedDelivery {
        self.signed_with(&self.secret, body)
    }

    /// Signs a body with another secret, and gives the delivery a new event id.
    pub(super) fn signed_with(&self, secret: &WebhookSecret, body: impl Into<Bytes>) -> SignedDelivery {
        SignedDelivery::signed_with(secret, body).event_id(self.event_id())
    }

    /// Makes a new event id.
    pub(super) fn event_id(&self) -> String {
        format!("conform-{:016x}-{}", self.run, self.next())
    }

    /// Computes the signature of a body.
    pub(super) fn signature(&self, body: &[u8]) -> String {
        self.secret.sign(body).to_string()
    }

    fn order_id(&self) -> i64 {
        let run = i64::try_from(self.run % RUNS).expect("the rest is small");
        FIRST_ORDER + run + i64::from(self.next())
    }

    fn next(&self) -> u32 {
        self.orders.fetch_add(1, Ordering::Relaxed)
    }
}
