//! Tests of stores behind a pooler in transaction mode, on whose connections other programs have named statements.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::{sync::oneshot, time::sleep};
use tokio_postgres::{Client, SimpleQueryMessage};
use tower::service_fn;
use tower_klikit::{
    VerifiedBody,
    dedupe::{ClaimOutcome, Ledger, LedgerAdmin},
    inbox::{Acceptance, DeliveryState, Inbox, InboxAdmin, InboxStore, Lease, SettleOutcome, Settlement, ShowBody},
};
use tower_klikit_postgres::PostgresStore;

use crate::{
    LEASE, RETENTION, TERMS, claim, client, count, done, ends,
    inbox::{accept, dead_letters, lease, ordered, retry, send},
    log::Log,
    open, patient,
    servers::{pgbouncer::PgBouncer, postgres::PostgresServer},
};

const POOL: u32 = 3;
const CALLERS: u64 = 20;
const ROUNDS: u64 = 10;

/// The number of pending deliveries that the test never settles.
const WITNESSES: u32 = 5;

const WITNESSED: &str = "
    SELECT count(*)
    FROM klikit_inbox
    JOIN klikit_inbox_body USING (id)
    WHERE event_id LIKE 'witness-%'";

const PAUSE: Duration = Duration::from_millis(5);

fn start(test: &str) -> Option<(PostgresServer, PgBouncer)> {
    let server = PostgresServer::start_own(test, &["fsync=on"])?;
    let pooler = PgBouncer::in_front_of(test, &server, POOL)?;
    Some((server, pooler))
}

/// Claims, renews and completes the delivery of an event.
async fn handle(store: &PostgresStore, event: u64) -> Result<(), String> {
    let (claim, copy) = (claim(event), claim(event));
    let outcome = store.claim(&claim, &TERMS).await.map_err(|error| format!("{error:?}"))?;
    let renewed = store.renew(std::slice::from_ref(&claim), &TERMS).await.map_err(|error| format!("{error:?}"))?;
    let completed = store.complete(&claim, RETENTION).await.map_err(|error| format!("{error:?}"))?;
    let second = store.claim(&copy, &TERMS).await.map_err(|error| format!("{error:?}"))?;
    let all = (outcome, renewed, completed, second);
    let right = (ClaimOutcome::Claimed, vec![true], true, done(event));
    if all == right { Ok(()) } else { Err(format!("{all:?}")) }
}

/// Two stores, like two processes, have more connections than the pooler.
#[tokio::test]
async fn two_stores_share_a_pooler() {
    let Some((_server, pooler)) = start("two stores share a pooler") else { return };
    let log = Log::default();
    let _guard = log.listen();
    let stores = [open(&pooler.url()).await, open(&pooler.url()).await];
    let handled: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let handler = service_fn({
        let handled = Arc::clone(&handled);
        move |request: Request<VerifiedBody>| {
            let id = String::from_utf8(request.body().as_ref().to_vec()).unwrap();
            *handled.lock().unwrap().entry(id).or_default() += 1;
            async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) }
        }
    });
    let workers = stores.iter().map(|store| {
        let (stop, stopped) = oneshot::channel::<()>();
        let worker = Inbox::new(store.clone()).worker(handler.clone()).poll_interval(PAUSE);
        (stop, tokio::spawn(worker.run_until(stopped)))
    });
    let workers: Vec<_> = workers.collect();
    let callers = (0..2 * CALLERS).map(|caller| {
        let store = stores[usize::try_from(caller % 2).unwrap()].clone();
        tokio::spawn(async move {
            let (inbox, mut errors) = (Inbox::new(store.clone()), Vec::new());
            for event in caller * ROUNDS..(caller + 1) * ROUNDS {
                // The second call is a duplicate.
                for _ in 0..2 {
                    let status = send(&inbox, &format!("evt-{event}"), &format!("evt-{event}")).await;
                    if status != StatusCode::OK {
                        errors.push(format!("evt-{event}: {status}"));
                    }
                }
                errors.extend(handle(&store, event).await.err());
            }
            errors
        })
    });
    let errors: Vec<_> = ends(join_all(callers)).await.into_iter().flat_map(Result::unwrap).collect();
    assert!(errors.is_empty(), "{} errors: {:#?}", errors.len(), &errors[..errors.len().min(5)]);
    ends(async {
        while stores[0].backlog(1).await.unwrap() > 0 {
            sleep(PAUSE).await;
        }
    })
    .await;
    for (stop, worker) in workers {
        stop.send(()).unwrap();
        ends(worker).await.unwrap();
    }
    let handled = std::mem::take(&mut *handled.lock().unwrap());
    assert_eq!(handled.len(), usize::try_from(2 * CALLERS * ROUNDS).unwrap());
    assert!(handled.values().all(|&times| times == 1), "{handled:?}");
    assert_eq!(log.taken(), "");
    assert_eq!(names(&pooler).await, [""; 0], "no statement has a name");
}

