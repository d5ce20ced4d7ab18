//! A receiver in the process of the test.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header::LOCATION},
    response::Response,
};
use tokio::{net::TcpListener, runtime, sync::oneshot};
use tower_klikit::{Signature, WebhookSecret, header::SIGNATURE};

use crate::support::SECRET;

/// A receiver on a port of its own. It stops when it is dropped.
pub(crate) struct Receiver {
    pub(crate) url: String,
    log: Arc<Log>,
    _stop: oneshot::Sender<()>,
}

/// The requests of a receiver.
#[derive(Default)]
struct Log {
    received: Mutex<Vec<Received>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

/// A request that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The response to a request.
pub(crate) enum Reply {
    Status(u16),
    /// A status and a body.
    Text(u16, String),
    /// The status after a pause.
    Late(Duration, u16),
    /// The status 200 after this number of requests has arrived, and a pause in which more could arrive.
    After(usize),
    /// A redirect to a URL.
    Redirect(String),
    /// A body that never ends.
    Endless,
}

/// Chooses the response to the request with a number, from zero on.
type Respond = Arc<dyn Fn(usize, &Received) -> Reply + Send + Sync>;

impl Received {
    /// Returns whether the signature matches the body.
    pub(crate) fn verifies(&self) -> bool {
        let signature = self.headers.get(SIGNATURE).and_then(|value| value.to_str().ok()?.parse::<Signature>().ok());
        signature == Some(WebhookSecret::new(SECRET).unwrap().sign(&self.body))
    }

    /// Returns the value of a header.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

impl Receiver {
    /// Starts a receiver.
    pub(crate) fn start(respond: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static) -> Self {
        let log = Arc::new(Log::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let (bound, address) = mpsc::channel();
        let state = (Arc::clone(&log), Arc::new(respond) as Respond);
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                bound.send(listener.local_addr().expect("an address")).expect("the test waits");
                let app = Router::new().fallback(receive).with_state(state);
                tokio::select! {
                    result = axum::serve(listener, app).into_future() => result.expect("the receiver serves"),
                    _ = stopped => {}
                }
            });
        });
        let address = address.recv_timeout(Duration::from_secs(10)).expect("the receiver starts");
        Self { url: format!("http://{address}/webhooks/klikit"), log, _stop: stop }
    }

    /// Starts a receiver that verifies signatures.
    pub(crate) fn verifying() -> Self {
        Self::start(|_, received| Reply::Status(if received.verifies() { 200 } else { 403 }))
    }

    /// Returns the requests so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.log.received.lock().unwrap().clone()
    }

    /// Returns the most requests that were waiting for their responses at a time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.log.most_at_once.load(Ordering::Relaxed)
    }

    /// Waits until this many requests have arrived.
    pub(crate) fn wait_for_requests(&self, count: usize) {
        let started = Instant::now();
        while self.received().len() < count {
            assert!(started.elapsed() < Duration::from_secs(60), "fewer requests arrived");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

async fn receive(State((log, respond)): State<(Arc<Log>, Respond)>, request: Request) -> Response {
    let at_once = log.at_once.fetch_add(1, Ordering::Relaxed) + 1;
    log.most_at_once.fetch_max(at_once, Ordering::Relaxed);
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("the body arrives");
    let request = Received { method: parts.method, headers: parts.headers, body };
    let number = {
        let mut received = log.received.lock().unwrap();
        received.push(request.clone());
        received.len() - 1
    };
    let response = match respond(number, &request) {
        Reply::Status(status) => response(status, Body::empty()),
        Reply::Text(status, text) => response(status, text.into()),
        Reply::Late(pause, status) => {
            tokio::time::sleep(pause).await;
            response(status, Body::empty())
        }
        Reply::After(requests) => {
            while log.received.lock().unwrap().len() < requests {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            response(200, Body::empty())
        }
        Reply::Redirect(url) => {
            let mut response = response(307, Body::empty());
            response.headers_mut().insert(LOCATION, url.parse().unwrap());
            response
        }
        Reply::Endless => {
            let chunks = futures_util::stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 1024])));
            response(200, Body::from_stream(chunks))
        }
    };
    log.at_once.fetch_sub(1, Ordering::Relaxed);
    response
}

fn response(status: u16, body: Body) -> Response {
    Response::builder().status(StatusCode::from_u16(status).unwrap()).body(body).unwrap()
}
