//! Tests of the inbox's tables, and of stores without them.

use std::error::Error;

use futures_util::future::join_all;
use tower_klikit::{
    dedupe::Ledger,
    inbox::{Acceptance, DeliveryId, Filter, InboxAdmin, InboxStore, Lease, LedgerRows, Pause, ShowBody},
};
use tower_klikit_postgres::{PostgresError, PostgresErrorKind as Kind, PostgresStore};

use super::{RETENTION, WORKER, accept, delivery, done as settled, lease, ordered, request, retry};
use crate::{TERMS, claim, client, count, done, handle, open, patient, servers::postgres::PostgresServer};

/// A query for the number of the inbox's tables, views and functions.
const INBOX: &str = "
    SELECT
        (
            SELECT count(*)
            FROM pg_class
            WHERE relname LIKE 'klikit_inbox%' OR relname = 'klikit_deliveries'
        )
        + (SELECT count(*) FROM pg_proc WHERE proname LIKE 'klikit%')";

#[tokio::test]
async fn ledger_only_creates_no_inbox() {
    let Some(server) = PostgresServer::start_own("ledger only creates no inbox", &[]) else { return };
    let client = client(server.url()).await;
    let store = patient().ledger_only().open(server.url()).await.unwrap();
    handle(&store, 1).await;
    assert_eq!(count(&client, INBOX).await, 0);
    assert_eq!(count(&client, "SELECT version::bigint FROM klikit_schema").await, 1, "only the ledger has a version");

    let (new, held) = (delivery("evt-1", "x").await, Lease::new(DeliveryId::new(1), 1, 1));
    let now = std::time::SystemTime::now();
    let errors = [
        store.accept(&new, RETENTION).await.err(),
        store.lease(&request(1)).await.err(),
        store.start(&[held], WORKER).await.err(),
        store.extend(&[held], RETENTION).await.err(),
        store.settle(&[(held, settled(RETENTION))]).await.err(),
        store.backlog(1).await.err(),
        store.counts().await.err(),
        store.purge_done(1).await.err(),
        store.stored(1).await.err(),
        store.evict_done(1).await.err(),
        store.purge_dead(RETENTION, 1).await.err(),
        store.find(&Filter::new(), None, 1).await.err(),
        store.dead_letter(&[], &[], "").await.err(),
        store.delete(&[], &[], LedgerRows::Delete).await.err(),
        store.show(held.id(), ShowBody::Include).await.err(),
        retry(&store, held.id()).await.err(),
        store.count_keys(&new.claim().event().into()).await.err(),
        store.count_keys(&(now..now).into()).await.err(),
        store.forget_keys(&new.claim().event().into()).await.err(),
        store.forget_keys(&(now..now).into()).await.err(),
        store.pause(&Pause::everything(), "").await.err(),
        store.resume(&Pause::everything()).await.err(),
        store.pauses().await.err(),
        store.finish_in(&client, &held).await.err(),
    ];
    for error in errors {
        let error = error.expect("there is no inbox");
        let source = error.source().unwrap().downcast_ref::<PostgresError>().expect("the source is the store's error");
        assert_eq!(source.kind(), Kind::LedgerOnly);
        assert!(source.to_string().contains("ledger_only()"), "{source}");
    }
    let error = patient().ledger_only().hand_off("SELECT $1, $2, $3").open(server.url()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::HandOff);
    assert_eq!(count(&client, INBOX).await, 0);
}

#[tokio::test]
async fn whole_store_adds_the_inbox_to_a_ledger() {
    let Some(server) = PostgresServer::start("whole store adds the inbox to a ledger") else { return };
    handle(&patient().ledger_only().open(server.url()).await.unwrap(), 1).await;
    let nodes = join_all((0..8).map(|_| patient().max_connections(1).open(server.url()))).await;
    for (n, node) in nodes.into_iter().enumerate() {
        let node = node.unwrap();
        assert_eq!(accept(&node, &delivery(&n.to_string(), "x").await).await, Acceptance::Accepted);
        assert_eq!(node.claim(&claim(1), &TERMS).await.unwrap(), done(1));
    }
    let store = patient().ledger_only().open(server.url()).await.unwrap();
    assert_eq!(store.claim(&claim(1), &TERMS).await.unwrap(), done(1));
    assert_eq!(lease(&open(server.url()).await, 100).await.len(), 8);
}

#[tokio::test]
async fn inboxes_of_other_prefixes_are_separate() {
    let Some(server) = PostgresServer::start_own("inboxes of other prefixes are separate", &[]) else { return };
    let client = client(server.url()).await;
    client.batch_execute("CREATE SCHEMA webhooks").await.unwrap();
    // Two prefixes of the greatest length differ only in their last letter.
    let (longest, neighbor) = ("x".repeat(40), format!("{}y", "x".repeat(39)));
    for prefix in [PostgresStore::DEFAULT_TABLE_PREFIX, &longest, &neighbor, &format!("webhooks.{longest}")] {
        // The second store opens the tables of the first, so it finds the delivery known and leased.
        for is_new in [true, false] {
            let store = patient().table_prefix(prefix).open(server.url()).await.unwrap();
            let accepted = accept(&store, &ordered("evt-1", &["a"]).await).await;
            assert_eq!(matches!(accepted, Acceptance::Accepted), is_new, "{prefix}");
            assert_eq!(lease(&store, 8).await.len(), usize::from(is_new), "{prefix}");
        }
    }
    let rows_of = |catalog: &str| {
        format!(
            "
                SELECT count(*)
                FROM {catalog}
                WHERE schemaname IN ('public', 'webhooks')"
        )
    };
    assert_eq!(count(&client, &rows_of("pg_tables")).await, 4 * 8);
    assert_eq!(count(&client, &rows_of("pg_views")).await, 4);
    assert_eq!(count(&client, &rows_of("pg_indexes")).await, 4 * 19);
}

/// With another collation, an upgrade of the system's locales would change the order of texts but not of the index.
#[tokio::test]
async fn indexed_texts_are_compared_by_their_bytes() {
    let Some(server) = PostgresServer::start("indexed texts are compared by their bytes") else { return };
    open(server.url()).await;
    let client = client(server.url()).await;
    let collations = "
        SELECT string_agg(DISTINCT collname, ','), count(*)
        FROM pg_index
        JOIN pg_class ON pg_class.oid = indrelid AND relname LIKE 'klikit_inbox%'
        CROSS JOIN unnest(indcollation) AS used
        JOIN pg_collation ON pg_collation.oid = used";
    let collations = client.query_one(collations, &[]).await.unwrap();
    // The ordering keys, the tenants in three indexes, and the three kinds of search terms.
    assert_eq!((collations.get(0), collations.get(1)), ("C", 7_i64));
}
