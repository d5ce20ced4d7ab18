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
    config::Config,
    future::ResponseFuture,
    head::Claims,
    rejection::BoxError,
};
use crate::telemetry::Watch;

/// The service that [`KlikitVerifyLayer`](super::KlikitVerifyLayer) makes: see the [module](super) for the rules.
///
/// It is always ready, and takes from the inner service neither readiness nor a permit before a request is verified: a
/// sender that is not klikit can keep nobody waiting.
#[derive(Clone)]
pub struct KlikitVerify<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S> KlikitVerify<S> {
    pub(super) fn new(inner: S, config: Arc<Config>) -> Self {
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

    /// Returns the inner service and drops the layer.
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
            return ResponseFuture::hand_on(self.inner.clone(), replay.request(parts));
        }
        let mut watch = Watch::begin(&self.config.log_limits);
        let _entered = watch.enter();
        let config = Arc::clone(&self.config);
        let (mut parts, body) = request.into_parts();
        match Claims::check(&mut parts, &config) {
            Ok((claims, expected)) => {
                watch.claims(|| claims.claimed(&expected.secrets));
                ResponseFuture::receive(self.inner.clone(), parts, claims, body, Collect::new(config, expected), watch)
            }
            Err(kind) => {
                watch.claims(|| Claims::claimed_by(&parts.headers));
                ResponseFuture::reject(config.refuse(kind, &parts.headers), config, watch)
            }
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for KlikitVerify<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KlikitVerify").field("inner", &self.inner).field("config", &self.config).finish()
    }
}
