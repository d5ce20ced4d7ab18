//! Claims, by one node and by two at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use tower_klikit::dedupe::{Claim, ClaimOutcome, Ledger};

use crate::{
    LEASE, RETENTION, claim, client, count, digest, done, handle, key, open, patient, proxy::Proxy,
    servers::postgres::PostgresServer,
};

#[tokio::test]
async fn one_life_of_an_entry() {
    let Some(server) = PostgresServer::start("one life of an entry") else { return };
    let store = open(server.url()).await;
    let (first, second) = (claim(1), claim(1));
    assert_eq!(store.claim(&first, LEASE).await.unwrap(), ClaimOutcome::Claimed);
    assert_eq!(store.claim(&first, LEASE).await.unwrap(), ClaimOutcome::Claimed, "claimed again by its own token");
    match store.claim(&second, LEASE).await.unwrap() {
        ClaimOutcome::InFlight { digest: found, remaining } => {
            assert_eq!(found, digest(1));
            assert!(remaining <= LEASE && remaining > Duration::ZERO, "{remaining:?}");
        }
        other => panic!("{other:?}"),
    }
    assert!(!store.complete(&second, RETENTION).await.unwrap());
    assert!(!store.renew(&second, LEASE).await.unwrap());
    store.release(&second).await.unwrap();
    assert!(store.renew(&first, LEASE).await.unwrap());
    store.release(&first).await.unwrap();
    assert!(!store.renew(&first, LEASE).await.unwrap());
    assert_eq!(store.claim(&second, LEASE).await.unwrap(), ClaimOutcome::Claimed);
    assert!(!store.complete(&first, RETENTION).await.unwrap());
    for _ in 0..2 {
        assert!(store.complete(&second, RETENTION).await.unwrap());
    }
    store.release(&second).await.unwrap();
    assert!(!store.renew(&second, LEASE).await.unwrap());
    for token in [&first, &second] {
        assert_eq!(store.claim(token, LEASE).await.unwrap(), done(1));
    }
}

#[tokio::test]
async fn an_entry_whose_time_is_up_is_absent() {
    let Some(server) = PostgresServer::start("an entry whose time is up is absent") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let age = "UPDATE klikit_deliveries SET until = clock_timestamp()";
    let (first, second, third) = (claim(1), claim(1), claim(1));
    assert_eq!(store.claim(&first, LEASE).await.unwrap(), ClaimOutcome::Claimed);
    client.execute(age, &[]).await.unwrap();
    assert!(!store.complete(&first, RETENTION).await.unwrap());
    assert!(!store.renew(&first, LEASE).await.unwrap());
    assert_eq!(store.forget(first.event()).await.unwrap(), 0);
    assert_eq!(store.claim(&second, LEASE).await.unwrap(), ClaimOutcome::Claimed);
    assert!(!store.complete(&first, RETENTION).await.unwrap(), "the old token is fenced out");
    assert!(store.complete(&second, RETENTION).await.unwrap());
    client.execute(age, &[]).await.unwrap();
    assert!(!store.complete(&second, RETENTION).await.unwrap());
    assert_eq!(store.claim(&third, LEASE).await.unwrap(), ClaimOutcome::Claimed);
    assert_eq!(count(&client, "SELECT count(*) FROM klikit_deliveries WHERE done").await, 0);
}

#[tokio::test]
async fn retention_and_lease_are_what_was_asked_by_the_servers_clock() {
    let Some(server) = PostgresServer::start("retention and lease") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let ahead = |seconds: u64| {
        format!(
            "SELECT count(*) FROM klikit_deliveries WHERE until > now() + interval '{} s' AND until <= now() + interval '{} s'",
            seconds - 600,
            seconds
        )
    };
    let entry = claim(1);
    store.claim(&entry, Duration::from_secs(3_600)).await.unwrap();
    assert_eq!(count(&client, &ahead(3_600)).await, 1);
    store.renew(&entry, Duration::from_secs(7_200)).await.unwrap();
    assert_eq!(count(&client, &ahead(7_200)).await, 1);
    store.complete(&entry, RETENTION).await.unwrap();
    assert_eq!(count(&client, &ahead(RETENTION.as_secs())).await, 1);
    handle(&store, 2).await;
    let longest = claim(3);
    assert_eq!(store.claim(&longest, Duration::MAX).await.unwrap(), ClaimOutcome::Claimed);
    assert!(store.complete(&longest, Duration::MAX).await.unwrap());
}

#[tokio::test]
async fn an_event_is_forgotten_with_its_conflicts() {
    let Some(server) = PostgresServer::start("an event is forgotten with its conflicts") else { return };
    let store = open(server.url()).await;
    handle(&store, 1).await;
    handle(&store, 2).await;
    for conflict in [10, 11_u8] {
        let conflict = Claim::new(key(conflict.into()), key(1), digest(conflict.into()), [conflict; 16]);
        assert_eq!(store.claim(&conflict, LEASE).await.unwrap(), ClaimOutcome::Claimed);
    }
    assert_eq!(store.forget(claim(1).event()).await.unwrap(), 3);
    assert_eq!(store.forget(claim(1).event()).await.unwrap(), 0);
    assert_eq!(store.claim(&claim(1), LEASE).await.unwrap(), ClaimOutcome::Claimed);
    assert_eq!(store.claim(&claim(10), LEASE).await.unwrap(), ClaimOutcome::Claimed);
    assert_eq!(store.claim(&claim(2), LEASE).await.unwrap(), done(2));
}

