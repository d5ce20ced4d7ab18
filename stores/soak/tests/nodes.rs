//! Tests of several nodes with one store: they handle a delivery once, even if many copies arrive at once.

#[path = "../../../tests/support/mod.rs"]
mod support;

use std::{
    collections::HashMap,
    convert::Infallible,
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use support::{BODY, SECRET, servers};
use tokio::{sync::mpsc, time::sleep};
use tower::{Layer, ServiceExt, service_fn};
use tower_klikit::{
    EventId, KlikitVerifyLayer, VerifiedBody,
    dedupe::{KlikitDedupeLayer, Ledger},
    testing::SignedDelivery,
};
use tower_klikit_postgres::PostgresStore;
use tower_klikit_redis::RedisStore;
use tower_klikit_sqlite::SqliteStore;

const COPIES: usize = 64;

/// The environment variable with the file of a child's store.
const FILE: &str = "KLIKIT_TEST_NODE_FILE";

/// Sends copies of a delivery to these nodes at once, and waits until the delivery is done. Returns how often it was
/// handled.
async fn times_handled(nodes: &[KlikitDedupeLayer], copies: usize, event_id: &str) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let handler = {
        let count = Arc::clone(&count);
        service_fn(move |_: Request<VerifiedBody>| {
            count.fetch_add(1, Ordering::SeqCst);
            async {
                // Long enough for the other copies to arrive.
                sleep(Duration::from_millis(20)).await;
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            }
        })
    };
    let verify = KlikitVerifyLayer::new(SECRET);
    let delivery = SignedDelivery::new(SECRET, BODY).event_id(event_id);
    let send = |node: &KlikitDedupeLayer| {
        let stack = verify.layer(node.layer(handler.clone()));
        tokio::spawn(stack.oneshot(delivery.request::<Full<Bytes>>()))
    };
    let responses = join_all((0..copies).map(|n| send(&nodes[n % nodes.len()]))).await;
    for response in responses {
        let status = response.unwrap().unwrap().status().as_u16();
        assert!(matches!(status, 200 | 503), "{status}");
    }
    // Copies are rejected with 503 while a node is handling the delivery, and answered with 200 once it is done.
    loop {
        let responses = join_all(nodes.iter().map(send)).await;
        if responses.into_iter().all(|response| response.unwrap().unwrap().status() == 200) {
            return count.load(Ordering::SeqCst);
        }
    }
}

/// Opens a store on this file, and creates the file if it is missing.
fn open(file: impl AsRef<std::path::Path>) -> SqliteStore {
    SqliteStore::builder().create().open(file).unwrap()
}

