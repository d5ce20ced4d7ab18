//! Tests of starting one attempt, and of starting many in one call.

use std::time::Duration;

use futures_util::future::join_all;
use tower_klikit::inbox::{DeliveryId, InboxAdmin, InboxStore, Lease, LeaseRequest, SettleOutcome, ShowBody};
use tower_klikit_postgres::PostgresStore;

use super::{
    TIME, WORKER, accept, bodies, dead_letter, delivery, done, lease_ahead, lease_and_start, lease_with, release,
    request, reschedule, settle,
};
use crate::{client, count, ends, open, patient, proxy::Proxy, servers::postgres::PostgresServer};

/// Accepts deliveries and leases them ahead of need.
async fn leases(store: &PostgresStore, deliveries: u32) -> Vec<Lease> {
    for n in 0..deliveries {
        accept(store, &delivery(&format!("evt-{n}"), "x").await).await;
    }
    lease_ahead(store, deliveries).await
}

async fn attempts(store: &PostgresStore, leases: &[Lease]) -> Vec<u32> {
    let mut attempts = Vec::new();
    for lease in leases {
        attempts.push(store.show(lease.id(), ShowBody::Include).await.unwrap().unwrap().attempts);
    }
    attempts
}

#[tokio::test]
async fn starts_many_in_one_round_trip() {
    let Some(server) = PostgresServer::start_own("starts many in one round trip", &[]) else { return };
    let proxy = Proxy::before(server.port()).await;
    let store = patient().max_connections(1).open(&proxy.url()).await.unwrap();
    let leased = leases(&store, 4).await;
    let [held, other, released, dead] = leased[..] else { panic!("four are leased") };
    release(&store, &released).await;
    dead_letter(&store, &dead, "500").await;
    let (foreign, gone) = (Lease::new(held.id(), held.token() + 1, 7), Lease::new(DeliveryId::new(1_000_000), 1, 1));
    let asked = [gone, held, foreign, released, dead, other];
    for round in 0..3 {
        let before = proxy.round_trips();
        assert_eq!(store.start(&asked, WORKER).await.unwrap(), [false, true, false, false, false, true]);
        // The first call takes more round trips to prepare the statement. Everything is sent at once, but the driver may write
        // it in two pieces.
        assert!(round == 0 || proxy.round_trips() - before <= 2);
        assert_eq!(attempts(&store, &leased).await, [1, 1, 0, 0]);
    }
    assert!(store.start(&[], WORKER).await.unwrap().is_empty());
}

/// Each handler of a worker makes its own call.
#[tokio::test]
async fn calls_that_arrive_together_start_together() {
    let Some(server) = PostgresServer::start_own("calls that arrive together start together", &[]) else { return };
    let proxy = Proxy::before(server.port()).await;
    let store = patient().max_connections(1).open(&proxy.url()).await.unwrap();
    let leased = leases(&store, 40).await;
    let foreign = leased.iter().map(|lease| Lease::new(lease.id(), lease.token() + 1, 7));
    let calls: Vec<_> = leased.iter().copied().chain(foreign).chain(leased.clone()).map(|lease| [lease]).collect();
    let before = proxy.round_trips();
    let started = join_all(calls.iter().map(|lease| store.start(lease, WORKER))).await;
    assert!(proxy.round_trips() - before < 20, "{} round trips", proxy.round_trips() - before);
    for (n, started) in started.into_iter().enumerate() {
        assert_eq!(started.unwrap(), [!(40..80).contains(&n)], "call {n}");
    }
    assert_eq!(attempts(&store, &leased).await, [1; 40]);
}

