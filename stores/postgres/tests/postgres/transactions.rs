//! Tests of completing a claim in the transaction that writes the order.

use deadpool_postgres::{Manager, Pool};
use tokio_postgres::NoTls;
use tower_klikit::dedupe::{ClaimOutcome, Ledger};
use tower_klikit_postgres::PostgresStore;

use crate::{RETENTION, TERMS, claim, client, count, done, open, servers::postgres::PostgresServer};

const ORDERS: &str = "SELECT count(*) FROM orders";

async fn pool_with_orders(server: &PostgresServer) -> Pool {
    let pool = Pool::builder(Manager::new(server.url().parse().unwrap(), NoTls)).max_size(4).build().unwrap();
    pool.get().await.unwrap().batch_execute("CREATE TABLE orders (body text)").await.unwrap();
    pool
}

#[tokio::test]
async fn commit_completes_and_rollback_does_not() {
    let Some(server) = PostgresServer::start("commit completes and rollback does not") else { return };
    let pool = pool_with_orders(&server).await;
    let store = PostgresStore::from_pool(pool.clone()).await.unwrap();
    let mut connection = pool.get().await.unwrap();
    let (original, copy) = (claim(1), claim(1));
    assert_eq!(store.claim(&original, &TERMS).await.unwrap(), ClaimOutcome::Claimed);

    let transaction = connection.transaction().await.unwrap();
    transaction.execute("INSERT INTO orders VALUES ('rolled back')", &[]).await.unwrap();
    assert!(store.complete_in(&*transaction, &original, RETENTION).await.unwrap());
    transaction.rollback().await.unwrap();
    assert!(matches!(store.claim(&copy, &TERMS).await.unwrap(), ClaimOutcome::InFlight { .. }));

    let transaction = connection.transaction().await.unwrap();
    transaction.execute("INSERT INTO orders VALUES ('committed')", &[]).await.unwrap();
    assert!(store.complete_in(&*transaction, &original, RETENTION).await.unwrap());
    transaction.commit().await.unwrap();
    assert_eq!(store.claim(&copy, &TERMS).await.unwrap(), done(1));
    assert!(store.complete(&original, RETENTION).await.unwrap(), "the layer completes the claim once more");
    assert_eq!(store.claim(&copy, &TERMS).await.unwrap(), done(1));
    assert_eq!(count(&client(server.url()).await, ORDERS).await, 1);
}

#[tokio::test]
async fn lost_claim_is_not_completed_in_transaction() {
    let Some(server) = PostgresServer::start("lost claim is not completed in transaction") else { return };
    let pool = pool_with_orders(&server).await;
    let store = PostgresStore::from_pool(pool.clone()).await.unwrap();
    let mut connection = pool.get().await.unwrap();
    let (lost, winner) = (claim(1), claim(1));
    store.claim(&lost, &TERMS).await.unwrap();

    // The grace ends after the transaction has begun, so the transaction's `now()` is still within it.
    let transaction = connection.transaction().await.unwrap();
    transaction.execute("INSERT INTO orders VALUES ('lost')", &[]).await.unwrap();
    let client = client(server.url()).await;
    let end_grace = "
        UPDATE klikit_ledger
        SET until = clock_timestamp(), kept_until = clock_timestamp()";
    client.execute(end_grace, &[]).await.unwrap();
    assert!(!store.complete_in(&*transaction, &lost, RETENTION).await.unwrap());
    transaction.rollback().await.unwrap();

    assert_eq!(store.claim(&winner, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    let transaction = connection.transaction().await.unwrap();
    assert!(!store.complete_in(&*transaction, &lost, RETENTION).await.unwrap());
    transaction.rollback().await.unwrap();
    assert_eq!(count(&client, ORDERS).await, 0);
}

#[tokio::test]
async fn completes_an_expired_claim_in_transaction() {
    let Some(server) = PostgresServer::start("completes an expired claim in transaction") else { return };
    let pool = pool_with_orders(&server).await;
    let store = PostgresStore::from_pool(pool.clone()).await.unwrap();
    let mut connection = pool.get().await.unwrap();
    let original = claim(1);
    store.claim(&original, &TERMS).await.unwrap();
    let client = client(server.url()).await;
    client.execute("UPDATE klikit_ledger SET until = clock_timestamp()", &[]).await.unwrap();

    let transaction = connection.transaction().await.unwrap();
    transaction.execute("INSERT INTO orders VALUES ('late')", &[]).await.unwrap();
    assert!(store.complete_in(&*transaction, &original, RETENTION).await.unwrap());
    transaction.commit().await.unwrap();
    assert_eq!(store.claim(&claim(1), &TERMS).await.unwrap(), done(1));
    assert_eq!(count(&client, ORDERS).await, 1);
}

/// A copy waits for the user's open transaction, and then finds its outcome.
#[tokio::test]
async fn copy_waits_for_the_open_transaction() {
    let Some(server) = PostgresServer::start("copy waits for the open transaction") else { return };
    let pool = pool_with_orders(&server).await;
    let store = PostgresStore::from_pool(pool.clone()).await.unwrap();
    let mut connection = pool.get().await.unwrap();
    let client = client(server.url()).await;
    let (original, copy) = (claim(1), claim(1));
    store.claim(&original, &TERMS).await.unwrap();
    let transaction = connection.transaction().await.unwrap();
    assert!(store.complete_in(&*transaction, &original, RETENTION).await.unwrap());
    let claiming = tokio::spawn({
        let store = store.clone();
        async move { store.claim(&copy, &TERMS).await }
    });
    let waiting_for_locks = "
        SELECT count(*)
        FROM pg_stat_activity
        WHERE wait_event_type = 'Lock'";
    while count(&client, waiting_for_locks).await == 0 {
        assert!(!claiming.is_finished(), "the copy does not wait");
    }
    transaction.commit().await.unwrap();
    assert_eq!(claiming.await.unwrap().unwrap(), done(1));
}

#[tokio::test]
async fn completes_claim_with_complete_sql() {
    let Some(server) = PostgresServer::start("completes claim with complete_sql") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let original = claim(1);
    store.claim(&original, &TERMS).await.unwrap();
    let (key, token) = (&original.key().as_bytes()[..], &original.token().as_bytes()[..]);
    let changed = client.execute(store.complete_sql(), &[&key, &token, &RETENTION.as_secs_f64()]).await.unwrap();
    assert_eq!(changed, 1);
    assert_eq!(store.claim(&claim(1), &TERMS).await.unwrap(), done(1));
    let other_claim = claim(1);
    let token = &other_claim.token().as_bytes()[..];
    let changed = client.execute(store.complete_sql(), &[&key, &token, &RETENTION.as_secs_f64()]).await.unwrap();
    assert_eq!(changed, 0);
}
