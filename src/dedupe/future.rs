use std::{
    any::Any,
    fmt,
    future::Future,
    panic::resume_unwind,
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;
use tokio::runtime::Handle;

use crate::{telemetry::CurrentSpan, verify::ResponseBody};

/// The future of [`KlikitDedupe`](super::KlikitDedupe).
///
/// If it is dropped before it is ready, as when klikit hangs up, a task of its own takes the delivery to its end. A
/// handler that an inbox's worker calls stops instead. A handler's panic continues from here.
pub struct ResponseFuture<B, E> {
    state: State<B, E>,
}

enum State<B, E> {
    Ready(Option<Response<ResponseBody<B>>>),
    Running(Running<B, E>),
    #[cfg(feature = "inbox")]
    Handling(Pin<Box<dyn Future<Output = Result<Response<B>, E>> + Send>>),
}

/// A delivery on its way through the layer.
struct Running<B, E> {
    /// `None` at its end.
    flow: Option<Flow<B, E>>,
    span: CurrentSpan,
    /// Takes the delivery to its end without this future.
    detach: fn(Flow<B, E>, CurrentSpan),
}

type Flow<B, E> = Pin<Box<dyn Future<Output = Outcome<B, E>> + Send>>;

pub(super) enum Outcome<B, E> {
    Responded(Response<ResponseBody<B>>),
    Failed(E),
    Panicked(Box<dyn Any + Send>),
}

impl<B, E> Outcome<B, E> {
    pub(super) fn is_success(&self) -> bool {
        matches!(self, Self::Responded(response) if response.status().is_success())
    }
}

impl<B, E> ResponseFuture<B, E> {
    pub(super) fn ready(response: Response<ResponseBody<B>>) -> Self {
        Self { state: State::Ready(Some(response)) }
    }

    /// Runs `flow` to its end, even if this future is dropped.
    pub(super) fn running(flow: impl Future<Output = Outcome<B, E>> + Send + 'static) -> Self
    where
        B: Send + 'static,
        E: Send + 'static,
    {
        let detach = |flow: Flow<B, E>, span: CurrentSpan| {
            // Without a runtime nothing can go on. The claim then expires, and klikit's next attempt is handled.
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn(span.instrument(async move { drop(flow.await) }));
            }
        };
        Self { state: State::Running(Running { flow: Some(Box::pin(flow)), span: CurrentSpan::get(), detach }) }
    }

    /// Calls the handler, and stops it if this future is dropped.
    #[cfg(feature = "inbox")]
    pub(super) fn handling(handled: impl Future<Output = Result<Response<B>, E>> + Send + 'static) -> Self {
        Self { state: State::Handling(Box::pin(handled)) }
    }
}

/// Nothing in it is pinned in place.
impl<B, E> Unpin for ResponseFuture<B, E> {}

impl<B, E> Future for ResponseFuture<B, E> {
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        const POLLED_AGAIN: &str = "a future is not polled after it is ready";
        match &mut self.state {
            State::Ready(response) => Poll::Ready(Ok(response.take().expect(POLLED_AGAIN))),
            #[cfg(feature = "inbox")]
            State::Handling(handled) => {
                handled.as_mut().poll(cx).map(|handled| handled.map(|response| response.map(ResponseBody::inner)))
            }
            State::Running(running) => {
                // Taken out, so that a flow that panics is not polled again.
                let mut flow = running.flow.take().expect(POLLED_AGAIN);
                let Poll::Ready(outcome) = flow.as_mut().poll(cx) else {
                    running.flow = Some(flow);
                    return Poll::Pending;
                };
                Poll::Ready(match outcome {
                    Outcome::Responded(response) => Ok(response),
                    Outcome::Failed(error) => Err(error),
                    Outcome::Panicked(panic) => resume_unwind(panic),
                })
            }
        }
    }
}

impl<B, E> Drop for Running<B, E> {
    fn drop(&mut self) {
        if let Some(flow) = self.flow.take() {
            (self.detach)(flow, self.span.clone());
        }
    }
}

impl<B, E> fmt::Debug for ResponseFuture<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
