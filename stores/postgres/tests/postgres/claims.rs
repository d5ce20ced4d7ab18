//! Tests of claims, by one node and by two at the same time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use tower_klikit::dedupe::{Claim, ClaimOutcome, ClaimTerms, Ledger, LedgerAdmin};
use tower_klikit_postgres::PostgresStore;

use crate::{
    GRACE, LEASE, RETENTION, TERMS, claim, client, count, digest, done, ends, handle, key, open, patient, proxy::Proxy,
    servers::postgres::PostgresServer,
};

async fn renew(store: &PostgresStore, claim: &Claim) -> bool {
    store.renew(std::slice::from_ref(claim), &TERMS).await.unwrap() == [true]
}

#[tokio::test]
async fn entry_is_claimed_released_and_completed() {
    let Some(server) = PostgresServer::start("entry is claimed released and completed") else { return };
    let store = open(server.url()).await;
    let (first, second) = (claim(1), claim(1));
    assert_eq!(store.claim(&first, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    assert_eq!(
        store.claim(&first, &TERMS).await.unwrap(),
        ClaimOutcome::Claimed,
        "the token claims its own entry again"
    );
    match store.claim(&second, &TERMS).await.unwrap() {
        ClaimOutcome::InFlight { digest: found, remaining } => {
            assert_eq!(found, digest(1));
            assert!(remaining <= LEASE && remaining > Duration::ZERO, "{remaining:?}");
        }
        other => panic!("{other:?}"),
    }
    assert!(!store.complete(&second, RETENTION).await.unwrap());
    assert!(!renew(&store, &second).await);
    store.release(&second).await.unwrap();
    assert!(renew(&store, &first).await);
    store.release(&first).await.unwrap();
    assert!(!renew(&store, &first).await);
    assert_eq!(store.claim(&second, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    assert!(!store.complete(&first, RETENTION).await.unwrap());
    for _ in 0..2 {
        assert!(store.complete(&second, RETENTION).await.unwrap());
    }
    store.release(&second).await.unwrap();
    assert!(!renew(&store, &second).await);
    for token in [&first, &second] {
        assert_eq!(store.claim(token, &TERMS).await.unwrap(), done(1));
    }
}

/// Ends the lease of each claim, but not its grace.
const EXPIRE: &str = "UPDATE klikit_ledger SET until = clock_timestamp() WHERE state = 0";
/// Ends each grace and each retention.
const END: &str = "
    UPDATE klikit_ledger
    SET until = clock_timestamp(), kept_until = CASE WHEN state = 0 THEN clock_timestamp() END";

#[tokio::test]
async fn expired_claim_still_belongs_to_its_token() {
    let Some(server) = PostgresServer::start("expired claim still belongs to its token") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let claimed_at = "
        SELECT (extract(epoch FROM claimed_at) * 1000000)::bigint
        FROM klikit_ledger";
    let expired = claim(1);
    store.claim(&expired, &TERMS).await.unwrap();
    let before = count(&client, claimed_at).await;
    client.execute(EXPIRE, &[]).await.unwrap();
    assert!(renew(&store, &expired).await);
    let late = store.claim(&claim(1), &TERMS).await.unwrap();
    assert!(matches!(late, ClaimOutcome::InFlight { .. }), "{late:?}");
    client.execute(EXPIRE, &[]).await.unwrap();
    assert_eq!(store.claim(&expired, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    assert_eq!(count(&client, claimed_at).await, before, "the claim is still the same");
    client.execute(EXPIRE, &[]).await.unwrap();
    assert!(store.complete(&expired, RETENTION).await.unwrap());
    assert_eq!(store.claim(&claim(1), &TERMS).await.unwrap(), done(1));

    let released = claim(2);
    store.claim(&released, &TERMS).await.unwrap();
    client.execute(EXPIRE, &[]).await.unwrap();
    store.release(&released).await.unwrap();
    assert_eq!(count(&client, "SELECT count(*) FROM klikit_ledger WHERE state = 0").await, 0);

    let forgotten = claim(3);
    store.claim(&forgotten, &TERMS).await.unwrap();
    client.execute(EXPIRE, &[]).await.unwrap();
    assert_eq!(store.forget(&forgotten.event().into()).await.unwrap(), 1);
    assert!(!store.complete(&forgotten, RETENTION).await.unwrap());
}

#[tokio::test]
async fn expired_claim_is_taken_over_by_another_token() {
    let Some(server) = PostgresServer::start("expired claim is taken over by another token") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let (first, second) = (claim(1), claim(1));
    store.claim(&first, &TERMS).await.unwrap();
    client.execute("UPDATE klikit_ledger SET claimed_at = claimed_at - interval '1 hour'", &[]).await.unwrap();
    client.execute(EXPIRE, &[]).await.unwrap();
    assert_eq!(store.claim(&second, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    let recent = "
        SELECT count(*)
        FROM klikit_ledger
        WHERE claimed_at > now() - interval '30 minutes'";
    assert_eq!(count(&client, recent).await, 1, "the claim is new");
    assert!(!store.complete(&first, RETENTION).await.unwrap(), "the old token no longer holds the claim");
    assert!(!renew(&store, &first).await);
    store.release(&first).await.unwrap();
    assert!(matches!(store.claim(&first, &TERMS).await.unwrap(), ClaimOutcome::InFlight { .. }));
    assert!(store.complete(&second, RETENTION).await.unwrap());
}

#[tokio::test]
async fn entry_past_its_grace_or_retention_is_absent() {
    let Some(server) = PostgresServer::start("entry past its grace or retention is absent") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let (first, second, third) = (claim(1), claim(1), claim(1));
    assert_eq!(store.claim(&first, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    client.execute(END, &[]).await.unwrap();
    assert!(!store.complete(&first, RETENTION).await.unwrap());
    assert!(!renew(&store, &first).await);
    assert_eq!(store.forget(&first.event().into()).await.unwrap(), 0);
    assert_eq!(store.claim(&second, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    assert!(!store.complete(&first, RETENTION).await.unwrap(), "the old token no longer holds the claim");
    assert!(store.complete(&second, RETENTION).await.unwrap());
    client.execute(END, &[]).await.unwrap();
    assert!(!store.complete(&second, RETENTION).await.unwrap());
    assert_eq!(store.claim(&third, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    assert_eq!(count(&client, "SELECT count(*) FROM klikit_ledger WHERE state = 1").await, 0);
}

#[tokio::test]
async fn renews_many_claims_in_order() {
    let Some(server) = PostgresServer::start_own("renews many claims in order", &[]) else { return };
    let proxy = Proxy::before(server.port()).await;
    let store = patient().max_connections(1).open(&proxy.url()).await.unwrap();
    let client = client(server.url()).await;
    let [held, others, absent, completed, expired] = [1, 2, 3, 4, 5].map(claim);
    for claimed in [&held, &claim(2), &completed, &expired] {
        assert_eq!(store.claim(claimed, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    }
    assert!(store.complete(&completed, RETENTION).await.unwrap());
    client.execute(EXPIRE, &[]).await.unwrap();
    let asked = [held.clone(), others, absent, completed, expired, held];
    for _ in 0..2 {
        let before = proxy.round_trips();
        assert_eq!(store.renew(&asked, &TERMS).await.unwrap(), [true, false, false, false, true, true]);
        // Preparing the statement takes the first call another round trip.
        assert!(proxy.round_trips() - before <= 2);
    }
    let before = proxy.round_trips();
    store.renew(&asked, &TERMS).await.unwrap();
    assert_eq!(proxy.round_trips() - before, 1);
    let renewed = "
        SELECT count(*)
        FROM klikit_ledger
        WHERE state = 0 AND until > now() AND kept_until BETWEEN until + interval '299 s' AND until + interval '301 s'";
    assert_eq!(count(&client, renewed).await, 2);
    assert!(store.renew(&[], &TERMS).await.unwrap().is_empty());
}

/// A handler that completes its claim in its own transaction may commit late. Other claims must not expire meanwhile.
#[tokio::test]
async fn renewing_waits_for_no_lock() {
    let Some(server) = PostgresServer::start("renewing waits for no lock") else { return };
    let store = open(server.url()).await;
    let mut other = client(server.url()).await;
    let client = client(server.url()).await;
    let (completing, running, taken) = (claim(1), claim(2), claim(3));
    for claim in [&completing, &running, &claim(3)] {
        store.claim(claim, &TERMS).await.unwrap();
    }
    client.execute(EXPIRE, &[]).await.unwrap();
    let transaction = other.transaction().await.unwrap();
    assert!(store.complete_in(&transaction, &completing, RETENTION).await.unwrap());
    let lock = "
        SELECT FROM klikit_ledger
        WHERE key = encode($1::bytea, 'hex')::uuid
        FOR UPDATE";
    transaction.query(lock, &[&&taken.key().as_bytes()[..]]).await.unwrap();
    let asked = [completing.clone(), running.clone(), taken];
    let renewed = ends(store.renew(&asked, &TERMS)).await.unwrap();
    assert_eq!(renewed, [true, true, false]);
    let held = store.claim(&claim(2), &TERMS).await.unwrap();
    assert!(matches!(held, ClaimOutcome::InFlight { .. }), "{held:?}");
    transaction.commit().await.unwrap();
    assert_eq!(store.claim(&claim(1), &TERMS).await.unwrap(), done(1));
    assert!(!renew(&store, &completing).await);
}

#[tokio::test]
async fn times_come_from_the_servers_clock() {
    let Some(server) = PostgresServer::start("times come from the servers clock") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let ahead = |seconds: u64| {
        format!(
            "
                SELECT count(*)
                FROM klikit_ledger
                WHERE until > now() + interval '{} s' AND until <= now() + interval '{} s'",
            seconds - 600,
            seconds
        )
    };
    let entry = claim(1);
    let terms = |seconds| ClaimTerms { lease: Duration::from_secs(seconds), grace: GRACE };
    let kept = "
        SELECT count(*)
        FROM klikit_ledger
        WHERE kept_until BETWEEN until + interval '299 s' AND until + interval '301 s'";
    store.claim(&entry, &terms(3_600)).await.unwrap();
    assert_eq!(count(&client, &ahead(3_600)).await, 1);
    assert_eq!(count(&client, kept).await, 1);
    store.renew(std::slice::from_ref(&entry), &terms(7_200)).await.unwrap();
    assert_eq!(count(&client, &ahead(7_200)).await, 1);
    assert_eq!(count(&client, kept).await, 1);
    store.complete(&entry, RETENTION).await.unwrap();
    assert_eq!(count(&client, &ahead(RETENTION.as_secs())).await, 1);
    assert_eq!(count(&client, "SELECT count(*) FROM klikit_ledger WHERE kept_until IS NULL").await, 1);
    handle(&store, 2).await;
    let longest = claim(3);
    let ever = ClaimTerms { lease: Duration::MAX, grace: Duration::MAX };
    assert_eq!(store.claim(&longest, &ever).await.unwrap(), ClaimOutcome::Claimed);
    assert_eq!(store.renew(std::slice::from_ref(&longest), &ever).await.unwrap(), [true]);
    assert!(store.complete(&longest, Duration::MAX).await.unwrap());
}

#[tokio::test]
async fn forgets_an_event_with_its_conflicts() {
    let Some(server) = PostgresServer::start("forgets an event with its conflicts") else { return };
    let store = open(server.url()).await;
    handle(&store, 1).await;
    handle(&store, 2).await;
    for conflict in [10, 11_u8] {
        let conflict = Claim::new(key(conflict.into()), key(1), digest(conflict.into()), [conflict; 16]);
        assert_eq!(store.claim(&conflict, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    }
    assert_eq!(store.forget(&claim(1).event().into()).await.unwrap(), 3);
    assert_eq!(store.forget(&claim(1).event().into()).await.unwrap(), 0);
    assert_eq!(store.claim(&claim(1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    assert_eq!(store.claim(&claim(10), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    assert_eq!(store.claim(&claim(2), &TERMS).await.unwrap(), done(2));
}

#[tokio::test]
async fn entries_changed_by_hand_are_not_listed() {
    let Some(server) = PostgresServer::start("entries changed by hand are not listed") else { return };
    let store = open(server.url()).await;
    for event in 0..6 {
        handle(&store, event).await;
    }
    let change = [
        "digest = '' WHERE get_byte(uuid_send(key), 7) = 1",
        "state = 7 WHERE get_byte(uuid_send(key), 7) = 2",
        "until = 'infinity' WHERE get_byte(uuid_send(key), 7) = 3",
        "claimed_at = '-infinity' WHERE get_byte(uuid_send(key), 7) = 4",
    ];
    let client = client(server.url()).await;
    for change in change {
        assert_eq!(client.execute(&format!("UPDATE klikit_ledger SET {change}"), &[]).await.unwrap(), 1);
    }
    let ever = SystemTime::UNIX_EPOCH..SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 60);
    // The unreadable entries do not count towards the limit.
    let listed = store.entries(&ever.into(), None, 2).await.unwrap();
    assert_eq!(listed.iter().map(|entry| entry.key).collect::<Vec<_>>(), [0, 5].map(|event| *claim(event).key()));
    for event in 1..5 {
        assert_eq!(store.entries(&claim(event).event().into(), None, 10).await.unwrap(), [], "{event}");
    }
}

#[tokio::test]
async fn forgets_what_was_claimed_in_a_window() {
    let Some(server) = PostgresServer::start("forgets what was claimed in a window") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    for event in 0..10 {
        handle(&store, event).await;
    }
    // The claims of the events were made in the first hour of that day, ten minutes apart.
    let order = "
        UPDATE klikit_ledger
        SET claimed_at = timestamptz '2026-03-01 00:00Z' + interval '10 minutes' * get_byte(uuid_send(key), 7)";
    client.execute(order, &[]).await.unwrap();
    let at = |minutes: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_772_323_200 + 60 * minutes);
    let listed = store.entries(&(at(20)..at(50)).into(), None, 10).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|entry| (entry.key, entry.claimed_at)).collect();
    assert_eq!(listed, [2, 3, 4].map(|event| (*claim(event).key(), at(10 * event))));
    assert_eq!(
        store.forget(&(at(20)..at(50)).into()).await.unwrap(),
        3,
        "the window includes its start and not its end"
    );
    for event in 0..10 {
        let now = store.claim(&claim(event), &TERMS).await.unwrap();
        assert_eq!(now == ClaimOutcome::Claimed, (2..5).contains(&event), "{event}");
    }
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 60);
    assert_eq!(store.forget(&(far..far).into()).await.unwrap(), 0);
    assert_eq!(store.forget(&(SystemTime::UNIX_EPOCH..far).into()).await.unwrap(), 10);
}

/// 64 copies at a time on two nodes, in many rounds, so that claims compete with claims and completions.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_copies_on_two_nodes_claims() {
    let Some(server) = PostgresServer::start("one of many copies on two nodes claims") else { return };
    let nodes = [open(server.url()).await, open(server.url()).await];
    for event in 0..100 {
        let copies = (0..64).map(|copy| {
            let store = nodes[copy % 2].clone();
            tokio::spawn(async move {
                let claim = claim(event);
                let outcome = store.claim(&claim, &TERMS).await.unwrap();
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
    assert_eq!(count(&client, "SELECT count(*) FROM klikit_ledger WHERE state = 1").await, 100);
}

/// All tasks claim the same key, and the winner releases it at once. So entries vanish between the two statements of a claim.
#[tokio::test(flavor = "multi_thread")]
async fn one_token_at_a_time_holds_a_key() {
    let Some(server) = PostgresServer::start("one token at a time holds a key") else { return };
    let nodes = [open(server.url()).await, open(server.url()).await];
    let (holders, claimed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let tasks = (0..16).map(|task| {
        let (store, holders, claimed) = (nodes[task % 2].clone(), Arc::clone(&holders), Arc::clone(&claimed));
        tokio::spawn(async move {
            for _ in 0..200 {
                let claim = claim(1);
                if store.claim(&claim, &TERMS).await.unwrap() == ClaimOutcome::Claimed {
                    assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two tokens hold the key");
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
    assert_eq!(nodes[0].claim(&claim(1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
}

#[tokio::test]
async fn new_claim_takes_one_round_trip() {
    let Some(server) = PostgresServer::start_own("new claim takes one round trip", &[]) else { return };
    let proxy = Proxy::before(server.port()).await;
    let store = patient().max_connections(1).open(&proxy.url()).await.unwrap();
    let connections = proxy.connections();
    for event in 1..4 {
        let (first, copy) = (claim(event), claim(event));
        let before = proxy.round_trips();
        assert_eq!(store.claim(&first, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
        assert_eq!(proxy.round_trips() - before, 1, "a first claim");
        let before = proxy.round_trips();
        assert!(matches!(store.claim(&copy, &TERMS).await.unwrap(), ClaimOutcome::InFlight { .. }));
        assert_eq!(proxy.round_trips() - before, 2, "a copy");
        let before = proxy.round_trips();
        assert!(renew(&store, &first).await);
        assert_eq!(proxy.round_trips() - before, 1, "a renewal");
        let before = proxy.round_trips();
        assert!(store.complete(&first, RETENTION).await.unwrap());
        assert_eq!(proxy.round_trips() - before, 1, "a completion");
        let before = proxy.round_trips();
        assert_eq!(store.claim(&copy, &TERMS).await.unwrap(), done(event));
        assert_eq!(proxy.round_trips() - before, 2, "a duplicate");
    }
    assert_eq!(proxy.connections(), connections);
}
