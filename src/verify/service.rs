use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

#[cfg(feature = "inbox")]
use super::replay::Replay;
use super::{
    body::{ResponseBody, VerifiedBody},
    collect::Collect,
    config::VerifyConfig,
    future::ResponseFuture,
    head::RequestHead,
    rejection::BoxError,
};
use crate::{rejection_log::Draft, telemetry::Watch, whole_uri::whole_uri};

/// The service of [`KlikitVerifyLayer`](super::KlikitVerifyLayer): see the [module](super) for the rules.
///
/// The service is always ready. It polls the inner service for readiness only after a request is verified, so a sender
/// without the secret takes no permit of a concurrency limit and delays no other request.
#[derive(Clone)]
pub struct KlikitVerify<S> {
    inner: S,
    config: Arc<VerifyConfig>,
}

impl<S> KlikitVerify<S> {
    pub(super) fn new(inner: S, config: Arc<VerifyConfig>) -> Self {
        Self { inner, config }
    }

    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Consumes this service and returns the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for KlikitVerify<S>
where
    S: Service<Request<VerifiedBody>, Response = Response<ResBody>> + Clone,
    ReqBody: Body,
    ReqBody::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, ReqBody>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        #[cfg(feature = "inbox")]
        if let Some(replay) = request.extensions().get::<Replay>().cloned() {
            let (parts, _) = request.into_parts();
            return ResponseFuture::replay(self.inner.clone(), replay.request(parts));
        }
        let mut watch = match &self.config.rejection_log {
            None => Watch::begin(&self.config.log_limits),
            Some(log) => {
                let draft = Draft::new(log, whole_uri(request.uri(), request.extensions()));
                Watch::begin_with(&self.config.log_limits, draft)
            }
        };
        let _entered = watch.enter();
        let config = Arc::clone(&self.config);
        let (mut parts, body) = request.into_parts();
        match RequestHead::check(&mut parts, &config) {
            Ok((head, expected)) => {
                watch.set_labels(|| head.unverified_labels(&expected.secrets));
                ResponseFuture::receive(self.inner.clone(), parts, head, body, Collect::new(config, expected), watch)
            }
            Err(kind) => {
                watch.set_labels(|| RequestHead::rejected_labels(&parts.headers));
                ResponseFuture::reject(config.reject_head(kind, &parts.headers), config, watch)
            }
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for KlikitVerify<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KlikitVerify").field("inner", &self.inner).field("config", &self.config).finish()
    }
}
