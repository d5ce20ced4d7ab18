//! Measures the cost of acknowledging deliveries through the inbox on `SqliteStore`.
//!
//! 64 clients send distinct deliveries of 8 kB. The cases are one commit per insert, the acceptor, the acceptor over
//! HTTP, a worker that handles the deliveries meanwhile, and 50,000 blocked deliveries. Each case runs with fsync
//! slowed down by a millisecond, and with the disk's own fsync.
//!
//! Run it with `cargo bench -p tower-klikit-sqlite --bench inbox_sqlite`. It needs a C compiler for the library that
//! slows fsync down, and a system that can preload libraries.
#![allow(missing_docs)]

#[path = "support/disk.rs"]
mod disk;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use axum::{Router, routing::post_service};
use bytes::Bytes;
use disk::{BenchFolder, Figures, fsync, run_slowed_by, slowed_by};
use futures_util::future::BoxFuture;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rusqlite::{Connection, params};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::oneshot,
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_klikit::{
    KlikitVerifyLayer, VerifiedBody,
    dedupe::BodyDigest,
    inbox::{Inbox, InboxStore, OrderBy},
    testing::SignedDelivery,
};

const CLIENTS: u64 = 64;
const ROUNDS: usize = 3;
const BODY: usize = 8 * 1024;
const SECRET: &str = "klikit-bench-secret";
/// The number of deliveries that one delivery blocks.
const BLOCKED: u64 = 50_000;

fn main() {
    match slowed_by() {
        Some(slow) => measure(slow),
        None => run_slowed_by(&["1000", "0"]),
    }
}

fn measure(slow: u32) {
    println!("fsync slowed down by {slow} µs: takes {} µs in total", fsync().as_micros());
    let names = [
        "one commit per insert",
        "acceptor",
        "acceptor over HTTP/1.1",
        "accepted and handled",
        "worker, empty inbox",
        "worker, 50,000 blocked",
    ];
    let mut rounds: Vec<[Figures; 6]> = (0..ROUNDS)
        .map(|_| {
            [one_by_one(slow), in_process(), over_http(), accept_and_handle(), with_worker(0), with_worker(BLOCKED)]
        })
        .collect();
    let medians: Vec<_> = (0..names.len())
        .map(|case| {
            rounds.sort_by(|a, b| a[case].per_second.total_cmp(&b[case].per_second));
            rounds[ROUNDS / 2][case]
        })
        .collect();
    for (name, figures) in names.iter().zip(&medians) {
        figures.print(name, "deliveries");
    }
    let ratio = |name: &str, ratio: f64| println!("  {name:<46} {ratio:>6.2}");
    let [single, accepted, http, handled, empty, blocked] = medians[..] else { unreachable!("there are six names") };
    ratio("acceptor / one commit per insert", accepted.per_second / single.per_second);
    ratio("over HTTP / acceptor", http.per_second / accepted.per_second);
    ratio("accepted and handled / acceptor", handled.per_second / accepted.per_second);
    ratio("p99 with 50,000 blocked / with an empty inbox", blocked.p99.as_secs_f64() / empty.p99.as_secs_f64());
    println!();
}

/// Measures inserts on one connection behind a mutex, with the store's settings and rows.
fn one_by_one(slow: u32) -> Figures {
    let folder = BenchFolder::new();
    drop(folder.open());
    let connection = Connection::open(folder.file()).expect("the file was just created");
    let settings = "
        PRAGMA journal_mode = WAL;
        PRAGMA synchronous = FULL;
        ";
    connection.execute_batch(settings).expect("SQLite applies the settings");
    let connection = Mutex::new(connection);
    let each = if slow == 0 { 100 } else { 20 };
    let started = Instant::now();
    let times = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let connection = &connection;
                scope.spawn(move || (0..each).map(|n| Some(insert(connection, client * each + n))).collect::<Vec<_>>())
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().expect("the client does not panic")).collect()
    });
    Figures::new(times, started.elapsed())
}

