//! What several test files share. Each uses some of it.
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

/// What reached the handler.
#[derive(Debug, Clone)]
pub struct Seen {
    pub bytes: Bytes,
    pub headers: http::HeaderMap,
    pub event_id: Option<EventId>,
    pub delivery: Delivery,
}

/// A handler that remembers what reached it.
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

/// What a sender sees.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub text: String,
    pub rejected: Option<RejectionKind>,
}

/// Sends one request through the layer to a handler. The answer, and what reached the handler.
pub async fn send<B>(layer: &KlikitVerifyLayer, request: Request<B>) -> (Answer, Option<Seen>)
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let handler = Handler::default();
    let response = layer.layer(handler.clone()).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let answer = Answer {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap(),
        rejected: parts.extensions.get::<Rejection>().map(Rejection::kind),
    };
    let mut seen = handler.seen();
    assert!(seen.len() <= 1, "the handler was called {} times for one request", seen.len());
    (answer, seen.pop())
}

/// Sends a request that is to be refused.
pub async fn refused<B>(layer: &KlikitVerifyLayer, request: Request<B>, kind: RejectionKind) -> Answer
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (answer, seen) = send(layer, request).await;
    assert!(seen.is_none(), "what should be refused for {kind:?} reached the handler");
    assert_eq!(answer.rejected, Some(kind), "{answer:?}");
    answer
}

/// Sends a request that is to reach the handler.
pub async fn accepted<B>(layer: &KlikitVerifyLayer, request: Request<B>) -> Seen
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (answer, seen) = send(layer, request).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    seen.expect("an accepted request reaches the handler")
}
