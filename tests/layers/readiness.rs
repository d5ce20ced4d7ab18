//! The layer polls the inner service only for verified requests, and calls the instance that it polled.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt,
    limit::{ConcurrencyLimit, ConcurrencyLimitLayer},
};
use tower_klikit::{KlikitVerify, KlikitVerifyLayer, VerifiedBody, testing::SignedDelivery};
use tower_test::mock::{self, Mock};

use crate::support::{
    BODY, Handler, SECRET,
    body::{Script, Step},
};

type Inner = Mock<Request<VerifiedBody>, Response<Full<Bytes>>>;
type Handle = mock::Handle<Request<VerifiedBody>, Response<Full<Bytes>>>;

fn genuine() -> Request<Full<Bytes>> {
    SignedDelivery::new(SECRET, BODY).request()
}

fn forged() -> Request<Full<Bytes>> {
    SignedDelivery::new(SECRET, BODY).altered().request()
}

fn mock() -> (KlikitVerify<Inner>, Handle) {
    let (inner, handle) = mock::pair();
    (KlikitVerifyLayer::new(SECRET).layer(inner), handle)
}

fn poll_ready<B>(service: &mut impl Service<Request<B>>) -> bool {
    let mut context = Context::from_waker(futures_util::task::noop_waker_ref());
    matches!(service.poll_ready(&mut context), Poll::Ready(Ok(())))
}

#[test]
fn layer_is_ready_before_inner_service() {
    let (mut service, mut handle) = mock();
    handle.allow(0);
    assert!(poll_ready::<Full<Bytes>>(&mut service));
    let response = assert_ready_ok!(task::spawn(service.call(forged())).poll());
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
}

#[test]
fn verified_request_waits_for_inner_service() {
    let (mut service, mut handle) = mock();
    handle.allow(0);
    let mut future = task::spawn(service.call(genuine()));
    assert_pending!(future.poll());
    assert_pending!(handle.poll_request());

    handle.allow(1);
    assert!(future.is_woken());
    assert_pending!(future.poll());
    let (request, respond) = assert_ready!(handle.poll_request()).unwrap();
    assert_eq!(request.into_body().into_bytes(), BODY);
    respond.send_response(Response::new(Full::from("done")));
    assert_eq!(assert_ready_ok!(future.poll()).status(), StatusCode::OK);
}

#[test]
fn passes_on_error_of_inner_service() {
    let (mut service, mut handle) = mock();
    handle.send_error("the inner service broke");
    let mut future = task::spawn(service.call(genuine()));
    let error: BoxError = assert_ready!(future.poll()).unwrap_err();
    assert_eq!(error.to_string(), "the inner service broke");
}

/// A service that must be polled ready before each call, like `ConcurrencyLimit` and `Buffer`. A clone must be polled
/// itself.
#[derive(Default)]
struct Strict {
    is_ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Service<Request<VerifiedBody>> for Strict {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<VerifiedBody>) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "called without being polled ready");
        ready(Ok(Response::default()))
    }
}

#[tokio::test]
async fn calls_the_instance_that_was_polled_ready() {
    let mut service = KlikitVerifyLayer::new(SECRET).layer(Strict::default());
    for _ in 0..2 {
        assert_eq!(service.call(genuine()).await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn works_with_concurrency_limit_and_buffer() {
    let service = ServiceBuilder::new()
        .layer(KlikitVerifyLayer::new(SECRET))
        .buffer(4)
        .layer(ConcurrencyLimitLayer::new(1))
        .service(Handler::default());
    let requests = (0..16).map(|_| service.clone().oneshot(genuine()));
    for response in futures_util::future::join_all(requests).await {
        assert_eq!(response.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test(start_paused = true)]
async fn slow_sender_holds_no_permit() {
    let service = KlikitVerifyLayer::new(SECRET).layer(ConcurrencyLimit::new(Handler::default(), 1));
    let slow = SignedDelivery::new(SECRET, BODY)
        .altered()
        .request_with(|body| Script::trickle(&body, 5, Duration::from_millis(300)));
    let stuck = SignedDelivery::new(SECRET, BODY).request_with(|_| Script::new([Step::Hang]));
    let mut slow = task::spawn(service.clone().oneshot(slow));
    let mut stuck = task::spawn(service.clone().oneshot(stuck));
    assert_pending!(slow.poll());
    assert_pending!(stuck.poll());

    let response = assert_ready_ok!(task::spawn(service.oneshot(genuine())).poll());
    assert_eq!(response.status(), StatusCode::OK);
}

#[test]
fn types_are_send_and_sync() {
    fn assert_send_and_sync<T: Clone + Send + Sync + 'static>() {}
    fn assert_send<T: Send + 'static>() {}
    assert_send_and_sync::<KlikitVerifyLayer>();
    assert_send_and_sync::<KlikitVerify<Handler>>();
    assert_send_and_sync::<VerifiedBody>();
    assert_send_and_sync::<tower_klikit::Delivery>();
    assert_send_and_sync::<tower_klikit::Rejection>();
    assert_send::<tower_klikit::verify::ResponseFuture<Handler, Full<Bytes>>>();
}

#[test]
fn verify_service_returns_its_inner_service() {
    let mut service = KlikitVerifyLayer::new(SECRET).layer(7);
    *service.get_mut() += 1;
    assert_eq!((*service.get_ref(), service.into_inner()), (8, 8));
}

#[cfg(feature = "dedupe")]
#[test]
fn dedupe_service_returns_its_inner_service() {
    use tower_klikit::{dedupe::KlikitDedupeLayer, store::MemoryStore};
    let mut service = KlikitDedupeLayer::new(MemoryStore::new()).layer(7);
    *service.get_mut() += 1;
    assert_eq!((*service.get_ref(), service.into_inner()), (8, 8));
}
