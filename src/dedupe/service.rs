use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::{config::Config, future::ResponseFuture, task};
#[cfg(feature = "inbox")]
use crate::verify::Replay;
use crate::{
    answer::Answer,
    event::Delivery,
    telemetry,
    verify::{ResponseBody, VerifiedBody},
};

/// The service that [`KlikitDedupeLayer`](super::KlikitDedupeLayer) makes: see the [module](super) for the rules.
///
/// It is always ready: a duplicate takes no permit of the inner service.
#[derive(Clone)]
pub struct KlikitDedupe<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S> KlikitDedupe<S> {
    pub(super) fn new(inner: S, config: Arc<Config>) -> Self {
        Self { inner, config }
    }
}

impl<S, ResBody> Service<Request<VerifiedBody>> for KlikitDedupe<S>
where
    S: Service<Request<VerifiedBody>, Response = Response<ResBody>, Error: Send, Future: Send> + Clone + Send + 'static,
    ResBody: Send + 'static,
    S::Error: 'static,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<ResBody, S::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<VerifiedBody>) -> Self::Future {
        #[cfg(feature = "inbox")]
        if request.extensions().get::<Replay>().is_some() {
            // The inbox has claimed it. In a ledger that they share, it is done from the start.
            return ResponseFuture::boxed(task::handle(self.inner.clone(), request));
        }
        let Some(delivery) = request.extensions().get::<Delivery>().cloned() else {
            telemetry::unverified("KlikitDedupeLayer");
            return ResponseFuture::ready(Answer::Misconfigured.into_response());
        };
        ResponseFuture::spawned(|answer| {
            // A task of its own: whatever happens to this future, the handler finishes and its claim is settled.
            let task = task::run(self.inner.clone(), request, delivery, Arc::clone(&self.config), answer);
            tokio::spawn(telemetry::in_current_span(task));
        })
    }
}

impl<S: fmt::Debug> fmt::Debug for KlikitDedupe<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KlikitDedupe").field("inner", &self.inner).field("config", &self.config).finish()
    }
}
