//! A server that is stopped, killed, cut off, hung, full or demoted: errors, nothing forgotten, and it works again by itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet, time::Instant};
use tower_klikit::{
    dedupe::{ClaimOutcome, Ledger, StoreError},
    store::redis::RedisStore,
};

use crate::{
    proxy::Proxy,
    servers::redis as servers,
    support::{LEASE, RETENTION, claim, done, handle, raw, run},
};

/// Deliveries handled without end, on two nodes.
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
        let nodes = [RedisStore::connect(url).await.unwrap(), RedisStore::connect(url).await.unwrap()];
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
                    // The same token as in the attempt that may or may not have been taken: it is its own.
                    let outcome = until_ok(&sender, || store.claim(&claim, LEASE)).await;
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

    /// Waits until that many more are done.
    async fn handles(&mut self, more: u64) {
        let until = self.progress.borrow().done + more;
        self.progress.wait_for(|progress| progress.done >= until).await.unwrap();
    }

    /// Waits until there is another error.
    async fn fails(&mut self) {
        let until = self.progress.borrow().errors + 1;
        self.progress.wait_for(|progress| progress.errors >= until).await.unwrap();
    }

    /// Everything that was said to be done.
    async fn finish(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.workers.join_all().await.concat()
    }
}

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
    let store = RedisStore::connect(url).await.unwrap();
    for &event in events {
        let outcome = store.claim(&claim(event, u64::MAX), LEASE).await.unwrap();
        assert!(matches!(outcome, ClaimOutcome::Done { .. }), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_and_killed_and_started_again() {
    let Some(mut server) = servers::own(&["--appendonly", "yes", "--appendfsync", "always"]) else { return };
    let mut load = Load::start(&server.url()).await;
    for kill in [false, true, false, true] {
        load.handles(50).await;
        if kill {
            server.kill()
        } else {
            server.stop()
        }
        load.fails().await;
        server.start();
        load.handles(50).await;
    }
    assert_all_done(&server.url(), &load.finish().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_cut() {
    let Some(server) = servers::own(&[]) else { return };
    let mut load = Load::start(&server.url()).await;
    let mut raw = raw(&server.url()).await;
    for _ in 0..20 {
        load.handles(50).await;
        let cut: u64 = run(&mut raw, "CLIENT KILL TYPE normal SKIPME yes").await;
        assert!(cut > 0);
    }
    load.handles(50).await;
    assert_all_done(&server.url(), &load.finish().await).await;
}

/// A server that closes idle connections costs no delivery.
#[tokio::test]
async fn a_connection_that_was_cut_is_opened_again_within_the_call() {
    let Some(server) = servers::own(&[]) else { return };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let mut raw = raw(&server.url()).await;
    for event in 0..20 {
        let cut: u64 = run(&mut raw, "CLIENT KILL TYPE normal SKIPME yes").await;
        assert_eq!(cut, 1);
        handle(&store, &claim(event, 1)).await;
    }
}

#[tokio::test]
async fn the_first_call_after_an_outage_succeeds() {
    let Some(mut server) = servers::own(&["--appendonly", "yes", "--appendfsync", "always"]) else { return };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    handle(&store, &claim(1, 1)).await;
    server.kill();
    for _ in 0..10 {
        store.claim(&claim(1, 2), LEASE).await.unwrap_err();
    }
    server.start();
    assert_eq!(store.claim(&claim(1, 2), LEASE).await.unwrap(), done(1));
}

#[tokio::test]
async fn a_server_that_hangs_is_an_error_before_the_claim_deadline() {
    let Some(server) = servers::own(&[]) else { return };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    handle(&store, &claim(1, 1)).await;
    server.pause();
    // The clock leaps to the next timer whenever nothing else happens.
    tokio::time::pause();
    let start = Instant::now();
    // The first is on the connection that there is, the others wait for a new one.
    for n in 1..=3 {
        let error = store.claim(&claim(2, 1), LEASE).await.unwrap_err();
        assert!(
            format!("{error:?}").contains("timed out") || format!("{error:?}").contains("did not answer in time"),
            "{error:?}"
        );
        assert!(start.elapsed() < n * Duration::from_secs(2), "{:?}", start.elapsed());
    }
    tokio::time::resume();
    server.resume();
    // The server answers what it was asked meanwhile, to nobody; the token is its own.
    handle(&store, &claim(2, 1)).await;
    assert_eq!(store.claim(&claim(1, 2), LEASE).await.unwrap(), done(1));
}

#[tokio::test]
async fn a_connection_that_is_silent_is_replaced() {
    let Some(server) = servers::own(&[]) else { return };
    let proxy = Proxy::start(server.port()).await;
    let store = RedisStore::connect(&proxy.url()).await.unwrap();
    handle(&store, &claim(1, 1)).await;
    for event in 2..4 {
        proxy.silence();
        store.claim(&claim(event, 1), LEASE).await.unwrap_err();
        handle(&store, &claim(event, 1)).await;
    }
}

#[tokio::test]
async fn a_server_that_was_demoted_is_left_for_its_successor() {
    let Some((old, new)) = servers::own(&[]).zip(servers::own(&[])) else { return };
    let proxy = Proxy::start(old.port()).await;
    let store = RedisStore::connect(&proxy.url()).await.unwrap();
    handle(&store, &claim(1, 1)).await;
    let mut raw = raw(&old.url()).await;
    run::<()>(&mut raw, &format!("REPLICAOF 127.0.0.1 {}", new.port())).await;
    proxy.lead_to(new.port());
    let error = store.claim(&claim(2, 1), LEASE).await.unwrap_err();
    assert!(format!("{error:?}").contains("ReadOnly"), "{error:?}");
    handle(&store, &claim(2, 1)).await;
}

#[tokio::test]
async fn a_full_server_refuses_and_forgets_nothing() {
    let Some(server) = servers::own(&[]) else { return };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let mut raw = raw(&server.url()).await;
    for event in 0..100 {
        handle(&store, &claim(event, 1)).await;
    }
    for event in 100..103 {
        assert_eq!(store.claim(&claim(event, 1), LEASE).await.unwrap(), ClaimOutcome::Claimed);
    }
    run::<()>(&mut raw, "CONFIG SET maxmemory 1").await;
    let error = store.claim(&claim(200, 1), LEASE).await.unwrap_err();
    assert!(format!("{error:?}").contains("OOM"), "{error:?}");
    store.complete(&claim(100, 1), RETENTION).await.unwrap_err();
    // What takes no memory works.
    assert!(store.renew(&claim(100, 1), LEASE).await.unwrap());
    store.release(&claim(101, 1)).await.unwrap();
    for event in 0..100 {
        assert_eq!(store.claim(&claim(event, 2), LEASE).await.unwrap(), done(event));
    }

    run::<()>(&mut raw, "CONFIG SET maxmemory 0").await;
    assert!(store.complete(&claim(100, 1), RETENTION).await.unwrap());
    handle(&store, &claim(101, 2)).await;
    assert!(store.complete(&claim(102, 1), RETENTION).await.unwrap());
    handle(&store, &claim(200, 1)).await;
}
