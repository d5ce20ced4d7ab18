//! Tests of leasing while an old snapshot, like that of a long dump, keeps the index entries of handled deliveries.

use std::time::Duration;

use futures_util::future::join_all;
use tower_klikit::inbox::{Acceptance, InboxStore, NewDelivery};
use tower_klikit_postgres::PostgresStore;

use super::{accept, delivery, done, lease_ahead};
use crate::{client, servers::postgres::PostgresServer};

/// The number of deliveries that are handled while the snapshot is open.
const HANDLED: usize = 4_000;

/// Makes a delivery, with a unique ordering key if it is ordered.
async fn new(id: String, ordered: bool) -> NewDelivery {
    let new = delivery(&id, "").await;
    if ordered { new.with_ordering_keys(&[&id]) } else { new }
}

/// Leases up to 200 deliveries and settles them as done. Returns their number.
async fn handle_batch(store: &PostgresStore) -> usize {
    let leases = lease_ahead(store, 200).await;
    let settlements: Vec<_> = leases.into_iter().map(|lease| (lease, done(Duration::ZERO))).collect();
    store.settle(&settlements).await.unwrap();
    settlements.len()
}

/// Returns the average number of entries of this index that a call of `lease` reads. Before that, handles many deliveries while an
/// old snapshot is open. The index keeps their entries, and a search for due deliveries from its start would read them all.
async fn entries_read(test: &str, ordered: bool, index: &str) -> Option<f64> {
    let server = PostgresServer::start_own(test, &["autovacuum=off"])?;
    let store = PostgresStore::builder().max_connections(1).open(server.url()).await.unwrap();
    let (mut reader, client) = (client(server.url()).await, client(server.url()).await);
    let snapshot = reader.build_transaction().isolation_level(tokio_postgres::IsolationLevel::RepeatableRead);
    let snapshot = snapshot.start().await.unwrap();
    snapshot.query("SELECT count(*) FROM klikit_inbox", &[]).await.unwrap();

    let mut handled = 0;
    for round in 0..HANDLED / 200 {
        let new: Vec<NewDelivery> = join_all((0..200).map(|n| new(format!("evt-{round}-{n}"), ordered))).await;
        for accepted in join_all(new.iter().map(|new| store.accept(new, super::TIME))).await {
            assert_eq!(accepted.unwrap(), Acceptance::Accepted);
        }
    }
    while handled < HANDLED {
        handled += handle_batch(&store).await;
    }
    // Searches begin at most 250 ms before the first delivery that the last search found. Wait until that leaves out the entries of
    // the handled deliveries.
    tokio::time::sleep(Duration::from_secs(1)).await;

    let read = format!(
        "
        SELECT idx_scan, idx_tup_read
        FROM pg_stat_user_indexes
        WHERE indexrelname = '{index}'"
    );
    let scans_and_entries = async || {
        let row = client.query_one(&read, &[]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    // The server updates its statistics with a delay. Start to measure after 200 calls, when those above are counted.
    let (mut before, mut calls) = (None, 0);
    loop {
        calls += 1;
        assert_eq!(accept(&store, &new(format!("evt-{calls}"), ordered).await).await, Acceptance::Accepted);
        while handle_batch(&store).await == 0 {}
        let now = scans_and_entries().await;
        match before {
            _ if calls < 200 => {}
            None => before = Some(now),
            Some((scans, _)) if now.0 < scans + 200 => {}
            Some((scans, read)) => {
                #[allow(clippy::cast_precision_loss, reason = "the numbers are small")]
                return Some((now.1 - read) as f64 / (now.0 - scans) as f64);
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn reads_few_entries_of_handled_deliveries() {
    let test = "an old snapshot does not slow leasing down";
    let Some(entries) = entries_read(test, false, "klikit_inbox_due_idx").await else { return };
    assert!(entries < 400.0, "reads {entries} entries");
}

#[tokio::test]
async fn reads_few_entries_of_handled_ordered_deliveries() {
    let test = "an old snapshot does not slow ordered leasing down";
    let Some(entries) = entries_read(test, true, "klikit_inbox_ordered_idx").await else { return };
    assert!(entries < 400.0, "reads {entries} entries");
}
