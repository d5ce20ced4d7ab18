//! Tests of pauses and of sharing between tenants, on two nodes with one store.

#[path = "../../../tests/support/mod.rs"]
mod support;

use std::{
    convert::Infallible,
    env,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::Full;
use support::{SECRET, servers::postgres::PostgresServer};
use tokio::{sync::oneshot, task::JoinHandle, time::sleep};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_klikit::{
    Delivery, Keyring, KlikitVerifyLayer, VerifiedBody, WebhookSecret,
    inbox::{Inbox, Pause},
    testing::SignedDelivery,
};
use tower_klikit_postgres::PostgresStore;
use tower_klikit_sqlite::SqliteStore;

/// The environment variable with the number of deliveries in the backlog of one tenant, 2,000 by default.
const BACKLOG: &str = "KLIKIT_TEST_BACKLOG";

/// Two nodes with one store, and the tenants of the deliveries that their handlers have begun.
struct Nodes {
    inboxes: [Inbox; 2],
    begun: Arc<Mutex<Vec<String>>>,
}

/// The workers of the nodes.
struct Workers(Vec<(oneshot::Sender<()>, JoinHandle<()>)>);

impl Nodes {
    fn new(inboxes: [Inbox; 2]) -> Self {
        Self { inboxes, begun: Arc::default() }
    }

    fn on_sqlite(folder: &Path) -> Self {
        let open = || SqliteStore::builder().create().open(folder.join("klikit.db")).unwrap();
        Self::new([Inbox::new(open()), Inbox::new(open())])
    }

    async fn on_postgres(server: &PostgresServer) -> Self {
        let open = async || Inbox::new(PostgresStore::open(server.url()).await.unwrap());
        Self::new([open().await, open().await])
    }

    /// Sends this many deliveries of a tenant to the first node.
    async fn accept(&self, tenant: &str, count: usize) {
        let keyring = Keyring::new(tenant, "1", WebhookSecret::new(SECRET).unwrap());
        let stack = KlikitVerifyLayer::with_keyring(keyring).layer(self.inboxes[0].acceptor());
        let numbers: Vec<usize> = (0..count).collect();
        for chunk in numbers.chunks(64) {
            let accepted = chunk.iter().map(async |number| {
                let delivery = SignedDelivery::new(SECRET, format!("{number}")).event_id(format!("evt-{number}"));
                stack.clone().oneshot(delivery.request::<Full<Bytes>>()).await.unwrap().status()
            });
            assert!(join_all(accepted).await.iter().all(|status| *status == 200));
        }
    }

    /// Starts a worker on each node, whose handlers take this time.
    fn work(&self, concurrency: usize, handler: Duration) -> Workers {
        let start = |inbox: &Inbox| {
            let (stop, stopped) = oneshot::channel::<()>();
            let worker = inbox.worker(self.handler(handler)).concurrency(concurrency);
            (stop, tokio::spawn(worker.run_until(stopped)))
        };
        Workers(self.inboxes.iter().map(start).collect())
    }

    fn handler(
        &self,
        takes: Duration,
    ) -> impl Service<Request<VerifiedBody>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static {
        let begun = Arc::clone(&self.begun);
        service_fn(move |request: Request<VerifiedBody>| {
            let tenant = request.extensions().get::<Delivery>().unwrap().tenant().to_owned();
            begun.lock().unwrap().push(tenant);
            async move {
                sleep(takes).await;
                Ok(Response::new(Full::default()))
            }
        })
    }

    fn begun(&self) -> Vec<String> {
        self.begun.lock().unwrap().clone()
    }

    async fn until(&self, description: &str, holds: impl AsyncFn() -> bool) {
        for _ in 0..6000 {
            if holds().await {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("condition never held: {description}");
    }
}

impl Workers {
    async fn stop(self) {
        for (stop, worker) in self.0 {
            drop(stop);
            worker.await.unwrap();
        }
    }
}

/// Pauses while both nodes are busy. Two seconds later, neither of them begins to handle a delivery.
async fn assert_pause_holds_on_both(nodes: Nodes) {
    const COUNT: usize = 600;
    nodes.accept("default", COUNT).await;
    let workers = nodes.work(4, Duration::from_millis(50));
    nodes.until("both nodes are busy", async || nodes.begun().len() >= 40).await;
    let operator = nodes.inboxes[1].operator("ana");
    let pause = Pause::everything().tenant("default");
    operator.pause(&pause).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    let begun = nodes.begun().len();
    assert!(begun < COUNT, "all {COUNT} deliveries were handled before the pause took effect");
    sleep(Duration::from_secs(3)).await;
    assert_eq!(nodes.begun().len(), begun, "a paused delivery was handled");
    assert!(operator.resume(&pause).await.unwrap());
    nodes.until("all are handled", async || nodes.inboxes[0].counts().await.unwrap().backlog() == 0).await;
    assert_eq!(nodes.begun().len(), COUNT);
    workers.stop().await;
}

/// Accepts the backlog of one tenant and then one delivery of another, which is among the first that are handled.
async fn assert_tenants_share(nodes: Nodes) {
    let backlog = env::var(BACKLOG).ok().and_then(|count| count.parse().ok()).unwrap_or(2000);
    nodes.accept("busy", backlog).await;
    nodes.accept("quiet", 1).await;
    let workers = nodes.work(8, Duration::from_millis(5));
    let is_begun = async || nodes.begun().iter().any(|tenant| tenant == "quiet");
    nodes.until("the other tenant's delivery is handled", is_begun).await;
    let before = nodes.begun().iter().position(|tenant| tenant == "quiet").unwrap();
    // Each node has eight handlers, and may have prefetched deliveries before the other node leased this one.
    assert!(before < 100, "{before} deliveries of the busy tenant were handled first");
    workers.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_holds_on_two_nodes_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    assert_pause_holds_on_both(Nodes::on_sqlite(folder.path())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_holds_on_two_nodes_on_postgres() {
    let Some(server) = PostgresServer::start("pause") else { return };
    assert_pause_holds_on_both(Nodes::on_postgres(&server).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_share_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    assert_tenants_share(Nodes::on_sqlite(folder.path())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_share_on_postgres() {
    let Some(server) = PostgresServer::start("sharing") else { return };
    assert_tenants_share(Nodes::on_postgres(&server).await).await;
}
