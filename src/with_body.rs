//! A layer that passes verified bodies on as the body type of a framework.

use std::{
    fmt,
    marker::PhantomData,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Request;
use tower_layer::Layer;
use tower_service::Service;

use crate::verify::VerifiedBody;

/// A layer whose inner service receives verified bodies as `B`, without a copy.
///
/// [`KlikitVerifyLayer::with_body`](crate::KlikitVerifyLayer::with_body) and
/// [`KlikitDedupeLayer::with_body`](crate::dedupe::KlikitDedupeLayer::with_body) create it.
pub struct WithBody<L, B> {
    layer: L,
    body: PhantomData<fn() -> B>,
}

impl<L, B> WithBody<L, B> {
    pub(crate) fn new(layer: L) -> Self {
        Self { layer, body: PhantomData }
    }
}

impl<L, S, B> Layer<S> for WithBody<L, B>
where
    L: Layer<ConvertBody<S, B>>,
{
    type Service = L::Service;

    fn layer(&self, inner: S) -> Self::Service {
        self.layer.layer(ConvertBody { inner, body: PhantomData })
    }
}

impl<L: Clone, B> Clone for WithBody<L, B> {
    fn clone(&self) -> Self {
        Self::new(self.layer.clone())
    }
}

impl<L: fmt::Debug, B> fmt::Debug for WithBody<L, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WithBody").field(&self.layer).finish()
    }
}

/// The inner service of a [`WithBody`] layer, which converts the body of each request to `B`.
pub struct ConvertBody<S, B> {
    inner: S,
    body: PhantomData<fn() -> B>,
}

impl<S, B> ConvertBody<S, B> {
    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B> Service<Request<VerifiedBody>> for ConvertBody<S, B>
where
    S: Service<Request<B>>,
    B: From<Bytes>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<VerifiedBody>) -> S::Future {
        self.inner.call(request.map(|body| body.into_bytes().into()))
    }
}

impl<S: Clone, B> Clone for ConvertBody<S, B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), body: PhantomData }
    }
}

impl<S: fmt::Debug, B> fmt::Debug for ConvertBody<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConvertBody").field(&self.inner).finish()
    }
}
