//! Tests of claims: concurrency, expiry, foreign values, round trips and memory.

use std::{collections::BTreeMap, time::Duration};

use redis::aio::MultiplexedConnection;
use tower_klikit::dedupe::{ClaimOutcome, ClaimTerms, Ledger, LedgerAdmin};
use tower_klikit_redis::RedisStore;

use crate::{
    servers::redis as servers,
    support::{
        LEASE, OVER, RETENTION, TERMS, claim, command_counts, conflict, digest, done, handle, name, raw, renew, run,
        store,
    },
};

/// Terms with a short lease and a long grace.
const EXPIRES: ClaimTerms = ClaimTerms { lease: Duration::from_millis(1), grace: LEASE };

/// Waits until the lease of a claim with these terms has expired.
async fn wait_for_expiry(raw: &mut MultiplexedConnection, key: &[u8]) {
    let grace = i64::try_from(EXPIRES.grace.as_millis()).unwrap();
    let left = loop {
        match redis::cmd("PTTL").arg(key).query_async::<i64>(raw).await.unwrap() {
            left if left > grace => {}
            left => break left,
        }
    };
    assert!(left > grace / 2, "the key must live for its grace, but expires in {left} ms");
}

async fn value(raw: &mut MultiplexedConnection, key: &[u8]) -> Vec<u8> {
    redis::cmd("GET").arg(key).query_async(raw).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_64_claims_from_two_nodes_succeeds() {
    let Some(redis) = servers::any() else { return };
    let nodes = [store(&redis).await, store(&redis).await];
    for event in 0..50 {
        let claims = (0..64)
            .zip(nodes.iter().cycle().cloned())
            .map(|(n, node)| tokio::spawn(async move { node.claim(&claim(event, n), &TERMS).await.unwrap() }));
        let mut claimed = 0;
        for outcome in claims.collect::<Vec<_>>() {
            match outcome.await.unwrap() {
                ClaimOutcome::Claimed => claimed += 1,
                ClaimOutcome::InFlight { digest: found, remaining } => {
                    assert_eq!(found, digest(event));
                    assert!(remaining <= LEASE && remaining > LEASE / 2, "{remaining:?}");
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(claimed, 1);
    }
}

#[tokio::test]
async fn entry_goes_through_all_its_states() {
    let Some(redis) = servers::any() else { return };
    let store = store(&redis).await;
    let (ours, theirs) = (claim(1, 1), claim(1, 2));

    assert_eq!(store.claim(&ours, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    assert_eq!(store.claim(&ours, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    assert!(matches!(store.claim(&theirs, &TERMS).await.unwrap(), ClaimOutcome::InFlight { .. }));
    assert!(!store.complete(&theirs, RETENTION).await.unwrap());
    assert!(!renew(&store, &theirs, &TERMS).await);
    store.release(&theirs).await.unwrap();
    assert!(matches!(store.claim(&theirs, &TERMS).await.unwrap(), ClaimOutcome::InFlight { .. }));

    store.release(&ours).await.unwrap();
    assert!(!store.complete(&ours, RETENTION).await.unwrap());
    assert!(!renew(&store, &ours, &TERMS).await);
    assert_eq!(store.claim(&theirs, &TERMS).await.unwrap(), ClaimOutcome::Claimed);

    assert!(renew(&store, &theirs, &ClaimTerms { lease: 2 * LEASE, ..TERMS }).await);
    let ClaimOutcome::InFlight { remaining, .. } = store.claim(&ours, &TERMS).await.unwrap() else { panic!() };
    assert!(remaining > LEASE && remaining <= 2 * LEASE, "{remaining:?}");

    assert!(store.complete(&theirs, RETENTION).await.unwrap());
    assert!(store.complete(&theirs, RETENTION).await.unwrap());
    assert!(!store.complete(&ours, RETENTION).await.unwrap());
    assert!(!renew(&store, &theirs, &TERMS).await);
    store.release(&theirs).await.unwrap();
    assert_eq!(store.claim(&ours, &TERMS).await.unwrap(), done(1));
    assert_eq!(store.claim(&theirs, &TERMS).await.unwrap(), done(1));
    assert_eq!(store.purge(100).await.unwrap(), 0);
}

#[tokio::test]
async fn expired_token_cannot_change_the_entry() {
    let Some(redis) = servers::any() else { return };
    let store = store(&redis).await;
    let (first, second) = (claim(1, 1), claim(1, 2));
    assert_eq!(store.claim(&first, &OVER).await.unwrap(), ClaimOutcome::Claimed);
    while store.claim(&second, &TERMS).await.unwrap() != ClaimOutcome::Claimed {}
    assert!(!store.complete(&first, RETENTION).await.unwrap());
    assert!(!renew(&store, &first, &TERMS).await);
    store.release(&first).await.unwrap();
    assert!(store.complete(&second, Duration::from_millis(1)).await.unwrap());
    // A token whose retention has expired cannot change the entry either.
    while store.claim(&first, &TERMS).await.unwrap() != ClaimOutcome::Claimed {}
    assert!(!store.complete(&second, RETENTION).await.unwrap());
}

#[tokio::test]
async fn expired_claim_is_valid_during_its_grace() {
    let Some(redis) = servers::any() else { return };
    let store = store(&redis).await;
    let mut raw = raw(&redis.url).await;
    for event in 1..=4 {
        assert_eq!(store.claim(&claim(event, 1), &EXPIRES).await.unwrap(), ClaimOutcome::Claimed);
        wait_for_expiry(&mut raw, &name(&redis.prefix, event)).await;
    }
    assert!(store.complete(&claim(1, 1), RETENTION).await.unwrap());
    assert_eq!(store.claim(&claim(1, 2), &TERMS).await.unwrap(), done(1));

    assert!(renew(&store, &claim(2, 1), &TERMS).await);
    assert_eq!(store.claim(&claim(3, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    for event in [2, 3] {
        let outcome = store.claim(&claim(event, 2), &TERMS).await.unwrap();
        assert!(matches!(outcome, ClaimOutcome::InFlight { remaining, .. } if remaining > LEASE / 2), "{outcome:?}");
    }

    store.release(&claim(4, 1)).await.unwrap();
    assert!(!store.complete(&claim(4, 1), RETENTION).await.unwrap());
}

#[tokio::test]
async fn expired_claim_can_be_taken_over() {
    let Some(redis) = servers::any() else { return };
    let store = store(&redis).await;
    let mut raw = raw(&redis.url).await;
    // Test a conflict too, since its entry has another format.
    for (first, second) in [(claim(1, 1), claim(1, 2)), (conflict(2, 1, 1), conflict(2, 1, 2))] {
        let key = [redis.prefix.as_bytes(), first.key().as_bytes()].concat();
        assert_eq!(store.claim(&first, &EXPIRES).await.unwrap(), ClaimOutcome::Claimed);
        wait_for_expiry(&mut raw, &key).await;
        let before = value(&mut raw, &key).await;
        assert_eq!(store.claim(&second, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
        assert!(value(&mut raw, &key).await[1..9] > before[1..9], "the entry must record the time of the new claim");

        assert!(!store.complete(&first, RETENTION).await.unwrap());
        assert!(!renew(&store, &first, &TERMS).await);
        store.release(&first).await.unwrap();
        let outcome = store.claim(&first, &TERMS).await.unwrap();
        assert!(matches!(outcome, ClaimOutcome::InFlight { .. }), "{outcome:?}");
        assert!(store.complete(&second, RETENTION).await.unwrap());
    }
    assert_eq!(store.forget(&claim(1, 0).event().into()).await.unwrap(), 2);
}

#[tokio::test]
async fn claiming_again_keeps_the_time_of_the_claim() {
    let Some(redis) = servers::any() else { return };
    let store = store(&redis).await;
    let mut raw = raw(&redis.url).await;
    let key = name(&redis.prefix, 1);
    store.claim(&claim(1, 1), &EXPIRES).await.unwrap();
    let before = value(&mut raw, &key).await;
    // Test changed terms too, since they rewrite the entry.
    for terms in [EXPIRES, TERMS] {
        wait_for_expiry(&mut raw, &key).await;
        assert_eq!(store.claim(&claim(1, 1), &terms).await.unwrap(), ClaimOutcome::Claimed);
        assert_eq!(value(&mut raw, &key).await[..57], before[..57]);
    }
}

#[tokio::test]
async fn renews_many_claims_in_one_call() {
    // The claims take more than one batch.
    const CLAIMS: u64 = 2500;
    let Some(redis) = servers::any() else { return };
    let store = store(&redis).await;
    // The first of three claims has another token, the second is done, and the third is a conflict that can be
    // renewed.
    let claims: Vec<_> = (0..CLAIMS)
        .map(|n| if n % 3 == 2 { conflict(n, n + CLAIMS, 1) } else { claim(n, 1 + u64::from(n % 3 == 0)) })
        .collect();
    for n in 0..CLAIMS {
        match n % 3 {
            0 => assert_eq!(store.claim(&claim(n, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed),
            1 => handle(&store, &claim(n, 1)).await,
            _ => assert_eq!(store.claim(&conflict(n, n + CLAIMS, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed),
        }
    }
    let terms = ClaimTerms { lease: 2 * LEASE, grace: 2 * TERMS.grace };
    let renewed = store.renew(&claims, &terms).await.unwrap();
    assert_eq!(renewed, (0..CLAIMS).map(|n| n % 3 == 2).collect::<Vec<_>>());
    for n in [0, 2, CLAIMS - 1] {
        let (key, event) = (n, if n % 3 == 2 { n + CLAIMS } else { n });
        let outcome = store.claim(&conflict(key, event, 9), &TERMS).await.unwrap();
        let ClaimOutcome::InFlight { remaining, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(remaining > LEASE, n % 3 == 2, "{n}: {remaining:?}");
    }
    assert!(store.renew(&[], &TERMS).await.unwrap().is_empty());
}

#[tokio::test]
async fn each_call_takes_one_round_trip() {
    let Some(server) = servers::own(&[]) else { return };
    let store = RedisStore::open(&server.url()).await.unwrap();
    let mut raw = raw(&server.url()).await;

    // Each call sends one EVALSHA. The other commands are those of the script, and the INFO of this test.
    let expected: [(&str, &[(&str, u64)]); 5] = [
        ("claim", &[("evalsha", 1), ("get", 1), ("info", 1), ("set", 1), ("time", 1)]),
        ("claim again", &[("evalsha", 1), ("get", 1), ("info", 1), ("pttl", 1)]),
        ("renew", &[("evalsha", 1), ("get", 1), ("info", 1), ("pexpire", 1)]),
        ("renew many", &[("evalsha", 1), ("get", 1000), ("info", 1), ("pexpire", 1)]),
        ("complete", &[("evalsha", 1), ("get", 1), ("info", 1), ("set", 1)]),
    ];
    let many: Vec<_> = (1..=1000).map(|event| claim(event, 1)).collect();
    for (call, commands) in expected {
        let before = command_counts(&mut raw).await;
        match call {
            "claim" => assert_eq!(store.claim(&claim(1, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed),
            "claim again" => drop(store.claim(&claim(1, 2), &TERMS).await.unwrap()),
            "renew" => assert!(renew(&store, &claim(1, 1), &TERMS).await),
            "renew many" => drop(store.renew(&many, &TERMS).await.unwrap()),
            _ => assert!(store.complete(&claim(1, 1), RETENTION).await.unwrap()),
        }
        let after = command_counts(&mut raw).await;
        let run: BTreeMap<_, _> = after
            .iter()
            .map(|(command, count)| (command.as_str(), count - before.get(command).unwrap_or(&0)))
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(run, commands.iter().copied().collect(), "{call}");
    }
}

#[tokio::test]
async fn loads_lost_scripts_again() {
    let Some(server) = servers::own(&[]) else { return };
    let store = RedisStore::open(&server.url()).await.unwrap();
    let mut raw = raw(&server.url()).await;
    for event in 0..3 {
        run::<()>(&mut raw, "SCRIPT FLUSH").await;
        handle(&store, &claim(event, 1)).await;
    }
}

#[tokio::test]
async fn foreign_value_under_key_is_an_error() {
    let Some(redis) = servers::any() else { return };
    let store = store(&redis).await;
    let mut raw = raw(&redis.url).await;
    redis::cmd("RPUSH").arg(name(&redis.prefix, 1)).arg("x").exec_async(&mut raw).await.unwrap();
    // Any text, a claimed entry without a grace, entries of other lengths, and an unknown state.
    let texts: [&[u8]; 6] = [b"x", &[b'C'; 57], &[b'C'; 73], &[b'D'; 65], &[b'D'; 81], &[b'E'; 57]];
    for (event, text) in (2..).zip(texts) {
        redis::cmd("SET").arg(name(&redis.prefix, event)).arg(text).exec_async(&mut raw).await.unwrap();
    }
    for event in 1..8 {
        let claim = &claim(event, 1);
        store.claim(claim, &TERMS).await.unwrap_err();
        store.complete(claim, RETENTION).await.unwrap_err();
        store.renew(std::slice::from_ref(claim), &TERMS).await.unwrap_err();
        store.release(claim).await.unwrap_err();
        store.entries(&claim.event().into(), None, 10).await.unwrap_err();
        store.forget(&claim.event().into()).await.unwrap_err();
        let left: bool = redis::cmd("EXISTS").arg(name(&redis.prefix, event)).query_async(&mut raw).await.unwrap();
        assert!(left, "{event}");
    }
    handle(&store, &claim(8, 1)).await;
}

#[tokio::test]
async fn foreign_value_does_not_prevent_other_renewals() {
    let Some(redis) = servers::any() else { return };
    let store = store(&redis).await;
    let mut raw = raw(&redis.url).await;
    redis::cmd("RPUSH").arg(name(&redis.prefix, 2)).arg("x").exec_async(&mut raw).await.unwrap();
    for event in [1, 3] {
        assert_eq!(store.claim(&claim(event, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    }
    let terms = ClaimTerms { lease: 2 * LEASE, ..TERMS };
    store.renew(&[claim(1, 1), claim(2, 1), claim(3, 1)], &terms).await.unwrap_err();
    for event in [1, 3] {
        let outcome = store.claim(&claim(event, 2), &TERMS).await.unwrap();
        assert!(matches!(outcome, ClaimOutcome::InFlight { remaining, .. } if remaining > LEASE), "{outcome:?}");
    }
}

#[tokio::test]
async fn every_key_has_a_time_to_live() {
    let Some(server) = servers::own(&[]) else { return };
    let store = RedisStore::open(&server.url()).await.unwrap();
    let longest = ClaimTerms { lease: Duration::MAX, grace: Duration::MAX };
    let shortest = ClaimTerms { lease: Duration::ZERO, grace: Duration::ZERO };
    handle(&store, &claim(1, 1)).await;
    handle(&store, &conflict(10, 1, 1)).await;
    store.claim(&conflict(11, 1, 1), &TERMS).await.unwrap();
    store.claim(&claim(2, 1), &longest).await.unwrap();
    assert!(renew(&store, &claim(2, 1), &longest).await);
    assert!(store.complete(&claim(2, 1), Duration::MAX).await.unwrap());
    store.claim(&claim(3, 1), &shortest).await.unwrap();
    store.claim(&claim(4, 1), &longest).await.unwrap();

    let mut raw = raw(&server.url()).await;
    let keys: Vec<Vec<u8>> = run(&mut raw, "KEYS *").await;
    assert!(keys.len() >= 6, "{keys:?}");
    for key in keys {
        let left: i64 = redis::cmd("PTTL").arg(key).query_async(&mut raw).await.unwrap();
        assert_ne!(left, -1);
    }
}

#[tokio::test]
async fn delivery_takes_at_most_210_bytes() {
    let Some(server) = servers::own(&[]) else { return };
    let store = RedisStore::open(&server.url()).await.unwrap();
    let mut raw = raw(&server.url()).await;
    let used = async |raw: &mut _| {
        let info: String = run(raw, "INFO memory").await;
        info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().parse::<u64>().unwrap()
    };
    // This number is half way between two sizes of the server's hash tables.
    let count = 12_000;
    let before = used(&mut raw).await;
    for event in 0..count {
        assert_eq!(store.claim(&claim(event, event), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    }
    let claimed = (used(&mut raw).await - before) / count;
    for event in 0..count {
        assert!(store.complete(&claim(event, event), RETENTION).await.unwrap());
    }
    let done = (used(&mut raw).await - before) / count;
    println!("{claimed} bytes per claimed delivery, {done} bytes per done delivery");
    assert!(done <= 210, "{done} bytes per done delivery");
    assert!(claimed <= done + 20, "{claimed} bytes per claimed delivery");
}
