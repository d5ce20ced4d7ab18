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

use support::{Case, run};

const ROUNDS: usize = 2001;
/// The requests of a batch: few enough to stay in the processor's cache, as a single request would.
const BATCH: usize = 8;

fn main() {
    if std::env::args().any(|argument| argument == "--resident") {
        return resident();
    }
    println!("{:<28} {:>10} {:>10} {:>8} {:>10}", "body", "hash", "layer", "ratio", "beyond");
    for (bytes, frames) in [(1024, 1), (1024, 4), (8192, 1), (8192, 4), (131_072, 1), (131_072, 16)] {
        compare(bytes, frames);
    }
    println!();
    spawn_resident();
}

/// Measures a body of this size and prints the medians.
fn compare(bytes: usize, frames: usize) {
    let cases = [Case::Hash, Case::Bare, Case::Layer];
    let (mut hashes, mut layers, mut ratios, mut beyond) = (vec![], vec![], vec![], vec![]);
    for round in 0..ROUNDS {
        let mut figures = [0.0; 3];
        // Rotate the order, so that each case runs first equally often.
        for turn in 0..3 {
            let case = (round + turn) % 3;
            figures[case] = nanoseconds(cases[case], bytes, frames);
        }
        let [hash, bare, layer] = figures;
        hashes.push(hash);
        layers.push(layer - bare);
        ratios.push((layer - bare) / hash);
        beyond.push(layer - bare - hash);
    }
    println!(
        "{:<28} {:>7.0} ns {:>7.0} ns {:>8.3} {:>7.0} ns",
        format!("{bytes} bytes in {frames} frame(s)"),
        median(hashes),
        median(layers),
        median(ratios),
        median(beyond),
    );
}

fn nanoseconds(case: Case, bytes: usize, frames: usize) -> f64 {
    let time: Duration = run(case, bytes, frames, BATCH, |case| {
        let started = Instant::now();
        case();
        started.elapsed()
    });
    time.as_secs_f64() * 1e9 / BATCH as f64
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Measures the peak of the resident size in a separate process.
fn spawn_resident() {
    let own = std::env::current_exe().expect("this program has a path");
    let status = Command::new(own).arg("--resident").status().expect("this program runs");
    assert!(status.success());
}

fn resident() {
    const BODY: usize = 1 << 20;
    // Each frame is a view of one static byte, so that only the layer's memory is measured.
    let delivery = tower_klikit::testing::SignedDelivery::new("secret", vec![b'o'; BODY]);
    let frames =
        (0..BODY).map(|_| Ok::<_, std::convert::Infallible>(http_body::Frame::data(bytes::Bytes::from_static(b"o"))));
    let request = delivery.request_with(|_| http_body_util::StreamBody::new(futures_util::stream::iter(frames)));
    let service = tower::Layer::layer(&tower_klikit::KlikitVerifyLayer::new("secret"), support::DropHandler);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("the runtime starts");
    let before = peak();
    let response = runtime.block_on(tower::ServiceExt::oneshot(service, request)).expect("the handler does not fail");
    assert_eq!(response.status(), 200);
    match (before, peak()) {
        (Some(before), Some(after)) => {
            let growth = (after - before) as f64 / BODY as f64;
            println!("1 MiB in chunks of 1 byte: the peak of the resident size grew by {growth:.2} times the body");
        }
        _ => println!("1 MiB in chunks of 1 byte: not measured, this system has no /proc/self/status"),
    }
}

/// Returns the peak of the resident size in bytes, or `None` if the system does not report it.
fn peak() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()? * 1024)
}
