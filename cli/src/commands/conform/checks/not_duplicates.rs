//! Genuine deliveries that resemble known ones and are no duplicates.

use tower_klikit::{EventType, header::SIGNATURE, payload::OrderStatus, testing::SignedDelivery};

use super::rejections::random_signature;
use crate::{
    commands::conform::{finding::Checked, session::Session},
    exchange::Answer,
};

/// Sends a delivery with a wrong signature, and then with the right one.
pub(super) async fn retry_after_rejection(session: &Session) -> Checked {
    session.require_acceptance()?;
    let delivery = session.samples.delivery();
    let forged = delivery.clone().header(SIGNATURE, random_signature(&session.samples));
    let rejected = session.rejected("a wrong signature", &forged).await?;
    let answer = accepted_as_new(session, "the same delivery with the right signature", &delivery).await?;
    Ok(format!("{}, and then {answer}", rejected.status.as_u16()))
}

/// Sends several events of one order. Two have the same type, and two the same status.
pub(super) async fn order_updates(session: &Session) -> Checked {
    session.require_acceptance()?;
    let samples = &session.samples;
    let placed = samples.order();
    let accepted = placed.clone().status(OrderStatus::ACCEPTED);
    let ready = placed.clone().status(OrderStatus::READY);
    let with_other_cart = ready.clone().item("Kopi", 1, 12_000);
    let events = [
        ("a new order", EventType::OrderCreated, placed),
        ("its next status", EventType::OrderStatusUpdated, accepted),
        ("its last status", EventType::OrderStatusUpdated, ready),
        ("its changed cart", EventType::OrderCartUpdated, with_other_cart),
    ];
    let count = events.len();
    let mut seen = String::new();
    for (name, event_type, order) in events {
        let delivery = samples.signed(samples.body_of([order])).event_type(event_type);
        seen = accepted_as_new(session, name, &delivery).await?.to_string();
    }
    Ok(format!("{seen} to {count} events of one order"))
}

/// Sends a delivery that must be accepted and must not count as a duplicate.
async fn accepted_as_new(session: &Session, name: &str, delivery: &SignedDelivery) -> Checked<Answer> {
    session.counts_as_new(name, session.accepted(name, delivery).await?)
}
