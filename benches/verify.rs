//! Time that the verify layer takes in addition to the hash. Prints medians of rounds that run all cases in turn,
//! because machines are noisy.
//!
//! Run with `cargo bench --bench verify`. The bench `instructions` has reproducible counts.
#![allow(missing_docs, unreachable_pub)]

mod support;

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use support::{BodyShape, Case, run};

const ROUNDS: usize = 2001;
/// The argument of the process that measures memory.
const PEAK_MEMORY: &str = "--peak-memory";
/// The number of requests that are timed together. So few stay in the processor's cache, as a single request would.
const REQUESTS: usize = 8;

fn main() {
    if std::env::args().any(|argument| argument == PEAK_MEMORY) {
        return print_peak_memory();
    }
    println!("time of one request, medians of {ROUNDS} rounds; the hash is HMAC-SHA256 of the body");
    println!("{:<28} {:>10} {:>10} {:>12} {:>12}", "body", "hash", "layer", "layer / hash", "layer - hash");
    for (bytes, frames) in [(1024, 1), (1024, 4), (8192, 1), (8192, 4), (131_072, 1), (131_072, 16)] {
        compare(BodyShape { bytes, frames });
    }
    println!();
    measure_peak_memory();
}

/// Measures the cases with this body and prints the medians.
fn compare(body: BodyShape) {
    let cases = [Case::Hash, Case::Bare, Case::Layer];
    let (mut hashes, mut layers, mut ratios, mut differences) = (vec![], vec![], vec![], vec![]);
    for round in 0..ROUNDS {
        let mut figures = [0.0; 3];
        // Rotate the order, so that each case runs first equally often.
        for turn in 0..3 {
            let case = (round + turn) % 3;
            figures[case] = nanoseconds(cases[case], body);
        }
        let [hash, bare, layer] = figures;
        hashes.push(hash);
        layers.push(layer - bare);
        ratios.push((layer - bare) / hash);
        differences.push(layer - bare - hash);
    }
    println!(
        "{body:<28} {:>7.0} ns {:>7.0} ns {:>12.3} {:>9.0} ns",
        median(hashes),
        median(layers),
        median(ratios),
        median(differences),
    );
}

/// Returns the time of one request.
fn nanoseconds(case: Case, body: BodyShape) -> f64 {
    let time: Duration = run(case, body, REQUESTS, |case| {
        let started = Instant::now();
        case();
        started.elapsed()
    });
    time.as_secs_f64() * 1e9 / REQUESTS as f64
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Measures the peak of the resident memory in a separate process.
fn measure_peak_memory() {
    let own = std::env::current_exe().expect("this program has a path");
    let status = Command::new(own).arg(PEAK_MEMORY).status().expect("this program runs");
    assert!(status.success());
}

/// Measures the peak of the resident memory in this process.
fn print_peak_memory() {
    const BODY_BYTES: usize = 1 << 20;
    // Each frame is a view of one static byte, so that only the layer's memory is measured.
    let delivery = tower_klikit::testing::SignedDelivery::new("secret", vec![b'o'; BODY_BYTES]);
    let frames = (0..BODY_BYTES)
        .map(|_| Ok::<_, std::convert::Infallible>(http_body::Frame::data(bytes::Bytes::from_static(b"o"))));
    let request = delivery.request_with(|_| http_body_util::StreamBody::new(futures_util::stream::iter(frames)));
    let service = tower::Layer::layer(&tower_klikit::KlikitVerifyLayer::new("secret"), support::DropHandler);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("the runtime starts");
    let before = peak_memory();
    let response = runtime.block_on(tower::ServiceExt::oneshot(service, request)).expect("the handler does not fail");
    assert_eq!(response.status(), 200);
    match (before, peak_memory()) {
        (Some(before), Some(after)) => {
            let growth = (after - before) as f64 / BODY_BYTES as f64;
            println!("body of 1 MiB in chunks of 1 byte: the process's peak memory grew by {growth:.2} times the body");
        }
        _ => println!(
            "body of 1 MiB in chunks of 1 byte: memory was not measured, because this system has no /proc/self/status"
        ),
    }
}

/// Returns the peak of the resident memory in bytes, or `None` if the system does not report it.
fn peak_memory() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()? * 1024)
}
