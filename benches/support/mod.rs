//! The layer and the bare hash over the same bytes, as cases that several benches run.

use std::{
    cell::RefCell,
    convert::Infallible,
    future::{Future, Ready, ready},
    hint::black_box,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{Request, Response, header};
use http_body::Body;
use http_body_util::{Full, StreamBody};
use sha2::Sha256;
use tower::{Layer, Service};
use tower_klikit::{KlikitVerify, KlikitVerifyLayer, VerifiedBody, testing::SignedDelivery};

const SECRET: &str = "klikit-bench-secret";

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// HMAC-SHA256 over so many bytes, with the key absorbed beforehand.
    Hash { bytes: usize },
    /// The whole layer on a body of so many bytes in so many frames, up to the call of a handler that does nothing.
    Layer { bytes: usize, frames: usize },
}

/// A case, with everything that is not measured done beforehand.
pub enum Prepared {
    Hash { key: Hmac<Sha256>, body: Bytes },
    Layer { service: KlikitVerify<Keep>, delivery: SignedDelivery, frames: Vec<Bytes>, keep: Keep },
}

/// A handler that keeps its requests, so that dropping them is not measured: whoever sent them would drop them anyway.
#[derive(Clone, Default)]
pub struct Keep(Rc<RefCell<Vec<Request<VerifiedBody>>>>);

impl Service<Request<VerifiedBody>> for Keep {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<VerifiedBody>) -> Self::Future {
        self.0.borrow_mut().push(request);
        ready(Ok(Response::new(Full::default())))
    }
}

impl Case {
    pub fn prepare(self) -> Prepared {
        match self {
            Self::Hash { bytes } => {
                let key = Hmac::new_from_slice(SECRET.as_bytes()).expect("HMAC takes a key of any length");
                Prepared::Hash { key, body: vec![b'o'; bytes].into() }
            }
            Self::Layer { bytes, frames } => {
                let keep = Keep::default();
                // As klikit's requests look behind a proxy.
                let delivery = SignedDelivery::new(SECRET, vec![b'o'; bytes])
                    .event_id("9f3b3f0e-6a0e-4b5c-9f0e-2f1a7c5d8e11")
                    .header(header::HOST, "orders.example.com")
                    .header(header::USER_AGENT, "klikit-hookit/1.0")
                    .header(header::ACCEPT_ENCODING, "gzip");
                let body = delivery.body();
                let size = bytes.div_ceil(frames);
                let frames = (0..bytes).step_by(size).map(|at| body.slice(at..bytes.min(at + size))).collect();
                Prepared::Layer { service: KlikitVerifyLayer::new(SECRET).layer(keep.clone()), delivery, frames, keep }
            }
        }
    }
}

impl Prepared {
    /// Runs the case `times` times, timed or counted by `measure`, which is given the part that is the case.
    pub fn run<T>(&mut self, times: usize, measure: impl FnOnce(&mut dyn FnMut()) -> T) -> T {
        match self {
            Self::Hash { key, body } => measure(&mut || {
                for _ in 0..times {
                    let mut mac = black_box(&*key).clone();
                    mac.update(black_box(body));
                    black_box(mac.finalize());
                }
            }),
            Self::Layer { service, delivery, frames, keep } if frames.len() == 1 => {
                let requests = (0..times).map(|_| delivery.request::<Full<Bytes>>()).collect();
                serve(service, keep, requests, measure)
            }
            Self::Layer { service, delivery, frames, keep } => {
                let request = |_| {
                    let frames =
                        frames.clone().into_iter().map(|frame| Ok::<_, Infallible>(http_body::Frame::data(frame)));
                    let mut request = delivery.request_with(|_| StreamBody::new(futures_util::stream::iter(frames)));
                    request.headers_mut().insert(header::CONTENT_LENGTH, delivery.body().len().into());
                    request
                };
                let requests = (0..times).map(request).collect();
                serve(service, keep, requests, measure)
            }
        }
    }
}

fn serve<B, T>(
    service: &mut KlikitVerify<Keep>,
    keep: &Keep,
    requests: Vec<Request<B>>,
    measure: impl FnOnce(&mut dyn FnMut()) -> T,
) -> T
where
    B: Body<Error = Infallible>,
{
    let times = requests.len();
    let mut requests = requests.into_iter();
    let mut responses = Vec::with_capacity(times);
    keep.0.borrow_mut().reserve(times);
    let mut context = Context::from_waker(Waker::noop());
    let measured = measure(&mut || {
        for request in requests.by_ref() {
            let Poll::Ready(Ok(response)) = pin!(service.call(request)).poll(&mut context) else {
                panic!("a body that is there is verified at the first poll");
            };
            responses.push(response);
        }
    });
    assert!(responses.iter().all(|response| response.status() == 200));
    assert_eq!(keep.0.borrow_mut().drain(..).count(), responses.len());
    measured
}
