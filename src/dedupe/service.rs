use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::{call::Call, config::DedupeConfig, flow, future::ResponseFuture};
#[cfg(feature = "inbox")]
use crate::verify::Replay;
use crate::{
    direct_response::DirectResponse,
    event::Delivery,
    telemetry,
    verify::{ResponseBody, VerifiedBody},
};

/// The service of [`KlikitDedupeLayer`](super::KlikitDedupeLayer): see the [module](super) for the rules.
///
/// The service is always ready, so that a duplicate takes no permit of the inner service.
#[derive(Clone)]
pub struct KlikitDedupe<S> {
    inner: S,
    config: Arc<DedupeConfig>,
}

impl<S> KlikitDedupe<S> {
    pub(super) fn new(inner: S, config: Arc<DedupeConfig>) -> Self {
        Self { inner, config }
    }

    /// Returns the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns the inner service, mutably.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Consumes the middleware and returns the inner service.
    pub fn into_inner(self) -> S {
        self.inner
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

    fn call(&mut self, mut request: Request<VerifiedBody>) -> Self::Future {
        #[cfg(feature = "inbox")]
        if request.extensions().get::<Replay>().is_some() {
            // A worker hands on a stored delivery. If its inbox shares this layer's ledger, the entry is completed, and a
            // claim would answer "duplicate" without calling the handler.
            return ResponseFuture::handling(Call::new(self.inner.clone(), request));
        }
        let Some(mut delivery) = request.extensions().get::<Delivery>().cloned() else {
            telemetry::unverified("KlikitDedupeLayer");
            return ResponseFuture::ready(DirectResponse::Misconfigured.into_response());
        };
        let claim = self.config.policy.claim(&delivery, request.body().as_ref());
        if let Err(answer) = self.config.policy.admit(&mut delivery, &claim) {
            return ResponseFuture::ready(answer.into_response());
        }
        if delivery.is_copy() {
            request.extensions_mut().insert(delivery.clone());
        }
        let call = Box::pin(Call::new(self.inner.clone(), request));
        ResponseFuture::running(flow::run(call, delivery, claim, Arc::clone(&self.config)))
    }
}

impl<S: fmt::Debug> fmt::Debug for KlikitDedupe<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KlikitDedupe").field("inner", &self.inner).field("config", &self.config).finish()
    }
}
