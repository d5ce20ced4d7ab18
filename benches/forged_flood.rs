//! What a flood of forged deliveries costs with `explain_mismatches` and without: `cargo bench --features diagnose --bench forged_flood`.
//!
//! The two take turns of a second each, so that each turn of the first has its one diagnosis. Both log each refusal, to nowhere.
//! There is no runtime, so that a search runs on the one thread that answers, and its whole cost is in the ratio; in a service it
//! has a thread of its own.
#![allow(missing_docs, unreachable_pub)]

use std::{
    future::Future,
    io::{self, Write},
    iter::repeat_n,
    pin::pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer, Service, service_fn};
use tower_klikit::{Keyring, KlikitVerifyLayer, VerifiedBody, WebhookSecret, testing::SignedDelivery};

/// Of each turn: long enough for one diagnosis.
const TURN: Duration = Duration::from_secs(1);

const TURNS: usize = 8;

fn main() {
    tracing_subscriber::fmt().with_writer(io::sink).init();
    println!(
        "{:<52} {:>12} {:>12} {:>7} {:>16}",
        "forged deliveries a second", "without", "with", "ratio", "longest answer"
    );
    flood("an order of 8 kB, one secret", order(8_000), 1);
    flood("an order of 64 KiB, one secret", order(64 * 1024), 1);
    flood("an order of 64 KiB, eight secrets", order(64 * 1024), 8);
    // Everything that can be written in several ways, so that everything is tried.
    flood("the worst 64 KiB, one secret", worst(), 1);
    flood("the worst 64 KiB, eight secrets", worst(), 8);
    flood_with("and eight candidates", worst(), 8, Some(keyring(8)));
    flood("64 KiB of gzip that unpacks to 64 MiB, one secret", bomb(), 1);
    flood("64 KiB of gzip that unpacks to 64 MiB, eight secrets", bomb(), 8);
    flood("64 KiB of empty gzip members, one secret", members(), 1);
    flood("64 KiB of brackets, eight secrets", [vec![b'['; 32 * 1024], vec![b']'; 32 * 1024]].concat(), 8);
    flood("over 64 KiB: not looked at, one secret", order(65 * 1024), 1);
}

fn flood(what: &str, body: Vec<u8>, secrets: usize) {
    flood_with(what, body, secrets, None);
}

fn flood_with(what: &str, body: Vec<u8>, secrets: usize, candidates: Option<Keyring>) {
    let forged = SignedDelivery::new("a forger's own", body);
    let layer = KlikitVerifyLayer::with_keyring(keyring(secrets));
    let explaining = match candidates {
        None => layer.clone().explain_mismatches(),
        Some(candidates) => layer.clone().explain_mismatches_with(candidates),
    };
    let layers = [layer, explaining];
    let (mut answered, mut longest) = ([0; 2], Duration::ZERO);
    for turn in 0..2 * TURNS {
        let case = turn % 2;
        let (count, slowest) = one_turn(&layers[case], &forged);
        answered[case] += count;
        longest = longest.max(if case == 1 { slowest } else { Duration::ZERO });
    }
    let rate = |count: u32| f64::from(count) / (TURNS as f64 * TURN.as_secs_f64());
    let [without, with] = answered.map(rate);
    println!(
        "{what:<52} {without:>12.0} {with:>12.0} {:>7.3} {:>13.1} ms",
        with / without,
        longest.as_secs_f64() * 1e3
    );
}

fn keyring(secrets: usize) -> Keyring {
    let keyring = Keyring::new("bench", "0", WebhookSecret::new("the bench's own secret").expect("a secret"));
    for n in 1..secrets {
        keyring.add(n.to_string(), WebhookSecret::new(format!("another secret {n}")).expect("a secret")).expect("room");
    }
    keyring
}

/// How many forged deliveries were answered, and what the slowest took.
fn one_turn(layer: &KlikitVerifyLayer, forged: &SignedDelivery) -> (u32, Duration) {
    let handler =
        service_fn(async |_: Request<VerifiedBody>| Ok::<_, io::Error>(Response::new(Full::<Bytes>::default())));
    let mut service = layer.layer(handler);
    let started = Instant::now();
    let (mut count, mut slowest) = (0, Duration::ZERO);
    while started.elapsed() < TURN {
        let asked = Instant::now();
        let answer = pin!(service.call(forged.request::<Full<Bytes>>()));
        match answer.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(response)) => assert_eq!(response.status(), 403),
            _ => panic!("a body that is there is answered at the first poll"),
        }
        slowest = slowest.max(asked.elapsed());
        count += 1;
    }
    (count, slowest)
}

/// JSON in the shape of an order.
fn order(bytes: usize) -> Vec<u8> {
    let item = r#"{"id":7585307,"name":"Nasi Goreng Spesial — ข้าวผัดพิเศษ","price":18000,"logo":"/images/663.jpeg"},"#;
    filled(r#"{"brand_id":663,"branch_id":1062,"orders":[{"id":1,"external_id":"A","cart":["#, item, r#"0]}]}"#, bytes)
}

fn worst() -> Vec<u8> {
    filled(r#"{"brand_id":1,"branch_id":2,"orders":["#, r#"{"b":"é/<\u0041","a":[]},"#, "0]}", 64 * 1024)
}

/// Zeros, packed as tightly as it goes.
fn bomb() -> Vec<u8> {
    gzip(&vec![0; 63 * 1024 * 1024])
}

fn members() -> Vec<u8> {
    let member = gzip(b"");
    member.repeat(64 * 1024 / member.len())
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(body).expect("a vector takes all");
    packer.finish().expect("a vector takes all")
}

fn filled(head: &str, item: &str, tail: &str, bytes: usize) -> Vec<u8> {
    let items = (bytes - head.len() - tail.len()) / item.len();
    let mut text: String = [head].into_iter().chain(repeat_n(item, items)).chain([tail]).collect();
    text.extend(repeat_n(' ', bytes - text.len()));
    text.into()
}
