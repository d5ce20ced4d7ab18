//! A future that calls a service once.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

pin_project! {
    /// A future that waits until a service is ready, and then calls the same instance.
    #[project = CallProject]
    #[project_replace = CallReplace]
    pub(crate) enum Call<S, R>
    where
        S: Service<R>,
    {
        NotReady { service: S, request: R },
        Called { #[pin] future: S::Future },
        // The state while `Service::call` runs. If that call panics, the state stays.
        Taken,
    }
}

impl<S: Service<R>, R> Call<S, R> {
    pub(crate) fn new(service: S, request: R) -> Self {
        Self::NotReady { service, request }
    }

    /// Returns the request, or `None` once the service was called.
    pub(crate) fn request_mut(self: Pin<&mut Self>) -> Option<&mut R> {
        match self.project() {
            CallProject::NotReady { request, .. } => Some(request),
            CallProject::Called { .. } | CallProject::Taken => None,
        }
    }
}

impl<S: Service<R>, R> Future for Call<S, R> {
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.as_mut().project() {
                CallProject::NotReady { service, .. } => ready!(service.poll_ready(cx))?,
                CallProject::Called { future } => return future.poll(cx),
                CallProject::Taken => panic!("polled after the service had panicked"),
            }
            if let CallReplace::NotReady { mut service, request } = self.as_mut().project_replace(Self::Taken) {
                let future = service.call(request);
                self.set(Self::Called { future });
            }
        }
    }
}
