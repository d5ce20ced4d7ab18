//! Throughput under a flood of forged deliveries, with and without `explain_mismatches`.
//!
//! Run with `cargo bench --features diagnose --bench forged_flood`. The two layers run in alternating rounds of one
//! second, so each round with `explain_mismatches` contains one diagnosis. Both log to a sink. There is no runtime, so
//! the search runs on the same thread as the responses and the ratio contains its whole cost. In a service, the search
//! runs on a thread of its own.
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

/// The duration of a round: long enough for one diagnosis.
const ROUND: Duration = Duration::from_secs(1);

/// The rounds of each layer.
const ROUNDS: usize = 8;

fn main() {
    tracing_subscriber::fmt().with_writer(io::sink).init();
    println!("rejected deliveries per second, without and with explain_mismatches; longest response time with it");
    println!("{:<52} {:>12} {:>12} {:>7} {:>16}", "forged deliveries", "without", "with", "ratio", "longest");
    flood("an order of 8 kB, one secret", order(8_000), 1);
    flood("an order of 64 KiB, one secret", order(64 * 1024), 1);
    flood("an order of 64 KiB, eight secrets", order(64 * 1024), 8);
    // A body in which everything can be written in several ways, so that the search tries everything.
    flood("the worst 64 KiB, one secret", worst(), 1);
    flood("the worst 64 KiB, eight secrets", worst(), 8);
    flood_with("the worst 64 KiB, eight secrets, eight candidates", worst(), 8, Some(keyring(8)));
    flood("64 KiB of gzip that unpacks to 64 MiB, one secret", bomb(), 1);
    flood("64 KiB of gzip that unpacks to 64 MiB, eight secrets", bomb(), 8);
    flood("64 KiB of empty gzip members, one secret", members(), 1);
    flood("64 KiB of brackets, eight secrets", [vec![b'['; 32 * 1024], vec![b']'; 32 * 1024]].concat(), 8);
    flood("an order of 65 KiB, which is not diagnosed", order(65 * 1024), 1);
}

/// Floods both layers with a forged delivery of `body`, and prints the rates under the label `name`.
fn flood(name: &str, body: Vec<u8>, secrets: usize) {
    flood_with(name, body, secrets, None);
}

/// Floods both layers. The second one also tries the candidates when it explains a mismatch.
fn flood_with(name: &str, body: Vec<u8>, secrets: usize, candidates: Option<Keyring>) {
    let forged = SignedDelivery::new("a forger's own", body);
    let layer = KlikitVerifyLayer::with_keyring(keyring(secrets));
    let explaining = match candidates {
        None => layer.clone().explain_mismatches(),
        Some(candidates) => layer.clone().explain_mismatches_with(candidates),
    };
    let layers = [layer, explaining];
    let (mut rejected, mut longest) = ([0; 2], Duration::ZERO);
    for _ in 0..ROUNDS {
        for (case, layer) in layers.iter().enumerate() {
            let (count, slowest) = run_round(layer, &forged);
            rejected[case] += count;
            longest = if case == 1 { longest.max(slowest) } else { longest };
        }
    }
    let rate = |count: u32| f64::from(count) / (ROUNDS as f64 * ROUND.as_secs_f64());
    let [without, with] = rejected.map(rate);
    println!(
        "{name:<52} {without:>12.0} {with:>12.0} {:>7.3} {:>13.1} ms",
        with / without,
        longest.as_secs_f64() * 1e3
    );
}

fn keyring(secrets: usize) -> Keyring {
    let secret = |text: String| WebhookSecret::new(text).expect("the secret is valid");
    let keyring = Keyring::new("bench", "0", secret("the bench's own secret".to_owned()));
    for n in 1..secrets {
        keyring.add(n.to_string(), secret(format!("another secret {n}"))).expect("the keyring has space");
    }
    keyring
}

/// Sends the forged delivery for one round. Returns the number of responses and the longest response time.
fn run_round(layer: &KlikitVerifyLayer, forged: &SignedDelivery) -> (u32, Duration) {
    let handler =
        service_fn(async |_: Request<VerifiedBody>| Ok::<_, io::Error>(Response::new(Full::<Bytes>::default())));
    let mut service = layer.layer(handler);
    let started = Instant::now();
    let (mut count, mut slowest) = (0, Duration::ZERO);
    while started.elapsed() < ROUND {
        let sent = Instant::now();
        let answer = pin!(service.call(forged.request::<Full<Bytes>>()));
        match answer.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(response)) => assert_eq!(response.status(), 403),
            _ => panic!("a complete body gets its response at the first poll"),
        }
        slowest = slowest.max(sent.elapsed());
        count += 1;
    }
    (count, slowest)
}

/// Returns JSON in the form of an order.
fn order(bytes: usize) -> Vec<u8> {
    let item = r#"{"id":7585307,"name":"Nasi Goreng Spesial — ข้าวผัดพิเศษ","price":18000,"logo":"/images/663.jpeg"},"#;
    filled(r#"{"brand_id":663,"branch_id":1062,"orders":[{"id":1,"external_id":"A","cart":["#, item, r#"0]}]}"#, bytes)
}

/// Returns the body whose diagnosis takes longest.
fn worst() -> Vec<u8> {
    filled(r#"{"brand_id":1,"branch_id":2,"orders":["#, r#"{"b":"é/<\u0041","a":[]},"#, "0]}", 64 * 1024)
}

/// Returns a gzip bomb of zeros.
fn bomb() -> Vec<u8> {
    gzip(&vec![0; 63 * 1024 * 1024])
}

/// Returns many empty gzip members.
fn members() -> Vec<u8> {
    let member = gzip(b"");
    member.repeat(64 * 1024 / member.len())
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(body).expect("writing to a vector does not fail");
    packer.finish().expect("writing to a vector does not fail")
}

/// Repeats `item` between `head` and `tail`, and pads with spaces to the length `bytes`.
fn filled(head: &str, item: &str, tail: &str, bytes: usize) -> Vec<u8> {
    let items = (bytes - head.len() - tail.len()) / item.len();
    let mut text: String = [head].into_iter().chain(repeat_n(item, items)).chain([tail]).collect();
    text.extend(repeat_n(' ', bytes - text.len()));
    text.into()
}