fn insert(connection: &Mutex<Connection>, event: u64) -> Duration {
    let hash = BodyDigest::of(&event.to_be_bytes());
    let (key, token) = hash.as_bytes().split_at(16);
    let body = vec![b'o'; BODY];
    let started = Instant::now();
    let connection = connection.lock().expect("no client panics");
    let insert = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        let mut insert = connection.prepare_cached(sql).expect("the statement is valid");
        assert_eq!(insert.execute(values).expect("the insert succeeds"), 1);
    };
    let transaction = connection.unchecked_transaction().expect("the transaction begins");
    let digest = hash.as_bytes();
    insert(
        "
        INSERT INTO klikit_ledger (key, digest, token, state, until, claimed_at)
        VALUES (?1, ?2, ?3, 1, ?4, ?4)
        ON CONFLICT DO NOTHING
        ",
        params![key, digest, token, 1_800_000_000_000_i64],
    );
    insert(
        "
        INSERT INTO klikit_inbox (key, state, due, attempts, token, accepted_at, since, tenant)
        VALUES (?1, 0, ?2, 0, 0, ?2, ?2, 'default')
        ",
        params![key, 1_700_000_000_000_i64],
    );
    let id = connection.last_insert_rowid();
    insert(
        "
        INSERT INTO klikit_inbox_body (id, digest, head, body)
        VALUES (?1, ?2, ?3, ?4)
        ",
        params![id, digest, "o".repeat(250), body],
    );
    transaction.commit().expect("the commit succeeds");
    started.elapsed()
}

/// Measures the acceptor, called within this process.
fn in_process() -> Figures {
    let folder = BenchFolder::new();
    let inbox = Inbox::new(folder.open());
    Runtime::new().expect("the runtime starts").block_on(async {
        let (times, started) = send_all(requests(300), acknowledge(&inbox)).await;
        Figures::new(times, started.elapsed())
    })
}

/// Measures the acceptor behind an HTTP/1.1 server on the loopback interface.
fn over_http() -> Figures {
    let folder = BenchFolder::new();
    let inbox = Inbox::new(folder.open());
    Runtime::new().expect("the runtime starts").block_on(async {
        let app = Router::new()
            .route("/webhooks/klikit", post_service(KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor())));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("the listener has an address");
        tokio::spawn(async { axum::serve(listener, app).await });
        let mut clients = vec![];
        for _ in 0..CLIENTS {
            clients.push(connect(address).await);
        }
        let requests = requests(200);
        let started = Instant::now();
        let clients: Vec<_> = requests
            .into_iter()
            .zip(clients)
            .map(|(requests, mut connection)| {
                tokio::spawn(async move {
                    let mut times = vec![];
                    for mut request in requests {
                        request.headers_mut().insert(header::HOST, header::HeaderValue::from_static("localhost"));
                        let started = Instant::now();
                        connection.ready().await.expect("the connection is open");
                        let response = connection.send_request(request).await.expect("the server responds");
                        let status = response.status();
                        response.into_body().collect().await.expect("the response has a body");
                        times.push((status == 200).then(|| started.elapsed()));
                    }
                    times
                })
            })
            .collect();
        let times = joined(clients).await;
        Figures::new(times, started.elapsed())
    })
}

async fn connect(address: SocketAddr) -> hyper::client::conn::http1::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.expect("the server listens");
    stream.set_nodelay(true).expect("the option can be set");
    let (client, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("the handshake cannot fail");
    tokio::spawn(connection);
    client
}

/// Measures from the first delivery sent to the last delivery handled. The latencies are those of the acknowledgements.
fn accept_and_handle() -> Figures {
    let folder = BenchFolder::new();
    let store = folder.open();
    let inbox = Inbox::new(store.clone());
    Runtime::new().expect("the runtime starts").block_on(async {
        let (worker, stop) = start_worker(&inbox, handle_at_once());
        let (times, started) = send_all(requests(300), acknowledge(&inbox)).await;
        while store.backlog(1).await.expect("the store counts") > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let all = started.elapsed();
        drop(stop);
        worker.await.expect("the worker does not panic");
        Figures::new(times, all)
    })
}

/// Measures acknowledgements while a worker leases deliveries. This many deliveries are blocked by one that never ends.
fn with_worker(blocked: u64) -> Figures {
    let folder = BenchFolder::new();
    let store = folder.open();
    block(&folder, blocked);
    let inbox = Inbox::new(store).order_by(OrderBy::keys(|_, _| vec![]));
    Runtime::new().expect("the runtime starts").block_on(async {
        let (worker, stop) = start_worker(&inbox, handle_at_once());
        let (times, started) = send_all(requests(100), acknowledge(&inbox)).await;
        let all = started.elapsed();
        drop(stop);
        worker.await.expect("the worker does not panic");
        Figures::new(times, all)
    })
}

