//! What has run out is deleted, in slices, and takes little room before.

use tower_klikit::dedupe::Ledger;

use crate::{LEASE, RETENTION, claim, client, count, done, handle, open, servers::postgres::PostgresServer};

const ROWS: &str = "SELECT count(*) FROM klikit_deliveries";

/// Adds entries of before, as a ledger has them that has been in use.
async fn fill(client: &tokio_postgres::Client, rows: u32, until: &str) {
    let sql = format!(
        "INSERT INTO klikit_deliveries SELECT now(), now() {until}, gen_random_uuid(), NULL, gen_random_uuid(), true, \
         sha256('x') FROM generate_series(1, {rows})"
    );
    assert_eq!(client.execute(&sql, &[]).await.unwrap(), u64::from(rows));
}

#[tokio::test]
async fn purging_deletes_what_has_run_out_in_slices() {
    let Some(server) = PostgresServer::start("purging deletes what has run out in slices") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    handle(&store, 1).await;
    store.claim(&claim(2), LEASE).await.unwrap();
    fill(&client, 2_500, "- interval '1 s'").await;
    assert_eq!(store.purge(0).await.unwrap(), 0);
    assert_eq!(store.purge(1_000).await.unwrap(), 1_000);
    assert_eq!(count(&client, ROWS).await, 1_502);
    assert_eq!(store.purge(1_000).await.unwrap(), 1_000);
    assert_eq!(store.purge(u32::MAX).await.unwrap(), 500);
    assert_eq!(store.purge(1_000).await.unwrap(), 0);
    assert_eq!(count(&client, ROWS).await, 2);
    assert_eq!(store.claim(&claim(1), LEASE).await.unwrap(), done(1));
}

#[tokio::test]
async fn purging_waits_for_nobody() {
    let Some(server) = PostgresServer::start("purging waits for nobody") else { return };
    let store = open(server.url()).await;
    let mut client = client(server.url()).await;
    fill(&client, 10, "- interval '1 s'").await;
    let transaction = client.transaction().await.unwrap();
    let locked = transaction.query("SELECT FROM klikit_deliveries LIMIT 3 FOR UPDATE", &[]).await.unwrap();
    assert_eq!(locked.len(), 3);
    // A minute is the store's own limit.
    assert_eq!(store.purge(1_000).await.unwrap(), 7);
    transaction.rollback().await.unwrap();
    assert_eq!(store.purge(1_000).await.unwrap(), 3);
}

/// Nobody calls `purge` here. Every 256 completions one slice of 128 blocks goes, so twice that many rows take several.
#[tokio::test]
async fn completing_purges_by_itself_a_slice_at_a_time() {
    let Some(server) = PostgresServer::start("completing purges by itself") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    fill(&client, 20_000, "- interval '1 s'").await;
    fill(&client, 100, "+ interval '1 day'").await;
    let expired = "SELECT count(*) FROM klikit_deliveries WHERE until <= now()";
    let (entry, mut slices, mut left) = (claim(1), 0, 20_000);
    store.claim(&entry, LEASE).await.unwrap();
    for _ in 0..200 {
        for _ in 0..256 {
            assert!(store.complete(&entry, RETENTION).await.unwrap());
        }
        let now = count(&client, expired).await;
        assert!(now <= left);
        slices += u32::from(now < left);
        left = now;
        if left == 0 {
            break;
        }
    }
    assert_eq!(left, 0, "after {slices} slices");
    assert!(slices >= 2, "one slice took everything");
    assert_eq!(count(&client, ROWS).await, 101);
}

/// The bytes on disk are the same on every run but for which rows meet on an index page; 168 is what was aimed at. One after
/// another: a transaction that another one catches open keeps the versions of its rows from being cleared away.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_takes_some_168_bytes() {
    let Some(server) = PostgresServer::start_own("a delivery takes some 168 bytes", &[]) else { return };
    let store = open(server.url()).await;
    for event in 0..8_000_u64 {
        // Spread over all keys, as hashes are.
        handle(&store, event.wrapping_mul(0x9e37_79b9_7f4a_7c15)).await;
    }
    let client = client(server.url()).await;
    let bytes = count(&client, "SELECT pg_total_relation_size('klikit_deliveries')").await;
    let per_row = bytes / 8_000;
    println!("{per_row} bytes for each delivery");
    assert!(per_row <= 190, "{per_row} bytes for each delivery");
}
