//! Responses of a stack of layers to klikit.

use bytes::Bytes;
use http::{Request, Response, header};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower::{Service, ServiceExt};
use tower_klikit::testing::SignedDelivery;

/// A response of the stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub text: String,
    /// The `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
}

/// Sends a delivery through the stack.
pub async fn send<S, B>(stack: &S, delivery: &SignedDelivery) -> Answer
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: std::fmt::Debug> + Clone,
    B: Body<Error: std::fmt::Debug>,
{
    let response = stack.clone().oneshot(delivery.request()).await.unwrap();
    let retry_after = response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap().parse().unwrap());
    let status = response.status().as_u16();
    let text = response.into_body().collect().await.unwrap().to_bytes().to_vec();
    Answer { status, text: String::from_utf8(text).unwrap(), retry_after }
}

pub fn ok(text: &str) -> Answer {
    Answer { status: 200, text: text.to_owned(), retry_after: None }
}

pub fn duplicate() -> Answer {
    ok(r#"{"status":"duplicate-ignored"}"#)
}

/// Checks that the answer is 503 with this error and a positive `Retry-After`.
pub fn assert_unavailable(answer: &Answer, error: &str) {
    assert_eq!((answer.status, &*answer.text), (503, &*format!(r#"{{"error":"{error}"}}"#)));
    assert!(answer.retry_after.is_some_and(|seconds| seconds > 0));
}
