//! Receivers with this project's library.

use axum::{
    Router,
    response::{IntoResponse, Response},
    routing::{MethodRouter, post, post_service},
};
use http::StatusCode;
use tower::{Layer, ServiceBuilder};
use tower_klikit::{
    Keyring, KlikitVerifyLayer, WebhookSecret, axum::KlikitEvent, dedupe::KlikitDedupeLayer, inbox::Inbox,
    payload::OrderStatus, store::MemoryStore,
};

use super::flawed::FAILING_STATUS;
use crate::support::SECRET;

const PATH: &str = "/webhooks/klikit";

/// The secret before the rotation.
pub(crate) const OLD_SECRET: &str = "the-secret-before-the-rotation";

/// Verifies deliveries.
pub(crate) fn verify() -> Router {
    Router::new().route(PATH, handler().layer(verify_layer()))
}

/// Verifies deliveries, and requires the credentials `partner` and `hunter2`.
pub(crate) fn requiring_basic() -> Router {
    let verify = verify_layer().require_basic_auth("partner", "hunter2");
    Router::new().route(PATH, handler().layer(verify))
}

/// Verifies deliveries, and handles each once.
pub(crate) fn dedupe() -> Router {
    let stack = ServiceBuilder::new().layer(verify_layer()).layer(KlikitDedupeLayer::new(MemoryStore::new()));
    Router::new().route(PATH, handler().layer(stack))
}

/// Verifies and stores deliveries, and handles each later.
pub(crate) fn inbox() -> Router {
    let inbox = Inbox::new(MemoryStore::new());
    let worker = inbox.worker(Router::new().route(PATH, handler()));
    tokio::spawn(worker.run_until(std::future::pending::<()>()));
    Router::new().route(PATH, post_service(verify_layer().layer(inbox.acceptor())))
}

fn verify_layer() -> KlikitVerifyLayer {
    let secret = |text| WebhookSecret::new(text).expect("a secret");
    let keyring = Keyring::new("tests", "new", secret(SECRET));
    keyring.add("old", secret(OLD_SECRET)).expect("another secret");
    KlikitVerifyLayer::with_keyring(keyring)
}

fn handler() -> MethodRouter {
    post(order)
}

async fn order(event: KlikitEvent) -> Response {
    if event.payload.orders.iter().any(|order| order.status() == Some(OrderStatus(FAILING_STATUS))) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    r#"{"status":"received"}"#.into_response()
}
