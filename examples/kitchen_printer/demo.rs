//! Deliveries for `--once`, as klikit sends them.

use std::{fs, time::Duration};

use axum::body::Body;
use serde_json::json;
use tokio::time::sleep;
use tower_klikit::{
    WebhookSecret,
    payload::OrderStatus,
    testing::{
        FakeKlikit, SignedDelivery,
        orders::{FakeOrder, body},
    },
};
use tower_klikit_examples::setup::DEMO_SECRET;

use crate::{BoxError, Kitchen};

/// Sends a copy, a cancellation, an order in other types, one without an id, and states that the kitchen ignores. Checks the
/// tickets and the dead letters.
pub(crate) async fn run() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let kitchen = Kitchen::start(folder.path(), WebhookSecret::new(DEMO_SECRET)?.into())?;

    let order = |id| FakeOrder::new(id).item("Nasi goreng", 2, 25_000).item("Es teh", 1, 8_000);
    let odd =
        order(43).field("id", "43").field("status", "1").field("cart", json!([{ "title": "Soup", "quantity": 0.5 }]));
    let deliveries = [
        ("evt-1", vec![order(41)]),
        ("evt-2", vec![order(42)]),
        // The same state under another event id, for example after a change of the customer's address.
        ("evt-3", vec![order(42)]),
        ("evt-4", vec![order(42).status(OrderStatus::CANCELLED)]),
        ("evt-5", vec![order(41).status(OrderStatus(99))]),
        ("evt-6", vec![order(44).without("id"), odd]),
    ];
    for (event_id, orders) in deliveries {
        let delivery = SignedDelivery::new(DEMO_SECRET, body(1, 2, orders)).event_id(event_id);
        for copy in [delivery.clone(), delivery] {
            let report = FakeKlikit::new().deliver::<Body>(&kitchen.app, &copy).await;
            println!("responded to klikit with {:?}", report.statuses());
        }
    }
    while kitchen.inbox.counts().await?.backlog() > 0 {
        sleep(Duration::from_millis(20)).await;
    }

    let names = fs::read_dir(folder.path().join("tickets"))?;
    let mut tickets: Vec<_> = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    tickets.sort();
    let dead = kitchen.inbox.dead(None, 10).await?.into_iter().map(|entry| entry.reason.unwrap_or_default());
    let dead: Vec<_> = dead.collect();
    kitchen.stop().await?;
    println!("tickets: {tickets:?}\ndead letters: {dead:?}");
    let expected = ["order-41-cook-1.txt", "order-42-cook-1.txt", "order-42-stop-1.txt", "order-43-cook-1.txt"];
    if tickets != expected || dead != ["orders[0]: `id` is missing"] {
        return Err(format!("expected the tickets {expected:?} and one dead letter").into());
    }
    folder.close()?;
    Ok(())
}