#[tokio::test(flavor = "multi_thread")]
async fn opens_several_stores_at_once() {
    let Some((_server, pooler)) = start("opens several stores at once") else { return };
    for round in 0..5 {
        let opening = (0..4).map(|_| {
            let (builder, url) = (patient().table_prefix(format!("round_{round}_")), pooler.url());
            tokio::spawn(async move { builder.open(&url).await })
        });
        for (event, opened) in (0..).zip(ends(join_all(opening)).await) {
            handle(&opened.unwrap().unwrap(), event).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hands_off_through_a_pooler() {
    let Some((server, pooler)) = start("hands off through a pooler") else { return };
    let admin = client(server.url()).await;
    admin.batch_execute("CREATE TABLE queue (job text, head json, body bytea)").await.unwrap();
    let enqueue = "INSERT INTO queue VALUES ($3, $2::json, $1)";
    let open = || async { patient().hand_off(enqueue).open(&pooler.url()).await.unwrap() };
    let stores = [open().await, open().await];
    let callers = (0..2 * CALLERS).map(|caller| {
        let inbox = Inbox::new(stores[usize::try_from(caller % 2).unwrap()].clone());
        tokio::spawn(async move {
            let mut answers = Vec::new();
            // Two callers send each delivery, one on each store.
            for event in caller / 2 * ROUNDS..(caller / 2 + 1) * ROUNDS {
                let id = format!("evt-{event}");
                answers.push(send(&inbox, &id, &id).await);
            }
            answers
        })
    });
    let answers: Vec<_> = ends(join_all(callers)).await.into_iter().flat_map(Result::unwrap).collect();
    let rejected = answers.iter().filter(|answer| **answer != StatusCode::OK).count();
    assert_eq!(rejected, 0, "of {}", answers.len());
    let jobs = "SELECT count(*) * 1000 + count(DISTINCT job) FROM queue";
    assert_eq!(count(&admin, jobs).await, i64::try_from(CALLERS * ROUNDS * 1001).unwrap());
}

/// Another program uses the same names for its statements as the driver: `s0` and so on.
#[tokio::test]
async fn runs_no_statement_of_another_program() {
    let Some((server, pooler)) = start("runs no statement of another program") else { return };
    let admin = client(server.url()).await;
    let store = open(&pooler.url()).await;
    for n in 0..WITNESSES {
        let new = ordered(&format!("witness-{n}"), &[]).await;
        assert_eq!(accept(&store, &new).await, Acceptance::Accepted);
    }
    for round in 0..5 {
        let planted = plant(&pooler).await;
        let store = store.clone();
        // Compare the rows, because they tell more than the first call that fails.
        let used = ends(tokio::spawn(async move { use_all(&store, round).await })).await;
        assert_eq!(count(&admin, WITNESSED).await, i64::from(WITNESSES), "in round {round}");
        used.unwrap();
        assert_eq!(names(&pooler).await, planted, "the store's statements have no names");
    }
}

/// Makes each call of a store and checks its result.
async fn use_all(store: &PostgresStore, round: u64) {
    let new = ordered(&format!("evt-{round}"), &["a"]).await;
    assert_eq!(accept(store, &new).await, Acceptance::Accepted);
    assert!(matches!(accept(store, &new).await, Acceptance::Known { .. }));
    let all = WITNESSES + 1;
    assert_eq!(store.backlog(100).await.unwrap(), u64::from(all));

    let (mine, others) = lease_all(store, &new).await;
    assert_eq!(store.extend(&[&[mine], &others[..]].concat(), LEASE).await.unwrap(), vec![true; others.len() + 1]);
    assert_eq!(store.counts().await.unwrap().leased, u64::from(all));
    settle_all(store, mine, &others, Settlement::DeadLetter { reason: "500".into(), status: Some(500) }).await;
    let dead = dead_letters(store, None, 100).await;
    assert_eq!(dead.iter().map(|entry| entry.id).collect::<Vec<_>>(), [mine.id()]);
    assert_eq!(store.show(mine.id(), ShowBody::Include).await.unwrap().unwrap().state, DeliveryState::Dead);
    assert!(retry(store, mine.id()).await.unwrap());

    let (mine, others) = lease_all(store, &new).await;
    let reschedule =
        Settlement::Reschedule { delay: Duration::ZERO, reason: "503".into(), unordered: false, status: Some(503) };
    settle_all(store, mine, &others, reschedule).await;
    let (mine, others) = lease_all(store, &new).await;
    settle_all(
        store,
        mine,
        &others,
        Settlement::Done { keep: Duration::ZERO, history: Duration::ZERO, status: Some(200) },
    )
    .await;
    assert_eq!(store.counts().await.unwrap().ready, u64::from(WITNESSES));
    assert_eq!(store.purge_done(100).await.unwrap(), 0);
    assert_eq!(store.count_keys(&new.claim().event().into()).await.unwrap(), 1);
    assert_eq!(store.forget_keys(&new.claim().event().into()).await.unwrap(), 1);
    let long_ago = SystemTime::UNIX_EPOCH..SystemTime::UNIX_EPOCH + LEASE;
    assert_eq!(store.count_keys(&long_ago.clone().into()).await.unwrap(), 0);
    assert_eq!(store.forget_keys(&long_ago.clone().into()).await.unwrap(), 0);

    let released = claim(round);
    assert_eq!(store.claim(&released, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    store.release(&released).await.unwrap();
    handle(store, round).await.unwrap();
    assert_eq!(store.entries(&long_ago.clone().into(), None, 10).await.unwrap(), []);
    assert_eq!(store.forget(&long_ago.into()).await.unwrap(), 0);
    assert_eq!(store.purge(100).await.unwrap(), 0);
    let listed = store.entries(&released.event().into(), None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|entry| entry.key).collect::<Vec<_>>(), [*released.key()]);
    assert_eq!(store.forget(&released.event().into()).await.unwrap(), 1);
}

/// Leases all deliveries. Returns the lease on `new`, and the others.
async fn lease_all(store: &PostgresStore, new: &tower_klikit::inbox::NewDelivery) -> (Lease, Vec<Lease>) {
    let leased = lease(store, WITNESSES + 1).await;
    assert_eq!(leased.len(), usize::try_from(WITNESSES).unwrap() + 1);
    let (mine, others): (Vec<_>, Vec<_>) = leased.iter().partition(|leased| leased.body() == new.body());
    (*mine[0].lease(), others.iter().map(|leased| *leased.lease()).collect())
}

/// Settles one lease, and releases the others.
async fn settle_all(store: &PostgresStore, mine: Lease, others: &[Lease], settlement: Settlement) {
    let mut all = vec![(mine, settlement)];
    all.extend(others.iter().map(|lease| (*lease, Settlement::Release)));
    assert_eq!(store.settle(&all).await.unwrap(), vec![SettleOutcome::Settled; all.len()]);
}

/// Prepares named statements that delete deliveries on every connection of the pooler. Returns the names.
///
/// The names are those that stores have used, with parameters of the same types, and those that a new process uses first.
async fn plant(pooler: &PgBouncer) -> Vec<String> {
    let clients = occupy(pooler).await;
    let stolen = "
        SELECT DISTINCT format(
            'PREPARE %I%s AS DELETE FROM klikit_inbox',
            name,
            '(' || nullif(array_to_string(parameter_types, ', '), '') || ')'
        )
        FROM pg_prepared_statements";
    let mut planted = texts(&clients, stolen).await;
    planted.extend((0..=40).map(|n| format!("PREPARE s{n}(bigint) AS DELETE FROM klikit_inbox WHERE id >= $1")));
    for client in &clients {
        client.batch_execute("DEALLOCATE ALL").await.unwrap();
        let mut taken = Vec::new();
        for sql in &planted {
            let name = sql.split([' ', '(']).nth(1).unwrap();
            if !taken.contains(&name) {
                client.batch_execute(sql).await.unwrap();
                taken.push(name);
            }
        }
    }
    let names = texts(&clients, NAMES).await;
    release(clients).await;
    names
}

const NAMES: &str = "SELECT name FROM pg_prepared_statements ORDER BY name";

/// Returns the names of the prepared statements on all connections of the pooler.
async fn names(pooler: &PgBouncer) -> Vec<String> {
    let clients = occupy(pooler).await;
    let names = texts(&clients, NAMES).await;
    release(clients).await;
    names
}

/// Occupies all connections of the pooler.
async fn occupy(pooler: &PgBouncer) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..POOL {
        let client = client(&pooler.url()).await;
        client.batch_execute("BEGIN").await.unwrap();
        clients.push(client);
    }
    clients
}

async fn release(clients: Vec<Client>) {
    for client in clients {
        client.batch_execute("COMMIT").await.unwrap();
    }
}

/// Runs an unnamed query on all connections. Returns the distinct values of its first column.
async fn texts(clients: &[Client], sql: &str) -> Vec<String> {
    let mut texts = Vec::new();
    for client in clients {
        for message in client.simple_query(sql).await.unwrap() {
            if let SimpleQueryMessage::Row(row) = message {
                texts.push(row.get(0).unwrap().to_owned());
            }
        }
    }
    texts.sort();
    texts.dedup();
    texts
}