#[tokio::test]
async fn what_was_claimed_in_a_window_is_forgotten() {
    let Some(server) = PostgresServer::start("what was claimed in a window is forgotten") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    for event in 0..10 {
        handle(&store, event).await;
    }
    // The first hour of that day, event by event ten minutes apart.
    let order = "UPDATE klikit_deliveries SET claimed = timestamptz '2026-03-01 00:00Z' + interval '10 minutes' * \
                 get_byte(uuid_send(key), 7)";
    client.execute(order, &[]).await.unwrap();
    let at = |minutes: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_772_323_200 + 60 * minutes);
    assert_eq!(store.forget_claimed(at(20)..at(50)).await.unwrap(), 3, "from the start on, and not the end");
    for event in 0..10 {
        let now = store.claim(&claim(event), LEASE).await.unwrap();
        assert_eq!(now == ClaimOutcome::Claimed, (2..5).contains(&event), "{event}");
    }
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 60);
    assert_eq!(store.forget_claimed(far..far).await.unwrap(), 0);
    assert_eq!(store.forget_claimed(SystemTime::UNIX_EPOCH..far).await.unwrap(), 10);
}

/// Sixty-four copies at a time from two nodes, again and again, so that claims meet claims, completions and releases.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_sixty_four_copies_on_two_nodes_claims() {
    let Some(server) = PostgresServer::start("one of sixty-four copies on two nodes claims") else { return };
    let nodes = [open(server.url()).await, open(server.url()).await];
    for event in 0..100 {
        let copies = (0..64).map(|copy| {
            let store = nodes[copy % 2].clone();
            tokio::spawn(async move {
                let claim = claim(event);
                let outcome = store.claim(&claim, LEASE).await.unwrap();
                (claim, outcome)
            })
        });
        let outcomes: Vec<_> = join_all(copies).await.into_iter().map(Result::unwrap).collect();
        let winners: Vec<_> = outcomes.iter().filter(|(_, outcome)| *outcome == ClaimOutcome::Claimed).collect();
        assert_eq!(winners.len(), 1, "{event}");
        for (_, outcome) in &outcomes {
            let fine = match outcome {
                ClaimOutcome::Claimed => true,
                ClaimOutcome::InFlight { digest: found, .. } => *found == digest(event),
                _ => false,
            };
            assert!(fine, "{event}: {outcome:?}");
        }
        assert!(nodes[usize::from(event % 2 == 1)].complete(&winners[0].0, RETENTION).await.unwrap());
    }
    let client = client(server.url()).await;
    assert_eq!(count(&client, "SELECT count(*) FROM klikit_deliveries WHERE done").await, 100);
}

/// Everybody claims, and whoever has it releases or completes it at once: entries vanish between a claim and its reading.
#[tokio::test(flavor = "multi_thread")]
async fn claims_and_releases_of_one_key_never_hold_two_at_once() {
    let Some(server) = PostgresServer::start("claims and releases of one key") else { return };
    let nodes = [open(server.url()).await, open(server.url()).await];
    let (holders, claimed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let tasks = (0..16).map(|task| {
        let (store, holders, claimed) = (nodes[task % 2].clone(), Arc::clone(&holders), Arc::clone(&claimed));
        tokio::spawn(async move {
            for _ in 0..200 {
                let claim = claim(1);
                if store.claim(&claim, LEASE).await.unwrap() == ClaimOutcome::Claimed {
                    assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two hold it");
                    claimed.fetch_add(1, Ordering::SeqCst);
                    holders.fetch_sub(1, Ordering::SeqCst);
                    store.release(&claim).await.unwrap();
                }
            }
        })
    });
    for task in join_all(tasks).await {
        task.unwrap();
    }
    assert!(claimed.load(Ordering::SeqCst) > 16);
    assert_eq!(nodes[0].claim(&claim(1), LEASE).await.unwrap(), ClaimOutcome::Claimed);
}

#[tokio::test]
async fn a_first_claim_takes_one_round_trip_and_a_duplicate_two() {
    let Some(server) = PostgresServer::start_own("a first claim takes one round trip", &[]) else { return };
    let proxy = Proxy::before(server.port()).await;
    let store = patient().max_connections(1).connect(&proxy.url()).await.unwrap();
    let connections = proxy.connections();
    for event in 1..4 {
        let (first, copy) = (claim(event), claim(event));
        let before = proxy.round_trips();
        assert_eq!(store.claim(&first, LEASE).await.unwrap(), ClaimOutcome::Claimed);
        assert_eq!(proxy.round_trips() - before, 1, "a first claim");
        let before = proxy.round_trips();
        assert!(matches!(store.claim(&copy, LEASE).await.unwrap(), ClaimOutcome::InFlight { .. }));
        assert_eq!(proxy.round_trips() - before, 2, "a copy");
        let before = proxy.round_trips();
        assert!(store.renew(&first, LEASE).await.unwrap());
        assert_eq!(proxy.round_trips() - before, 1, "a renewal");
        let before = proxy.round_trips();
        assert!(store.complete(&first, RETENTION).await.unwrap());
        assert_eq!(proxy.round_trips() - before, 1, "a completion");
        let before = proxy.round_trips();
        assert_eq!(store.claim(&copy, LEASE).await.unwrap(), done(event));
        assert_eq!(proxy.round_trips() - before, 2, "a duplicate");
    }
    assert_eq!(proxy.connections(), connections);
}
