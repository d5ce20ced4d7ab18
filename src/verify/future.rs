use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response, request::Parts};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    body::{ResponseBody, VerifiedBody},
    collect::Collect,
    config::Config,
    head::Claims,
    rejection::{BoxError, Rejection},
};

pin_project! {
    /// The future of [`KlikitVerify`](super::KlikitVerify): receives the body, verifies it, and calls the inner service.
    pub struct ResponseFuture<S, ReqBody>
    where
        S: Service<Request<VerifiedBody>>,
    {
        #[pin]
        state: State<S, S::Future, ReqBody>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, F, ReqBody> {
        Receive { #[pin] body: ReqBody, collect: Collect, head: Option<Head<S>> },
        Verified { inner: S, request: Option<Request<VerifiedBody>> },
        Call { #[pin] future: F },
        Reject { rejection: Rejection, config: Arc<Config> },
    }
}

/// What waits for the body.
struct Head<S> {
    inner: S,
    parts: Parts,
    claims: Claims,
}

const POLLED_AFTER_READY: &str = "a future is not polled after it is ready";

impl<S, ReqBody> ResponseFuture<S, ReqBody>
where
    S: Service<Request<VerifiedBody>>,
{
    pub(super) fn reject(rejection: Rejection, config: Arc<Config>) -> Self {
        Self { state: State::Reject { rejection, config } }
    }

    pub(super) fn receive(inner: S, parts: Parts, claims: Claims, body: ReqBody, collect: Collect) -> Self {
        Self { state: State::Receive { body, collect, head: Some(Head { inner, parts, claims }) } }
    }
}

impl<S, ReqBody, ResBody> Future for ResponseFuture<S, ReqBody>
where
    S: Service<Request<VerifiedBody>, Response = Response<ResBody>>,
    ReqBody: Body,
    ReqBody::Error: Into<BoxError>,
{
    type Output = Result<Response<ResponseBody<ResBody>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Receive { body, collect, head } => match ready!(collect.poll(cx, body)) {
                    Ok(verified) => {
                        let Head { inner, mut parts, claims } = head.take().expect(POLLED_AFTER_READY);
                        claims.confirm(&mut parts, &verified);
                        let request = Request::from_parts(parts, VerifiedBody::new(verified.bytes));
                        state.set(State::Verified { inner, request: Some(request) });
                    }
                    Err(rejection) => {
                        let config = collect.config();
                        state.set(State::Reject { rejection, config });
                    }
                },
                StateProj::Verified { inner, request } => {
                    ready!(inner.poll_ready(cx))?;
                    // The instance that said it was ready, not a clone of it.
                    let future = inner.call(request.take().expect(POLLED_AFTER_READY));
                    state.set(State::Call { future });
                }
                StateProj::Call { future } => {
                    return Poll::Ready(Ok(ready!(future.poll(cx))?.map(ResponseBody::inner)));
                }
                StateProj::Reject { rejection, config } => {
                    return Poll::Ready(Ok(config.respond(rejection).map(ResponseBody::rejection)));
                }
            }
        }
    }
}

impl<S, ReqBody> fmt::Debug for ResponseFuture<S, ReqBody>
where
    S: Service<Request<VerifiedBody>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
