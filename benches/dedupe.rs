//! Time that de-duplication on the memory store takes in addition to the verify layer and the SHA-256 of the body.
//! Prints medians of rounds that run all cases in turn.
//!
//! Run with `cargo bench --bench dedupe`.
#![allow(missing_docs, unreachable_pub)]

use std::{
    convert::Infallible,
    future::ready,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use sha2::{Digest, Sha256};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service, service_fn};
use tower_klikit::{
    KlikitVerifyLayer, VerifiedBody,
    dedupe::{Claim, ClaimTerms, KlikitDedupeLayer, Ledger},
    store::MemoryStore,
    testing::SignedDelivery,
};

const SECRET: &str = "klikit-bench-secret";
const ROUNDS: usize = 501;
/// The number of deliveries in a round.
const DELIVERIES: usize = 64;

fn main() {
    let runtime = Builder::new_current_thread().enable_time().build().expect("the runtime starts");
    let store = MemoryStore::new();
    for bytes in [1024, 8192] {
        compare(&runtime, &store, bytes);
    }
}

/// Measures bodies of this length and prints the medians.
fn compare(runtime: &Runtime, store: &MemoryStore, bytes: usize) {
    let handler = service_fn(|request: Request<VerifiedBody>| {
        drop(black_box(request));
        ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
    });
    let verify = KlikitVerifyLayer::new(SECRET);
    let mut alone = verify.layer(handler);
    let mut deduped = verify.layer(KlikitDedupeLayer::new(store.clone()).layer(handler));
    let claims = Arc::new(std::sync::Mutex::new(Vec::new()));
    let keep = Arc::clone(&claims);
    let mut capture = verify.layer(KlikitDedupeLayer::new(MemoryStore::new()).layer(service_fn(
        move |request: Request<VerifiedBody>| {
            let claim = request.extensions().get::<Claim>().expect("the dedupe layer inserts its claim").clone();
            keep.lock().expect("no thread panicked").push(claim);
            ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
        },
    )));
    let body = Bytes::from(vec![b'o'; bytes]);
    // Use different bodies, because copies of one body under many ids are rejected.
    let delivery = |id: &str| {
        let mut body = body.to_vec();
        body[..id.len()].copy_from_slice(id.as_bytes());
        SignedDelivery::new(SECRET, body).event_id(id)
    };

    let (mut verified, mut deduplicated, mut hashed, mut stored, mut differences) =
        (vec![], vec![], vec![], vec![], vec![]);
    for round in 0..ROUNDS {
        let requests = || -> Vec<_> {
            (0..DELIVERIES).map(|n| delivery(&format!("{bytes}-{round}-{n}")).request::<Full<Bytes>>()).collect()
        };
        let alone = serve(runtime, &mut alone, requests());
        let deduped = serve(runtime, &mut deduped, requests());
        let hash = nanoseconds(|| {
            for _ in 0..DELIVERIES {
                black_box(Sha256::digest(black_box(&body)));
            }
        });
        serve(runtime, &mut capture, requests());
        let claims = std::mem::take(&mut *claims.lock().expect("no thread panicked"));
        let other = MemoryStore::new();
        let terms = ClaimTerms { lease: Duration::from_secs(25), grace: Duration::from_secs(300) };
        let ledger = nanoseconds(|| {
            runtime.block_on(async {
                for claim in &claims {
                    black_box(other.claim(claim, &terms).await).expect("the memory store does not fail");
                    black_box(other.complete(claim, Duration::from_secs(3600)).await)
                        .expect("the memory store does not fail");
                }
            });
        });
        verified.push(alone);
        deduplicated.push(deduped);
        hashed.push(hash);
        stored.push(ledger);
        differences.push(deduped - alone - hash);
    }
    println!(
        "body of {bytes} bytes: time of one delivery, medians of {ROUNDS} rounds with {DELIVERIES} deliveries each"
    );
    println!("  verify layer                              {:>6.0} ns", median(verified));
    println!("  verify layer and dedupe layer             {:>6.0} ns", median(deduplicated));
    println!("  SHA-256 of the body                       {:>6.0} ns", median(hashed));
    println!("  dedupe layer, without the SHA-256         {:>6.0} ns", median(differences));
    println!("  claim and complete in the memory store    {:>6.0} ns", median(stored));
}

/// Returns the time of one request, in nanoseconds.
fn serve<S>(runtime: &Runtime, service: &mut S, requests: Vec<Request<Full<Bytes>>>) -> f64
where
    S: Service<Request<Full<Bytes>>, Error = Infallible>,
{
    nanoseconds(|| {
        runtime.block_on(async {
            for request in requests {
                black_box(service.call(request).await).unwrap_or_else(|never| match never {});
            }
        });
    })
}

/// Runs a case for all deliveries of a round. Returns the time of one delivery.
fn nanoseconds(case: impl FnOnce()) -> f64 {
    let started = Instant::now();
    case();
    started.elapsed().as_secs_f64() * 1e9 / DELIVERIES as f64
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
