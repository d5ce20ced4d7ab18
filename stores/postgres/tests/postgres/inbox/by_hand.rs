//! Tests of changes that operators make by hand, and of the documented statements.

use std::time::{Duration, SystemTime};

use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};
use tower_klikit::{
    dedupe::Ledger,
    inbox::{Acceptance, DeliveryId, DeliveryState, InboxAdmin, InboxStore, NewDelivery, Pause, ShowBody},
};
use tower_klikit_postgres::PostgresStore;

use super::{RETENTION, TIME, accept, accept_all, bodies, dead_letter, delivery, finish, lease, lease_one, ordered};
use crate::{TERMS, client, count, ends, open, patient, servers::postgres::PostgresServer};

/// The statements in the docs, each with its heading.
fn documented() -> Vec<(String, String)> {
    let (mut heading, mut sql, mut found) = (String::new(), None, Vec::new());
    for line in include_str!("../../../src/queries.rs").lines() {
        let line = line.strip_prefix("//!").map(|line| line.strip_prefix(' ').unwrap_or(line)).expect("only docs");
        match (&mut sql, line) {
            (None, "```sql") => sql = Some(String::new()),
            (Some(_), "```") => found.push((heading.clone(), sql.take().unwrap())),
            (Some(sql), line) => sql.push_str(&format!("{line}\n")),
            (None, line) => heading = line.strip_prefix("# ").map_or(heading, Into::into),
        }
    }
    found
}

/// Runs the statements below a heading of the docs. Returns their rows, and the number of rows that the last statement
/// before the commit changed.
async fn run(client: &Client, heading: &str, number: usize) -> (Vec<SimpleQueryRow>, u64) {
    let all = documented();
    let (_, sql) = all.iter().filter(|(of, _)| of == heading).nth(number).expect("the docs have the statement");
    let (mut rows, mut counts) = (Vec::new(), Vec::new());
    for message in client.simple_query(sql).await.unwrap() {
        match message {
            SimpleQueryMessage::Row(row) => rows.push(row),
            SimpleQueryMessage::CommandComplete(count) => counts.push(count),
            _ => {}
        }
    }
    if sql.ends_with("COMMIT;\n") {
        counts.pop();
    }
    (rows, counts.pop().unwrap_or_default())
}

/// Runs a documented query. Returns this column of its rows.
async fn column(client: &Client, heading: &str, column: &str) -> Vec<String> {
    let (rows, _) = run(client, heading, 0).await;
    rows.iter().map(|row| row.get(column).unwrap_or("NULL").to_owned()).collect()
}

