//! Cases that several benches measure: a delivery with the layer, a delivery without the layer, and the hash alone.

use std::{
    convert::Infallible,
    fmt,
    future::{Future, Ready, ready},
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{Request, Response, header};
use http_body::{Body, Frame};
use http_body_util::{Full, StreamBody};
use sha2::Sha256;
use tower::{Layer, Service};
use tower_klikit::{KlikitVerifyLayer, testing::SignedDelivery};

const SECRET: &str = "klikit-bench-secret";

/// A measured case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// HMAC-SHA256 of the body, without the time to prepare the key.
    Hash,
    /// A handler that drops the request.
    Bare,
    /// The layer in front of that handler. The cost of the layer is this case minus [`Case::Bare`], because both drop
    /// the request.
    Layer,
}

/// The size of a body, and the number of frames in which it arrives.
#[derive(Debug, Clone, Copy)]
pub struct BodyShape {
    pub bytes: usize,
    pub frames: usize,
}

impl fmt::Display for BodyShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, frames } = self;
        f.pad(&format!("{bytes} bytes in {frames} frame(s)"))
    }
}

/// Prepares `runs` runs of a case, and passes a closure that performs them to `measure`.
pub fn run<T>(case: Case, body: BodyShape, runs: usize, measure: impl FnOnce(&mut dyn FnMut()) -> T) -> T {
    let BodyShape { bytes, frames } = body;
    // The headers of klikit's requests behind a proxy.
    let delivery = SignedDelivery::new(SECRET, vec![b'o'; bytes])
        .event_id("9f3b3f0e-6a0e-4b5c-9f0e-2f1a7c5d8e11")
        .header(header::HOST, "orders.example.com")
        .header(header::USER_AGENT, "klikit-hookit/1.0")
        .header(header::ACCEPT_ENCODING, "gzip");
    if case == Case::Hash {
        return hash(delivery.body(), runs, measure);
    }
    if frames == 1 {
        return serve(case, (0..runs).map(|_| delivery.request::<Full<Bytes>>()).collect(), measure);
    }
    let size = bytes.div_ceil(frames);
    let request = |_| {
        let mut request = delivery.request_with(|body| {
            let frame = move |start| Ok::<_, Infallible>(Frame::data(body.slice(start..bytes.min(start + size))));
            StreamBody::new(futures_util::stream::iter((0..bytes).step_by(size).map(frame)))
        });
        request.headers_mut().insert(header::CONTENT_LENGTH, bytes.into());
        request
    };
    serve(case, (0..runs).map(request).collect(), measure)
}

fn hash<T>(body: &Bytes, runs: usize, measure: impl FnOnce(&mut dyn FnMut()) -> T) -> T {
    let key = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("HMAC accepts keys of any length");
    measure(&mut || {
        for _ in 0..runs {
            let mut mac = black_box(&key).clone();
            mac.update(black_box(body));
            black_box(mac.finalize());
        }
    })
}

fn serve<B, T>(case: Case, requests: Vec<Request<B>>, measure: impl FnOnce(&mut dyn FnMut()) -> T) -> T
where
    B: Body<Error = Infallible>,
{
    let mut requests = requests.into_iter();
    if case == Case::Bare {
        return measure(&mut || requests.by_ref().for_each(|request| call(&mut DropHandler, request)));
    }
    let mut service = KlikitVerifyLayer::new(SECRET).layer(DropHandler);
    measure(&mut || requests.by_ref().for_each(|request| call(&mut service, request)))
}

fn call<B, C: Body>(service: &mut impl Service<Request<B>, Response = Response<C>>, request: Request<B>) {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(service.call(request)).poll(&mut context) {
        Poll::Ready(Ok(response)) => assert_eq!(response.status(), 200),
        _ => panic!("a complete body is verified at the first poll"),
    }
}

/// A handler that drops its request.
#[derive(Clone)]
pub struct DropHandler;

impl<B> Service<Request<B>> for DropHandler {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        drop(black_box(request));
        ready(Ok(Response::new(Full::default())))
    }
}
