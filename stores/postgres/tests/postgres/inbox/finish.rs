//! Tests of finishing a delivery in the transaction that writes the order.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use deadpool_postgres::{Manager, Pool};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::sync::mpsc;
use tokio_postgres::NoTls;
use tower::service_fn;
use tower_klikit::{
    VerifiedBody,
    inbox::{Attempt, Inbox, InboxStore, SettleOutcome},
};
use tower_klikit_postgres::PostgresStore;

use super::{accept, delivery, done, finish, lease, lease_last, lease_one, pass, send, settle};
use crate::{client, count, servers::postgres::PostgresServer};

const ORDERS: &str = "SELECT count(*) FROM orders";
/// The number of rows in the inbox's tables.
const LEFT: &str = "
    SELECT
        (SELECT count(*) FROM klikit_inbox)
        + (SELECT count(*) FROM klikit_inbox_body)";

async fn pool_with_orders(server: &PostgresServer) -> Pool {
    let pool = Pool::builder(Manager::new(server.url().parse().unwrap(), NoTls)).max_size(8).build().unwrap();
    pool.get().await.unwrap().batch_execute("CREATE TABLE orders (body bytea)").await.unwrap();
    pool
}

#[tokio::test]
async fn commit_finishes_and_rollback_does_not() {
    let Some(server) = PostgresServer::start("commit finishes and rollback does not") else { return };
    let pool = pool_with_orders(&server).await;
    let store = PostgresStore::from_pool(pool.clone()).await.unwrap();
    let client = client(server.url()).await;
    accept(&store, &delivery("evt-1", "x").await).await;
    let lost = *lease_one(&store).await.lease();
    pass(&client).await;
    let held = *lease_one(&store).await.lease();
    let mut connection = pool.get().await.unwrap();

    let transaction = connection.transaction().await.unwrap();
    assert!(!store.finish_in(&*transaction, &lost).await.unwrap());
    assert!(store.finish_in(&*transaction, &held).await.unwrap());
    transaction.rollback().await.unwrap();
    assert_eq!(count(&client, LEFT).await, 2);

    let transaction = connection.transaction().await.unwrap();
    assert!(store.finish_in(&*transaction, &held).await.unwrap());
    transaction.commit().await.unwrap();
    assert_eq!(count(&client, LEFT).await, 0);
    assert_eq!(
        settle(&store, &held, done(Duration::ZERO)).await,
        SettleOutcome::Gone,
        "the worker settles the delivery after the handler"
    );

    accept(&store, &delivery("evt-2", "y").await).await;
    let other = *lease_one(&store).await.lease();
    let (id, token) = (other.id().get(), other.token());
    assert_eq!(client.execute(store.finish_sql(), &[&id, &(token + 1)]).await.unwrap(), 0);
    assert_eq!(client.execute(store.finish_sql(), &[&id, &token]).await.unwrap(), 1);
    assert_eq!(count(&client, LEFT).await, 0);
}

/// Only the token matters, not the time.
#[tokio::test]
async fn finishes_after_the_lease_has_expired() {
    let Some(server) = PostgresServer::start("finishes after the lease has expired") else { return };
    let pool = pool_with_orders(&server).await;
    let store = PostgresStore::from_pool(pool.clone()).await.unwrap();
    let client = client(server.url()).await;
    let mut connection = pool.get().await.unwrap();
    for dead_lettered in [false, true] {
        accept(&store, &delivery(&format!("evt-{dead_lettered}"), "x").await).await;
        let held = *lease_one(&store).await.lease();
        pass(&client).await;
        if dead_lettered {
            assert_eq!(lease_last(&store, 1).await.dead_lettered.len(), 1);
        }
        let transaction = connection.transaction().await.unwrap();
        assert!(store.finish_in(&*transaction, &held).await.unwrap());
        transaction.commit().await.unwrap();
        assert_eq!(count(&client, LEFT).await, 0);
    }
    // A kept delivery was handled before, with the same token.
    accept(&store, &delivery("evt-3", "x").await).await;
    let held = *lease_one(&store).await.lease();
    finish(&store, &held, Duration::from_secs(60)).await;
    let transaction = connection.transaction().await.unwrap();
    assert!(!store.finish_in(&*transaction, &held).await.unwrap());
    transaction.rollback().await.unwrap();
    assert_eq!(count(&client, LEFT).await, 2);
    assert_eq!(lease(&store, 1).await.len(), 0);
}

