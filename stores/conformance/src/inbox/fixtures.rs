//! Deliveries for the tests of a store.

use bytes::Bytes;
use tower_klikit::{dedupe::Claim, inbox::NewDelivery};

use crate::ledger;

/// Makes a delivery of tenant `scope`'s event `id` with this body. Each call uses a fresh token, so a second call makes a copy, as if
/// klikit had sent the delivery again.
///
/// The head and the ordering keys can be [set](NewDelivery::with_head).
///
/// # Panics
///
/// If the system has no random bytes.
#[track_caller]
pub fn delivery(scope: &str, id: &str, body: impl AsRef<[u8]>) -> NewDelivery {
    let claim = ledger::claim(scope, id, body.as_ref());
    with_claim(claim, scope, id, body.as_ref())
}

/// Makes a delivery whose event id was already used with a different body, as an acceptor does when it finds another digest.
/// Forgetting the event also forgets this delivery.
///
/// # Panics
///
/// If the system has no random bytes.
#[track_caller]
pub fn conflict(scope: &str, id: &str, body: impl AsRef<[u8]>) -> NewDelivery {
    let claim = ledger::conflict(scope, id, body.as_ref());
    with_claim(claim, scope, id, body.as_ref())
}

fn with_claim(claim: Claim, scope: &str, id: &str, body: &[u8]) -> NewDelivery {
    let head = serde_json::json!({
        "method": "POST",
        "uri": "/webhooks/klikit?from=klikit",
        "content_type": "application/json",
        "event_id": id,
        "event_type": "order.created",
        "tenant": scope,
        "secret_id": "default",
        "received_at": 1_700_000_000_000_u64,
        "conflict": claim.is_conflict(),
    });
    NewDelivery::new(claim, head.to_string(), Bytes::copy_from_slice(body))
}
