use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Request, Response, request::Parts};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    body::{ResponseBody, VerifiedBody},
    collect::{Collect, Verified},
    config::VerifyConfig,
    digest::Digesting,
    explain::CauseSearch,
    head::RequestHead,
    rejection::{BoxError, Rejection},
};
use crate::telemetry::Watch;

pin_project! {
    /// The future of [`KlikitVerify`](super::KlikitVerify), which reads and verifies the body and then calls the inner
    /// service.
    pub struct ResponseFuture<S, ReqBody>
    where
        S: Service<Request<VerifiedBody>>,
    {
        #[pin]
        state: VerifyState<S, S::Future, ReqBody>,
        watch: Watch,
    }
}

pin_project! {
    #[project = VerifyStateProj]
    enum VerifyState<S, F, ReqBody> {
        Receive { #[pin] body: ReqBody, collect: Collect, verified: Option<Verified>, pending: Option<PendingCall<S>> },
        // Constructed only with the feature `inbox`.
        Replay { inner: S, request: Option<Request<VerifiedBody>> },
        Call { #[pin] future: F },
        Reject {
            rejection: Rejection,
            search: Option<CauseSearch>,
            digest: Option<Box<Digesting>>,
            config: Arc<VerifyConfig>,
        },
    }
}

/// The parts of the inner call that are known before the body is verified.
struct PendingCall<S> {
    inner: S,
    parts: Parts,
    head: RequestHead,
}

impl<S, ReqBody> ResponseFuture<S, ReqBody>
where
    S: Service<Request<VerifiedBody>>,
{
    pub(super) fn receive(
        inner: S,
        parts: Parts,
        head: RequestHead,
        body: ReqBody,
        collect: Collect,
        watch: Watch,
    ) -> Self {
        let pending = Some(PendingCall { inner, parts, head });
        Self { state: VerifyState::Receive { body, collect, verified: None, pending }, watch }
    }

    /// Calls the inner service with a request that was verified before.
    #[cfg(feature = "inbox")]
    pub(super) fn replay(inner: S, request: Request<VerifiedBody>) -> Self {
        Self { state: VerifyState::Replay { inner, request: Some(request) }, watch: Watch::disabled() }
    }

    pub(super) fn reject(rejection: Rejection, config: Arc<VerifyConfig>, mut watch: Watch) -> Self {
        watch.will_reject(rejection.kind());
        Self { state: VerifyState::Reject { rejection, search: None, digest: None, config }, watch }
    }
}

impl<S, F, ReqBody> VerifyState<S, F, ReqBody> {
    /// Begins to reject a request after its body was read.
    #[cold]
    fn begin_rejection(
        mut rejection: Rejection,
        collect: &mut Collect,
        headers: &HeaderMap,
        watch: &mut Watch,
    ) -> Self {
        let search = collect.explain(&mut rejection, headers);
        let digest = watch.draft().and_then(|_| collect.digest(rejection.kind()));
        watch.will_reject(rejection.kind());
        Self::Reject { rejection, search, digest, config: Arc::clone(collect.config()) }
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
        const PENDING: &str = "the request is pending until the inner service is called";
        let this = self.project();
        let (mut state, watch) = (this.state, this.watch);
        let _entered = watch.enter();
        loop {
            match state.as_mut().project() {
                VerifyStateProj::Receive { body, collect, verified, pending } => {
                    if verified.is_none() {
                        let head = &mut pending.as_mut().expect(PENDING).head;
                        let Poll::Ready(collected) = collect.poll(cx, body, watch) else {
                            watch.waits(collect.seen());
                            if let Some(kind) = collect.rejected() {
                                watch.will_reject(kind);
                            }
                            return Poll::Pending;
                        };
                        watch.received(collect.seen());
                        let checked = match collected {
                            Ok(body) => match head.read_signed_event(&body.bytes, collect.config()) {
                                Ok(()) => Ok(body),
                                Err(kind) => {
                                    collect.restore(body.bytes);
                                    Err(kind.into())
                                }
                            },
                            Err(rejection) => Err(rejection),
                        };
                        match checked {
                            Ok(body) => {
                                watch.verified(&head.verified_labels(&body));
                                *verified = Some(body);
                            }
                            Err(rejection) => {
                                let headers = &pending.as_ref().expect(PENDING).parts.headers;
                                let rejecting = VerifyState::begin_rejection(rejection, collect, headers, watch);
                                state.set(rejecting);
                                continue;
                            }
                        }
                    }
                    if let Err(error) = ready!(pending.as_mut().expect(PENDING).inner.poll_ready(cx)) {
                        watch.answered(None);
                        return Poll::Ready(Err(error));
                    }
                    let PendingCall { mut inner, parts, head } = pending.take().expect(PENDING);
                    let request = head.into_verified_request(parts, verified.take().expect(PENDING));
                    // Call the instance that was polled ready, not a clone of it.
                    let future = inner.call(request);
                    state.set(VerifyState::Call { future });
                }
                VerifyStateProj::Replay { inner, request } => {
                    ready!(inner.poll_ready(cx))?;
                    let future = inner.call(request.take().expect(PENDING));
                    state.set(VerifyState::Call { future });
                }
                VerifyStateProj::Call { future } => {
                    let result = ready!(future.poll(cx));
                    watch.answered(result.as_ref().ok().map(Response::status));
                    return Poll::Ready(Ok(result?.map(ResponseBody::inner)));
                }
                VerifyStateProj::Reject { rejection, search, digest, config } => {
                    if let Some(digesting) = digest {
                        let body_digest = ready!(watch.hashing(|| digesting.poll(cx)));
                        if let Some(draft) = watch.draft() {
                            draft.set_body_digest(body_digest);
                        }
                        // Frees the body.
                        *digest = None;
                    }
                    if let Some(search) = search {
                        rejection.explain(ready!(search.poll(cx)));
                    }
                    if let Some(draft) = watch.draft() {
                        rejection.add_cause(draft);
                    }
                    let response = config.respond(rejection);
                    watch.rejected(&rejection.record(response.status()));
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
