//! What the memory store does when it is full, and on which clock it lives.

use std::{
    slice, thread,
    time::{Duration, SystemTime},
};

use tower_klikit::{
    dedupe::{Claim, ClaimOutcome, Ledger},
    store::MemoryStore,
    testing::ledger::claim,
};

const LEASE: Duration = Duration::from_secs(25);
const RETENTION: Duration = Duration::from_secs(3600);

fn events(kind: &str, how_many: usize) -> Vec<Claim> {
    (0..how_many).map(|n| claim("warung", &format!("{kind}-{n}"), "body")).collect()
}

async fn hold(store: &MemoryStore, claims: &[Claim]) {
    for claim in claims {
        assert_eq!(store.claim(claim, LEASE).await.unwrap(), ClaimOutcome::Claimed);
    }
}

async fn finish(store: &MemoryStore, claims: &[Claim]) {
    hold(store, claims).await;
    for claim in claims {
        assert!(store.complete(claim, RETENTION).await.unwrap());
    }
}

async fn is_done(store: &MemoryStore, claim: &Claim) -> bool {
    store.complete(claim, RETENTION).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_full_store_forgets_what_was_completed_longest_ago_and_no_claim() {
    let store = MemoryStore::new().capacity(100);
    let held = events("held", 20);
    hold(&store, &held).await;
    let done = events("done", 80);
    hold(&store, &done).await;
    // In another order than they were claimed in, and all at one instant of the clock.
    for claim in done.iter().rev() {
        assert!(store.complete(claim, RETENTION).await.unwrap());
    }
    assert_eq!((store.len(), store.evicted()), (100, 0));

    finish(&store, &events("new", 30)).await;
    assert_eq!((store.len(), store.evicted()), (100, 30));
    for (n, claim) in done.iter().rev().enumerate() {
        assert_eq!(is_done(&store, claim).await, n >= 30, "number {n} to be completed");
    }
    for claim in &held {
        assert!(store.renew(claim, LEASE).await.unwrap(), "a claim in flight was evicted");
    }
}

#[tokio::test(start_paused = true)]
async fn a_longer_retention_does_not_keep_what_is_older() {
    let store = MemoryStore::new().capacity(2);
    let claims = events("evt", 3);
    hold(&store, &claims[..2]).await;
    store.complete(&claims[0], 10 * RETENTION).await.unwrap();
    store.complete(&claims[1], RETENTION).await.unwrap();
    hold(&store, &claims[2..]).await;
    assert!(!is_done(&store, &claims[0]).await);
    assert!(is_done(&store, &claims[1]).await);
}

#[tokio::test(start_paused = true)]
async fn what_is_up_goes_before_what_is_remembered() {
    let store = MemoryStore::new().capacity(100);
    let done = events("done", 60);
    finish(&store, &done).await;
    hold(&store, &events("lapsed", 40)).await;
    tokio::time::advance(LEASE).await;
    finish(&store, &events("new", 40)).await;
    assert_eq!(store.evicted(), 0);
    for claim in &done {
        assert!(is_done(&store, claim).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_full_of_claims_refuses_the_next_and_recovers() {
    let store = MemoryStore::new().capacity(50);
    let held = events("held", 50);
    hold(&store, &held).await;
    let next = claim("warung", "next", "body");
    let error = store.claim(&next, LEASE).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "the memory store is full: it has room for 50 entries, and may forget none of them");
    // What is there needs no room.
    assert_eq!(store.claim(&held[0], LEASE).await.unwrap(), ClaimOutcome::Claimed);
    store.claim(&claim("warung", "held-1", "body"), LEASE).await.unwrap();

    store.release(&held[7]).await.unwrap();
    hold(&store, &[next]).await;
    store.claim(&claim("warung", "another", "body"), LEASE).await.unwrap_err();
    tokio::time::advance(LEASE).await;
    assert!(!store.renew(&held[0], LEASE).await.unwrap(), "a lease lasts until its end, and not at its end");
    hold(&store, &events("later", 50)).await;
    assert_eq!((store.len(), store.evicted()), (50, 0));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_when_full_forgets_nothing() {
    let store = MemoryStore::new().capacity(50).refuse_when_full();
    let done = events("done", 50);
    finish(&store, &done).await;
    let next = claim("warung", "next", "body");
    store.claim(&next, LEASE).await.unwrap_err();
    let copy = store.claim(&claim("warung", "done-0", "body"), LEASE).await.unwrap();
    assert_eq!(copy, ClaimOutcome::Done { digest: *done[0].digest() });
    for claim in &done {
        assert!(is_done(&store, claim).await);
    }
    assert_eq!(store.evicted(), 0);
    tokio::time::advance(RETENTION).await;
    hold(&store, &[next]).await;
}

#[tokio::test(start_paused = true)]
async fn every_way_to_forget_gives_room_back() {
    let store = MemoryStore::new().capacity(8).refuse_when_full();
    for _ in 0..3 {
        let claims = events("evt", 8);
        finish(&store, &claims[..4]).await;
        hold(&store, &claims[4..]).await;
        assert_eq!(store.forget(claims[0].event()).await.unwrap(), 1);
        store.release(&claims[7]).await.unwrap();
        assert_eq!(store.len(), 6);
        let all = SystemTime::UNIX_EPOCH..SystemTime::now() + RETENTION;
        assert_eq!(store.forget_claimed(all).await.unwrap(), 6);
        assert!(store.is_empty());
    }
    hold(&store, &events("evt", 8)).await;
    tokio::time::advance(LEASE).await;
    assert_eq!(store.purge(5).await.unwrap(), 5);
    assert_eq!(store.purge(5).await.unwrap(), 3);
    assert!(store.is_empty());
}

/// Each goes at its own time, whatever was completed before it, and whatever of that is gone.
#[tokio::test(start_paused = true)]
async fn what_has_other_retentions_goes_in_time() {
    const MINUTE: Duration = Duration::from_secs(60);
    let store = MemoryStore::new();
    let claims = events("evt", 500);
    let minutes = |n: usize| u32::try_from(n * 37 % 50 + 1).unwrap();
    for (n, claim) in claims.iter().enumerate() {
        hold(&store, slice::from_ref(claim)).await;
        assert!(store.complete(claim, minutes(n) * MINUTE).await.unwrap());
    }
    let is_forgotten = |n: usize| n < 20 || n.is_multiple_of(3);
    for (n, claim) in claims.iter().enumerate() {
        assert_eq!(store.forget(claim.event()).await.unwrap(), 1);
        if !is_forgotten(n) {
            hold(&store, slice::from_ref(claim)).await;
            assert!(store.complete(claim, minutes(n) * MINUTE).await.unwrap());
        }
    }
    for minute in 1..=50 {
        tokio::time::advance(MINUTE).await;
        let up = (0..claims.len()).filter(|&n| !is_forgotten(n) && minutes(n) == minute).count();
        assert_eq!(store.purge(u32::MAX).await.unwrap(), up as u64, "after {minute} minutes");
    }
    assert!(store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn claims_clear_away_what_is_up() {
    let store = MemoryStore::new();
    hold(&store, &events("lapsed", 2000)).await;
    tokio::time::advance(LEASE).await;
    hold(&store, &events("new", 2000)).await;
    assert!(store.len() < 2200, "{} entries, of which 2000 are up", store.len());
}

#[test]
fn threads_that_fill_a_store_at_once_never_go_beyond_its_room() {
    let store = MemoryStore::new().capacity(64);
    let run = |kind: String| {
        let store = store.clone();
        move || {
            for claim in events(&kind, 2000) {
                let outcome = now(store.claim(&claim, LEASE)).unwrap();
                assert_eq!(outcome, ClaimOutcome::Claimed);
                assert!(store.len() <= 64);
                assert!(now(store.complete(&claim, RETENTION)).unwrap(), "a claim in flight was evicted");
            }
        }
    };
    let threads: Vec<_> = (0..4).map(|n| thread::spawn(run(format!("thread-{n}")))).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!((store.len(), store.evicted()), (64, 4 * 2000 - 64));
}

/// Its futures are ready at once, also outside of any runtime.
fn now<T>(future: impl Future<Output = T>) -> T {
    futures_util::FutureExt::now_or_never(future).expect("ready at once")
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_stands_still_keeps_the_time_of_day_of_a_claim() {
    let store = MemoryStore::new();
    let start = SystemTime::now();
    hold(&store, &events("evt", 1)).await;
    let end = SystemTime::now();
    // Only the wall clock goes on.
    while SystemTime::now() <= end {
        thread::yield_now();
    }
    let just_after = end + Duration::from_nanos(1);
    assert_eq!(store.forget_claimed(just_after..SystemTime::now() + LEASE).await.unwrap(), 0);
    assert_eq!(store.forget_claimed(start..just_after).await.unwrap(), 1);
}

#[test]
#[should_panic = "a store with no room"]
fn a_store_without_room_is_a_mistake() {
    let _ = MemoryStore::new().capacity(0);
}
