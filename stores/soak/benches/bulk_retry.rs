//! Measures how much a retry of 100,000 dead letters slows the acceptor, on SQLite and Postgres.
//!
//! 16 clients send distinct deliveries of 4 kB as fast as they are acknowledged, first alone, and then while an
//! operator retries. No worker runs.
//!
//! Run it with `cargo bench -p tower-klikit-soak --bench bulk_retry`. It starts a Postgres server of its own.
#![allow(missing_docs)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use tokio::{runtime::Runtime, task::JoinSet, time::sleep};
use tower::{Layer, ServiceExt};
use tower_klikit::{
    KlikitVerifyLayer,
    inbox::{DeliveryState, Filter, Inbox},
    testing::SignedDelivery,
};
use tower_klikit_postgres::PostgresStore;
use tower_klikit_sqlite::SqliteStore;
use tower_klikit_test_support::servers::postgres::PostgresServer;

const SECRET: &str = "klikit-bench-secret";
const CLIENTS: usize = 16;
const DEAD: u64 = 100_000;
const ALONE: Duration = Duration::from_secs(10);
const BODY: usize = 4096;

fn main() {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let store = SqliteStore::builder().create().open(folder.path().join("klikit.db")).unwrap();
        measure("SQLite", Inbox::new(store)).await;
    });
    match PostgresServer::start_own("bulk_retry", &[]) {
        Some(server) => runtime.block_on(async {
            measure("Postgres", Inbox::new(PostgresStore::open(server.url()).await.unwrap())).await;
        }),
        None => println!("skipped Postgres: it is not installed"),
    }
}

async fn measure(name: &str, inbox: Inbox) {
    let inbox = inbox.max_backlog(10_000_000).max_stored(10_000_000);
    let sender = Arc::new(Sender { inbox: inbox.clone(), sent: AtomicU64::new(0), is_stopped: AtomicBool::new(false) });
    let operator = inbox.operator("bench");

    sender
        .send_until(async |sender| {
            while sender.sent() < DEAD {
                sleep(Duration::from_millis(10)).await
            }
        })
        .await;
    let pending = Filter::new().states([DeliveryState::Ready]);
    let dead = operator.dead_letter(pending, "a bench").run().await.unwrap();

    let alone = sender.send_until(async |_| sleep(ALONE).await).await;
    let started = Instant::now();
    let during = sender
        .send_until(async |_| {
            assert_eq!(operator.retry(Filter::new()).run().await.unwrap(), dead);
        })
        .await;
    let took = started.elapsed();
    println!("{name}: {dead} dead letters retried in {took:.1?}");
    println!("  alone:  {}", alone.show());
    println!("  during: {}, p99 {:.2} times", during.show(), during.p99().as_secs_f64() / alone.p99().as_secs_f64());
}

/// Clients that send deliveries until they are stopped.
struct Sender {
    inbox: Inbox,
    sent: AtomicU64,
    is_stopped: AtomicBool,
}

impl Sender {
    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Sends while `meanwhile` runs. Returns the time that each delivery took.
    async fn send_until(self: &Arc<Self>, meanwhile: impl AsyncFnOnce(&Self)) -> Latencies {
        self.is_stopped.store(false, Ordering::Relaxed);
        let started = Instant::now();
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(Arc::clone(self).client());
        }
        meanwhile(self).await;
        self.is_stopped.store(true, Ordering::Relaxed);
        let mut sorted: Vec<Duration> = clients.join_all().await.into_iter().flatten().collect();
        sorted.sort_unstable();
        Latencies { sorted, elapsed: started.elapsed() }
    }

    async fn client(self: Arc<Self>) -> Vec<Duration> {
        let stack = KlikitVerifyLayer::new(SECRET).layer(self.inbox.acceptor());
        let mut latencies = Vec::new();
        while !self.is_stopped.load(Ordering::Relaxed) {
            let number = self.sent.fetch_add(1, Ordering::Relaxed);
            let filler = "x".repeat(BODY);
            let body = format!(
                r#"{{"brand_id":1,"branch_id":{},"orders":[{{"id":{number}}}],"note":"{filler}"}}"#,
                number % 1000
            );
            let delivery = SignedDelivery::new(SECRET, body).event_id(format!("evt-{number}"));
            let request = delivery.request::<Full<Bytes>>();
            let started = Instant::now();
            let response = stack.clone().oneshot(request).await.unwrap();
            latencies.push(started.elapsed());
            assert_eq!(response.status(), 200);
        }
        latencies
    }
}

struct Latencies {
    sorted: Vec<Duration>,
    elapsed: Duration,
}

impl Latencies {
    fn p99(&self) -> Duration {
        self.percentile(99)
    }

    fn percentile(&self, percent: usize) -> Duration {
        self.sorted[(self.sorted.len() - 1) * percent / 100]
    }

    fn show(&self) -> String {
        let per_second = self.sorted.len() as f64 / self.elapsed.as_secs_f64();
        format!("{per_second:.0} per second, p50 {:.2?}, p99 {:.2?}", self.percentile(50), self.p99())
    }
}
