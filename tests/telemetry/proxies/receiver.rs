//! A receiver that keeps what came, what the layer made of it, and what reached the handler.

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

/// One request, as it stood before the verify layer.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    /// As far as it came.
    pub(crate) body: Bytes,
    /// By the layer. `None`: it was let through.
    pub(crate) rejected: Option<RejectionKind>,
    /// The warnings that were logged meanwhile.
    pub(crate) logged: String,
}

impl Arrival {
    /// For a cause that the log names, and that is found in what came too.
    #[track_caller]
    pub(crate) fn assert_rejected(&self, rejected: RejectionKind, cause: Cause, certainty: Certainty) {
        self.assert_logged(rejected, cause, certainty);
        self.assert_cause(cause, certainty);
    }

    /// For a cause that the log names.
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

    /// Of what came.
    #[track_caller]
    pub(crate) fn assert_cause(&self, cause: Cause, certainty: Certainty) {
        let diagnosis = diagnose(&keyring(), &self.headers, &self.body);
        assert_eq!((diagnosis.cause(), diagnosis.certainty()), (cause, certainty), "{diagnosis}: {:?}", self.headers);
    }
}

#[derive(Clone, Default)]
pub(crate) struct Receiver {
    seen: Arc<Mutex<Seen>>,
    log: Log,
}

#[derive(Debug, Default)]
struct Seen {
    arrivals: Vec<Arrival>,
    handled: Vec<Bytes>,
}

impl Receiver {
    /// Hears what is logged on this thread until the guard is dropped.
    pub(crate) fn listening() -> (Self, DefaultGuard) {
        let receiver = Self::default();
        let guard = receiver.log.listen();
        (receiver, guard)
    }

    /// The handler behind a verify layer: other layers can be put around it.
    pub(crate) fn route(&self, verify: KlikitVerifyLayer) -> MethodRouter {
        self.around(self.handler().layer(verify))
    }

    /// The handler alone.
    pub(crate) fn handler(&self) -> MethodRouter {
        async fn handle(State(receiver): State<Receiver>, body: Bytes) {
            receiver.seen.lock().unwrap().handled.push(body);
        }
        post(handle).with_state(self.clone())
    }

    /// Keeps what comes to this route.
    pub(crate) fn around(&self, route: MethodRouter) -> MethodRouter {
        route.layer(from_fn_with_state(self.clone(), keep))
    }

    /// What came since the last look, one request, and what the handler saw of it.
    #[track_caller]
    pub(crate) fn take(&self) -> (Arrival, Option<Bytes>) {
        let Seen { mut arrivals, mut handled } = mem::take(&mut *self.seen.lock().unwrap());
        assert!(arrivals.len() == 1 && handled.len() <= 1, "{} came, {} were handled", arrivals.len(), handled.len());
        (arrivals.remove(0), handled.pop())
    }

    /// What came since the last look, one request that was refused.
    #[track_caller]
    pub(crate) fn take_refused(&self) -> Arrival {
        let (arrival, handled) = self.take();
        assert_eq!(handled, None, "what was refused was handled");
        arrival
    }

    #[track_caller]
    pub(crate) fn assert_nothing_came(&self) {
        assert!(self.seen.lock().unwrap().arrivals.is_empty());
    }
}

async fn keep(State(receiver): State<Receiver>, request: Request, next: Next) -> Response {
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

/// Serves HTTP/1.1 and HTTP/1.0, until the runtime of the test ends.
pub(crate) async fn serve(route: MethodRouter) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, Router::new().route(PATH, route)).await });
    address
}

/// With the secret of the samples. It names one cause a second.
pub(crate) fn verify() -> KlikitVerifyLayer {
    KlikitVerifyLayer::with_keyring(keyring()).explain_mismatches()
}

fn keyring() -> Keyring {
    WebhookSecret::new(deliveries::all().0).expect("the samples have a secret").into()
}
