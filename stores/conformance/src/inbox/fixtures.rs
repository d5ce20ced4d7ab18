//! Deliveries to accept.

use bytes::Bytes;
use tower_klikit::{dedupe::Claim, inbox::NewDelivery};

use crate::ledger;

/// Makes a delivery of the event with this id, of this tenant, with this body. Each call uses a fresh token, so a second call makes
/// a copy, as if klikit had sent the delivery once more.
///
/// The head and the ordering keys can be [set](NewDelivery::with_head).
///
/// # Panics
///
/// If the system has no random bytes.
#[track_caller]
pub fn delivery(scope: &str, id: &str, body: impl AsRef<[u8]>) -> NewDelivery {
    let claim = ledger::claim(scope, id, body.as_ref());
    made(claim, scope, id, body.as_ref())
}

/// Makes a delivery with another body under an id that is taken, as an acceptor does when it finds another digest. The delivery is
/// forgotten with the event.
///
/// # Panics
///
/// If the system has no random bytes.
#[track_caller]
pub fn conflict(scope: &str, id: &str, body: impl AsRef<[u8]>) -> NewDelivery {
    let claim = ledger::conflict(scope, id, body.as_ref());
    made(claim, scope, id, body.as_ref())
}

fn made(claim: Claim, scope: &str, id: &str, body: &[u8]) -> NewDelivery {
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
