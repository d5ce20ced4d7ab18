//! Tests of handlers that block their thread for longer than a lease.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::{sync::oneshot, time::sleep};
use tower::{Layer, ServiceExt, service_fn};
use tower_klikit::{
    EventId, KlikitVerifyLayer, VerifiedBody,
    dedupe::KlikitDedupeLayer,
    inbox::{Counts, Inbox, InboxStore},
    testing::SignedDelivery,
};

use crate::{deliveries::accept, support::Folder};

const SECRET: &str = "klikit-test-secret";
const LEASE: Duration = Duration::from_secs(1);

/// Checks that each of these deliveries is handled once. The handler blocks its thread `blocks` times, each time for
/// `time`.
async fn assert_each_runs_once(deliveries: usize, blocks: u32, time: Duration) {
    let folder = Folder::new();
    let store = folder.open();
    let mut expected: Vec<_> = (0..deliveries).map(|number| format!("evt-{number:02}")).collect();
    for event in &expected {
        accept(&store, event, &[]).await;
    }
    let started = Arc::new(Mutex::new(Vec::new()));
    let handler = {
        let started = Arc::clone(&started);
        service_fn(move |request: Request<VerifiedBody>| {
            let event = request.extensions().get::<EventId>().expect("the delivery has an event id").to_string();
            started.lock().unwrap().push(event);
            async move {
                for _ in 0..blocks {
                    thread::sleep(time);
                    sleep(Duration::from_millis(50)).await;
                }
                Ok::<_, Infallible>(Response::new(()))
            }
        })
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = Inbox::new(store.clone()).worker(handler).lease(LEASE).max_attempts(3);
    let worker = tokio::spawn(worker.run_until(stopped));
    while store.backlog(1).await.unwrap() > 0 {
        sleep(Duration::from_millis(20)).await;
    }
    drop(stop);
    worker.await.unwrap();
    let mut started = started.lock().unwrap().clone();
    started.sort();
    expected.sort();
    assert_eq!(started, expected);
    assert_eq!(store.counts().await.unwrap(), Counts::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocking_handler_runs_once() {
    assert_each_runs_once(3, 1, Duration::from_secs(3)).await;
}

#[tokio::test]
async fn handler_that_blocks_the_runtime_runs_once() {
    assert_each_runs_once(2, 2, Duration::from_millis(1500)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_blocking_handlers_run_once_each() {
    assert_each_runs_once(32, 3, Duration::from_millis(200)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ignores_copies_while_the_handler_blocks() {
    let folder = Folder::new();
    let layer = KlikitDedupeLayer::new(folder.open()).lease(LEASE);
    let (blocks, blocked) = mpsc::channel();
    let handler = service_fn(move |_: Request<VerifiedBody>| {
        blocks.send(()).unwrap();
        async {
            thread::sleep(Duration::from_millis(2500));
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("handled")))
        }
    });
    let stack = KlikitVerifyLayer::new(SECRET).layer(layer.layer(handler));
    let send = move || {
        let response = stack.clone().oneshot(SignedDelivery::new(SECRET, "{}").request::<Full<Bytes>>());
        async move { response.await.unwrap().into_body().collect().await.unwrap().to_bytes() }
    };
    let first = tokio::spawn(send());
    let blocked = tokio::task::spawn_blocking(move || {
        blocked.recv().unwrap();
        blocked
    });
    let blocked = blocked.await.unwrap();
    while !first.is_finished() {
        assert_ne!(send().await, "handled");
    }
    assert_eq!(first.await.unwrap(), "handled");
    assert_eq!(send().await, r#"{"status":"duplicate-ignored"}"#);
    assert!(blocked.try_recv().is_err(), "a copy was handled");
}
