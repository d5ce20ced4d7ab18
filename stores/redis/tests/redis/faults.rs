//! Tests of servers that are stopped, killed, cut off, hanging, full or demoted: calls fail, nothing is forgotten, and
//! the store recovers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet, time::Instant};
use tower_klikit::dedupe::{ClaimOutcome, Ledger, StoreError};
use tower_klikit_redis::RedisStore;

use crate::{
    proxy::Proxy,
    servers::redis as servers,
    support::{RETENTION, TERMS, claim, conflict, done, handle, raw, renew, run},
};

/// A load of eight workers on two nodes, which handle deliveries until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    progress: watch::Receiver<Progress>,
    workers: JoinSet<Vec<u64>>,
}

#[derive(Clone, Copy, Default)]
struct Progress {
    done: u64,
    errors: u64,
}

impl Load {
    async fn start(url: &str) -> Self {
        let nodes = [RedisStore::open(url).await.unwrap(), RedisStore::open(url).await.unwrap()];
        let (sender, progress) = watch::channel(Progress::default());
        let stop = Arc::new(AtomicBool::new(false));
        let mut workers = JoinSet::new();
        for (worker, store) in (0..8).zip(nodes.iter().cycle().cloned()) {
            let (sender, stop) = (sender.clone(), stop.clone());
            workers.spawn(async move {
                let mut events = Vec::new();
                for event in (worker << 32).. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let claim = claim(event, event);
                    // Repeat with the same token: a failed attempt may have taken effect, and then the claim is
                    // renewed.
                    let outcome = until_ok(&sender, || store.claim(&claim, &TERMS)).await;
                    assert_eq!(outcome, ClaimOutcome::Claimed);
                    assert!(until_ok(&sender, || store.complete(&claim, RETENTION)).await);
                    events.push(event);
                    sender.send_modify(|progress| progress.done += 1);
                }
                events
            });
        }
        Self { stop, progress, workers }
    }

    /// Waits until `more` deliveries are done.
    async fn wait_for_deliveries(&mut self, more: u64) {
        let until = self.progress.borrow().done + more;
        self.progress.wait_for(|progress| progress.done >= until).await.unwrap();
    }

    /// Waits for another error.
    async fn wait_for_error(&mut self) {
        let until = self.progress.borrow().errors + 1;
        self.progress.wait_for(|progress| progress.errors >= until).await.unwrap();
    }

    /// Stops the workers, and returns the events that are done.
    async fn finish(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.workers.join_all().await.concat()
    }
}