/// Writes the order and finishes the delivery in one transaction. Returns whether it was committed.
async fn order(pool: &Pool, store: &PostgresStore, attempt: &Attempt, body: &Bytes) -> bool {
    let mut client = pool.get().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction.execute("INSERT INTO orders VALUES ($1)", &[&&body[..]]).await.unwrap();
    if !store.finish_in(&*transaction, attempt.lease()).await.unwrap() {
        transaction.rollback().await.unwrap();
        return false;
    }
    transaction.commit().await.unwrap();
    true
}

/// Each process crashes before its handler's commit, or between the commit and the response. A delivery is handled again only
/// if its transaction was not committed.
#[tokio::test(flavor = "multi_thread")]
async fn effects_happen_once_despite_crashes() {
    let Some(server) = PostgresServer::start("effects happen once despite crashes") else { return };
    let pool = pool_with_orders(&server).await;
    let store = PostgresStore::from_pool(pool.clone()).await.unwrap();
    let client = client(server.url()).await;
    let inbox = Inbox::new(store.clone());
    for round in 0..10 {
        let dies_after_the_commit = round % 2 == 0;
        assert_eq!(send(&inbox, &format!("evt-{round}"), &round.to_string()).await, StatusCode::OK);
        let (reached, mut is_reached) = mpsc::unbounded_channel();
        let dying = service_fn({
            let (pool, store) = (pool.clone(), store.clone());
            move |request: Request<VerifiedBody>| {
                let (pool, store, reached) = (pool.clone(), store.clone(), reached.clone());
                async move {
                    let (parts, body) = request.into_parts();
                    let attempt = parts.extensions.get::<Attempt>().copied().unwrap();
                    if dies_after_the_commit {
                        assert!(order(&pool, &store, &attempt, &body.into_bytes()).await);
                    }
                    reached.send(()).unwrap();
                    std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>().await
                }
            }
        });
        let process = tokio::spawn(inbox.worker(dying).run_until(std::future::pending::<()>()));
        is_reached.recv().await.unwrap();
        process.abort();
        assert!(process.await.unwrap_err().is_cancelled());
        pass(&client).await;

        let calls = Arc::new(AtomicU32::new(0));
        let handler = service_fn({
            let (pool, store, calls) = (pool.clone(), store.clone(), Arc::clone(&calls));
            move |request: Request<VerifiedBody>| {
                let (pool, store, calls) = (pool.clone(), store.clone(), Arc::clone(&calls));
                async move {
                    calls.fetch_add(1, Ordering::SeqCst);
                    let (parts, body) = request.into_parts();
                    let attempt = parts.extensions.get::<Attempt>().copied().unwrap();
                    assert!(order(&pool, &store, &attempt, &body.into_bytes()).await);
                    Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
                }
            }
        });
        // Send one more delivery. When it is handled, the worker has also leased the first one if it was pending.
        assert_eq!(send(&inbox, &format!("evt-{round}-more"), &format!("more {round}")).await, StatusCode::OK);
        let emptied = async { while store.backlog(1).await.unwrap() > 0 {} };
        let worker = inbox.worker(handler).poll_interval(Duration::from_millis(50));
        tokio::time::timeout(Duration::from_secs(60), worker.run_until(emptied))
            .await
            .expect("the worker ends within a minute");
        assert_eq!(calls.load(Ordering::SeqCst), 1 + u32::from(!dies_after_the_commit));
        let of_round = format!("{ORDERS} WHERE body = '{round}'");
        assert_eq!(count(&client, &of_round).await, 1, "round {round}");
        assert_eq!(count(&client, LEFT).await, 0);
    }
    assert_eq!(count(&client, ORDERS).await, 20);
}