async fn assert_two_nodes_handle_each_delivery_once(nodes: [impl Ledger; 2]) {
    let nodes = nodes.map(KlikitDedupeLayer::new);
    for round in 0..10 {
        assert_eq!(times_handled(&nodes, COPIES, &format!("evt-{}-{round}", std::process::id())).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_on_redis_handle_a_delivery_once() {
    let Some(redis) = servers::redis::any() else { return };
    let node = RedisStore::builder().key_prefix(&redis.prefix);
    let nodes = [node.clone().open(&redis.url).await.unwrap(), node.open(&redis.url).await.unwrap()];
    assert_two_nodes_handle_each_delivery_once(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_on_postgres_handle_a_delivery_once() {
    let Some(postgres) = servers::postgres::PostgresServer::start("nodes") else { return };
    let url = postgres.url();
    let nodes = [PostgresStore::open(url).await.unwrap(), PostgresStore::open(url).await.unwrap()];
    assert_two_nodes_handle_each_delivery_once(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sqlite_connections_handle_a_delivery_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("klikit.db");
    assert_two_nodes_handle_each_delivery_once([open(&file), open(&file)]).await;
}

/// Checks that an outage of the store's server loses nothing. Sends each delivery until it is answered with 200, as
/// klikit does. All responses must be 200 or 503, every delivery must be handled, and deliveries from before the outage
/// must still be known. `interrupt` stops the server, waits until a delivery has failed, and starts the server again.
async fn assert_nothing_is_lost<Server: Send + 'static>(
    store: impl Ledger,
    interrupt: impl FnOnce(&dyn Fn()) -> Server + Send + 'static,
) {
    const DELIVERIES: usize = 100;
    let handled: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let handler = {
        let handled = Arc::clone(&handled);
        service_fn(move |request: Request<VerifiedBody>| {
            let id = request.extensions().get::<EventId>().unwrap().to_string();
            *handled.lock().unwrap().entry(id).or_default() += 1;
            async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("handled"))) }
        })
    };
    let node = KlikitDedupeLayer::new(store).lease(Duration::from_secs(3));
    let stack = KlikitVerifyLayer::new(SECRET).layer(node.layer(handler));
    let failures = Arc::new(AtomicUsize::new(0));
    let deliver = |n: usize| {
        let (stack, failures) = (stack.clone(), Arc::clone(&failures));
        tokio::spawn(async move {
            let delivery = SignedDelivery::new(SECRET, format!("{n}")).event_id(format!("evt-{n}"));
            loop {
                let response = stack.clone().oneshot(delivery.request::<Full<Bytes>>()).await.unwrap();
                match response.status().as_u16() {
                    200 => return response.into_body().collect().await.unwrap().to_bytes(),
                    503 => failures.fetch_add(1, Ordering::SeqCst),
                    other => panic!("the status is {other}"),
                };
            }
        })
    };
    let before: Vec<_> = (0..DELIVERIES / 2).map(deliver).collect();
    join_all(before).await;
    let (stopped, mut is_stopped) = mpsc::unbounded_channel();
    let outage = tokio::task::spawn_blocking({
        let failures = Arc::clone(&failures);
        let until_noticed = move || {
            let before = failures.load(Ordering::SeqCst);
            stopped.send(()).unwrap();
            while failures.load(Ordering::SeqCst) == before {
                std::thread::yield_now();
            }
        };
        move || interrupt(&until_noticed)
    });
    is_stopped.recv().await.unwrap();
    let during: Vec<_> = (DELIVERIES / 2..DELIVERIES).map(deliver).collect();
    let _server = outage.await.unwrap();
    for body in join_all(during).await {
        body.unwrap();
    }
    assert_eq!(handled.lock().unwrap().len(), DELIVERIES, "deliveries were lost");
    // Deliveries from before the outage are still known.
    for n in 0..DELIVERIES / 2 {
        assert_eq!(deliver(n).await.unwrap(), r#"{"status":"duplicate-ignored"}"#);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survives_redis_restart() {
    let Some(mut redis) = servers::redis::own(&["--appendonly", "yes", "--appendfsync", "always"]) else { return };
    let store = RedisStore::open(&redis.url()).await.unwrap();
    assert_nothing_is_lost(store, move |until_noticed| {
        redis.kill();
        until_noticed();
        redis.start();
        redis
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survives_postgres_restart() {
    let Some(mut postgres) = servers::postgres::PostgresServer::start_own("killed", &[]) else { return };
    let store = PostgresStore::open(postgres.url()).await.unwrap();
    assert_nothing_is_lost(store, move |until_noticed| {
        postgres.kill();
        until_noticed();
        postgres.restart();
        postgres
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survives_a_locked_sqlite_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("klikit.db");
    let store = open(&file);
    assert_nothing_is_lost(store, move |until_noticed| {
        let other = rusqlite::Connection::open(file).unwrap();
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        until_noticed();
        other.execute_batch("ROLLBACK").unwrap();
        folder
    })
    .await;
}

/// Runs the child of the next test. For each event id on standard input, sends copies of the delivery, and prints how
/// often this process has handled the delivery. Does nothing in a normal run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_handles() {
    let Some(file) = env::var_os(FILE) else { return };
    let node = [KlikitDedupeLayer::new(open(file))];
    println!("ready");
    for event_id in std::io::stdin().lines() {
        println!("handled {}", times_handled(&node, COPIES / 2, &event_id.unwrap()).await);
    }
}

/// A child process, which ends when this value is dropped.
struct ChildNode {
    child: Child,
    lines: Box<dyn Iterator<Item = String>>,
}

impl ChildNode {
    fn start(file: &std::path::Path) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child_handles", "--nocapture"])
            .env(FILE, file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        Self { child, lines: Box::new(lines) }
    }

    /// Returns the text after the word in the next line that contains the word.
    fn read(&mut self, word: &str) -> String {
        let line = self.lines.find_map(|line| line.split_once(word).map(|(_, rest)| rest.trim().to_owned()));
        line.unwrap_or_else(|| panic!("the child ended before it printed {word}"))
    }
}

impl Drop for ChildNode {
    fn drop(&mut self) {
        // The child ends when its input ends.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[test]
fn two_processes_on_sqlite_handle_a_delivery_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("klikit.db");
    let mut nodes = [ChildNode::start(&file), ChildNode::start(&file)];
    for node in &mut nodes {
        node.read("ready");
    }
    for round in 0..10 {
        for node in &mut nodes {
            writeln!(node.child.stdin.as_mut().unwrap(), "evt-{round}").unwrap();
        }
        let handled: usize = nodes.iter_mut().map(|node| node.read("handled").parse::<usize>().unwrap()).sum();
        assert_eq!(handled, 1);
    }
}
