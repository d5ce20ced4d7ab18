//! Tests of the ledger on servers that stop, hang or crash, and on broken connections. Calls fail, nothing is forgotten, and
//! the store recovers without a restart.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Barrier, watch},
    task::JoinHandle,
};
use tower_klikit::{
    ErrorChain,
    dedupe::{ClaimOutcome, Ledger},
    inbox::InboxAdmin,
};
use tower_klikit_postgres::PostgresStore;

use crate::{
    RETENTION, TERMS, claim, client, done, ends, handle, open, patient,
    proxy::Proxy,
    servers::{free_port, postgres::PostgresServer},
};

/// Completes deliveries until it is stopped. Returns the completed ones, and the number of failed calls.
fn keep_handling(
    store: &PostgresStore,
    first: u64,
    stop: watch::Receiver<bool>,
    started: Arc<Barrier>,
) -> JoinHandle<(Vec<u64>, u32)> {
    let store = store.clone();
    tokio::spawn(async move {
        let (mut completed, mut errors) = (Vec::new(), 0);
        let mut event = first;
        while !*stop.borrow() {
            event += 1;
            let claim = claim(event);
            match store.claim(&claim, &TERMS).await {
                Ok(ClaimOutcome::Claimed) => match store.complete(&claim, RETENTION).await {
                    Ok(true) => {
                        completed.push(event);
                        if completed.len() == 10 {
                            started.wait().await;
                        }
                    }
                    Ok(false) => panic!("{event} was claimed, and no other token holds it"),
                    Err(_) => errors += 1,
                },
                Ok(other) => panic!("{event} is new, but claiming it returned {other:?}"),
                Err(_) => errors += 1,
            }
        }
        (completed, errors)
    })
}

/// Handles deliveries in four tasks during `meanwhile`. Checks that all completed deliveries are remembered. Returns the
/// number of failed calls.
async fn handling_through<F: Future<Output = ()>>(store: &PostgresStore, meanwhile: impl FnOnce() -> F) -> u32 {
    let started = Arc::new(Barrier::new(5));
    let (stop, stopped) = watch::channel(false);
    let tasks: Vec<_> =
        (0..4).map(|task| keep_handling(store, task * 1_000_000_000, stopped.clone(), Arc::clone(&started))).collect();
    ends(started.wait()).await;
    meanwhile().await;
    works_again(store).await;
    stop.send(true).unwrap();
    let mut errors = 0;
    for task in tasks {
        let (completed, failed) = ends(task).await.unwrap();
        errors += failed;
        for event in completed {
            assert_eq!(store.claim(&claim(event), &TERMS).await.unwrap(), done(event), "{event} was forgotten");
        }
    }
    errors
}

