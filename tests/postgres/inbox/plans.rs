//! The statements find what they look for by the indexes, however many rows there are.

use tower_klikit::inbox::{DeliveryId, InboxStore};

use super::{RETENTION, TIME, bodies, delivery, lease, ordered};
use crate::{client, count, open, patient, servers::postgres::PostgresServer};

/// How many rows whole tables were read through for, and how often each index was used.
const READ: &str =
    "SELECT coalesce(sum(seq_tup_read), 0)::bigint FROM pg_stat_user_tables WHERE relname LIKE '%inbox%'";

fn used(index: &str) -> String {
    format!("SELECT coalesce(sum(idx_scan), 0)::bigint FROM pg_stat_user_indexes WHERE indexrelname LIKE '%{index}'")
}

/// Fills the inbox with 20,000 that are done, dead, or not due for a day.
///
/// On a connection of its own: only its end has the server write down what it did.
async fn fill(url: &str) {
    client(url)
        .await
        .batch_execute(
            "INSERT INTO klikit_deliveries_inbox (due, accepted, token, key, attempts, state, ordered, retried) \
             SELECT now() + interval '1 day', now(), 1, gen_random_uuid(), 1, CASE WHEN n % 3 = 0 THEN 0 ELSE n % 3 + 1 END, \
             n % 3 = 0, false FROM generate_series(1, 20000) AS n; \
             INSERT INTO klikit_deliveries_inbox_delivery \
             SELECT id, '', '{}', '{}', '' FROM klikit_deliveries_inbox; \
             INSERT INTO klikit_deliveries_inbox_ordering \
             SELECT key, id FROM klikit_deliveries_inbox WHERE ordered; \
             ANALYZE klikit_deliveries_inbox, klikit_deliveries_inbox_delivery, klikit_deliveries_inbox_ordering",
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn no_table_is_read_through_but_by_counting() {
    let Some(server) = PostgresServer::start_own("no table is read through", &[]) else { return };
    let reader = client(server.url()).await;
    open(server.url()).await;
    fill(server.url()).await;
    let others =
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    while count(&reader, others).await > 0 {}
    // One connection, whose end has the server write down what it did.
    let store = patient().max_connections(1).connect(server.url()).await.unwrap();
    let before = count(&reader, READ).await;
    for n in 0..20 {
        let id = n.to_string();
        for new in [ordered(&id, &["a"]).await, delivery(&id, "other").await] {
            store.accept(&new, RETENTION).await.unwrap();
        }
        let leased = lease(&store, 4).await;
        assert_eq!(bodies(&leased), [id.as_str()]);
        let held = leased[0].lease();
        assert!(store.extend(held, TIME).await.unwrap());
        assert!(store.bury(held, "500").await.unwrap());
        assert!(store.retry(held.id()).await.unwrap());
        let leased = lease(&store, 4).await;
        let held = leased[0].lease();
        assert!(store.postpone(held, std::time::Duration::ZERO, "500").await.unwrap());
        let leased = lease(&store, 4).await;
        assert!(store.bury(leased[0].lease(), "500").await.unwrap());
        store.accept(&ordered(&id, &["a"]).await, RETENTION).await.unwrap();
        let leased = lease(&store, 4).await;
        let held = leased[0].lease();
        store.show(held.id()).await.unwrap();
        assert_eq!(store.dead(Some(DeliveryId::new(n)), 3).await.unwrap().len(), 3);
        assert!(store.finish(held, if n % 2 == 0 { TIME } else { std::time::Duration::ZERO }).await.unwrap());
        store.forget_event(ordered(&id, &[]).await.claim().event()).await.unwrap();
        store.purge_done(10).await.unwrap();
        assert_eq!(store.backlog(10).await.unwrap(), 10);
    }
    drop(store);
    while count(&reader, others).await > 0 {}
    let read = count(&reader, READ).await - before;
    // A limit lets the backlog stop early wherever it looks.
    assert!(read <= 20 * 200, "{read} rows were read through");
    for index in ["_inbox_due_idx", "_inbox_dead_idx", "_inbox_done_idx", "_inbox_evt_idx", "_inbox_ord_idx"] {
        assert!(count(&reader, &used(index)).await > 0, "{index} is of no use");
    }
}
