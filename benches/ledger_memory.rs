//! Time of a claim and its completion in the memory store, and the memory of each entry.
//!
//! `cargo bench --bench ledger_memory --features dedupe`. The store is full, so that each claim has to make room.
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

const REMEMBERED: usize = 100_000;
/// Short, so that the system rarely takes the processor away in the middle of one.
const BATCH: usize = 1000;
const BATCHES: usize = 201;
const TERMS: ClaimTerms = ClaimTerms { lease: Duration::from_secs(25), grace: Duration::from_secs(5 * 60) };
const RETENTION: Duration = Duration::from_secs(35 * 24 * 60 * 60);

fn main() {
    let (full, memory) = filled(REMEMBERED);
    println!("{REMEMBERED} entries take {} bytes each", memory / REMEMBERED as u64);
    for threads in [1, 2] {
        let mut figures = pairs(&full, threads);
        report(&format!("claim + complete, full, evicting, {threads} thread(s)"), &mut figures);
    }
    for threads in [1, 2] {
        let roomy = filled(REMEMBERED).0.capacity(usize::MAX);
        report(&format!("claim + complete, with room, {threads} thread(s)"), &mut pairs(&roomy, threads));
    }
    report("claim of a duplicate, 1 thread", &mut duplicates(&full));
}

/// A store that remembers so many, with how many bytes it allocated for that.
fn filled(entries: usize) -> (MemoryStore, u64) {
    let store = MemoryStore::new().capacity(entries);
    let claims = claims("filled", entries);
    let allocated = allocation_counter::measure(|| claims.iter().for_each(|claim| handle(&store, claim)));
    (store, allocated.bytes_current.unsigned_abs())
}

fn claims(kind: &str, how_many: usize) -> Vec<Claim> {
    let digest = BodyDigest::of(b"body");
    let key = |n| *EventKey::of_event("warung", &format!("{kind}-{n}")).as_bytes();
    (0..how_many).map(key).map(|key| Claim::new(key, key, digest, key)).collect()
}

fn handle(store: &MemoryStore, claim: &Claim) {
    assert_eq!(now(store.claim(claim, &TERMS)), ClaimOutcome::Claimed);
    assert!(now(store.complete(claim, RETENTION)));
}

fn now<T>(future: impl Future<Output = Result<T, tower_klikit::dedupe::StoreError>>) -> T {
    future.now_or_never().expect("ready at once").expect("there is room")
}

/// Nanoseconds for each pair of one thread's, batch by batch, while so many threads do the same.
fn pairs(store: &MemoryStore, threads: usize) -> Vec<f64> {
    let barrier = Barrier::new(threads);
    let work = |thread: usize| {
        let mut figures = Vec::new();
        for batch in 0..BATCHES {
            let claims = claims(&format!("{threads}-{thread}-{batch}"), BATCH);
            barrier.wait();
            let started = Instant::now();
            claims.iter().for_each(|claim| handle(store, claim));
            figures.push(started.elapsed().as_secs_f64() * 1e9 / BATCH as f64);
        }
        figures
    };
    thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker does not panic")).collect()
    })
}

fn duplicates(store: &MemoryStore) -> Vec<f64> {
    let handled = claims("handled", BATCH);
    handled.iter().for_each(|claim| handle(store, claim));
    let batch = |_| {
        let copies = claims("handled", BATCH);
        let started = Instant::now();
        for copy in &copies {
            assert!(matches!(black_box(now(store.claim(copy, &TERMS))), ClaimOutcome::Done { .. }));
        }
        started.elapsed().as_secs_f64() * 1e9 / BATCH as f64
    };
    (0..BATCHES).map(batch).collect()
}

fn report(what: &str, figures: &mut [f64]) {
    figures.sort_by(f64::total_cmp);
    let at = |part: usize| figures[figures.len() * part / 100];
    println!("{what:<50} median {:>5.0} ns, 10 % below {:>5.0}, 10 % above {:>5.0}", at(50), at(10), at(90));
}