/// Inserts this many deliveries with one ordering key. The first delivery is leased for a long time, and blocks the
/// others.
fn block(folder: &BenchFolder, deliveries: u64) {
    let connection = Connection::open(folder.file()).expect("the file opens");
    let insert = "
        BEGIN;

        -- The ids.
        CREATE TEMP TABLE n AS
        WITH RECURSIVE n (n) AS (
            SELECT 1
            UNION ALL
            SELECT n + 1 FROM n WHERE n < :n
        )
        SELECT n FROM n;

        -- The deliveries, all of them ready.
        INSERT INTO klikit_inbox (id, key, state, due, attempts, token, accepted_at, since, tenant, ordering_keys)
        SELECT
            n, randomblob(16), 0, 1700000000000, 0, 0, 1700000000000, 1700000000000, 'default',
            '[\"order:42@default\"]'
        FROM n
        WHERE n <= :n;

        -- Leases the first delivery.
        UPDATE klikit_inbox SET state = 1, due = 4000000000000
        WHERE id = 1;

        -- The bodies and the queue.
        INSERT INTO klikit_inbox_body (id, digest, head, body)
        SELECT n, zeroblob(32), '{}', 'o'
        FROM n
        WHERE n <= :n;

        INSERT INTO klikit_inbox_key (ordering_key, id)
        SELECT 'order:42@default', n
        FROM n
        WHERE n <= :n;

        COMMIT;
        ";
    connection.execute_batch(&insert.replace(":n", &deliveries.to_string())).expect("the inserts succeed");
    let count = "SELECT count(*) FROM klikit_inbox";
    let rows: i64 = connection.query_row(count, [], |row| row.get(0)).expect("SQLite counts");
    assert_eq!(rows.unsigned_abs(), deliveries);
}

fn start_worker<S>(inbox: &Inbox, handler: S) -> (tokio::task::JoinHandle<()>, oneshot::Sender<()>)
where
    S: Service<Request<VerifiedBody>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let (stop, stopped) = oneshot::channel();
    let worker = inbox.worker(handler).concurrency(64);
    (tokio::spawn(async move { worker.run_until(stopped).await }), stop)
}

fn handle_at_once()
-> impl Service<Request<VerifiedBody>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static {
    service_fn(|request: Request<VerifiedBody>| async move {
        drop(request);
        Ok(Response::new(Full::default()))
    })
}

/// Returns a function that sends a request through the verify layer to the acceptor, and returns whether the request
/// was acknowledged.
fn acknowledge(inbox: &Inbox) -> impl Fn(Request<Full<Bytes>>) -> BoxFuture<'static, bool> + Clone + use<> {
    let service = KlikitVerifyLayer::new(SECRET).layer(inbox.acceptor());
    move |request| {
        let response = service.clone().oneshot(request);
        Box::pin(async { response.await.is_ok_and(|response| response.status() == 200) })
    }
}

/// Returns this many requests for each client, prepared before the measurement.
fn requests(each: u64) -> Vec<Vec<Request<Full<Bytes>>>> {
    (0..CLIENTS).map(|client| (0..each).map(|n| delivery(client, n).request()).collect()).collect()
}

/// Sends each client's requests one after the other. Returns their latencies and the start time.
async fn send_all<F>(requests: Vec<Vec<Request<Full<Bytes>>>>, send: F) -> (Vec<Option<Duration>>, Instant)
where
    F: Fn(Request<Full<Bytes>>) -> BoxFuture<'static, bool> + Clone + Send + 'static,
{
    let started = Instant::now();
    let clients: Vec<_> = requests
        .into_iter()
        .map(|requests| {
            let send = send.clone();
            tokio::spawn(async move {
                let mut times = Vec::with_capacity(requests.len());
                for request in requests {
                    let started = Instant::now();
                    times.push(send(request).await.then(|| started.elapsed()));
                }
                times
            })
        })
        .collect();
    (joined(clients).await, started)
}

async fn joined(clients: Vec<tokio::task::JoinHandle<Vec<Option<Duration>>>>) -> Vec<Option<Duration>> {
    let mut times = vec![];
    for client in clients {
        times.extend(client.await.expect("the client does not panic"));
    }
    times
}

/// Returns a delivery whose event id and body are unique.
fn delivery(client: u64, n: u64) -> SignedDelivery {
    let id = format!("bench-{client}-{n}");
    SignedDelivery::new(SECRET, format!("{id:o<BODY$}")).event_id(id)
}
