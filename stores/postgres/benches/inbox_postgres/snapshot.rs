//! The case of steadily arriving deliveries while another transaction holds an old snapshot, like a backup.

use std::{
    collections::HashMap,
    env,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval};
use tower_klikit::inbox::{InboxStore, OrderBy};

use crate::{
    deliveries::{event_id, request},
    figures::percentile,
    ours::Node,
    server::{Server, connect},
};

/// The number of deliveries per second.
const RATE: u32 = 400;

/// The time before the snapshot is taken.
const BEFORE: Duration = Duration::from_secs(12);
/// The part of [`BEFORE`] that is not measured.
const WARM_UP: Duration = Duration::from_secs(3);

/// The environment variable with the seconds for which the snapshot is held.
const HELD: &str = "KLIKIT_BENCH_SNAPSHOT_SECONDS";

pub(crate) async fn run(server: &Server) {
    let held = env::var(HELD).map_or(30, |text| text.parse().expect("a number of seconds"));
    let held = Duration::from_secs(held);
    let url = server.create("snapshot", None).await;
    let node = Node::open(&url, OrderBy::nothing()).await;
    let log = Arc::<Log>::default();
    let worker = node.start_worker_with({
        let log = Arc::clone(&log);
        move |id| log.handled(id.as_str())
    });
    let started = Instant::now();
    let sender = tokio::spawn(send(node.clone(), Arc::clone(&log), WARM_UP + BEFORE + held));
    tokio::time::sleep(WARM_UP + BEFORE).await;
    let client = connect(&url).await;
    let take_snapshot = "
        BEGIN ISOLATION LEVEL REPEATABLE READ;
        SELECT count(*) FROM pg_class";
    client.batch_execute(take_snapshot).await.expect("a snapshot");
    let watch = server.watch(None);
    let failed = sender.await.expect("no panic");
    let (_, cores) = watch.stop();
    let backlog = node.store.backlog(u64::MAX).await.expect("a count");
    client.batch_execute("COMMIT").await.expect("no snapshot");
    worker.stop().await;
    drop((node, client));
    server.drop("snapshot").await;

    let snapshot = started + WARM_UP + BEFORE;
    let before = log.between(started + WARM_UP, snapshot);
    let whole = log.between(snapshot, snapshot + held);
    let last = log.between(snapshot + held * 2 / 3, snapshot + held);
    println!(
        "  {RATE} deliveries/s, a snapshot held for {} s; the age is from sending a delivery to handling it",
        held.as_secs()
    );
    for (name, window) in [("before", &before), ("while held", &whole), ("its last third", &last)] {
        let Window { per_second, p50, p99 } = window;
        let ms = |time: &Duration| time.as_secs_f64() * 1e3;
        println!("  {name:<34} {per_second:>9.0}  {:>8.2}  {:>8.2}", ms(p50), ms(p99));
    }
    println!("  pending at its end: {backlog}; not acknowledged: {failed}; busy cores: {cores:.2?}");
    let ratio = |what: &str, a: f64, b: f64| println!("  {what:<66} {:>5.2}", a / b);
    ratio("handled in the last third / before", last.per_second, before.per_second);
    ratio("p50 of the age in the last third / before", last.p50.as_secs_f64(), before.p50.as_secs_f64());
    ratio("p99 of the age in the last third / before", last.p99.as_secs_f64(), before.p99.as_secs_f64());
}

/// Sends deliveries at the rate for this time, without waiting for acknowledgements. Returns the number of deliveries that
/// were not acknowledged.
async fn send(node: Node, log: Arc<Log>, time: Duration) -> usize {
    let acceptor = node.acceptor();
    let mut pace = interval(Duration::from_secs(1) / RATE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut sent = Vec::new();
    let ends = Instant::now() + time;
    for event in 0.. {
        pace.tick().await;
        if Instant::now() >= ends {
            break;
        }
        let request = request(event);
        log.sent(event_id(event));
        sent.push(tokio::spawn(acceptor(request)));
    }
    let mut failed = 0;
    for sent in sent {
        failed += usize::from(!sent.await.expect("no panic"));
    }
    failed
}

/// The times at which deliveries were sent and handled.
#[derive(Default)]
struct Log {
    pending: Mutex<HashMap<String, Instant>>,
    handled: Mutex<Vec<(Instant, Duration)>>,
}

/// The summary of a period.
struct Window {
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

impl Log {
    fn sent(&self, id: String) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Instant::now());
    }

    fn handled(&self, id: &str) {
        if let Some(sent) = self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(id) {
            let now = Instant::now();
            self.handled.lock().unwrap_or_else(PoisonError::into_inner).push((now, now - sent));
        }
    }

    /// Summarises the deliveries that were handled between two times.
    fn between(&self, from: Instant, to: Instant) -> Window {
        let handled = self.handled.lock().unwrap_or_else(PoisonError::into_inner);
        let ages: Vec<_> = handled.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, age)| *age).collect();
        Window {
            per_second: ages.len() as f64 / (to - from).as_secs_f64(),
            p50: percentile(&ages, 50),
            p99: percentile(&ages, 99),
        }
    }
}