/// Waits until a delivery can be handled.
async fn works_again(store: &PostgresStore) {
    ends(async {
        loop {
            let mut event = [0; 8];
            getrandom::fill(&mut event).unwrap();
            let claim = claim(u64::from_be_bytes(event));
            if store.claim(&claim, &TERMS).await.is_ok_and(|outcome| outcome == ClaimOutcome::Claimed)
                && store.complete(&claim, RETENTION).await.is_ok_and(|completed| completed)
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Waits until no delivery can be handled.
async fn fails(store: &PostgresStore) {
    ends(async { while store.claim(&claim(u64::MAX), &TERMS).await.is_ok() {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_server_forgets_nothing() {
    let Some(mut server) = PostgresServer::start_own("restarted server forgets nothing", &[]) else { return };
    let store = open(server.url()).await;
    for _ in 0..3 {
        let errors = handling_through(&store, || async {
            works_again(&store).await;
            server.stop();
            fails(&store).await;
            server.restart();
        })
        .await;
        assert!(errors > 0);
        client(server.url()).await.execute("TRUNCATE klikit_ledger", &[]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_server_forgets_nothing() {
    let Some(mut server) = PostgresServer::start_own("killed server forgets nothing", &[]) else { return };
    let store = open(server.url()).await;
    let errors = handling_through(&store, || async {
        works_again(&store).await;
        server.kill();
        fails(&store).await;
        server.restart();
    })
    .await;
    assert!(errors > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn replaces_connections_that_the_server_ends() {
    let Some(server) = PostgresServer::start_own("replaces connections that the server ends", &[]) else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    handling_through(&store, || async {
        let mut ended = 0;
        while ended < 50 {
            let sql = "
                SELECT count(pg_terminate_backend(pid))
                FROM pg_stat_activity
                WHERE application_name = 'tower-klikit-postgres'";
            ended += crate::count(&client, sql).await;
            works_again(&store).await;
        }
    })
    .await;
}

/// A call is repeated once, so that a closed idle connection causes no error.
#[tokio::test]
async fn broken_connection_costs_no_error() {
    let Some(server) = PostgresServer::start_own("broken connection costs no error", &[]) else { return };
    let proxy = Proxy::before(server.port()).await;
    let store = patient().max_connections(1).open(&proxy.url()).await.unwrap();
    for event in 0..50 {
        proxy.cut();
        handle(&store, event).await;
    }
    assert!(proxy.connections() > 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn replaces_broken_connections() {
    let Some(server) = PostgresServer::start_own("replaces broken connections", &[]) else { return };
    let proxy = Proxy::before(server.port()).await;
    let store = open(&proxy.url()).await;
    handling_through(&store, || async {
        for _ in 0..50 {
            proxy.cut();
            works_again(&store).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_fail_while_the_server_hangs() {
    let Some(server) = PostgresServer::start_own("calls fail while the server hangs", &[]) else { return };
    let store = PostgresStore::builder().deadline(Duration::from_millis(200)).open(server.url()).await.unwrap();
    let calm = open(server.url()).await;
    handle(&calm, 1).await;
    server.halt();
    for _ in 0..3 {
        let error = ends(store.claim(&claim(2), &TERMS)).await.unwrap_err();
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            why.starts_with("Postgres did not answer within 200ms (") && why.contains(" of 10 connections"),
            "{why}"
        );
        ends(store.complete(&claim(2), RETENTION)).await.unwrap_err();
        ends(store.renew(&[claim(2)], &TERMS)).await.unwrap_err();
        ends(store.release(&claim(2))).await.unwrap_err();
    }
    server.go_on();
    works_again(&store).await;
    assert_eq!(calm.claim(&claim(1), &TERMS).await.unwrap(), done(1));
}

/// The response is lost, and the connection stays open. Its slot is free again after the statement was cancelled.
#[tokio::test]
async fn recovers_from_a_lost_response() {
    let Some(server) = PostgresServer::start_own("recovers from a lost response", &[]) else { return };
    let proxy = Proxy::before(server.port()).await;
    let store = PostgresStore::builder()
        .max_connections(1)
        .deadline(Duration::from_millis(200))
        .open(&proxy.url())
        .await
        .unwrap();
    let calm = open(server.url()).await;
    handle(&calm, 1).await;
    works_again(&store).await;
    proxy.be_silent(true);
    ends(store.claim(&claim(2), &TERMS)).await.unwrap_err();
    proxy.be_silent(false);
    works_again(&store).await;
    assert_eq!(calm.claim(&claim(1), &TERMS).await.unwrap(), done(1));
}

/// A connection must not return to the pool while a response to a dropped call is outstanding.
#[tokio::test]
async fn dropped_call_does_not_break_its_connection() {
    let Some(server) = PostgresServer::start_own("dropped call does not break its connection", &[]) else { return };
    let store =
        PostgresStore::builder().max_connections(1).deadline(Duration::from_secs(2)).open(server.url()).await.unwrap();
    let mut client = client(server.url()).await;
    let (held, copy) = (claim(1), claim(1));
    store.claim(&held, &TERMS).await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction.query("SELECT FROM klikit_ledger FOR UPDATE", &[]).await.unwrap();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.claim(&copy, &TERMS).await }
    });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    while transaction.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {}
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    // The lock is still held. The abandoned statement ends at its time limit.
    works_again(&store).await;
    transaction.rollback().await.unwrap();
    assert!(store.complete(&held, RETENTION).await.unwrap());
}

/// A call for many rows has a long time limit, most of which it must not spend on waiting for a lock.
#[tokio::test]
async fn call_for_many_rows_gives_up_on_a_locked_row() {
    let Some(server) = PostgresServer::start("call for many rows gives up on a locked row") else { return };
    // A statement is cancelled after 30 deadlines.
    let store = PostgresStore::builder().deadline(Duration::from_millis(200)).open(server.url()).await.unwrap();
    let held = claim(1);
    store.claim(&held, &TERMS).await.unwrap();
    let mut client = client(server.url()).await;
    let transaction = client.transaction().await.unwrap();
    transaction.query("SELECT FROM klikit_ledger FOR UPDATE", &[]).await.unwrap();
    let selection = held.event().into();
    for error in [store.forget(&selection).await.unwrap_err(), store.forget_keys(&selection).await.unwrap_err()] {
        let message = ErrorChain::new(&error).to_string();
        assert!(message.contains("canceling statement due to lock timeout"), "{message}");
    }
    transaction.rollback().await.unwrap();
    assert_eq!(store.forget(&selection).await.unwrap(), 1);
}

/// A server may be slow right after its start.
#[tokio::test]
async fn first_connection_may_outlast_a_deadline() {
    let Some(server) = PostgresServer::start_own("first connection may outlast a deadline", &[]) else { return };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("postgres://klikit@{}/postgres?sslmode=disable", listener.local_addr().unwrap());
    let deadline = Duration::from_millis(50);
    let slow = async {
        // One call after another, because the store has a single connection.
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::time::sleep(deadline * 4).await;
            let mut server = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
    };
    tokio::select! {
        opened = ends(PostgresStore::builder().max_connections(1).deadline(deadline).open(&url)) => {
            drop(opened.unwrap());
        }
        () = slow => {}
    }
}

#[tokio::test]
async fn does_not_open_without_a_server() {
    let port = free_port();
    let url = format!("postgres://klikit@127.0.0.1:{port}/postgres");
    let error = ends(PostgresStore::open(&url)).await.unwrap_err();
    let message = format!(
        "could not connect to Postgres at 127.0.0.1:{port}/postgres: check the URL, and that the server is running"
    );
    assert_eq!(error.to_string(), message);
}
