//! A service with an inbox in a file, whose handler can be broken.

mod incidents;

use std::{
    convert::Infallible,
    future::{Future, pending},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle, time::sleep};
use tower::{Layer, ServiceExt};
use tower_klikit::{
    EventId, FailureReason, Keyring, KlikitVerifyLayer, RejectionLog, VerifiedBody, WebhookSecret,
    inbox::{Counts, Filter, Inbox, OrderBy, Worker},
    testing::SignedDelivery,
};
use tower_klikit_sqlite::SqliteStore;

pub const OLD_SECRET: &str = "the-old-webhook-secret";
pub const NEW_SECRET: &str = "the-new-webhook-secret";
pub const CREATED: &str = "klikit.order.created.v2";

/// The handler does not return if it is to give this status.
pub const HANGS: StatusCode = StatusCode::IM_A_TEAPOT;

/// The time between two polls of a worker, or two looks of a test.
const POLL: Duration = Duration::from_millis(10);

/// The number of looks after which a test gives up: at least 30 seconds.
const LOOKS: u32 = 3000;

/// The response of the handler: a status, and a reason if it is a failure.
type Answer = (StatusCode, &'static str);

/// A service with an inbox in a file.
pub struct Service {
    pub inbox: Inbox,
    pub rejections: RejectionLog,
    pub keyring: Keyring,
    pub folder: TempDir,
    answer: Arc<Mutex<Answer>>,
    handled: Arc<Mutex<Vec<String>>>,
}

/// A handler that gives the answer of the test.
#[derive(Clone)]
pub struct Handler {
    answer: Arc<Mutex<Answer>>,
    handled: Arc<Mutex<Vec<String>>>,
}

/// A worker that runs until it is stopped.
pub struct RunningWorker {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Service {
    /// Creates a service with an inbox in the file `klikit.db`.
    pub fn in_file() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let inbox = open(&folder, "klikit.db");
        Self { folder, ..Self::on(inbox) }
    }

    /// Creates a service with this inbox.
    pub fn on(inbox: Inbox) -> Self {
        let secret = WebhookSecret::new(OLD_SECRET).unwrap();
        Self {
            inbox,
            rejections: RejectionLog::new(),
            keyring: Keyring::new("default", "2026-06", secret),
            folder: tempfile::tempdir().unwrap(),
            answer: Arc::new(Mutex::new((StatusCode::OK, ""))),
            handled: Arc::default(),
        }
    }

    /// Sets the response of the handler from now on.
    pub fn answers(&self, status: StatusCode, reason: &'static str) {
        *self.answer.lock().unwrap() = (status, reason);
    }

    /// Sends a delivery, and returns the status of the response.
    pub async fn send(&self, delivery: &SignedDelivery) -> StatusCode {
        let verify = KlikitVerifyLayer::with_keyring(self.keyring.clone()).explain_mismatches();
        let stack = verify.rejection_log(self.rejections.clone()).layer(self.inbox.acceptor());
        stack.oneshot(delivery.request::<Full<Bytes>>()).await.unwrap().status()
    }

    /// Accepts deliveries of these orders, each of a branch of its own.
    pub async fn accept(&self, orders: impl IntoIterator<Item = u64>) {
        for number in orders {
            assert_eq!(self.send(&order(number, number)).await, StatusCode::OK);
        }
    }

    /// Starts a worker, which retries after up to 10 milliseconds.
    pub fn work(&self) -> RunningWorker {
        self.work_as(|worker| worker)
    }

    /// Starts a worker whose lease, for example, differs.
    pub fn work_as(&self, set: impl FnOnce(Worker<Handler>) -> Worker<Handler>) -> RunningWorker {
        let handler = Handler { answer: Arc::clone(&self.answer), handled: Arc::clone(&self.handled) };
        let worker = self.inbox.worker(handler).backoff(POLL, POLL).poll_interval(POLL);
        let (stop, stopped) = oneshot::channel::<()>();
        RunningWorker { stop, task: tokio::spawn(set(worker).run_until(stopped)) }
    }

    /// Waits until the counts are as expected.
    pub async fn until(&self, description: &str, holds: impl Fn(&Counts) -> bool) {
        for _ in 0..LOOKS {
            if holds(&self.inbox.counts().await.unwrap()) {
                return;
            }
            sleep(POLL).await;
        }
        panic!("condition never held: {description}: {:?}", self.inbox.counts().await);
    }

    /// Waits until the filter selects a delivery.
    pub async fn until_found(&self, filter: &Filter) {
        for _ in 0..LOOKS {
            if !self.inbox.find(filter, None, 1).await.unwrap().entries.is_empty() {
                return;
            }
            sleep(POLL).await;
        }
        panic!("no delivery was found: {filter:?}");
    }

    /// Watches that running workers handle nothing in the time of 20 polls. Nothing shows that a worker has looked and
    /// found no delivery, so there is no event to wait for.
    pub async fn stays_idle(&self) {
        let before = self.handled();
        sleep(20 * POLL).await;
        assert_eq!(self.handled(), before);
    }

    /// Returns the event ids that the handler has handled, in order.
    pub fn handled(&self) -> Vec<String> {
        self.handled.lock().unwrap().clone()
    }
}

impl tower::Service<Request<VerifiedBody>> for Handler {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<()>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<VerifiedBody>) -> Self::Future {
        let (status, reason) = *self.answer.lock().unwrap();
        let event_id = request.extensions().get::<EventId>().unwrap().to_string();
        let handled = Arc::clone(&self.handled);
        Box::pin(async move {
            if status == HANGS {
                pending::<()>().await;
            }
            if status.is_success() {
                handled.lock().unwrap().push(event_id);
            }
            let mut response = Response::new(());
            *response.status_mut() = status;
            response.extensions_mut().insert(FailureReason::new(reason));
            Ok(response)
        })
    }
}

impl RunningWorker {
    pub async fn stop(self) {
        drop(self.stop);
        self.task.await.unwrap();
    }

    /// Ends the worker as a crash of its process does.
    pub async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// Opens an inbox in this file, in which the deliveries of an order are handled one after the other.
pub fn open(folder: &TempDir, file: &str) -> Inbox {
    let store = SqliteStore::builder().create().open(folder.path().join(file)).unwrap();
    Inbox::new(store).order_by(OrderBy::branch()).keep_bodies(Duration::from_secs(3600))
}

/// Returns a delivery of an order.
pub fn order(order: u64, branch: u64) -> SignedDelivery {
    signed(OLD_SECRET, order, branch)
}

pub fn signed(secret: &str, order: u64, branch: u64) -> SignedDelivery {
    let body = format!(r#"{{"brand_id":1,"branch_id":{branch},"orders":[{{"id":{order}}}]}}"#);
    SignedDelivery::new(secret, body).event_id(format!("evt-{order}")).event_type(CREATED)
}
