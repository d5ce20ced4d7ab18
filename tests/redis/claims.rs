//! Who gets a claim, and at what cost.

use std::{collections::BTreeMap, time::Duration};

use tower_klikit::{
    dedupe::{ClaimOutcome, Ledger},
    store::redis::RedisStore,
};

use crate::{
    servers::redis as servers,
    support::{LEASE, RETENTION, claim, command_counts, conflict, digest, done, handle, name, raw, run, store},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_claims_from_two_nodes_one_wins() {
    let Some(redis) = servers::any() else { return };
    let nodes = [store(&redis).await, store(&redis).await];
    for event in 0..50 {
        let claims = (0..64)
            .zip(nodes.iter().cycle().cloned())
            .map(|(n, node)| tokio::spawn(async move { node.claim(&claim(event, n), LEASE).await.unwrap() }));
        let mut won = 0;
        for outcome in claims.collect::<Vec<_>>() {
            match outcome.await.unwrap() {
                ClaimOutcome::Claimed => won += 1,
                ClaimOutcome::InFlight { digest: found, remaining } => {
                    assert_eq!(found, digest(event));
                    assert!(remaining <= LEASE && remaining > LEASE / 2, "{remaining:?}");
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(won, 1);
    }
}

#[tokio::test]
async fn one_life() {
    let Some(redis) = servers::any() else { return };
    let store = store(&redis).await;
    let (ours, theirs) = (claim(1, 1), claim(1, 2));

    assert_eq!(store.claim(&ours, LEASE).await.unwrap(), ClaimOutcome::Claimed);
    assert_eq!(store.claim(&ours, LEASE).await.unwrap(), ClaimOutcome::Claimed);
    assert!(matches!(store.claim(&theirs, LEASE).await.unwrap(), ClaimOutcome::InFlight { .. }));
    assert!(!store.complete(&theirs, RETENTION).await.unwrap());
    assert!(!store.renew(&theirs, LEASE).await.unwrap());
    store.release(&theirs).await.unwrap();
    assert!(matches!(store.claim(&theirs, LEASE).await.unwrap(), ClaimOutcome::InFlight { .. }));

    store.release(&ours).await.unwrap();
    assert!(!store.complete(&ours, RETENTION).await.unwrap());
    assert!(!store.renew(&ours, LEASE).await.unwrap());
    assert_eq!(store.claim(&theirs, LEASE).await.unwrap(), ClaimOutcome::Claimed);

    assert!(store.renew(&theirs, 2 * LEASE).await.unwrap());
    let ClaimOutcome::InFlight { remaining, .. } = store.claim(&ours, LEASE).await.unwrap() else { panic!() };
    assert!(remaining > LEASE, "{remaining:?}");

    assert!(store.complete(&theirs, RETENTION).await.unwrap());
    assert!(store.complete(&theirs, RETENTION).await.unwrap());
    assert!(!store.complete(&ours, RETENTION).await.unwrap());
    assert!(!store.renew(&theirs, LEASE).await.unwrap());
    store.release(&theirs).await.unwrap();
    assert_eq!(store.claim(&ours, LEASE).await.unwrap(), done(1));
    assert_eq!(store.claim(&theirs, LEASE).await.unwrap(), done(1));
    assert_eq!(store.purge(100).await.unwrap(), 0);
}

#[tokio::test]
async fn a_token_whose_time_is_up_is_fenced_out() {
    let Some(redis) = servers::any() else { return };
    let store = store(&redis).await;
    let (first, second) = (claim(1, 1), claim(1, 2));
    assert_eq!(store.claim(&first, Duration::from_millis(1)).await.unwrap(), ClaimOutcome::Claimed);
    while store.claim(&second, LEASE).await.unwrap() != ClaimOutcome::Claimed {}
    assert!(!store.complete(&first, RETENTION).await.unwrap());
    assert!(!store.renew(&first, LEASE).await.unwrap());
    store.release(&first).await.unwrap();
    assert!(store.complete(&second, Duration::from_millis(1)).await.unwrap());
    // And so is one whose retention is up.
    while store.claim(&first, LEASE).await.unwrap() != ClaimOutcome::Claimed {}
    assert!(!store.complete(&second, RETENTION).await.unwrap());
}

#[tokio::test]
async fn a_claim_takes_one_round_trip() {
    let Some(server) = servers::own(&[]) else { return };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let mut raw = raw(&server.url()).await;

    // Each is one EVALSHA, and what the script itself does on the server.
    let expected: [(&str, &[&str]); 4] = [
        ("claim", &["evalsha", "get", "info", "set", "time"]),
        ("claim again", &["evalsha", "get", "info", "pttl"]),
        ("renew", &["evalsha", "get", "info", "pexpire"]),
        ("complete", &["evalsha", "get", "info", "set"]),
    ];
    for (what, commands) in expected {
        let before = command_counts(&mut raw).await;
        match what {
            "claim" => assert_eq!(store.claim(&claim(1, 1), LEASE).await.unwrap(), ClaimOutcome::Claimed),
            "claim again" => drop(store.claim(&claim(1, 2), LEASE).await.unwrap()),
            "renew" => assert!(store.renew(&claim(1, 1), LEASE).await.unwrap()),
            _ => assert!(store.complete(&claim(1, 1), RETENTION).await.unwrap()),
        }
        let after = command_counts(&mut raw).await;
        let run: BTreeMap<_, _> = after
            .iter()
            .map(|(command, count)| (command.as_str(), count - before.get(command).unwrap_or(&0)))
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(run, commands.iter().map(|command| (*command, 1)).collect(), "{what}");
    }
}

#[tokio::test]
async fn a_server_that_lost_the_scripts_is_given_them_again() {
    let Some(server) = servers::own(&[]) else { return };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let mut raw = raw(&server.url()).await;
    for event in 0..3 {
        run::<()>(&mut raw, "SCRIPT FLUSH").await;
        handle(&store, &claim(event, 1)).await;
    }
}

#[tokio::test]
async fn whatever_else_is_under_the_key_is_an_error_and_is_left_alone() {
    let Some(redis) = servers::any() else { return };
    let store = store(&redis).await;
    let mut raw = raw(&redis.url).await;
    let (list, text, claim) = (claim(1, 1), claim(2, 1), &claim(3, 1));
    redis::cmd("RPUSH").arg(name(&redis.prefix, 1)).arg("x").exec_async(&mut raw).await.unwrap();
    redis::cmd("SET").arg(name(&redis.prefix, 2)).arg("x").exec_async(&mut raw).await.unwrap();
    for claim in [&list, &text] {
        store.claim(claim, LEASE).await.unwrap_err();
        store.complete(claim, RETENTION).await.unwrap_err();
        store.renew(claim, LEASE).await.unwrap_err();
        store.release(claim).await.unwrap_err();
        store.forget(claim.event()).await.unwrap_err();
    }
    let left: bool = redis::cmd("EXISTS").arg(name(&redis.prefix, 1)).query_async(&mut raw).await.unwrap();
    assert!(left);
    handle(&store, claim).await;
}

#[tokio::test]
async fn everything_has_a_time_to_live() {
    let Some(server) = servers::own(&[]) else { return };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    handle(&store, &claim(1, 1)).await;
    handle(&store, &conflict(10, 1, 1)).await;
    store.claim(&conflict(11, 1, 1), LEASE).await.unwrap();
    store.claim(&claim(2, 1), Duration::MAX).await.unwrap();
    assert!(store.renew(&claim(2, 1), Duration::MAX).await.unwrap());
    assert!(store.complete(&claim(2, 1), Duration::MAX).await.unwrap());
    store.claim(&claim(3, 1), Duration::ZERO).await.unwrap();

    let mut raw = raw(&server.url()).await;
    let keys: Vec<Vec<u8>> = run(&mut raw, "KEYS *").await;
    assert!(keys.len() >= 5, "{keys:?}");
    for key in keys {
        let left: i64 = redis::cmd("PTTL").arg(key).query_async(&mut raw).await.unwrap();
        assert_ne!(left, -1);
    }
}

#[tokio::test]
async fn a_million_deliveries_fit_in_210_megabytes() {
    let Some(server) = servers::own(&[]) else { return };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let mut raw = raw(&server.url()).await;
    let used = async |raw: &mut _| {
        let info: String = run(raw, "INFO memory").await;
        info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().parse::<u64>().unwrap()
    };
    // Half way between two sizes of the server's tables.
    let count = 12_000;
    let before = used(&mut raw).await;
    for event in 0..count {
        handle(&store, &claim(event, event)).await;
    }
    let each = (used(&mut raw).await - before) / count;
    println!("{each} bytes for each");
    assert!(each <= 210, "{each} bytes for each");
}
