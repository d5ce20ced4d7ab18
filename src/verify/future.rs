use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    body::{ResponseBody, VerifiedBody},
    collect::Collect,
    config::Config,
    head::Head,
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
        Reject { rejection: Rejection, config: Arc<Config> },
        Receive { #[pin] body: ReqBody, collect: Collect, rest: Option<(S, Head)> },
        Ready { inner: S, request: Option<Request<VerifiedBody>> },
        Call { #[pin] future: F },
    }
}

impl<S, ReqBody> ResponseFuture<S, ReqBody>
where
    S: Service<Request<VerifiedBody>>,
{
    pub(super) fn reject(rejection: Rejection, config: Arc<Config>) -> Self {
        Self { state: State::Reject { rejection, config } }
    }

    pub(super) fn receive(inner: S, head: Head, body: ReqBody, config: Arc<Config>) -> Self {
        let collect = head.collect(config);
        Self { state: State::Receive { body, collect, rest: Some((inner, head)) } }
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
            let next = match state.as_mut().project() {
                StateProj::Reject { rejection, config } => {
                    return Poll::Ready(Ok(config.respond(rejection).map(ResponseBody::rejection)));
                }
                StateProj::Receive { body, collect, rest } => {
                    let verified = ready!(collect.poll(cx, body));
                    let (inner, head) = rest.take().expect("a future is not polled after it is ready");
                    match verified {
                        Ok(verified) => State::Ready { inner, request: Some(head.into_request(verified)) },
                        Err(rejection) => State::Reject { rejection, config: collect.config() },
                    }
                }
                StateProj::Ready { inner, request } => {
                    ready!(inner.poll_ready(cx))?;
                    let request = request.take().expect("a future is not polled after it is ready");
                    // The instance that said it was ready, not a clone of it.
                    State::Call { future: inner.call(request) }
                }
                StateProj::Call { future } => {
                    return Poll::Ready(Ok(ready!(future.poll(cx))?.map(ResponseBody::inner)));
                }
            };
            state.set(next);
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
