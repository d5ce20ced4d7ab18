//! Tests of the dedupe layer on a server, with handlers that take longer than their lease.

use std::{
    convert::Infallible,
    future::{Future, ready},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::sync::Notify;
use tower::{Layer, ServiceExt, service_fn};
use tower_klikit::{KlikitVerifyLayer, VerifiedBody, dedupe::KlikitDedupeLayer, testing::SignedDelivery};
use tower_klikit_redis::RedisStore;

use crate::{
    proxy::Proxy,
    servers::redis as servers,
    support::{raw, run},
};

const SECRET: &str = "klikit-test-secret";
const LEASE: Duration = Duration::from_secs(1);
const DUPLICATE: &str = r#"{"status":"duplicate-ignored"}"#;

/// A node with the dedupe layer, whose handler counts the deliveries that it has handled.
#[derive(Clone)]
struct Node {
    layer: KlikitDedupeLayer,
    handled: Arc<AtomicUsize>,
}

impl Node {
    async fn connect(url: &str, handled: &Arc<AtomicUsize>) -> Self {
        let store = RedisStore::open(url).await.unwrap();
        Self { layer: KlikitDedupeLayer::new(store).lease(LEASE), handled: Arc::clone(handled) }
    }

    /// Sends the delivery to a handler that runs `work`. Returns the status and the body of the response.
    async fn send<F>(&self, work: impl Fn() -> F + Clone + Send + 'static) -> (u16, Bytes)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let handled = Arc::clone(&self.handled);
        let handler = service_fn(move |_: Request<VerifiedBody>| {
            let (work, handled) = (work(), Arc::clone(&handled));
            async move {
                work.await;
                handled.fetch_add(1, Ordering::SeqCst);
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("handled")))
            }
        });
        let stack = KlikitVerifyLayer::new(SECRET).layer(self.layer.layer(handler));
        let delivery = SignedDelivery::new(SECRET, r#"{"brand_id":1}"#).event_id("evt-1");
        let response = stack.oneshot(delivery.request::<Full<Bytes>>()).await.unwrap();
        (response.status().as_u16(), response.into_body().collect().await.unwrap().to_bytes())
    }
}

/// Checks that a delivery is handled once although its handler blocks the thread for longer than the lease.
async fn assert_blocking_handler_runs_once() {
    let Some(server) = servers::own(&[]) else { return };
    let handled = Arc::default();
    let nodes = [Node::connect(&server.url(), &handled).await, Node::connect(&server.url(), &handled).await];
    let block = || async { thread::sleep(2 * LEASE) };
    assert_eq!(nodes[0].send(block).await, (200, "handled".into()));
    for node in &nodes {
        assert_eq!(node.send(block).await, (200, DUPLICATE.into()));
    }
    assert_eq!(handled.load(Ordering::SeqCst), 1);
}

/// The other thread renews the claim meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handler_may_block_one_of_two_threads() {
    assert_blocking_handler_runs_once().await;
}

/// No thread renews the claim. It expires, and is completed during its grace.
#[tokio::test]
async fn handler_may_block_the_only_thread() {
    assert_blocking_handler_runs_once().await;
}

#[tokio::test]
async fn handles_once_when_redis_is_silent_for_long() {
    let Some(server) = servers::own(&[]) else { return };
    let proxy = Proxy::start(server.port()).await;
    let handled = Arc::default();
    let [ours, other] = [Node::connect(&proxy.url(), &handled).await, Node::connect(&proxy.url(), &handled).await];
    let (started, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let first = tokio::spawn({
        let (ours, started, finish) = (ours.clone(), Arc::clone(&started), Arc::clone(&finish));
        let wait = move || {
            let (started, finish) = (Arc::clone(&started), Arc::clone(&finish));
            async move {
                started.notify_one();
                finish.notified().await;
            }
        };
        async move { ours.send(wait).await }
    });
    started.notified().await;

    proxy.close();
    let mut raw = raw(&server.url()).await;
    let keys: Vec<Vec<u8>> = run(&mut raw, "KEYS *").await;
    assert_eq!(keys.len(), 1);
    // The lease has expired when the key's remaining time to live equals the grace.
    let grace = i64::try_from(KlikitDedupeLayer::DEFAULT_HANDLER_DEADLINE.as_millis()).unwrap();
    while redis::cmd("PTTL").arg(&keys[0]).query_async::<i64>(&mut raw).await.unwrap() > grace {
        tokio::task::yield_now().await;
    }
    let at_once = || ready(());
    for node in [&ours, &other] {
        assert_eq!(node.send(at_once).await.0, 503);
    }
    proxy.open();
    // The node that is handling the delivery knows that, although the lease has expired.
    assert_eq!(ours.send(at_once).await.0, 503);
    finish.notify_one();
    assert_eq!(first.await.unwrap(), (200, "handled".into()));
    // The store may need another attempt to complete the claim.
    let response = loop {
        match ours.send(at_once).await {
            (503, _) => tokio::task::yield_now().await,
            response => break response,
        }
    };
    assert_eq!(response, (200, DUPLICATE.into()));
    assert_eq!(other.send(at_once).await, (200, DUPLICATE.into()));
    assert_eq!(handled.load(Ordering::SeqCst), 1);
}
