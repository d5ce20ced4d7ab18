//! An operator's "process it again".

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::aio::MultiplexedConnection;
use tower_klikit::dedupe::{ClaimOutcome, Ledger};

use crate::{
    servers::redis as servers,
    support::{LEASE, RETENTION, claim, conflict, done, handle, name, raw, run, store},
};

#[tokio::test]
async fn an_event_is_forgotten_with_its_conflicts() {
    let Some(redis) = servers::any() else { return };
    let store = store(&redis).await;
    handle(&store, &claim(1, 1)).await;
    handle(&store, &conflict(10, 1, 2)).await;
    store.claim(&conflict(11, 1, 3), LEASE).await.unwrap();
    handle(&store, &claim(2, 4)).await;
    handle(&store, &conflict(20, 2, 5)).await;

    assert_eq!(store.forget(claim(1, 0).event()).await.unwrap(), 3);
    assert_eq!(store.forget(claim(1, 0).event()).await.unwrap(), 0);
    assert!(!store.complete(&conflict(11, 1, 3), RETENTION).await.unwrap());
    for again in [claim(1, 9), conflict(10, 1, 9), conflict(11, 1, 9)] {
        assert_eq!(store.claim(&again, LEASE).await.unwrap(), ClaimOutcome::Claimed);
    }
    assert_eq!(store.claim(&claim(2, 9), LEASE).await.unwrap(), done(2));
    assert_eq!(store.claim(&conflict(20, 2, 9), LEASE).await.unwrap(), done(20));
}

#[tokio::test]
async fn only_what_is_there_under_the_event_is_counted() {
    let Some(redis) = servers::any() else { return };
    let store = store(&redis).await;
    // Released, run out, and claimed since by another event: the set of event 1 may still name them.
    store.claim(&conflict(10, 1, 1), LEASE).await.unwrap();
    store.release(&conflict(10, 1, 1)).await.unwrap();
    store.claim(&conflict(11, 1, 1), Duration::from_millis(1)).await.unwrap();
    while store.claim(&conflict(11, 2, 2), LEASE).await.unwrap() != ClaimOutcome::Claimed {}
    assert!(store.complete(&conflict(11, 2, 2), RETENTION).await.unwrap());
    // An entry under that key that is another event's.
    handle(&store, &conflict(1, 3, 1)).await;

    assert_eq!(store.forget(claim(1, 0).event()).await.unwrap(), 0);
    assert_eq!(store.claim(&conflict(11, 2, 9), LEASE).await.unwrap(), done(11));
    assert_eq!(store.claim(&conflict(1, 3, 9), LEASE).await.unwrap(), done(1));
    assert_eq!(store.forget(claim(2, 0).event()).await.unwrap(), 1);
    assert_eq!(store.forget(claim(3, 0).event()).await.unwrap(), 1);
}

/// The set must live as long as the longest of its entries.
#[tokio::test]
async fn a_conflict_is_found_as_long_as_it_lasts() {
    let Some(redis) = servers::any() else { return };
    let store = store(&redis).await;
    let mut raw = raw(&redis.url).await;
    let set = [redis.prefix.as_bytes(), b"\0", claim(1, 0).event().as_bytes()].concat();
    let lasts = async |raw: &mut MultiplexedConnection, key: &[u8]| -> i64 {
        redis::cmd("PTTL").arg(key).query_async(raw).await.unwrap()
    };
    let half = |time: Duration| i64::try_from(time.as_millis() / 2).unwrap();

    store.claim(&conflict(10, 1, 1), LEASE).await.unwrap();
    assert!(lasts(&mut raw, &set).await > half(LEASE));
    assert!(store.renew(&conflict(10, 1, 1), 2 * LEASE).await.unwrap());
    assert!(lasts(&mut raw, &set).await > half(2 * LEASE));
    assert!(store.complete(&conflict(10, 1, 1), RETENTION).await.unwrap());
    assert!(lasts(&mut raw, &set).await > half(RETENTION));
    store.claim(&conflict(11, 1, 1), LEASE).await.unwrap();
    assert!(lasts(&mut raw, &set).await > half(RETENTION));
}

