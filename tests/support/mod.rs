//! Code that several test files share. No file uses all of it.
#![allow(dead_code, unreachable_pub, missing_docs)]

pub mod answers;
use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceExt};
use tower_klikit::{Delivery, EventId, KlikitVerifyLayer, Rejection, RejectionKind, VerifiedBody};
#[allow(unused_imports, reason = "each test file uses some of it")]
pub use tower_klikit_test_support::{body, deliveries, servers};

pub const SECRET: &str = "klikit-test-secret";
pub const BODY: &str = r#"{"brand_id":1,"branch_id":2,"orders":[{"id":42}]}"#;

/// A request that reached the handler.
#[derive(Debug, Clone)]
pub struct Seen {
    pub bytes: Bytes,
    pub headers: http::HeaderMap,
    pub event_id: Option<EventId>,
    pub delivery: Delivery,
}

/// A handler that records the requests that reach it.
#[derive(Debug, Clone, Default)]
pub struct Handler(Arc<Mutex<Vec<Seen>>>);

impl Handler {
    pub fn seen(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }
}

impl Service<Request<VerifiedBody>> for Handler {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<VerifiedBody>) -> Self::Future {
        let (parts, body) = request.into_parts();
        self.0.lock().unwrap().push(Seen {
            bytes: body.into_bytes(),
            headers: parts.headers,
            event_id: parts.extensions.get().cloned(),
            delivery: parts.extensions.get().cloned().expect("a handler sees verified deliveries only"),
        });
        ready(Ok(Response::new(Full::from(r#"{"status":"received"}"#))))
    }
}

/// A response, as its sender sees it, and the kind of rejection.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub text: String,
    pub rejected: Option<RejectionKind>,
}

/// Sends one request through the layer. Returns the response, and the request that reached the handler.
pub async fn send<B>(layer: &KlikitVerifyLayer, request: Request<B>) -> (Reply, Option<Seen>)
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let handler = Handler::default();
    let response = layer.layer(handler.clone()).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let reply = Reply {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap(),
        rejected: parts.extensions.get::<Rejection>().map(Rejection::kind),
    };
    let mut seen = handler.seen();
    assert!(seen.len() <= 1, "the handler was called {} times for one request", seen.len());
    (reply, seen.pop())
}

/// Sends a request and checks that the layer rejects it for this reason.
pub async fn rejected<B>(layer: &KlikitVerifyLayer, request: Request<B>, kind: RejectionKind) -> Reply
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (reply, seen) = send(layer, request).await;
    assert!(seen.is_none(), "a request that must be rejected ({kind:?}) reached the handler");
    assert_eq!(reply.rejected, Some(kind), "{reply:?}");
    reply
}

/// Sends a request and checks that it reaches the handler.
pub async fn accepted<B>(layer: &KlikitVerifyLayer, request: Request<B>) -> Seen
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (reply, seen) = send(layer, request).await;
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    seen.expect("an accepted request reaches the handler")
}
