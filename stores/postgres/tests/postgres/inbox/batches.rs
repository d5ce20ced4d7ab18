//! Tests of deliveries that arrive together.

use futures_util::future::join_all;
use tower_klikit::inbox::{Acceptance, InboxStore, NewDelivery};

use super::{accept, delivery, known, ordered};
use crate::{RETENTION, client, count, ends, open, servers::postgres::PostgresServer};

const STORED: &str = "SELECT count(*) FROM klikit_inbox JOIN klikit_inbox_body USING (id)";
const REMEMBERED: &str = "SELECT count(*) FROM klikit_ledger";

/// A trigger's function that rejects one delivery.
const REJECT: &str = "
    CREATE FUNCTION reject() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.event_id = 'evt-7' THEN
            RAISE EXCEPTION 'evt-7 is rejected by the test';
        END IF;
        RETURN NEW;
    END
    $$";
/// Rejects the delivery when it is inserted.
const REJECT_AT_INSERT: &str = "
    CREATE TRIGGER reject BEFORE INSERT ON klikit_inbox
    FOR EACH ROW
    EXECUTE FUNCTION reject()";
/// Rejects the delivery when the transaction commits.
const REJECT_AT_COMMIT: &str = "
    CREATE CONSTRAINT TRIGGER reject AFTER INSERT ON klikit_inbox DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW
    EXECUTE FUNCTION reject()";

/// Returns deliveries with the ids `evt-0`, `evt-1` and so on.
async fn numbered(count: usize) -> Vec<NewDelivery> {
    join_all((0..count).map(|n| async move { delivery(&format!("evt-{n}"), &format!("body {n}")).await })).await
}

#[tokio::test]
async fn rejected_delivery_fails_alone() {
    let Some(server) = PostgresServer::start("rejected delivery fails alone") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    client.batch_execute(REJECT).await.unwrap();
    let all = numbered(40).await;
    for trigger in [REJECT_AT_INSERT, REJECT_AT_COMMIT] {
        client.batch_execute(trigger).await.unwrap();
        let accepted = join_all(all.iter().map(|new| store.accept(new, RETENTION))).await;
        let failed: Vec<_> = (0..40).filter(|n| accepted[*n].is_err()).collect();
        assert_eq!(failed, [7], "{trigger}");
        assert_eq!((count(&client, STORED).await, count(&client, REMEMBERED).await), (39, 39), "{trigger}");
        client.batch_execute("DROP TRIGGER reject ON klikit_inbox").await.unwrap();
        assert_eq!(accept(&store, &all[7]).await, Acceptance::Accepted);
        client.batch_execute("TRUNCATE klikit_inbox, klikit_inbox_body, klikit_ledger").await.unwrap();
    }
}

/// Another transaction has locked one ledger row. The deliveries that arrive together with it do not wait.
#[tokio::test]
async fn locked_delivery_does_not_delay_others() {
    let Some(server) = PostgresServer::start("locked delivery does not delay others") else { return };
    let store = tower_klikit_postgres::PostgresStore::open(server.url()).await.unwrap();
    let mut other = client(server.url()).await;
    let all = numbered(40).await;
    let transaction = other.transaction().await.unwrap();
    let insert = "
        INSERT INTO klikit_ledger (claimed_at, until, key, token, state, digest)
        VALUES (now(), now() + interval '1 h', encode($1, 'hex')::uuid, gen_random_uuid(), 1, '')";
    transaction.execute(insert, &[&&all[7].claim().key().as_bytes()[..]]).await.unwrap();
    let accepted = ends(join_all(all.iter().map(|new| store.accept(new, RETENTION)))).await;
    let failed: Vec<_> = (0..40).filter(|n| accepted[*n].is_err()).collect();
    assert_eq!(failed, [7]);
    transaction.rollback().await.unwrap();
    let again = join_all(all.iter().map(|new| store.accept(new, RETENTION))).await;
    for (n, accepted) in again.into_iter().enumerate() {
        // The server may have stored the locked delivery after its caller was dropped.
        let is_stored_now = n == 7 && matches!(accepted, Ok(Acceptance::Accepted));
        assert!(is_stored_now || accepted.unwrap() == known(&format!("body {n}")), "{n}");
    }
    assert_eq!(count(&client(server.url()).await, STORED).await, 40);
}

#[tokio::test]
async fn copies_that_arrive_together_are_stored_once() {
    let Some(server) = PostgresServer::start("copies that arrive together are stored once") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let new = delivery("evt", "body").await;
    let accepted = join_all((0..40).map(|_| store.accept(&new, RETENTION))).await;
    let accepted: Vec<_> = accepted.into_iter().map(Result::unwrap).collect();
    assert_eq!(accepted.iter().filter(|outcome| **outcome == Acceptance::Accepted).count(), 1);
    assert_eq!(accepted.iter().filter(|outcome| **outcome == known("body")).count(), 39);
    assert_eq!(count(&client, STORED).await, 1);
}

/// The deliveries have different event ids, ordering keys and bodies. Some lack an event id or ordering keys.
#[tokio::test]
async fn batched_deliveries_are_not_mixed_up() {
    let Some(server) = PostgresServer::start("batched deliveries are not mixed up") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let keys: [&[&str]; 4] = [&[], &["a"], &["a", "b", "c"], &["c"]];
    let all = join_all((0..32).map(|n| async move { ordered(&format!("evt-{n}"), keys[n % 4]).await })).await;
    let accepted = join_all(all.iter().map(|new| store.accept(new, RETENTION))).await;
    assert!(accepted.iter().all(|outcome| matches!(outcome, Ok(Acceptance::Accepted))));
    let rows = client
        .query(
            "
                SELECT
                    event_id,
                    ordering_keys,
                    body,
                    (
                        SELECT array_agg(ordering_key ORDER BY ordering_key)
                        FROM klikit_inbox_key AS queue
                        WHERE queue.id = inbox.id
                    )
                FROM klikit_inbox AS inbox
                JOIN klikit_inbox_body USING (id)
                ORDER BY id",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(rows.len(), all.len());
    // The ids follow the order of arrival.
    for (n, (row, new)) in rows.iter().zip(&all).enumerate() {
        let stored_keys: Vec<_> = keys[n % 4].iter().map(|key| format!("custom:{key}@default")).collect();
        // No keys are stored as NULL.
        let stored_keys = Some(stored_keys).filter(|keys| !keys.is_empty());
        assert_eq!(row.get::<_, Option<String>>(0).as_deref(), new.event_id());
        assert_eq!(row.get::<_, Option<Vec<String>>>(1), stored_keys);
        assert_eq!(row.get::<_, &[u8]>(2), &new.body()[..]);
        assert_eq!(row.get::<_, Option<Vec<String>>>(3), stored_keys);
    }
}
