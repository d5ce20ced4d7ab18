//! Tests that no order is lost, printed twice, or printed empty.

use serde_json::Value;
use tower_klikit::testing::SignedDelivery;
use tower_klikit_test_support::deliveries;

use crate::kitchen::{DEMO_SECRET, Kitchen, ticket, tickets};

const SOUP: &str = r#""cart":[{"title":"Soup","quantity":1}]"#;

#[test]
fn numbers_in_text_and_fractions_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    let kitchen = Kitchen::start(folder.path());
    kitchen.deliver("evt-1", r#"{"id":"202","status":"1","cart":[{"name":"Soup","quantity":"1"}]}"#);
    kitchen.deliver("evt-2", r#"{"id":203,"external_id":"GF-3","status":1,"cart":[{"name":"Soup","quantity":0.5}]}"#);
    // The same order with a number as its id.
    kitchen.deliver("evt-3", r#"{"id":202,"status":2,"cart":[{"name":"Soup","quantity":1}]}"#);
    kitchen.wait_for("known    order-202-cook-1");
    kitchen.wait_for("printed  order-203-cook-1");
    assert_eq!(ticket(folder.path(), "order-202-cook-1"), "COOK order 202 \n   1 x Soup\n");
    assert_eq!(ticket(folder.path(), "order-203-cook-1"), "COOK order 203 GF-3\n 0.5 x Soup\n");
    kitchen.stop();
    assert_eq!(tickets(folder.path()), ["order-202-cook-1", "order-203-cook-1"]);
}

#[test]
fn samples_of_klikit_are_printed_in_full() {
    let folder = tempfile::tempdir().unwrap();
    let kitchen = Kitchen::start(folder.path());
    let (_, samples) = deliveries::all();
    let mut cooked = 0;
    for sample in samples {
        let delivery = SignedDelivery::new(DEMO_SECRET, sample.body.clone()).event_id(&sample.event_id);
        assert_eq!(kitchen.send(&delivery), "200");
        let body: Value = serde_json::from_slice(&sample.body).unwrap();
        for order in
            body["orders"].as_array().unwrap().iter().filter(|order| matches!(order["status"].as_i64(), Some(1 | 2)))
        {
            kitchen.wait_for(&format!("order-{}-cook-", order["id"]));
            let name = format!("order-{}-cook-1", order["id"]);
            let text = ticket(folder.path(), &name);
            let cart = order["cart"].as_array().unwrap();
            // One sample has a text in place of an item.
            let (items, others): (Vec<_>, Vec<_>) = cart.iter().partition(|item| item.is_object());
            assert_eq!(text.contains("CANNOT READ"), !others.is_empty(), "{}: {text}", sample.file);
            assert!(others.iter().all(|other| text.contains(&other.to_string())), "{text}");
            for item in items {
                let title = item["title"].as_str().unwrap();
                assert!(text.contains(&format!("{} x {title}\n", item["quantity"])), "{title}: {text}");
                assert!(text.contains(item["comment"].as_str().unwrap()), "{text}");
            }
            cooked += 1;
        }
    }
    assert!(cooked > 0);
    kitchen.stop();
}

#[test]
fn unreadable_cart_is_printed_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let kitchen = Kitchen::start(folder.path());
    let carts =
        [r#"[{"dish":"Soup","quantity":1}]"#, r#"[{"title":"Soup","quantity":"two"}]"#, r#"{"Soup":2}"#, r#""Soup""#];
    for (n, cart) in carts.iter().enumerate() {
        kitchen.deliver(&format!("evt-{n}"), &format!(r#"{{"id":{n},"status":1,"cart":{cart}}}"#));
        kitchen.wait_for(&format!("printed  order-{n}-cook-1"));
        let text = ticket(folder.path(), &format!("order-{n}-cook-1"));
        assert!(text.contains("CANNOT READ THE CART: ") && text.ends_with(&format!("\n{cart}\n")), "{text}");
    }
    kitchen.stop();
}

#[test]
fn order_without_cart_is_a_dead_letter() {
    dead_letters(&[
        (r#"{"id":1,"status":1}"#, "`cart` is missing"),
        (r#"{"id":1,"status":1,"cart":null}"#, "cart is null, not an array"),
        (r#"{"id":1,"status":1,"cart":[]}"#, "`cart` is empty"),
    ]);
}

#[test]
fn order_without_id_or_status_is_a_dead_letter() {
    dead_letters(&[
        (&format!(r#"{{"status":1,{SOUP}}}"#), "`id` is missing"),
        (&format!(r#"{{"id":null,"status":1,{SOUP}}}"#), "id is null, not an order id"),
        (&format!(r#"{{"id":"","status":1,{SOUP}}}"#), "id is not an order id"),
        (&format!(r#"{{"id":1,{SOUP}}}"#), "`status` is missing"),
        (&format!(r#"{{"id":1,"status":"PLACED",{SOUP}}}"#), "status is a string, not an integer"),
        (&format!(r#"{{"id":1,"id":2,"status":1,{SOUP}}}"#), "`id` is there twice"),
        ("null", "the body is null, not an object"),
    ]);
}

/// Checks that each order becomes a dead letter for this reason, which the log and the next start show.
#[track_caller]
fn dead_letters(orders: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let kitchen = Kitchen::start(folder.path());
    for (n, (order, reason)) in orders.iter().enumerate() {
        kitchen.deliver(&format!("evt-{n}"), order);
        kitchen.wait_for(&format!("dead-lettered a delivery: orders[0]: {reason}"));
    }
    kitchen.stop();
    assert_eq!(tickets(folder.path()), [""; 0]);
    let again = Kitchen::start(folder.path()).stop();
    assert_eq!(again.lines().filter(|line| line.starts_with("Dead letter ")).count(), orders.len(), "{again}");
}

#[test]
fn bad_order_does_not_hide_good_ones() {
    let folder = tempfile::tempdir().unwrap();
    let kitchen = Kitchen::start(folder.path());
    let orders = [
        "null".into(),
        format!(r#"{{"id":1,"status":1,{SOUP}}}"#),
        format!(r#"{{"id":7,"id":8,"status":1,{SOUP}}}"#),
        r#"{"id":9,"status":1}"#.into(),
        format!(r#"{{"id":2,"status":1,{SOUP}}}"#),
    ];
    kitchen.deliver("evt-1", &orders.join(","));
    let line = kitchen.wait_for("dead-lettered a delivery");
    for reason in ["orders[0]: ", "orders[2]: `id` is there twice", "orders[3]: `cart` is missing"] {
        assert!(line.contains(reason), "{line}");
    }
    kitchen.stop();
    assert_eq!(tickets(folder.path()), ["order-1-cook-1", "order-2-cook-1"]);
}

#[test]
fn each_change_is_printed_once() {
    let folder = tempfile::tempdir().unwrap();
    let kitchen = Kitchen::start(folder.path());
    let order = |status: u8, quantity: u8| {
        format!(r#"{{"id":1,"status":{status},"cart":[{{"title":"Soup","quantity":{quantity}}}]}}"#)
    };
    let states = [(1, 1), (2, 1), (2, 2), (2, 1), (4, 1), (99, 1), (3, 1), (3, 1)];
    for (n, (status, quantity)) in states.into_iter().enumerate() {
        kitchen.deliver(&format!("evt-{n}"), &order(status, quantity));
        kitchen.deliver(&format!("evt-{n}"), &order(status, quantity));
    }
    kitchen.wait_for("known    order-1-stop-1");
    kitchen.wait_for("ignored  order 1 in state 99");
    kitchen.stop();
    assert_eq!(tickets(folder.path()), ["order-1-cook-1", "order-1-cook-2", "order-1-cook-3", "order-1-stop-1"]);
    assert_eq!(ticket(folder.path(), "order-1-cook-2"), "CHANGED order 1 \n   2 x Soup\n");
    assert_eq!(ticket(folder.path(), "order-1-stop-1"), "STOP order 1 \n");
}

#[test]
fn id_is_no_path() {
    let folder = tempfile::tempdir().unwrap();
    let kitchen = Kitchen::start(folder.path());
    kitchen.deliver("evt-1", &format!(r#"{{"id":"../../1 é","status":1,{SOUP}}}"#));
    kitchen.wait_for("printed  ");
    kitchen.stop();
    assert_eq!(tickets(folder.path()), ["order-%2e%2e%2f%2e%2e%2f1%20%c3%a9-cook-1"]);
}
