//! Tests of the Postgres store on real servers, which the tests start.

mod backends;
mod blocking;
mod claims;
mod durability;
mod failover;
mod faults;
mod graphile;
mod inbox;
mod inbox_suite;
mod ledger_suite;
mod migrations;
mod outages;
mod pooler;
mod proxy;
mod purging;
mod senders;
mod tables;
mod tls;
mod transactions;

use std::{future::Future, time::Duration};

use tower_klikit::dedupe::{BodyDigest, Claim, ClaimOutcome, ClaimTerms, Ledger};
use tower_klikit_postgres::{PostgresStore, PostgresStoreBuilder};
use tower_klikit_test_support::{log, servers};

const LEASE: Duration = Duration::from_secs(25);
const GRACE: Duration = Duration::from_secs(300);
const TERMS: ClaimTerms = ClaimTerms { lease: LEASE, grace: GRACE };
const RETENTION: Duration = Duration::from_secs(35 * 24 * 60 * 60);

/// Makes a claim on this event's entry, with a fresh token.
fn claim(event: u64) -> Claim {
    let mut token = [0; 16];
    getrandom::fill(&mut token).expect("the system has randomness");
    Claim::new(key(event), key(event), digest(event), token)
}

fn key(event: u64) -> [u8; 16] {
    let mut key = [0xab; 16];
    key[..8].copy_from_slice(&event.to_be_bytes());
    key
}

fn digest(event: u64) -> BodyDigest {
    BodyDigest::of(&event.to_be_bytes())
}

fn done(event: u64) -> ClaimOutcome {
    ClaimOutcome::Done { digest: digest(event) }
}

/// Claims an event and completes it.
async fn handle(store: &PostgresStore, event: u64) {
    let claim = claim(event);
    assert_eq!(store.claim(&claim, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    assert!(store.complete(&claim, RETENTION).await.unwrap());
}

/// Waits for `work`. Panics after a minute, so that the test fails instead of hanging.
async fn ends<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("the work ends within a minute")
}

/// Opens a store with a long deadline.
async fn open(url: &str) -> PostgresStore {
    patient().open(url).await.unwrap()
}

fn patient() -> PostgresStoreBuilder {
    PostgresStore::builder().deadline(Duration::from_secs(50))
}

/// Opens a connection to the database outside of the store.
async fn client(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    drop(tokio::spawn(connection));
    client
}

async fn count(client: &tokio_postgres::Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}
