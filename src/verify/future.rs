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
    collect::{Collect, Verified},
    config::Config,
    explain::Search,
    head::Claims,
    rejection::{BoxError, Rejection},
};
use crate::telemetry::Watch;

pin_project! {
    /// The future of [`KlikitVerify`](super::KlikitVerify): receives the body, verifies it, and calls the inner service.
    pub struct ResponseFuture<S, ReqBody>
    where
        S: Service<Request<VerifiedBody>>,
    {
        #[pin]
        state: State<S, S::Future, ReqBody>,
        watch: Watch,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, F, ReqBody> {
        Receive { #[pin] body: ReqBody, collect: Collect, verified: Option<Verified>, head: Option<Head<S>> },
        // Only made with the feature `inbox`.
        HandOn { inner: S, request: Option<Request<VerifiedBody>> },
        Call { #[pin] future: F },
        Reject { rejection: Rejection, search: Option<Search>, config: Arc<Config> },
    }
}

/// What waits for the body.
struct Head<S> {
    inner: S,
    parts: Parts,
    claims: Claims,
}

impl<S, ReqBody> ResponseFuture<S, ReqBody>
where
    S: Service<Request<VerifiedBody>>,
{
    pub(super) fn receive(
        inner: S,
        parts: Parts,
        claims: Claims,
        body: ReqBody,
        collect: Collect,
        watch: Watch,
    ) -> Self {
        let head = Some(Head { inner, parts, claims });
        Self { state: State::Receive { body, collect, verified: None, head }, watch }
    }

    /// For a request that was verified before.
    #[cfg(feature = "inbox")]
    pub(super) fn hand_on(inner: S, request: Request<VerifiedBody>) -> Self {
        Self { state: State::HandOn { inner, request: Some(request) }, watch: Watch::nobody() }
    }

    pub(super) fn reject(rejection: Rejection, config: Arc<Config>, watch: Watch) -> Self {
        Self { state: State::Reject { rejection, search: None, config }, watch }
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
        const WAITING: &str = "a request waits until it is handed on";
        let this = self.project();
        let (mut state, watch) = (this.state, this.watch);
        let _entered = watch.enter();
        loop {
            match state.as_mut().project() {
                StateProj::Receive { body, collect, verified, head } => {
                    if verified.is_none() {
                        let claims = &mut head.as_mut().expect(WAITING).claims;
                        let Poll::Ready(collected) = collect.poll(cx, body, watch) else {
                            watch.waits(collect.seen());
                            if let Some(kind) = collect.rejected() {
                                watch.refused(kind.as_str());
                            }
                            return Poll::Pending;
                        };
                        watch.received(collect.seen());
                        let read = collected.and_then(|it| {
                            claims.read_signed(&it.bytes, collect.config()).map(|()| it).map_err(Into::into)
                        });
                        match read {
                            Ok(it) => {
                                watch.verified(&claims.known(&it));
                                *verified = Some(it);
                            }
                            Err(mut rejection) => {
                                let search =
                                    collect.explain(&mut rejection, &head.as_ref().expect(WAITING).parts.headers);
                                if search.is_some() {
                                    watch.refused(rejection.kind().as_str());
                                }
                                let config = Arc::clone(collect.config());
                                state.set(State::Reject { rejection, search, config });
                                continue;
                            }
                        }
                    }
                    if let Err(error) = ready!(head.as_mut().expect(WAITING).inner.poll_ready(cx)) {
                        watch.answered(None);
                        return Poll::Ready(Err(error));
                    }
                    let Head { mut inner, parts, claims } = head.take().expect(WAITING);
                    let request = claims.confirm(parts, verified.take().expect(WAITING));
                    // The instance that said it was ready, not a clone of it.
                    let future = inner.call(request);
                    state.set(State::Call { future });
                }
                StateProj::HandOn { inner, request } => {
                    ready!(inner.poll_ready(cx))?;
                    let future = inner.call(request.take().expect(WAITING));
                    state.set(State::Call { future });
                }
                StateProj::Call { future } => {
                    let answered = ready!(future.poll(cx));
                    watch.answered(answered.as_ref().ok().map(Response::status));
                    return Poll::Ready(Ok(answered?.map(ResponseBody::inner)));
                }
                StateProj::Reject { rejection, search, config } => {
                    if let Some(search) = search {
                        rejection.explain(ready!(search.poll(cx)));
                    }
                    let response = config.respond(rejection);
                    watch.rejected(&rejection.refusal(response.status()));
                    return Poll::Ready(Ok(response.map(ResponseBody::text)));
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
