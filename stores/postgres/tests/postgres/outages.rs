//! Tests of outages that last longer than a lease.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::{
    sync::{Notify, oneshot},
    time::sleep,
};
use tower::{Layer, ServiceExt, service_fn};
use tower_klikit::{
    KlikitVerifyLayer, VerifiedBody,
    dedupe::KlikitDedupeLayer,
    inbox::{DeliveryId, DeliveryState, Inbox, InboxAdmin, InboxStore, ShowBody},
    testing::SignedDelivery,
};
use tower_klikit_postgres::PostgresStore;

use crate::{
    ends,
    inbox::{SECRET, send},
    open,
    proxy::Proxy,
    servers::postgres::PostgresServer,
};

const LEASE: Duration = Duration::from_secs(1);
const OUTAGE: Duration = Duration::from_secs(3);

/// The kind of an outage.
#[derive(Debug, Clone, Copy)]
enum Outage {
    /// The server's responses are lost.
    Silent,
    /// The messages of both sides are lost.
    Cut,
    /// The server is paused.
    Frozen,
}

/// A server, and a store that reaches it through a proxy.
struct Network {
    server: PostgresServer,
    proxy: Proxy,
    store: PostgresStore,
}

impl Network {
    async fn new(test: &str) -> Option<Self> {
        let server = PostgresServer::start_own(test, &[])?;
        let proxy = Proxy::before(server.port()).await;
        let store = PostgresStore::builder().deadline(LEASE / 2).open(&proxy.url()).await.unwrap();
        Some(Self { server, proxy, store })
    }

    /// Begins an outage, and ends it after some leases.
    async fn suffer(&self, outage: Outage) {
        self.set(outage, true);
        sleep(OUTAGE).await;
        self.set(outage, false);
    }

    fn set(&self, outage: Outage, on: bool) {
        match outage {
            Outage::Silent => self.proxy.be_silent(on),
            Outage::Cut => self.proxy.lose_everything(on),
            Outage::Frozen if on => self.server.halt(),
            Outage::Frozen => self.server.go_on(),
        }
    }
}

/// Checks the inbox with two handlers, one that ends during the outage and one that ends after it.
async fn inbox_handles_once(test: &str, outage: Outage) {
    let Some(network) = Network::new(test).await else { return };
    let calm = open(network.server.url()).await;
    let inbox = Inbox::new(network.store.clone()).keep_bodies(Duration::from_secs(3600));
    for body in ["short", "long"] {
        assert_eq!(send(&inbox, body, body).await, StatusCode::OK);
    }
    let (calls, started) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
    let handler = service_fn({
        let (calls, started) = (Arc::clone(&calls), Arc::clone(&started));
        move |request: Request<VerifiedBody>| {
            if calls.fetch_add(1, Ordering::SeqCst) == 1 {
                started.notify_one();
            }
            async move {
                let is_long = request.body().as_ref() == b"long";
                sleep(if is_long { OUTAGE + LEASE } else { OUTAGE / 2 }).await;
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            }
        }
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = inbox.worker(handler).lease(LEASE).max_attempts(3).poll_interval(Duration::from_millis(50));
    let worker = tokio::spawn(worker.run_until(stopped));
    ends(started.notified()).await;
    network.suffer(outage).await;
    ends(async {
        while calm.backlog(1).await.unwrap() > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    stop.send(()).unwrap();
    ends(worker).await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 2, "{outage:?}");
    for id in [1, 2] {
        let entry = calm.show(DeliveryId::new(id), ShowBody::Include).await.unwrap().unwrap();
        assert_eq!((entry.state, entry.attempts), (DeliveryState::Done, 1), "{outage:?}");
    }
}

#[tokio::test]
async fn inbox_handles_once_through_silence() {
    inbox_handles_once("inbox handles once through silence", Outage::Silent).await;
}

#[tokio::test]
async fn inbox_handles_once_through_a_cut_network() {
    inbox_handles_once("inbox handles once through a cut network", Outage::Cut).await;
}

#[tokio::test]
async fn inbox_handles_once_through_a_frozen_server() {
    inbox_handles_once("inbox handles once through a frozen server", Outage::Frozen).await;
}

/// Checks the dedupe layer with a handler that ends during the outage or after it. A copy comes after the outage.
async fn layer_handles_once(test: &str, outage: Outage) {
    for handling in [OUTAGE / 2, OUTAGE + LEASE] {
        let Some(network) = Network::new(test).await else { return };
        let (calls, started) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
        let handler = service_fn({
            let (calls, started) = (Arc::clone(&calls), Arc::clone(&started));
            move |_: Request<VerifiedBody>| {
                calls.fetch_add(1, Ordering::SeqCst);
                started.notify_one();
                async move {
                    sleep(handling).await;
                    Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
                }
            }
        });
        let dedupe = KlikitDedupeLayer::new(network.store.clone()).lease(LEASE);
        let stack = KlikitVerifyLayer::new(SECRET).layer(dedupe.layer(handler));
        let send = || {
            let stack = stack.clone();
            async move {
                let request = SignedDelivery::new(SECRET, "x").event_id("evt-1").request::<Full<Bytes>>();
                let response = stack.oneshot(request).await.unwrap();
                let status = response.status();
                (status, response.into_body().collect().await.unwrap().to_bytes())
            }
        };
        let first = tokio::spawn(send());
        ends(started.notified()).await;
        network.suffer(outage).await;
        let duplicate = ends(async {
            loop {
                match send().await {
                    (StatusCode::SERVICE_UNAVAILABLE, _) => sleep(Duration::from_millis(50)).await,
                    answer => break answer,
                }
            }
        })
        .await;
        assert_eq!(duplicate, (StatusCode::OK, r#"{"status":"duplicate-ignored"}"#.into()));
        assert_eq!(ends(first).await.unwrap(), (StatusCode::OK, Bytes::new()));
        assert_eq!(calls.load(Ordering::SeqCst), 1, "{outage:?}, {handling:?}");
    }
}

#[tokio::test]
async fn layer_handles_once_through_silence() {
    layer_handles_once("layer handles once through silence", Outage::Silent).await;
}

#[tokio::test]
async fn layer_handles_once_through_a_cut_network() {
    layer_handles_once("layer handles once through a cut network", Outage::Cut).await;
}

#[tokio::test]
async fn layer_handles_once_through_a_frozen_server() {
    layer_handles_once("layer handles once through a frozen server", Outage::Frozen).await;
}
