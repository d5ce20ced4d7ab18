//! Tests of purging expired ledger entries, and of the space that entries take.

use tower_klikit::dedupe::Ledger;

use crate::{RETENTION, TERMS, claim, client, count, done, ends, handle, open, servers::postgres::PostgresServer};

const ROWS: &str = "SELECT count(*) FROM klikit_ledger";

/// Adds entries like those of a ledger in use.
async fn fill(client: &tokio_postgres::Client, rows: u32, until: &str) {
    let sql = format!(
        "
            INSERT INTO klikit_ledger (claimed_at, until, key, token, state, digest)
            SELECT now(), now() {until}, gen_random_uuid(), gen_random_uuid(), 1, sha256('x')
            FROM generate_series(1, {rows})"
    );
    assert_eq!(client.execute(&sql, &[]).await.unwrap(), u64::from(rows));
}

#[tokio::test]
async fn purges_up_to_a_limit() {
    let Some(server) = PostgresServer::start("purges up to a limit") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    handle(&store, 1).await;
    store.claim(&claim(2), &TERMS).await.unwrap();
    fill(&client, 2_500, "- interval '1 s'").await;
    assert_eq!(store.purge(0).await.unwrap(), 0);
    assert_eq!(store.purge(1_000).await.unwrap(), 1_000);
    assert_eq!(count(&client, ROWS).await, 1_502);
    assert_eq!(store.purge(1_000).await.unwrap(), 1_000);
    assert_eq!(store.purge(u32::MAX).await.unwrap(), 500);
    assert_eq!(store.purge(1_000).await.unwrap(), 0);
    assert_eq!(count(&client, ROWS).await, 2);
    assert_eq!(store.claim(&claim(1), &TERMS).await.unwrap(), done(1));
}

/// Expired claims that are kept, and those whose grace is over.
const CLAIMS: &str = "
    INSERT INTO klikit_ledger (claimed_at, until, kept_until, key, token, state, digest)
    SELECT now(), now() - interval '1 s', now() + n * interval '1 hour', gen_random_uuid(), gen_random_uuid(), 0, sha256('x')
    FROM generate_series(-20, 30) AS n";

#[tokio::test]
async fn purges_claims_past_their_grace_only() {
    let Some(server) = PostgresServer::start("purges claims past their grace only") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    client.execute(CLAIMS, &[]).await.unwrap();
    assert_eq!(store.purge(1_000).await.unwrap(), 21);
    assert_eq!(count(&client, ROWS).await, 30);

    client.batch_execute(&format!("DELETE FROM klikit_ledger; {CLAIMS}")).await.unwrap();
    let entry = claim(1);
    store.claim(&entry, &TERMS).await.unwrap();
    // A sweep examines a random part of the table, which may be none of this table's blocks.
    let swept = async {
        while count(&client, ROWS).await > 31 {
            for _ in 0..256 {
                assert!(store.complete(&entry, RETENTION).await.unwrap());
            }
        }
    };
    ends(swept).await;
    assert_eq!(count(&client, "SELECT count(*) FROM klikit_ledger WHERE state = 0").await, 30);
}

#[tokio::test]
async fn purging_waits_for_no_lock() {
    let Some(server) = PostgresServer::start("purging waits for no lock") else { return };
    let store = open(server.url()).await;
    let mut client = client(server.url()).await;
    fill(&client, 10, "- interval '1 s'").await;
    let transaction = client.transaction().await.unwrap();
    let locked = transaction.query("SELECT FROM klikit_ledger LIMIT 3 FOR UPDATE", &[]).await.unwrap();
    assert_eq!(locked.len(), 3);
    assert_eq!(store.purge(1_000).await.unwrap(), 7);
    transaction.rollback().await.unwrap();
    assert_eq!(store.purge(1_000).await.unwrap(), 3);
}

/// This test does not call `purge`. Every 256 completions, a slice of 128 blocks is swept, so this many rows need several
/// slices.
#[tokio::test]
async fn completing_purges_slice_by_slice() {
    let Some(server) = PostgresServer::start("completing purges slice by slice") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    fill(&client, 20_000, "- interval '1 s'").await;
    fill(&client, 100, "+ interval '1 day'").await;
    let expired = "SELECT count(*) FROM klikit_ledger WHERE until <= now()";
    let (entry, mut slices, mut left) = (claim(1), 0, 20_000);
    store.claim(&entry, &TERMS).await.unwrap();
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
    assert!(slices >= 2, "one slice contained all entries");
    assert_eq!(count(&client, ROWS).await, 101);
}

/// The size on disk is the same in every run, except for the distribution of rows on index pages. The goal is 168 bytes.
/// Deliveries are handled one after the other, because old row versions stay while another transaction is open.
#[tokio::test(flavor = "multi_thread")]
async fn delivery_takes_some_168_bytes() {
    let Some(server) = PostgresServer::start_own("delivery takes some 168 bytes", &[]) else { return };
    let store = open(server.url()).await;
    for event in 0..8_000_u64 {
        // Spread the keys evenly, like hashes.
        handle(&store, event.wrapping_mul(0x9e37_79b9_7f4a_7c15)).await;
    }
    let client = client(server.url()).await;
    let bytes = count(&client, "SELECT pg_total_relation_size('klikit_ledger')").await;
    let per_row = bytes / 8_000;
    println!("{per_row} bytes for each delivery");
    assert!(per_row <= 190, "{per_row} bytes for each delivery");
}
