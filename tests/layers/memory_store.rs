//! Tests of `MemoryStore`: its capacity, its order of eviction and expiry, and its clock.

use std::{
    slice,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, SystemTime},
};

use tower_klikit::{
    dedupe::{BodyDigest, Claim, ClaimOutcome, ClaimTerms, EventKey, Ledger},
    store::MemoryStore,
};

const LEASE: Duration = Duration::from_secs(25);
const TERMS: ClaimTerms = ClaimTerms { lease: LEASE, grace: Duration::ZERO };
const RETENTION: Duration = Duration::from_secs(3600);

/// Creates a claim on the event with this id. Each claim has a new token.
fn claim(scope: &str, id: &str, body: &str) -> Claim {
    static TOKENS: AtomicU64 = AtomicU64::new(0);
    let mut token = [0; 16];
    token[..8].copy_from_slice(&TOKENS.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    let event = *EventKey::of_event(scope, id).as_bytes();
    Claim::new(event, event, BodyDigest::of(body.as_bytes()), token)
}

/// Creates claims on `count` events.
fn events(kind: &str, count: usize) -> Vec<Claim> {
    (0..count).map(|n| claim("warung", &format!("{kind}-{n}"), "body")).collect()
}

/// Makes these claims.
async fn claim_all(store: &MemoryStore, claims: &[Claim]) {
    for claim in claims {
        assert_eq!(store.claim(claim, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    }
}

/// Makes and completes these claims.
async fn complete_all(store: &MemoryStore, claims: &[Claim]) {
    claim_all(store, claims).await;
    for claim in claims {
        assert!(store.complete(claim, RETENTION).await.unwrap());
    }
}

/// Returns whether the claim is done. Completing a done claim again changes nothing.
async fn is_done(store: &MemoryStore, claim: &Claim) -> bool {
    store.complete(claim, RETENTION).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn full_store_forgets_oldest_done_and_no_claim() {
    let store = MemoryStore::new().capacity(100);
    let held = events("held", 20);
    claim_all(&store, &held).await;
    let done = events("done", 80);
    claim_all(&store, &done).await;
    // Complete the claims in reverse order, all at the same time.
    for claim in done.iter().rev() {
        assert!(store.complete(claim, RETENTION).await.unwrap());
    }
    assert_eq!((store.len(), store.evicted()), (100, 0));

    complete_all(&store, &events("new", 30)).await;
    assert_eq!((store.len(), store.evicted()), (100, 30));
    for (n, claim) in done.iter().rev().enumerate() {
        assert_eq!(is_done(&store, claim).await, n >= 30, "completion {n}");
    }
    assert_eq!(store.renew(&held, &TERMS).await.unwrap(), [true; 20], "a claim in flight was evicted");
}

#[tokio::test(start_paused = true)]
async fn eviction_ignores_retention() {
    let store = MemoryStore::new().capacity(2);
    let claims = events("evt", 3);
    claim_all(&store, &claims[..2]).await;
    store.complete(&claims[0], 10 * RETENTION).await.unwrap();
    store.complete(&claims[1], RETENTION).await.unwrap();
    claim_all(&store, &claims[2..]).await;
    assert!(!is_done(&store, &claims[0]).await);
    assert!(is_done(&store, &claims[1]).await);
}

#[tokio::test(start_paused = true)]
async fn expired_entries_are_removed_first() {
    let store = MemoryStore::new().capacity(100);
    let done = events("done", 60);
    complete_all(&store, &done).await;
    claim_all(&store, &events("expired", 40)).await;
    tokio::time::advance(LEASE).await;
    complete_all(&store, &events("new", 40)).await;
    assert_eq!(store.evicted(), 0);
    for claim in &done {
        assert!(is_done(&store, claim).await);
    }
}

#[tokio::test(start_paused = true)]
async fn store_full_of_claims_rejects_and_recovers() {
    let store = MemoryStore::new().capacity(50);
    let held = events("held", 50);
    claim_all(&store, &held).await;
    let next = claim("warung", "next", "body");
    let error = store.claim(&next, &TERMS).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "the memory store is full: it holds 50 entries, and must not forget any of them");
    // Claims on existing entries need no capacity.
    assert_eq!(store.claim(&held[0], &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    store.claim(&claim("warung", "held-1", "body"), &TERMS).await.unwrap();

    store.release(&held[7]).await.unwrap();
    claim_all(&store, &[next]).await;
    store.claim(&claim("warung", "another", "body"), &TERMS).await.unwrap_err();
    tokio::time::advance(LEASE).await;
    assert_eq!(store.renew(&held[..1], &TERMS).await.unwrap(), [false], "a claim without a grace ends with its lease");
    claim_all(&store, &events("later", 50)).await;
    assert_eq!((store.len(), store.evicted()), (50, 0));
}

#[tokio::test(start_paused = true)]
async fn reject_when_full_forgets_nothing() {
    let store = MemoryStore::new().capacity(50).reject_when_full();
    let done = events("done", 50);
    complete_all(&store, &done).await;
    let next = claim("warung", "next", "body");
    store.claim(&next, &TERMS).await.unwrap_err();
    let copy = store.claim(&claim("warung", "done-0", "body"), &TERMS).await.unwrap();
    assert_eq!(copy, ClaimOutcome::Done { digest: *done[0].digest() });
    for claim in &done {
        assert!(is_done(&store, claim).await);
    }
    assert_eq!(store.evicted(), 0);
    tokio::time::advance(RETENTION).await;
    claim_all(&store, &[next]).await;
}

#[tokio::test(start_paused = true)]
async fn forgetting_frees_capacity() {
    let store = MemoryStore::new().capacity(8).reject_when_full();
    for _ in 0..3 {
        let claims = events("evt", 8);
        complete_all(&store, &claims[..4]).await;
        claim_all(&store, &claims[4..]).await;
        assert_eq!(store.forget(&claims[0].event().into()).await.unwrap(), 1);
        store.release(&claims[7]).await.unwrap();
        assert_eq!(store.len(), 6);
        let all = SystemTime::UNIX_EPOCH..SystemTime::now() + RETENTION;
        assert_eq!(store.forget(&all.into()).await.unwrap(), 6);
        assert!(store.is_empty());
    }
    claim_all(&store, &events("evt", 8)).await;
    tokio::time::advance(LEASE).await;
    assert_eq!(store.purge(5).await.unwrap(), 5);
    assert_eq!(store.purge(5).await.unwrap(), 3);
    assert!(store.is_empty());
}

/// The retention of an entry depends neither on the retentions of earlier entries nor on whether those were forgotten.
#[tokio::test(start_paused = true)]
async fn entries_with_mixed_retentions_expire_in_time() {
    const MINUTE: Duration = Duration::from_secs(60);
    let store = MemoryStore::new();
    let claims = events("evt", 500);
    let minutes = |n: usize| u32::try_from(n * 37 % 50 + 1).unwrap();
    for (n, claim) in claims.iter().enumerate() {
        claim_all(&store, slice::from_ref(claim)).await;
        assert!(store.complete(claim, minutes(n) * MINUTE).await.unwrap());
    }
    let is_forgotten = |n: usize| n < 20 || n.is_multiple_of(3);
    for (n, claim) in claims.iter().enumerate() {
        assert_eq!(store.forget(&claim.event().into()).await.unwrap(), 1);
        if !is_forgotten(n) {
            claim_all(&store, slice::from_ref(claim)).await;
            assert!(store.complete(claim, minutes(n) * MINUTE).await.unwrap());
        }
    }
    for minute in 1..=50 {
        tokio::time::advance(MINUTE).await;
        let expired = (0..claims.len()).filter(|&n| !is_forgotten(n) && minutes(n) == minute).count();
        assert_eq!(store.purge(u32::MAX).await.unwrap(), expired as u64, "after {minute} minutes");
    }
    assert!(store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn claims_delete_expired_entries() {
    let store = MemoryStore::new();
    claim_all(&store, &events("expired", 2000)).await;
    tokio::time::advance(LEASE).await;
    claim_all(&store, &events("new", 2000)).await;
    assert!(store.len() < 2200, "{} entries, but at most 2200 were expected", store.len());
}

#[tokio::test(start_paused = true)]
async fn expired_claims_use_capacity_in_their_grace() {
    const GRACE: Duration = Duration::from_secs(100);
    let store = MemoryStore::new().capacity(50);
    let held = events("held", 50);
    for claim in &held {
        let terms = ClaimTerms { lease: LEASE, grace: GRACE };
        assert_eq!(store.claim(claim, &terms).await.unwrap(), ClaimOutcome::Claimed);
    }
    tokio::time::advance(LEASE).await;
    let next = claim("warung", "next", "body");
    store.claim(&next, &TERMS).await.unwrap_err();
    assert_eq!(store.purge(100).await.unwrap(), 0);
    // Taking over an expired claim needs no capacity.
    claim_all(&store, &events("held", 1)).await;
    assert!(is_done(&store, &held[1]).await, "an expired claim was evicted");
    tokio::time::advance(GRACE).await;
    // All entries except `held-1`, which is done, have expired.
    assert_eq!(store.purge(100).await.unwrap(), 49);
    claim_all(&store, &[next]).await;
    assert_eq!((store.len(), store.evicted()), (2, 0));
}

#[test]
fn threads_never_exceed_the_capacity() {
    let store = MemoryStore::new().capacity(64);
    let run = |kind: String| {
        let store = store.clone();
        move || {
            for claim in events(&kind, 2000) {
                let outcome = output(store.claim(&claim, &TERMS)).unwrap();
                assert_eq!(outcome, ClaimOutcome::Claimed);
                assert!(store.len() <= 64);
                assert!(output(store.complete(&claim, RETENTION)).unwrap(), "a claim in flight was evicted");
            }
        }
    };
    let threads: Vec<_> = (0..4).map(|n| thread::spawn(run(format!("thread-{n}")))).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!((store.len(), store.evicted()), (64, 4 * 2000 - 64));
}

/// Returns the output of a store's future, which is ready at its first poll even outside of a runtime.
fn output<T>(future: impl Future<Output = T>) -> T {
    futures_util::FutureExt::now_or_never(future).expect("ready at once")
}

#[tokio::test(start_paused = true)]
async fn time_of_claim_follows_the_wall_clock() {
    let store = MemoryStore::new();
    let start = SystemTime::now();
    claim_all(&store, &events("evt", 1)).await;
    let end = SystemTime::now();
    // Only the wall clock advances.
    while SystemTime::now() <= end {
        thread::yield_now();
    }
    let just_after = end + Duration::from_nanos(1);
    assert_eq!(store.forget(&(just_after..SystemTime::now() + LEASE).into()).await.unwrap(), 0);
    assert_eq!(store.forget(&(start..just_after).into()).await.unwrap(), 1);
}

#[test]
#[should_panic = "the capacity of a memory store"]
fn zero_capacity_panics() {
    let _ = MemoryStore::new().capacity(0);
}