/// Repeats a call until it succeeds.
async fn until_ok<T, F>(progress: &watch::Sender<Progress>, call: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, StoreError>>,
{
    loop {
        match call().await {
            Ok(value) => return value,
            Err(_) => progress.send_modify(|progress| progress.errors += 1),
        }
        tokio::task::yield_now().await;
    }
}

async fn assert_all_done(url: &str, events: &[u64]) {
    assert!(!events.is_empty());
    let store = RedisStore::open(url).await.unwrap();
    for &event in events {
        let outcome = store.claim(&claim(event, u64::MAX), &TERMS).await.unwrap();
        assert!(matches!(outcome, ClaimOutcome::Done { .. }), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survives_stops_and_kills() {
    let Some(mut server) = servers::own(&["--appendonly", "yes", "--appendfsync", "always"]) else { return };
    let mut load = Load::start(&server.url()).await;
    for kill in [false, true, false, true] {
        load.wait_for_deliveries(50).await;
        if kill {
            server.kill()
        } else {
            server.stop()
        }
        load.wait_for_error().await;
        server.start();
        load.wait_for_deliveries(50).await;
    }
    assert_all_done(&server.url(), &load.finish().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survives_cut_connections() {
    let Some(server) = servers::own(&[]) else { return };
    let mut load = Load::start(&server.url()).await;
    let mut raw = raw(&server.url()).await;
    for _ in 0..20 {
        load.wait_for_deliveries(50).await;
        let cut: u64 = run(&mut raw, "CLIENT KILL TYPE normal SKIPME yes").await;
        assert!(cut > 0);
    }
    load.wait_for_deliveries(50).await;
    assert_all_done(&server.url(), &load.finish().await).await;
}

/// A server that closes idle connections must not fail a delivery.
#[tokio::test]
async fn reopens_a_cut_connection_within_the_call() {
    let Some(server) = servers::own(&[]) else { return };
    let store = RedisStore::open(&server.url()).await.unwrap();
    let mut raw = raw(&server.url()).await;
    for event in 0..20 {
        let cut: u64 = run(&mut raw, "CLIENT KILL TYPE normal SKIPME yes").await;
        assert_eq!(cut, 1);
        handle(&store, &claim(event, 1)).await;
    }
}

#[tokio::test]
async fn first_call_after_an_outage_succeeds() {
    let Some(mut server) = servers::own(&["--appendonly", "yes", "--appendfsync", "always"]) else { return };
    let store = RedisStore::open(&server.url()).await.unwrap();
    handle(&store, &claim(1, 1)).await;
    server.kill();
    for _ in 0..10 {
        store.claim(&claim(1, 2), &TERMS).await.unwrap_err();
    }
    server.start();
    assert_eq!(store.claim(&claim(1, 2), &TERMS).await.unwrap(), done(1));
}

#[tokio::test]
async fn hanging_server_fails_before_the_claim_deadline() {
    let Some(server) = servers::own(&[]) else { return };
    let store = RedisStore::open(&server.url()).await.unwrap();
    handle(&store, &claim(1, 1)).await;
    server.pause();
    // While Tokio's clock is paused, it advances to the next timer when all tasks are idle.
    tokio::time::pause();
    let start = Instant::now();
    // The first call uses the open connection, and the others wait for a new one.
    for n in 1..=3 {
        let error = store.claim(&claim(2, 1), &TERMS).await.unwrap_err();
        assert!(
            format!("{error:?}").contains("timed out") || format!("{error:?}").contains("did not answer in time"),
            "{error:?}"
        );
        assert!(start.elapsed() < n * Duration::from_secs(2), "{:?}", start.elapsed());
    }
    tokio::time::resume();
    server.resume();
    // The server now runs the calls that have timed out. They have the same token, so the claim succeeds again.
    handle(&store, &claim(2, 1)).await;
    assert_eq!(store.claim(&claim(1, 2), &TERMS).await.unwrap(), done(1));
}

#[tokio::test]
async fn replaces_a_silent_connection() {
    let Some(server) = servers::own(&[]) else { return };
    let proxy = Proxy::start(server.port()).await;
    let store = RedisStore::open(&proxy.url()).await.unwrap();
    handle(&store, &claim(1, 1)).await;
    for event in 2..4 {
        proxy.silence();
        store.claim(&claim(event, 1), &TERMS).await.unwrap_err();
        handle(&store, &claim(event, 1)).await;
    }
}

#[tokio::test]
async fn leaves_a_demoted_server_for_the_new_primary() {
    let Some((old, new)) = servers::own(&[]).zip(servers::own(&[])) else { return };
    let proxy = Proxy::start(old.port()).await;
    let store = RedisStore::open(&proxy.url()).await.unwrap();
    handle(&store, &claim(1, 1)).await;
    let mut raw = raw(&old.url()).await;
    run::<()>(&mut raw, &format!("REPLICAOF 127.0.0.1 {}", new.port())).await;
    proxy.redirect_to(new.port());
    let error = store.claim(&claim(2, 1), &TERMS).await.unwrap_err();
    assert!(format!("{error:?}").contains("ReadOnly"), "{error:?}");
    handle(&store, &claim(2, 1)).await;
}

#[tokio::test]
async fn full_server_fails_calls_and_forgets_nothing() {
    let Some(server) = servers::own(&[]) else { return };
    let store = RedisStore::open(&server.url()).await.unwrap();
    let mut raw = raw(&server.url()).await;
    for event in 0..100 {
        handle(&store, &claim(event, 1)).await;
    }
    for event in 100..103 {
        assert_eq!(store.claim(&claim(event, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    }
    assert_eq!(store.claim(&conflict(300, 1, 1), &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    run::<()>(&mut raw, "CONFIG SET maxmemory 1").await;
    let error = store.claim(&claim(200, 1), &TERMS).await.unwrap_err();
    assert!(format!("{error:?}").contains("OOM"), "{error:?}");
    store.complete(&claim(100, 1), RETENTION).await.unwrap_err();
    // Calls that take no memory work.
    assert!(renew(&store, &claim(100, 1), &TERMS).await);
    assert!(renew(&store, &conflict(300, 1, 1), &TERMS).await);
    store.release(&claim(101, 1)).await.unwrap();
    for event in 0..100 {
        assert_eq!(store.claim(&claim(event, 2), &TERMS).await.unwrap(), done(event));
    }

    run::<()>(&mut raw, "CONFIG SET maxmemory 0").await;
    assert!(store.complete(&claim(100, 1), RETENTION).await.unwrap());
    handle(&store, &claim(101, 2)).await;
    assert!(store.complete(&claim(102, 1), RETENTION).await.unwrap());
    handle(&store, &claim(200, 1)).await;
}
