//! A receiver that records each request, the result of the verify layer, and the bodies that reached the handler.

use std::{
    mem,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::{MethodRouter, post},
};
use bytes::Bytes;
use http::{HeaderMap, Version};
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tower_klikit::{
    Keyring, KlikitVerifyLayer, Rejection, RejectionKind, WebhookSecret,
    diagnose::{Cause, Certainty, diagnose},
};
use tracing::subscriber::DefaultGuard;

use crate::proxies::{PATH, deliveries, log::Log};

/// A request as it arrived outside of the verify layer.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    /// The part of the body that arrived.
    pub(crate) body: Bytes,
    /// The kind of the layer's rejection. `None` if the layer accepted the request.
    pub(crate) rejected: Option<RejectionKind>,
    /// The warnings that were logged while the request was handled.
    pub(crate) logged: String,
}

impl Arrival {
    /// Asserts that the layer rejected the request, and that both the log and a new diagnosis name this cause.
    #[track_caller]
    pub(crate) fn assert_rejected(&self, rejected: RejectionKind, cause: Cause, certainty: Certainty) {
        self.assert_logged(rejected, cause, certainty);
        self.assert_cause(cause, certainty);
    }

    /// Asserts that the layer rejected the request, and that the log names this cause.
    #[track_caller]
    pub(crate) fn assert_logged(&self, rejected: RejectionKind, cause: Cause, certainty: Certainty) {
        assert_eq!(self.rejected, Some(rejected), "{:?}", self.headers);
        let [line] = &self.logged.lines().collect::<Vec<_>>()[..] else { panic!("{}", self.logged) };
        for (field, value) in
            [("reason", rejected.as_str()), ("cause", cause.as_str()), ("certainty", certainty.as_str())]
        {
            assert!(line.contains(&format!("{field}={value:?}")), "{field}: {value}: {line}");
        }
    }

    /// Asserts that a diagnosis of the request names this cause.
    #[track_caller]
    pub(crate) fn assert_cause(&self, cause: Cause, certainty: Certainty) {
        let diagnosis = diagnose(&keyring(), &self.headers, &self.body);
        assert_eq!((diagnosis.cause(), diagnosis.certainty()), (cause, certainty), "{diagnosis}: {:?}", self.headers);
    }
}

/// The receiver, whose clones share their records.
#[derive(Clone, Default)]
pub(crate) struct Receiver {
    seen: Arc<Mutex<Seen>>,
    log: Log,
}

/// The records of a receiver.
#[derive(Debug, Default)]
struct Seen {
    arrivals: Vec<Arrival>,
    handled: Vec<Bytes>,
}

impl Receiver {
    /// Creates a receiver that records the log of this thread until the guard is dropped.
    pub(crate) fn listening() -> (Self, DefaultGuard) {
        let receiver = Self::default();
        let guard = receiver.log.listen();
        (receiver, guard)
    }

    /// Returns the handler inside of a verify layer, with the recording outside.
    pub(crate) fn route(&self, verify: KlikitVerifyLayer) -> MethodRouter {
        self.around(self.handler().layer(verify))
    }

    /// Returns the handler alone.
    pub(crate) fn handler(&self) -> MethodRouter {
        async fn handle(State(receiver): State<Receiver>, body: Bytes) {
            receiver.seen.lock().unwrap().handled.push(body);
        }
        post(handle).with_state(self.clone())
    }

    /// Records the requests to this route.
    pub(crate) fn around(&self, route: MethodRouter) -> MethodRouter {
        route.layer(from_fn_with_state(self.clone(), record))
    }

    /// Takes the only request since the last call, and the body that the handler received.
    #[track_caller]
    pub(crate) fn take(&self) -> (Arrival, Option<Bytes>) {
        let Seen { mut arrivals, mut handled } = mem::take(&mut *self.seen.lock().unwrap());
        assert!(
            arrivals.len() == 1 && handled.len() <= 1,
            "{} requests arrived, {} were handled",
            arrivals.len(),
            handled.len()
        );
        (arrivals.remove(0), handled.pop())
    }

    /// Takes the only request since the last call, which did not reach the handler.
    #[track_caller]
    pub(crate) fn take_rejected(&self) -> Arrival {
        let (arrival, handled) = self.take();
        assert_eq!(handled, None, "a rejected request reached the handler");
        arrival
    }

    #[track_caller]
    pub(crate) fn assert_no_arrival(&self) {
        assert!(self.seen.lock().unwrap().arrivals.is_empty());
    }
}

/// Records the request, the part of its body that the route reads, and the rejection.
async fn record(State(receiver): State<Receiver>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let (version, headers) = (parts.version, parts.headers.clone());
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let copy = Arc::clone(&bytes);
    let body = body.map_frame(move |frame| {
        copy.lock().unwrap().extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        frame
    });
    let response = next.run(Request::from_parts(parts, Body::new(body))).await;
    let rejected = response.extensions().get().map(Rejection::kind);
    let body = mem::take(&mut *bytes.lock().unwrap()).into();
    let logged = receiver.log.taken();
    receiver.seen.lock().unwrap().arrivals.push(Arrival { version, headers, body, rejected, logged });
    response
}

/// Serves HTTP/1.1 and HTTP/1.0 until the runtime of the test ends.
pub(crate) async fn serve(route: MethodRouter) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, Router::new().route(PATH, route)).await });
    address
}

/// Returns a verify layer with the secret of the samples. It explains one mismatch per second.
pub(crate) fn verify() -> KlikitVerifyLayer {
    KlikitVerifyLayer::with_keyring(keyring()).explain_mismatches()
}

fn keyring() -> Keyring {
    WebhookSecret::new(deliveries::all().0).expect("the samples have a secret").into()
}
