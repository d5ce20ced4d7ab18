//! Tests of the inbox on servers that stop, hang or crash. Calls fail, nothing is lost, and the store recovers without a
//! restart.

use std::{
    collections::HashSet,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tower_klikit::inbox::{
    Acceptance, DeliveryState, Filter, InboxAdmin, InboxStore, LedgerRows, Settlement, ShowBody,
};
use tower_klikit_postgres::PostgresStore;

use super::{
    TIME, WORKER, accept, dead, dead_letter, delivery, done, failed, finish, lease, lease_one, ordered, pass, request,
    retry,
};
use crate::{RETENTION, client, count, ends, open, proxy::Proxy, servers::postgres::PostgresServer};

/// Accepts and finishes deliveries in several tasks during a fault. Checks that all deliveries that were acknowledged and not
/// finished are still stored. Returns the number of failed calls.
async fn working_through<F: Future<Output = ()>>(
    store: &PostgresStore,
    url: &str,
    meanwhile: impl FnOnce(Arc<AtomicU32>) -> F,
) -> u32 {
    let (stop, errors) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let (accepted, handled) = (Arc::new(Mutex::new(HashSet::new())), Arc::new(Mutex::new(HashSet::new())));
    let senders = (0..3).map(|sender| {
        let (store, stop, errors, accepted) = (store.clone(), stop.clone(), errors.clone(), accepted.clone());
        tokio::spawn(async move {
            let mut n = 0;
            while !stop.load(Ordering::SeqCst) {
                n += 1;
                let id = format!("{sender}-{n}");
                // Every other delivery has an ordering key.
                let new = ordered(&id, if n % 2 == 0 { &["a"] } else { &[] }).await;
                loop {
                    match ends(store.accept(&new, RETENTION)).await {
                        Ok(Acceptance::Accepted | Acceptance::Known { .. }) => break,
                        Ok(other) => panic!("{id} is new, but accepting it returned {other:?}"),
                        Err(_) => errors.fetch_add(1, Ordering::SeqCst),
                    };
                }
                accepted.lock().unwrap().insert(id);
            }
        })
    });
    let workers = (0..2).map(|_| {
        let (store, stop, errors, handled) = (store.clone(), stop.clone(), errors.clone(), handled.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let Ok(batch) = ends(store.lease(&request(4))).await else {
                    errors.fetch_add(1, Ordering::SeqCst);
                    continue;
                };
                for leased in batch.leased {
                    // Start some of the attempts.
                    if leased.lease().id().get() % 2 == 0
                        && ends(store.start(&[*leased.lease()], WORKER)).await.is_err()
                    {
                        errors.fetch_add(1, Ordering::SeqCst);
                    }
                    // Count the delivery as handled, whether finishing succeeds or not.
                    handled.lock().unwrap().insert(String::from_utf8(leased.body().to_vec()).unwrap());
                    if ends(store.settle(&[(*leased.lease(), done(Duration::ZERO))])).await.is_err() {
                        errors.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
        })
    });
    let tasks: Vec<_> = senders.chain(workers).collect();
    ends(async {
        while handled.lock().unwrap().len() < 20 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    meanwhile(Arc::clone(&errors)).await;
    let before = handled.lock().unwrap().len();
    ends(async {
        while handled.lock().unwrap().len() < before + 20 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    stop.store(true, Ordering::SeqCst);
    for task in tasks {
        ends(task).await.unwrap();
    }
    let client = client(url).await;
    pass(&client).await;
    ends(async {
        while store.backlog(1).await.unwrap() > 0 {
            for leased in lease(store, 100).await {
                handled.lock().unwrap().insert(String::from_utf8(leased.body().to_vec()).unwrap());
                finish(store, leased.lease(), Duration::ZERO).await;
            }
        }
    })
    .await;
    assert_eq!(count(&client, "SELECT count(*) FROM klikit_inbox_body").await, 0);
    assert_eq!(count(&client, "SELECT count(*) FROM klikit_inbox_key").await, 0);
    let (accepted, handled) = (accepted.lock().unwrap(), handled.lock().unwrap());
    let lost: Vec<_> = accepted.difference(&handled).collect();
    assert!(lost.is_empty(), "{lost:?} were acknowledged and lost");
    errors.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_server_loses_nothing_acknowledged() {
    let Some(mut server) = PostgresServer::start_own("killed server loses nothing acknowledged", &[]) else { return };
    let store = open(server.url()).await;
    let url = server.url().to_owned();
    let errors = working_through(&store, &url, async |errors| {
        for _ in 0..2 {
            let before = errors.load(Ordering::SeqCst);
            server.kill();
            ends(async {
                while errors.load(Ordering::SeqCst) < before + 5 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            server.restart();
        }
    })
    .await;
    assert!(errors > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connections_lose_nothing() {
    let Some(server) = PostgresServer::start_own("broken connections lose nothing", &[]) else { return };
    let proxy = Proxy::before(server.port()).await;
    let store = open(&proxy.url()).await;
    working_through(&store, server.url(), async |_| {
        for n in 0..30 {
            proxy.cut();
            let id = format!("between-{n}");
            let new = delivery(&id, &id).await;
            ends(async { while store.accept(&new, RETENTION).await.is_err() {} }).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_fail_while_the_server_hangs() {
    let Some(server) = PostgresServer::start_own("calls fail while the server hangs", &[]) else { return };
    let store = PostgresStore::builder().deadline(Duration::from_millis(200)).open(server.url()).await.unwrap();
    let calm = open(server.url()).await;
    accept(&calm, &delivery("evt-1", "x").await).await;
    let held = *lease_one(&calm).await.lease();
    let new = delivery("evt-2", "x").await;
    server.halt();
    ends(store.accept(&new, RETENTION)).await.unwrap_err();
    ends(store.lease(&request(1))).await.unwrap_err();
    ends(store.start(&[held], WORKER)).await.unwrap_err();
    ends(store.start(&[held, held], WORKER)).await.unwrap_err();
    ends(store.extend(&[held], TIME)).await.unwrap_err();
    let settlements = [done(Duration::ZERO), done(TIME), failed(TIME, ""), dead(""), Settlement::Release];
    for settlement in settlements {
        ends(store.settle(&[(held, settlement.clone())])).await.unwrap_err();
        ends(store.settle(&[(held, settlement.clone()), (held, settlement)])).await.unwrap_err();
    }
    ends(store.backlog(1)).await.unwrap_err();
    ends(store.find(&Filter::new(), None, 1)).await.unwrap_err();
    ends(store.dead_letter(&[held.id()], &[DeliveryState::Leased], "")).await.unwrap_err();
    ends(store.delete(&[held.id()], &[DeliveryState::Leased], LedgerRows::Delete)).await.unwrap_err();
    ends(store.show(held.id(), ShowBody::Include)).await.unwrap_err();
    ends(retry(&store, held.id())).await.unwrap_err();
    ends(store.counts()).await.unwrap_err();
    ends(store.forget_keys(&new.claim().event().into())).await.unwrap_err();
    server.go_on();
    ends(async { while store.accept(&delivery("evt-3", "x").await, RETENTION).await.is_err() {} }).await;
}

/// Without a time limit, the server would not notice that the node is gone, and would keep the leasing lock.
#[tokio::test]
async fn vanished_node_does_not_delay_others() {
    let Some(server) = PostgresServer::start_own("vanished node does not delay others", &[]) else { return };
    let proxy = Proxy::before(server.port()).await;
    let vanishing = PostgresStore::builder().deadline(Duration::from_millis(500)).open(&proxy.url()).await.unwrap();
    let other = PostgresStore::builder().deadline(Duration::from_secs(30)).open(server.url()).await.unwrap();
    let client = client(server.url()).await;
    accept(&other, &delivery("evt-1", "x").await).await;
    let dead = lease_one(&other).await;
    dead_letter(&other, dead.lease(), "500").await;
    accept(&other, &delivery("evt-2", "x").await).await;
    proxy.freeze_transactions();
    let holds = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'";
    let holding = async { while count(&client, holds).await != 1 {} };
    let (retried, ()) = ends(async { tokio::join!(retry(&vanishing, dead.lease().id()), holding) }).await;
    retried.unwrap_err();
    assert_eq!(ends(lease(&other, 8)).await.len(), 1);
    // The server releases the locks a moment before it shows that.
    ends(async { while count(&client, holds).await > 0 {} }).await;
}

/// After a lost response, a repeated call would lease further deliveries.
#[tokio::test]
async fn lease_with_a_lost_response_is_not_repeated() {
    let Some(server) = PostgresServer::start_own("lease with a lost response is not repeated", &[]) else { return };
    let proxy = Proxy::before(server.port()).await;
    let store =
        PostgresStore::builder().max_connections(1).deadline(Duration::from_secs(30)).open(&proxy.url()).await.unwrap();
    let client = client(server.url()).await;
    for n in 0..2 {
        accept(&store, &delivery(&format!("evt-{n}"), "x").await).await;
    }
    let leased = "SELECT count(*) FROM klikit_inbox WHERE state = 1";
    proxy.be_silent(true);
    let cut = async {
        while count(&client, leased).await == 0 {}
        proxy.be_silent(false);
        proxy.cut();
    };
    let one = request(1);
    let (answer, ()) = ends(async { tokio::join!(store.lease(&one), cut) }).await;
    answer.unwrap_err();
    assert_eq!(count(&client, leased).await, 1);
}

/// A hanging queue keeps the ledger row locked. Copies wait no longer than the deadline.
#[tokio::test]
async fn hanging_hand_off_gives_an_error() {
    let Some(server) = PostgresServer::start_own("hanging hand off gives an error", &[]) else { return };
    let store = PostgresStore::builder()
        .deadline(Duration::from_millis(200))
        .hand_off("SELECT pg_sleep(1000)")
        .open(server.url())
        .await
        .unwrap();
    let new = delivery("evt-1", "x").await;
    for _ in 0..2 {
        ends(store.accept(&new, RETENTION)).await.unwrap_err();
    }
}