/// The server's clock.
async fn now(raw: &mut MultiplexedConnection) -> SystemTime {
    let (seconds, micros): (u64, u64) = run(raw, "TIME").await;
    UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros)
}

#[tokio::test]
async fn a_window_of_time_is_forgotten() {
    // More than one slice.
    const EACH: u64 = 1500;
    let Some(redis) = servers::any() else { return };
    let store = store(&redis).await;
    let mut raw = raw(&redis.url).await;
    let mut times = Vec::new();
    for part in 0..3 {
        times.push(now(&mut raw).await);
        for event in part * EACH..(part + 1) * EACH {
            store.claim(&claim(event, 1), LEASE).await.unwrap();
        }
        store.claim(&conflict(10_000 + part, 1, 1), LEASE).await.unwrap();
    }
    // The time that counts is that of the claim.
    for event in 0..EACH {
        assert!(store.complete(&claim(event, 1), RETENTION).await.unwrap());
    }

    assert_eq!(store.forget_claimed(times[2]..times[1]).await.unwrap(), 0);
    assert_eq!(store.forget_claimed(UNIX_EPOCH..times[0]).await.unwrap(), 0);
    assert_eq!(store.forget_claimed(times[1]..times[2]).await.unwrap(), EACH + 1);
    assert_eq!(store.forget_claimed(times[1]..times[2]).await.unwrap(), 0);
    assert_eq!(store.claim(&claim(0, 9), LEASE).await.unwrap(), done(0));
    assert_eq!(store.claim(&claim(EACH, 9), LEASE).await.unwrap(), ClaimOutcome::Claimed);
    assert!(matches!(store.claim(&claim(2 * EACH, 9), LEASE).await.unwrap(), ClaimOutcome::InFlight { .. }));
    let end = UNIX_EPOCH + Duration::from_secs(1 << 40);
    assert_eq!(store.forget_claimed(UNIX_EPOCH..end).await.unwrap(), 2 * EACH + 3);
}

#[tokio::test]
async fn the_bounds_of_a_window_are_exact() {
    let Some(redis) = servers::any() else { return };
    let store = store(&redis).await;
    let mut raw = raw(&redis.url).await;
    handle(&store, &claim(1, 1)).await;
    let value: Vec<u8> = redis::cmd("GET").arg(name(&redis.prefix, 1)).query_async(&mut raw).await.unwrap();
    let at = UNIX_EPOCH + Duration::from_micros(u64::from_be_bytes(value[1..9].try_into().unwrap()));
    let micro = Duration::from_micros(1);
    assert_eq!(store.forget_claimed(at - micro..at).await.unwrap(), 0);
    assert_eq!(store.forget_claimed(at + micro..at + 2 * micro).await.unwrap(), 0);
    assert_eq!(store.forget_claimed(at..at + micro).await.unwrap(), 1);
}

/// Prefixes of which one begins another, and that would match others as patterns.
#[tokio::test]
async fn ledgers_with_other_prefixes_are_left_alone() {
    let Some(redis) = servers::any() else { return };
    let base = store(&redis).await;
    let prefix = |end: &str| format!("{}{end}", redis.prefix);
    let stores = ["", "a", "ab", "*", "[a-z]", "?", "\\"].map(|end| base.clone().with_prefix(prefix(end)));
    for store in &stores {
        handle(store, &claim(1, 1)).await;
        handle(store, &conflict(10, 1, 1)).await;
    }
    let always = UNIX_EPOCH..UNIX_EPOCH + Duration::from_secs(1 << 40);
    for (n, store) in stores.iter().enumerate() {
        for other in &stores[n..] {
            assert_eq!(other.claim(&claim(1, 2), LEASE).await.unwrap(), done(1));
        }
        if n % 2 == 0 {
            assert_eq!(store.forget_claimed(always.clone()).await.unwrap(), 2);
        } else {
            assert_eq!(store.forget(claim(1, 1).event()).await.unwrap(), 2);
        }
    }
}
