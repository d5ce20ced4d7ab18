//! The cases of the inbox on `PostgresStore`.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::Full;
use tokio::{sync::oneshot, task::JoinHandle};
use tower::{Layer, ServiceExt, service_fn};
use tower_klikit::{
    EventId, KlikitVerifyLayer, VerifiedBody,
    inbox::{Inbox, InboxStore, OrderBy},
};
use tower_klikit_postgres::PostgresStore;

use crate::{
    deliveries::{SECRET, requests, send_all},
    figures::Figures,
    server::{CONNECTIONS, Server},
};

/// The number of deliveries that each worker handles at the same time.
const CONCURRENCY: usize = 200;

/// The store and the inbox of a process.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) store: PostgresStore,
    inbox: Inbox,
}

impl Node {
    pub(crate) async fn open(url: &str, order_by: OrderBy) -> Self {
        let store = PostgresStore::builder().max_connections(CONNECTIONS).open(url).await.expect("a store");
        Self { store: store.clone(), inbox: Inbox::new(store).order_by(order_by) }
    }

    pub(crate) async fn accept(&self, server: &Server, count: usize) -> Figures {
        let requests = requests(count);
        let watch = server.watch(None);
        let times = send_all(requests, self.acceptor()).await;
        let (all, cores) = watch.stop();
        Figures::of_calls(&times, all, cores)
    }

    /// Accepts and handles at the same time. The latencies are those of the acknowledgements.
    pub(crate) async fn live(&self, server: &Server, count: usize) -> Figures {
        let requests = requests(count);
        let handled = Handled::default();
        let watch = server.watch(None);
        let worker = self.start_worker(&handled);
        let times = send_all(requests, self.acceptor()).await;
        handled.wait(&self.store, times.iter().flatten().count()).await;
        let (all, cores) = watch.stop();
        worker.stop().await;
        Figures::of_calls(&times, all, cores)
    }

    /// Returns a function that sends a request through the verify layer to the acceptor, and returns whether it was
    /// acknowledged.
    pub(crate) fn acceptor(&self) -> impl Fn(Request<Full<Bytes>>) -> BoxFuture<'static, bool> + Clone + use<> {
        let service = KlikitVerifyLayer::new(SECRET).layer(self.inbox.acceptor());
        move |request| {
            let answer = service.clone().oneshot(request);
            Box::pin(async { answer.await.is_ok_and(|response| response.status() == 200) })
        }
    }

    fn start_worker(&self, handled: &Handled) -> Worker {
        let count = Arc::clone(&handled.0);
        self.start_worker_with(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        })
    }

    /// Starts a worker whose handler calls `handled` and does nothing else.
    pub(crate) fn start_worker_with(&self, handled: impl Fn(&EventId) + Clone + Send + Sync + 'static) -> Worker {
        let handler = service_fn(move |request: Request<VerifiedBody>| {
            handled(request.extensions().get().expect("an id"));
            async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) }
        });
        let (stop, stopped) = oneshot::channel();
        let worker = self.inbox.worker(handler).concurrency(CONCURRENCY);
        Worker { running: tokio::spawn(worker.run_until(stopped)), stop }
    }
}

/// Handles all deliveries in the inbox, with a worker on each node.
pub(crate) async fn handle(server: &Server, nodes: &[Node]) -> Figures {
    let count = nodes[0].store.backlog(u64::MAX).await.expect("a count");
    let count = usize::try_from(count).expect("it fits in memory");
    let handled = Handled::default();
    let watch = server.watch(None);
    let workers: Vec<_> = nodes.iter().map(|node| node.start_worker(&handled)).collect();
    handled.wait(&nodes[0].store, count).await;
    let (all, cores) = watch.stop();
    for worker in workers {
        worker.stop().await;
    }
    Figures::of_count(count, all, cores)
}

/// The number of handled deliveries.
#[derive(Default)]
struct Handled(Arc<AtomicUsize>);

impl Handled {
    /// Waits until this many deliveries were handled and settled. Deliveries that were stored too late to be acknowledged are
    /// also handled.
    async fn wait(&self, store: &PostgresStore, count: usize) {
        while self.0.load(Ordering::Relaxed) < count || store.backlog(1).await.expect("a count") > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A running worker.
pub(crate) struct Worker {
    running: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Worker {
    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.running.await.expect("no panic");
    }
}
