//! Time of a claim and its completion in the memory store, and memory of each entry.
//!
//! Run with `cargo bench --bench ledger_memory --features dedupe`. The store is full in most cases, so that each claim
//! evicts an entry.
#![allow(missing_docs)]

use std::{
    hint::black_box,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tower_klikit::{
    dedupe::{BodyDigest, Claim, ClaimOutcome, ClaimTerms, EventKey, Ledger},
    store::MemoryStore,
};

const ENTRIES: usize = 100_000;
/// The number of claims in a batch: few, so that the system rarely interrupts a batch.
const CLAIMS: usize = 1000;
const BATCHES: usize = 201;
const TERMS: ClaimTerms = ClaimTerms { lease: Duration::from_secs(25), grace: Duration::from_secs(5 * 60) };
const RETENTION: Duration = Duration::from_secs(35 * 24 * 60 * 60);

fn main() {
    let (full, memory) = filled(ENTRIES);
    println!("memory of one entry in a store of {ENTRIES}: {} bytes", memory / ENTRIES as u64);
    println!("time of one call or pair of calls, in {BATCHES} batches of {CLAIMS}:");
    for threads in [1, 2] {
        let mut figures = pairs(&full, threads);
        report(&format!("claim and complete, store is full, {threads} thread(s)"), &mut figures);
    }
    for threads in [1, 2] {
        let unbounded = filled(ENTRIES).0.capacity(usize::MAX);
        report(&format!("claim and complete, store is not full, {threads} thread(s)"), &mut pairs(&unbounded, threads));
    }
    report("claim of a duplicate, 1 thread", &mut duplicates(&full));
}

/// Returns a full store with this capacity, and the bytes that its entries allocated.
fn filled(entries: usize) -> (MemoryStore, u64) {
    let store = MemoryStore::new().capacity(entries);
    let claims = claims("filled", entries);
    let allocated = allocation_counter::measure(|| claims.iter().for_each(|claim| handle(&store, claim)));
    (store, allocated.bytes_current.unsigned_abs())
}

/// Returns new claims, whose keys depend on `kind`.
fn claims(kind: &str, count: usize) -> Vec<Claim> {
    let digest = BodyDigest::of(b"body");
    let key = |n| *EventKey::of_event("warung", &format!("{kind}-{n}")).as_bytes();
    (0..count).map(key).map(|key| Claim::new(key, key, digest, key)).collect()
}

/// Claims and completes a delivery.
fn handle(store: &MemoryStore, claim: &Claim) {
    assert_eq!(now(store.claim(claim, &TERMS)), ClaimOutcome::Claimed);
    assert!(now(store.complete(claim, RETENTION)));
}

/// Returns the output of a store's future, which is ready at its first poll.
fn now<T>(future: impl Future<Output = Result<T, tower_klikit::dedupe::StoreError>>) -> T {
    future.now_or_never().expect("the memory store does not wait").expect("the memory store does not fail")
}

/// Runs claims with their completions on this many threads at once. Returns the nanoseconds of each pair, by batch and
/// thread.
fn pairs(store: &MemoryStore, threads: usize) -> Vec<f64> {
    let barrier = Barrier::new(threads);
    let work = |thread: usize| {
        let mut figures = Vec::new();
        for batch in 0..BATCHES {
            let claims = claims(&format!("{threads}-{thread}-{batch}"), CLAIMS);
            barrier.wait();
            let started = Instant::now();
            claims.iter().for_each(|claim| handle(store, claim));
            figures.push(started.elapsed().as_secs_f64() * 1e9 / CLAIMS as f64);
        }
        figures
    };
    thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker does not panic")).collect()
    })
}

/// Returns the nanoseconds of the claim of a duplicate, by batch.
fn duplicates(store: &MemoryStore) -> Vec<f64> {
    let handled = claims("handled", CLAIMS);
    handled.iter().for_each(|claim| handle(store, claim));
    let batch = |_| {
        let copies = claims("handled", CLAIMS);
        let started = Instant::now();
        for copy in &copies {
            assert!(matches!(black_box(now(store.claim(copy, &TERMS))), ClaimOutcome::Done { .. }));
        }
        started.elapsed().as_secs_f64() * 1e9 / CLAIMS as f64
    };
    (0..BATCHES).map(batch).collect()
}

fn report(name: &str, figures: &mut [f64]) {
    figures.sort_by(f64::total_cmp);
    let percentile = |percent: usize| figures[figures.len() * percent / 100];
    let [median, low, high] = [50, 10, 90].map(percentile);
    println!("  {name:<52} median {median:>5.0} ns, 10th percentile {low:>5.0} ns, 90th percentile {high:>5.0} ns");
}