/// A delivery with labels.
async fn labelled(id: &str, event_type: &str, tenant: &str, keys: &[&str]) -> NewDelivery {
    let head = format!(r#"{{"event_id":"{id}","event_type":"{event_type}","tenant":"{tenant}"}}"#);
    delivery(id, id).await.with_head(head).with_ordering_keys(keys)
}

#[tokio::test]
async fn documented_queries_find_deliveries() {
    let Some(server) = PostgresServer::start("documented queries find deliveries") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    client.batch_execute("ALTER TABLE klikit_inbox ALTER COLUMN id RESTART WITH 15").await.unwrap();
    let keys: &[_] = &["order:41@warung", "order:42@warung"];
    let deliveries = [
        labelled("evt-1040", "order.created", "warung", keys).await,
        labelled("evt-1041", "order.created", "warung", &keys[1..]).await,
        labelled("evt-1042", "order.created", "warung", &[]).await.with_terms(&["order:41", "order:42"]),
        labelled("evt-1043", "order.updated", "warung", &[]).await,
        labelled("evt-1044", "order.created", "kedai", &[]).await,
    ];
    accept_all(&store, &deliveries).await;
    // The tenants take turns.
    let mut leased = lease(&store, 4).await;
    leased.sort_by_key(|leased| leased.lease().id());
    assert_eq!(bodies(&leased), ["evt-1040", "evt-1042", "evt-1043", "evt-1044"]);
    dead_letter(&store, leased[1].lease(), "400 Bad Request").await;
    dead_letter(&store, leased[2].lease(), "503 Service Unavailable").await;
    finish(&store, leased[3].lease(), TIME).await;

    let states = run(&client, "How many deliveries are in each state", 0).await.0;
    let states: Vec<_> = states.iter().map(|row| (row.get(0).unwrap(), row.get(1).unwrap())).collect();
    assert_eq!(states, [("dead", "2"), ("done", "1"), ("leased", "1"), ("ready", "1")]);
    assert_eq!(column(&client, "The oldest pending deliveries", "id").await, ["15", "16"]);
    assert_eq!(column(&client, "The deliveries of an event", "id").await, ["17"]);
    assert_eq!(column(&client, "The deliveries that contain an order", "id").await, ["17"]);
    assert_eq!(column(&client, "The attempts to handle a delivery", "reason").await, ["400 Bad Request"]);
    assert_eq!(column(&client, "The deliveries of a tenant and an event type", "id").await, ["17", "16", "15"]);
    assert_eq!(column(&client, "The deliveries of an ordering key", "id").await, ["15", "16"]);
    assert_eq!(column(&client, "The queue of an ordering key", "state").await, ["leased", "ready"]);
    let reasons = column(&client, "Dead deliveries and their reasons, newest first", "reason").await;
    assert_eq!(reasons, ["503 Service Unavailable", "400 Bad Request"]);
    let due = "
        SELECT string_agg(state, ',' ORDER BY state)
        FROM klikit_deliveries
        WHERE due_at IS NOT NULL";
    let due: String = client.query_one(due, &[]).await.unwrap().get(0);
    assert_eq!(due, "done,leased,ready", "a dead delivery is never due");
    let one = run(&client, "One delivery, with its head and the size of its body", 0).await.0;
    assert_eq!((one[0].get("id"), one[0].get("body_bytes")), (Some("17"), Some("8")));
    assert_eq!(one[0].get("head"), Some(deliveries[2].head()));
    let bytes = run(&client, "The deliveries of an ordering key", 0).await.0;
    assert_eq!(bytes[0].get("ordering_keys"), Some("{order:41@warung,order:42@warung}"));
}

#[tokio::test]
async fn documented_statements_retry_and_forget() {
    let Some(server) = PostgresServer::start("documented statements retry and forget") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    client.batch_execute("ALTER TABLE klikit_inbox ALTER COLUMN id RESTART WITH 17").await.unwrap();
    let new = ordered("17", &["a"]).await;
    accept_all(&store, &[new.clone(), ordered("18", &["a"]).await, ordered("19", &["b"]).await]).await;
    for _ in 0..2 {
        for leased in lease(&store, 2).await {
            dead_letter(&store, leased.lease(), "503 Service Unavailable").await;
        }
    }
    assert_eq!(store.backlog(9).await.unwrap(), 0);

    assert_eq!(run(&client, "Retry dead deliveries", 0).await.1, 1);
    assert_eq!(run(&client, "Retry dead deliveries", 0).await.1, 0);
    let leased = lease_one(&store).await;
    assert_eq!((bodies(std::slice::from_ref(&leased)), leased.lease().attempt()), (vec!["17".to_owned()], 1));
    dead_letter(&store, leased.lease(), "503 Service Unavailable").await;

    assert_eq!(run(&client, "Retry dead deliveries", 1).await.1, 3);
    let first = lease(&store, 9).await;
    assert_eq!(bodies(&first), ["17", "19"], "the second is blocked by the first");
    finish(&store, first[1].lease(), Duration::ZERO).await;
    dead_letter(&store, first[0].lease(), "400").await;
    finish(&store, lease_one(&store).await.lease(), Duration::ZERO).await;

    assert_eq!(run(&client, "Forget a dead delivery", 0).await.1, 1);
    let rows = "
        SELECT
            (SELECT count(*) FROM klikit_inbox)
            + (SELECT count(*) FROM klikit_inbox_body)
            + (SELECT count(*) FROM klikit_inbox_key)
            + (SELECT count(*) FROM klikit_inbox_attempt)";
    assert_eq!(count(&client, rows).await, 0);
    assert_eq!(store.claim(new.claim(), &TERMS).await.unwrap(), tower_klikit::dedupe::ClaimOutcome::Claimed);
    store.release(new.claim()).await.unwrap();
    assert_eq!(accept(&store, &new).await, Acceptance::Accepted);
}

/// Forgetting takes the leasing lock first, and then locks rows.
#[tokio::test]
async fn documented_statements_meet_forgetting() {
    let Some(server) = PostgresServer::start_own("documented statements meet forgetting", &[]) else { return };
    // One connection, which has the statement prepared.
    let store = patient().max_connections(1).open(server.url()).await.unwrap();
    let (operator, blocker, reader) =
        (client(server.url()).await, client(server.url()).await, client(server.url()).await);
    let ever = SystemTime::UNIX_EPOCH..SystemTime::now() + TIME;
    assert_eq!(store.forget_keys(&ever.clone().into()).await.unwrap(), 0);
    for (heading, number) in [("Retry dead deliveries", 0), ("Retry dead deliveries", 1), ("Forget a dead delivery", 0)]
    {
        reader.batch_execute("ALTER TABLE klikit_inbox ALTER COLUMN id RESTART WITH 17").await.unwrap();
        accept(&store, &ordered(&format!("evt-{}-{number}", heading.len()), &["a"]).await).await;
        dead_letter(&store, lease_one(&store).await.lease(), "503 Service Unavailable").await;

        // Both wait before they change anything: forgetting waits for the table, and the statements wait for forgetting.
        blocker.batch_execute("BEGIN; LOCK TABLE klikit_ledger").await.unwrap();
        let forgetting = {
            let (store, ever) = (store.clone(), ever.clone());
            tokio::spawn(async move { store.forget_keys(&ever.into()).await })
        };
        let waiting = |lock: &str| {
            format!(
                "
                    SELECT count(*)
                    FROM pg_locks
                    WHERE locktype = '{lock}' AND NOT granted"
            )
        };
        while count(&reader, &waiting("relation")).await < 1 {}
        let (changed, ()) = ends(async {
            tokio::join!(run(&operator, heading, number), async {
                while count(&reader, &waiting("advisory")).await < 1 {}
                blocker.batch_execute("COMMIT").await.unwrap();
            })
        })
        .await;
        assert_eq!(changed.1, 0, "{heading}: the delivery is forgotten");
        assert_eq!(forgetting.await.unwrap().unwrap(), 1, "{heading}");
    }
}

/// The tests of this file run the statements of all twelve headings.
#[test]
fn docs_have_twelve_queries() {
    let mut headings: Vec<_> = documented().into_iter().map(|(heading, _)| heading).collect();
    headings.dedup();
    assert_eq!(headings.len(), 12, "{headings:?}");
}

/// Accepts three deliveries of one ordering key, and dead-letters the first.
async fn with_a_dead_head(server: &PostgresServer) -> (PostgresStore, Client, DeliveryId) {
    let (store, client) = (open(server.url()).await, client(server.url()).await);
    accept_all(&store, &[ordered("1", &["a"]).await, ordered("2", &["a"]).await, ordered("3", &["a"]).await]).await;
    let first = lease_one(&store).await;
    dead_letter(&store, first.lease(), "500").await;
    (store, client, first.lease().id())
}

#[tokio::test]
async fn dead_delivery_set_to_ready_by_hand_runs() {
    let Some(server) = PostgresServer::start("dead delivery set to ready by hand runs") else { return };
    let (store, client, first) = with_a_dead_head(&server).await;
    let second = lease_one(&store).await;
    // Update from another schema, whose search path does not find the tables.
    let schema: String = client.query_one("SELECT current_schema()", &[]).await.unwrap().get(0);
    client.batch_execute("SET search_path = pg_catalog").await.unwrap();
    let update = format!("UPDATE {schema}.klikit_inbox SET state = 0 WHERE id = $1");
    assert_eq!(client.execute(&update, &[&first.get()]).await.unwrap(), 1);
    assert_eq!(lease(&store, 9).await.len(), 0, "the second is leased");
    finish(&store, second.lease(), Duration::ZERO).await;
    let leased = lease(&store, 9).await;
    assert_eq!(bodies(&leased), ["1"]);
    finish(&store, leased[0].lease(), Duration::ZERO).await;
    assert_eq!(bodies(&lease(&store, 9).await), ["3"]);
}

#[tokio::test]
async fn done_delivery_set_to_ready_by_hand_runs() {
    let Some(server) = PostgresServer::start("done delivery set to ready by hand runs") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    for keys in [&[][..], &["a"]] {
        accept(&store, &ordered(&format!("evt-{}", keys.len()), keys).await).await;
        finish(&store, lease_one(&store).await.lease(), RETENTION).await;
        client.execute("UPDATE klikit_inbox SET state = 0 WHERE state = 3", &[]).await.unwrap();
        finish(&store, lease_one(&store).await.lease(), Duration::ZERO).await;
    }
}

/// Later deliveries with the same ordering key run.
#[tokio::test]
async fn delivery_removed_by_hand_blocks_no_others() {
    let Some(server) = PostgresServer::start("delivery removed by hand blocks no others") else { return };
    let (store, client, _) = with_a_dead_head(&server).await;
    for (remove, next) in [
        ("UPDATE klikit_inbox SET state = 2 WHERE state < 2 AND id = $1", "3"),
        ("DELETE FROM klikit_inbox WHERE id = $1", "4"),
    ] {
        accept(&store, &ordered("4", &["a"]).await).await;
        let held = lease_one(&store).await;
        assert_eq!(lease(&store, 9).await.len(), 0);
        client.execute(remove, &[&held.lease().id().get()]).await.unwrap();
        let leased = lease_one(&store).await;
        assert_eq!(bodies(std::slice::from_ref(&leased)), [next]);
        super::release(&store, leased.lease()).await;
    }
}

/// This holds for deliveries that are examined one by one, and for the heads of the queues.
#[tokio::test]
async fn row_left_in_a_queue_blocks_nothing() {
    let Some(server) = PostgresServer::start("row left in a queue blocks nothing") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    for (number, remove) in [
        "
            UPDATE klikit_inbox SET ordering_keys = NULL;
            DELETE FROM klikit_inbox",
        "
            SET session_replication_role = replica;
            DELETE FROM klikit_inbox;
            RESET session_replication_role",
        "
            SET session_replication_role = replica;
            UPDATE klikit_inbox SET state = 2;
            RESET session_replication_role",
        "TRUNCATE klikit_inbox",
    ]
    .into_iter()
    .enumerate()
    {
        accept_all(&store, &[ordered(&format!("{number}-a"), &["a"]).await]).await;
        client.batch_execute(remove).await.unwrap();
        accept_all(&store, &[ordered(&format!("{number}-b"), &["a"]).await]).await;
        let leased = lease(&store, 9).await;
        assert_eq!(bodies(&leased), [format!("{number}-b")], "{remove}");
        finish(&store, leased[0].lease(), Duration::ZERO).await;
    }
    assert!(count(&client, "SELECT count(*) FROM klikit_inbox_key").await >= 3, "the triggers were switched off");

    // Block so many deliveries that the heads of the queues are examined.
    accept_all(&store, &[ordered("head", &["0"]).await]).await;
    lease_one(&store).await;
    for number in 0..500 {
        accept(&store, &ordered(&format!("blocked-{number}"), &["0"]).await).await;
    }
    accept_all(&store, &[ordered("last", &["a"]).await]).await;
    assert_eq!(bodies(&lease(&store, 9).await), ["last"]);
}

#[tokio::test]
async fn ordering_keys_changed_by_hand_count() {
    let Some(server) = PostgresServer::start("ordering keys changed by hand count") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    accept_all(&store, &[ordered("1", &[]).await, ordered("2", &["a"]).await, ordered("3", &["a"]).await]).await;
    let leased = lease(&store, 9).await;
    assert_eq!(bodies(&leased), ["1", "2"]);
    super::release(&store, leased[0].lease()).await;
    // The first now shares a key with the second, which is leased.
    let share = "
        UPDATE klikit_inbox
        SET ordering_keys = (SELECT ordering_keys || ordering_keys FROM klikit_inbox WHERE state = 1)
        WHERE ordering_keys IS NULL";
    client.batch_execute(share).await.unwrap();
    assert_eq!(lease(&store, 9).await.len(), 0, "the second is leased");
    finish(&store, leased[1].lease(), Duration::ZERO).await;
    assert_eq!(bodies(&lease(&store, 9).await), ["1"]);
    client.batch_execute("UPDATE klikit_inbox SET ordering_keys = NULL WHERE state = 1").await.unwrap();
    assert_eq!(bodies(&lease(&store, 9).await), ["3"]);
    assert_eq!(count(&client, "SELECT count(*) FROM klikit_inbox_key").await, 1);
}

/// The delivery was never leased, so only the trigger marks that a later delivery of its key may be leased.
#[tokio::test]
async fn never_leased_delivery_returns_without_overlap() {
    let Some(server) = PostgresServer::start("never leased delivery returns without overlap") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    accept_all(&store, &[ordered("1", &["a"]).await, ordered("2", &["a"]).await]).await;
    let dead_letter = "
        UPDATE klikit_inbox
        SET state = 2
        WHERE id = (SELECT min(id) FROM klikit_inbox)";
    client.execute(dead_letter, &[]).await.unwrap();
    let second = lease_one(&store).await;
    assert_eq!(bodies(std::slice::from_ref(&second)), ["2"]);
    client.execute("UPDATE klikit_inbox SET state = 0 WHERE state = 2", &[]).await.unwrap();
    assert_eq!(lease(&store, 9).await.len(), 0, "the second is leased");
    finish(&store, second.lease(), Duration::ZERO).await;
    assert_eq!(bodies(&lease(&store, 9).await), ["1"]);
}

#[tokio::test]
async fn labels_are_stored_and_revived() {
    let Some(server) = PostgresServer::start("labels are stored and revived") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let labels = "
        SELECT concat_ws('|', event_id, event_type, tenant, array_to_string(ordering_keys, ','))
        FROM klikit_deliveries";
    let stored = || async { client.query_one(labels, &[]).await.unwrap().get::<_, String>(0) };
    let first = labelled("evt-1", "order.created", "warung", &["a", "b"]).await;
    accept(&store, &first).await;
    assert_eq!(stored().await, "evt-1|order.created|warung|a,b");
    let dead = lease_one(&store).await;
    dead_letter(&store, dead.lease(), "500").await;
    let head = r#"{"event_id":"evt-1","event_type":"order.updated","tenant":"kedai\u0000"}"#;
    let again = first.with_head(head).with_ordering_keys(&["c"]);
    assert_eq!(accept(&store, &again).await, Acceptance::Revived);
    assert_eq!(stored().await, "evt-1|order.updated|kedai\u{fffd}|c");
    assert_eq!(count(&client, "SELECT count(*) FROM klikit_inbox_key WHERE ordering_key = 'c'").await, 1);
    assert_eq!(count(&client, "SELECT count(*) FROM klikit_inbox_key").await, 1);
    let shown = store.show(dead.lease().id(), ShowBody::Include).await.unwrap().unwrap();
    assert_eq!(shown.state, DeliveryState::Ready);
}

/// A node adds missing tenants when it leases for the first time, and then every 30 seconds.
#[tokio::test]
async fn tenants_written_by_hand_are_leased() {
    let Some(server) = PostgresServer::start("tenants written by hand are leased") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    for keys in [&[][..], &["a"]] {
        let id = keys.len().to_string();
        accept_all(&store, &[ordered(&id, keys).await, ordered(&format!("{id}-moved"), &[]).await]).await;
        let moved = format!("UPDATE klikit_inbox SET tenant = 'kedai {id}' WHERE event_id = '{id}'");
        assert_eq!(client.execute(&moved, &[]).await.unwrap(), 1);
        assert_eq!(bodies(&lease(&open(server.url()).await, 1).await).len(), 1);
        assert_eq!(bodies(&lease(&open(server.url()).await, 8).await).len(), 1);
    }
    assert_eq!(count(&client, "SELECT count(*) FROM klikit_inbox_tenant").await, 3);
}

/// Searches begin behind a long paused backlog. Once it is resumed, a node notices with its next search.
#[tokio::test]
async fn paused_backlog_is_skipped_until_resumed() {
    let Some(server) = PostgresServer::start("paused backlog is skipped until resumed") else { return };
    let store = open(server.url()).await;
    let client = client(server.url()).await;
    let fill = "
        INSERT INTO klikit_inbox (due, accepted_at, token, key, attempts, state, event_type, tenant)
        SELECT now() - interval '1 hour', now(), 0, gen_random_uuid(), 0, 0, 'paused', 'default'
        FROM generate_series(1, 3000);
        INSERT INTO klikit_inbox_body (id, digest, head, body)
        SELECT id, '', '{}', 'paused'
        FROM klikit_inbox";
    client.batch_execute(fill).await.unwrap();
    let pause = Pause::everything().event_type("paused");
    assert_eq!(store.pause(&pause, "clerk").await.unwrap(), 0);
    for n in 0..3 {
        accept_all(&store, &[delivery(&n.to_string(), &n.to_string()).await]).await;
        assert_eq!(bodies(&lease(&store, 4).await), [n.to_string()]);
    }
    assert!(lease(&store, 4).await.is_empty());
    assert!(store.resume(&pause).await.unwrap());
    let resumed = [lease(&store, 4).await, lease(&store, 4).await].concat();
    assert!(bodies(&resumed).starts_with(&["paused".to_owned()]), "{resumed:?}");
}