#[tokio::test]
async fn locked_delivery_does_not_delay_other_starts() {
    let Some(server) = PostgresServer::start("locked delivery does not delay other starts") else { return };
    let calm = open(server.url()).await;
    let store = PostgresStore::builder().deadline(Duration::from_secs(2)).open(server.url()).await.unwrap();
    let (mut other, reader) = (client(server.url()).await, client(server.url()).await);
    let leased = leases(&calm, 3).await;
    let transaction = other.transaction().await.unwrap();
    assert!(calm.finish_in(&transaction, &leased[1]).await.unwrap());
    ends(store.start(&leased, WORKER)).await.unwrap_err();
    assert_eq!(attempts(&calm, &leased).await, [1, 0, 1]);
    let calls: Vec<_> = leased.iter().map(|lease| [*lease]).collect();
    let started = ends(join_all(calls.iter().map(|lease| store.start(lease, WORKER)))).await;
    let started: Vec<_> = started.into_iter().map(Result::ok).collect();
    assert_eq!(started, [Some(vec![true]), None, Some(vec![true])]);
    // The transaction ends while the call waits.
    let waiting = async {
        while count(&reader, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").await == 0 {}
        transaction.commit().await.unwrap();
    };
    let (started, ()) = ends(async { tokio::join!(calm.start(&leased, WORKER), waiting) }).await;
    assert_eq!(started.unwrap(), [true, false, true]);
}

#[tokio::test]
async fn rejected_start_does_not_delay_others() {
    let Some(server) = PostgresServer::start("rejected start does not delay others") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let leased = leases(&store, 3).await;
    settle::reject(&client, &leased[1]).await;
    let calls: Vec<_> = leased.iter().map(|lease| [*lease]).collect();
    for _ in 0..2 {
        let started = join_all(calls.iter().map(|lease| store.start(lease, WORKER))).await;
        let started: Vec<_> = started.into_iter().map(Result::ok).collect();
        assert_eq!(started, [Some(vec![true]), None, Some(vec![true])]);
        store.start(&leased, WORKER).await.unwrap_err();
        assert_eq!(attempts(&store, &leased).await, [1, 0, 1]);
    }
    client.batch_execute("DROP TRIGGER reject ON klikit_inbox").await.unwrap();
    assert_eq!(store.start(&leased, WORKER).await.unwrap(), [true; 3]);
    assert_eq!(attempts(&store, &leased).await, [1; 3]);
}

#[tokio::test]
async fn start_with_a_lost_response_counts_once() {
    let Some(server) = PostgresServer::start_own("start with a lost response counts once", &[]) else { return };
    let proxy = Proxy::before(server.port()).await;
    let store = patient().max_connections(1).open(&proxy.url()).await.unwrap();
    let client = client(server.url()).await;
    let leased = leases(&store, 1).await;
    reschedule(&store, &leased[0], Duration::ZERO, "500").await;
    let leased = lease_ahead(&store, 1).await;
    proxy.be_silent(true);
    let cut = async {
        while count(&client, "SELECT sum(attempts) FROM klikit_inbox").await == 0 {}
        proxy.be_silent(false);
        proxy.cut();
    };
    let (started, ()) = ends(async { tokio::join!(store.start(&leased, WORKER), cut) }).await;
    assert_eq!(started.unwrap(), [true]);
    assert_eq!(attempts(&store, &leased).await, [1]);
}

/// Counts survive a crash of the server process. Only a crash of the machine can lose them.
#[tokio::test]
async fn killed_server_keeps_counted_attempts() {
    let Some(mut server) = PostgresServer::start_own("killed server keeps counted attempts", &[]) else { return };
    let store = open(server.url()).await;
    let leased = leases(&store, 2).await;
    assert_eq!(store.start(&leased[..1], WORKER).await.unwrap(), [true]);
    // A durable commit makes all earlier commits durable too.
    accept(&store, &delivery("evt-9", "x").await).await;
    server.kill();
    server.restart();
    let store = open(server.url()).await;
    assert_eq!(attempts(&store, &leased).await, [1, 0]);
    assert_eq!(store.start(&leased, WORKER).await.unwrap(), [true; 2]);
    assert_eq!(attempts(&store, &leased).await, [1, 1]);
}

#[tokio::test]
async fn dead_letters_take_no_free_handler() {
    let Some(server) = PostgresServer::start("dead letters take no free handler") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    for n in 0..4 {
        accept(&store, &delivery(&format!("evt-{n}"), &n.to_string()).await).await;
        if n == 1 {
            lease_and_start(&store, request(2)).await;
        }
    }
    let in_order = "
        UPDATE klikit_inbox
        SET due = now() - interval '1 s' * (1 + (SELECT max(id) FROM klikit_inbox) - id)";
    client.batch_execute(in_order).await.unwrap();
    let spent = "
        UPDATE klikit_inbox
        SET attempts = 9
        WHERE id = (SELECT min(id) FROM klikit_inbox)";
    client.batch_execute(spent).await.unwrap();
    // The first is dead-lettered, the second has an expired lease, and the others are ready.
    let request = LeaseRequest { free_handlers: 2, max_attempts: 9, ..request(8) };
    let batch = lease_with(&store, request).await;
    assert_eq!((bodies(&batch.leased), batch.dead_lettered.len()), (vec!["1".into(), "2".into(), "3".into()], 1));
    let counted: Vec<_> = batch.leased.iter().map(|leased| leased.is_attempt_counted()).collect();
    assert_eq!(counted, [false, true, false]);
    assert_eq!(settle(&store, batch.leased[0].lease(), done(TIME)).await, SettleOutcome::Settled);
}

#[tokio::test]
async fn leases_a_row_with_the_most_attempts() {
    let Some(server) = PostgresServer::start("leases a row with the most attempts") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    accept(&store, &delivery("evt", "x").await).await;
    client.batch_execute("UPDATE klikit_inbox SET attempts = 2147483647").await.unwrap();
    for free_handlers in [1, 0] {
        let request = LeaseRequest { free_handlers, max_attempts: u32::MAX, ..request(1) };
        let leased = lease_with(&store, request).await.leased;
        assert_eq!(leased[0].lease().attempt(), 2_147_483_647);
        release(&store, leased[0].lease()).await;
        client.batch_execute("UPDATE klikit_inbox SET attempts = 2147483647").await.unwrap();
    }
}
