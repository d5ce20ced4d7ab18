//! Tests of forgetting entries, so that deliveries are handled again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::aio::MultiplexedConnection;
use tower_klikit::dedupe::{ClaimOutcome, ClaimTerms, EventKey, Ledger, LedgerAdmin};
use tower_klikit_redis::RedisStore;

use crate::{
    servers::redis as servers,
    support::{LEASE, OVER, RETENTION, TERMS, claim, conflict, done, handle, name, raw, renew, run, store},
};

#[tokio::test]
async fn forgets_an_event_with_its_conflicts() {
    let Some(redis) = servers::any() else { return };
    let store = store(&redis).await;
    handle(&store, &claim(1, 1)).await;
    handle(&store, &conflict(10, 1, 2)).await;
    store.claim(&conflict(11, 1, 3), &TERMS).await.unwrap();
    handle(&store, &claim(2, 4)).await;
    handle(&store, &conflict(20, 2, 5)).await;

    assert_eq!(store.forget(&claim(1, 0).event().into()).await.unwrap(), 3);
    assert_eq!(store.forget(&claim(1, 0).event().into()).await.unwrap(), 0);
    assert!(!store.complete(&conflict(11, 1, 3), RETENTION).await.unwrap());
    for again in [claim(1, 9), conflict(10, 1, 9), conflict(11, 1, 9)] {
        assert_eq!(store.claim(&again, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    }
    assert_eq!(store.claim(&claim(2, 9), &TERMS).await.unwrap(), done(2));
    assert_eq!(store.claim(&conflict(20, 2, 9), &TERMS).await.unwrap(), done(20));
}

#[tokio::test]
async fn counts_only_entries_of_the_event() {
    let Some(redis) = servers::any() else { return };
    let store = store(&redis).await;
    // The set of event 1 may still contain entries that were released, or that expired and were claimed for another
    // event.
    store.claim(&conflict(10, 1, 1), &TERMS).await.unwrap();
    store.release(&conflict(10, 1, 1)).await.unwrap();
    store.claim(&conflict(11, 1, 1), &OVER).await.unwrap();
    while store.claim(&conflict(11, 2, 2), &TERMS).await.unwrap() != ClaimOutcome::Claimed {}
    assert!(store.complete(&conflict(11, 2, 2), RETENTION).await.unwrap());
    // This entry under the key of event 1 belongs to event 3.
    handle(&store, &conflict(1, 3, 1)).await;

    assert_eq!(store.forget(&claim(1, 0).event().into()).await.unwrap(), 0);
    assert_eq!(store.claim(&conflict(11, 2, 9), &TERMS).await.unwrap(), done(11));
    assert_eq!(store.claim(&conflict(1, 3, 9), &TERMS).await.unwrap(), done(1));
    assert_eq!(store.forget(&claim(2, 0).event().into()).await.unwrap(), 1);
    assert_eq!(store.forget(&claim(3, 0).event().into()).await.unwrap(), 1);
}

#[tokio::test]
async fn set_lives_as_long_as_its_longest_conflict() {
    let Some(redis) = servers::any() else { return };
    let store = store(&redis).await;
    let mut raw = raw(&redis.url).await;
    let set = [redis.prefix.as_bytes(), b"\0", claim(1, 0).event().as_bytes()].concat();
    let time_to_live = async |raw: &mut MultiplexedConnection, key: &[u8]| -> i64 {
        redis::cmd("PTTL").arg(key).query_async(raw).await.unwrap()
    };
    let half = |time: Duration| i64::try_from(time.as_millis() / 2).unwrap();

    store.claim(&conflict(10, 1, 1), &TERMS).await.unwrap();
    assert!(time_to_live(&mut raw, &set).await > half(LEASE));
    assert!(renew(&store, &conflict(10, 1, 1), &ClaimTerms { lease: 2 * LEASE, ..TERMS }).await);
    assert!(time_to_live(&mut raw, &set).await > half(2 * LEASE));
    assert!(renew(&store, &conflict(10, 1, 1), &ClaimTerms { grace: 4 * LEASE, ..TERMS }).await);
    assert!(time_to_live(&mut raw, &set).await > half(4 * LEASE));
    assert!(store.complete(&conflict(10, 1, 1), RETENTION).await.unwrap());
    assert!(time_to_live(&mut raw, &set).await > half(RETENTION));
    store.claim(&conflict(11, 1, 1), &TERMS).await.unwrap();
    assert!(time_to_live(&mut raw, &set).await > half(RETENTION));
}

/// Reads the server's clock.
async fn now(raw: &mut MultiplexedConnection) -> SystemTime {
    let (seconds, micros): (u64, u64) = run(raw, "TIME").await;
    UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros)
}

#[tokio::test]
async fn forgets_a_window_of_time() {
    // More than one batch.
    const EACH: u64 = 1500;
    let Some(redis) = servers::any() else { return };
    let store = store(&redis).await;
    let mut raw = raw(&redis.url).await;
    let mut times = Vec::new();
    for part in 0..3 {
        times.push(now(&mut raw).await);
        for event in part * EACH..(part + 1) * EACH {
            store.claim(&claim(event, 1), &TERMS).await.unwrap();
        }
        store.claim(&conflict(10_000 + part, 1, 1), &TERMS).await.unwrap();
    }
    // Completing an entry later does not move it into a later window.
    for event in 0..EACH {
        assert!(store.complete(&claim(event, 1), RETENTION).await.unwrap());
    }

    assert_eq!(store.forget(&(times[2]..times[1]).into()).await.unwrap(), 0);
    assert_eq!(store.forget(&(UNIX_EPOCH..times[0]).into()).await.unwrap(), 0);
    let middle = (times[1]..times[2]).into();
    let mut keys: Vec<EventKey> = Vec::new();
    for page in [1000, 501] {
        let listed = store.entries(&middle, keys.last().copied(), 1000).await.unwrap();
        assert_eq!(listed.len(), page);
        keys.extend(listed.into_iter().map(|entry| entry.key));
    }
    let mut expected: Vec<_> = (EACH..2 * EACH).map(|event| *claim(event, 1).key()).collect();
    expected.push(*conflict(10_001, 1, 1).key());
    expected.sort_unstable();
    assert!(keys == expected, "the pages have all entries, in the order of their keys");
    assert_eq!(store.forget(&middle).await.unwrap(), EACH + 1);
    assert_eq!(store.forget(&(times[1]..times[2]).into()).await.unwrap(), 0);
    assert_eq!(store.claim(&claim(0, 9), &TERMS).await.unwrap(), done(0));
    assert_eq!(store.claim(&claim(EACH, 9), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    assert!(matches!(store.claim(&claim(2 * EACH, 9), &TERMS).await.unwrap(), ClaimOutcome::InFlight { .. }));
    let end = UNIX_EPOCH + Duration::from_secs(1 << 40);
    assert_eq!(store.forget(&(UNIX_EPOCH..end).into()).await.unwrap(), 2 * EACH + 3);
}

#[tokio::test]
async fn window_bounds_are_exact() {
    let Some(redis) = servers::any() else { return };
    let store = store(&redis).await;
    let mut raw = raw(&redis.url).await;
    handle(&store, &claim(1, 1)).await;
    let value: Vec<u8> = redis::cmd("GET").arg(name(&redis.prefix, 1)).query_async(&mut raw).await.unwrap();
    let at = UNIX_EPOCH + Duration::from_micros(u64::from_be_bytes(value[1..9].try_into().unwrap()));
    let micro = Duration::from_micros(1);
    assert_eq!(store.forget(&(at - micro..at).into()).await.unwrap(), 0);
    assert_eq!(store.forget(&(at + micro..at + 2 * micro).into()).await.unwrap(), 0);
    assert_eq!(store.forget(&(at..at + micro).into()).await.unwrap(), 1);
}

/// Some prefixes are the beginning of other prefixes, and some would match other prefixes as glob patterns.
#[tokio::test]
async fn other_prefixes_are_left_alone() {
    let Some(redis) = servers::any() else { return };
    let mut stores = Vec::new();
    for end in ["", "a", "ab", "*", "[a-z]", "?", "\\"] {
        let prefix = format!("{}{end}", redis.prefix);
        stores.push(RedisStore::builder().key_prefix(prefix).open(&redis.url).await.unwrap());
    }
    for store in &stores {
        handle(store, &claim(1, 1)).await;
        handle(store, &conflict(10, 1, 1)).await;
    }
    let always = UNIX_EPOCH..UNIX_EPOCH + Duration::from_secs(1 << 40);
    for (n, store) in stores.iter().enumerate() {
        for other in &stores[n..] {
            assert_eq!(other.claim(&claim(1, 2), &TERMS).await.unwrap(), done(1));
        }
        if n % 2 == 0 {
            assert_eq!(store.forget(&always.clone().into()).await.unwrap(), 2);
        } else {
            assert_eq!(store.forget(&claim(1, 1).event().into()).await.unwrap(), 2);
        }
    }
}

/// The handler of a forgotten delivery may still be running, and may succeed.
#[tokio::test]
async fn forgotten_claim_stays_forgotten() {
    let Some(redis) = servers::any() else { return };
    let store = store(&redis).await;
    let mut raw = raw(&redis.url).await;
    let expires = ClaimTerms { lease: Duration::from_millis(1), grace: LEASE };
    let always = UNIX_EPOCH..UNIX_EPOCH + Duration::from_secs(1 << 40);
    for (event, terms) in [(1, TERMS), (2, expires), (3, expires)] {
        let (first, second) = (claim(event, 1), claim(event, 2));
        assert_eq!(store.claim(&first, &terms).await.unwrap(), ClaimOutcome::Claimed);
        if terms == expires {
            let grace = i64::try_from(terms.grace.as_millis()).unwrap();
            let key = name(&redis.prefix, event);
            while redis::cmd("PTTL").arg(&key).query_async::<i64>(&mut raw).await.unwrap() > grace {}
        }
        // During its grace, an expired claim is still forgotten and counted.
        let forgotten = match event {
            3 => store.forget(&always.clone().into()).await.unwrap(),
            _ => store.forget(&first.event().into()).await.unwrap(),
        };
        assert_eq!(forgotten, 1, "{event}");
        assert!(!store.complete(&first, RETENTION).await.unwrap());
        assert!(!renew(&store, &first, &TERMS).await);
        assert_eq!(store.claim(&second, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
        assert!(!store.complete(&first, RETENTION).await.unwrap());
        store.release(&second).await.unwrap();
    }
}
