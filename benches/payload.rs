//! Time to read the ids and states of a batch of six large orders and of a single order, through `OrderEvent`, through
//! a custom order type, and through `serde_json::Value`.
//!
//! Run with `cargo bench --bench payload`.
#![allow(missing_docs)]

use std::{
    fs,
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use tower_klikit::payload::{OrderEvent, OrderStatus};

const ROUNDS: usize = 101;
/// The number of times that each reader reads the body in a round.
const READS: u32 = 20;

#[derive(Deserialize)]
struct Ticket {
    id: i64,
    status: OrderStatus,
}

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deliveries");
    for file in ["batch-of-six-large-orders.json", "multi-item-with-modifiers.json"] {
        let body = Bytes::from(fs::read(folder.join(file)).expect("the sample exists"));
        let expected = by_value(&body);
        assert!(by_order(&body) == expected && by_ticket(&body) == expected, "the readers disagree");
        type Read = fn(&Bytes) -> Vec<(i64, i64)>;
        let readers: [(&str, Read); 3] =
            [("serde_json::Value", by_value), ("OrderEvent<Order>", by_order), ("OrderEvent<Ticket>", by_ticket)];
        // Alternate the readers, so that other load on the machine affects all of them.
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            for ((_, read), times) in readers.iter().zip(&mut times) {
                let started = Instant::now();
                for _ in 0..READS {
                    black_box(read(black_box(&body)));
                }
                times.push(started.elapsed() / READS);
            }
        }
        let medians: Vec<Duration> = times.iter_mut().map(|times| median(times)).collect();
        println!("{file}, {} bytes: time to read the ids and states, medians of {ROUNDS} rounds", body.len());
        for ((name, _), median) in readers.iter().zip(&medians) {
            let ratio = medians[0].as_secs_f64() / median.as_secs_f64();
            println!(
                "  {name:<20} {:>9.1} µs   {ratio:>5.2} times as fast as serde_json::Value",
                median.as_secs_f64() * 1e6
            );
        }
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn by_value(body: &Bytes) -> Vec<(i64, i64)> {
    let event: Value = serde_json::from_slice(body).expect("JSON");
    let orders = event["orders"].as_array().expect("orders").iter();
    orders.map(|order| (order["id"].as_i64().expect("an id"), order["status"].as_i64().expect("a state"))).collect()
}

fn by_order(body: &Bytes) -> Vec<(i64, i64)> {
    let event: OrderEvent = OrderEvent::from_bytes(body).expect("orders");
    let ids = event.orders.iter().map(|order| order.id().and_then(|id| id.as_i64()).expect("an id"));
    ids.zip(event.orders.iter().map(|order| order.status().expect("a state").0)).collect()
}

fn by_ticket(body: &Bytes) -> Vec<(i64, i64)> {
    let event: OrderEvent<Ticket> = OrderEvent::from_bytes(body).expect("orders");
    event.orders.iter().map(|order| (order.id, order.status.0)).collect()
}
