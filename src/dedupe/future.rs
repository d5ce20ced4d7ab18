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

/// The response future of [`KlikitDedupe`](super::KlikitDedupe).
///
/// If the future is dropped early, as when klikit hangs up, a task runs the handler to its end. But if an inbox worker
/// calls the service, dropping the future drops the handler. A panic of the handler resumes when this future is polled.
pub struct ResponseFuture<B, E> {
    state: FutureState<B, E>,
}

enum FutureState<B, E> {
    /// The handler is not called.
    Ready(Option<Response<ResponseBody<B>>>),
    /// The layer handles the delivery.
    Running(RunningFlow<B, E>),
    /// The handler is called for an inbox worker, without a claim.
    #[cfg(feature = "inbox")]
    Handling(Pin<Box<dyn Future<Output = Result<Response<B>, E>> + Send>>),
}

/// The handling of a delivery in progress.
struct RunningFlow<B, E> {
    /// `None` after the end.
    flow: Option<Flow<B, E>>,
    span: CurrentSpan,
    /// Runs the flow to its end in a task.
    detach: fn(Flow<B, E>, CurrentSpan),
}

type Flow<B, E> = Pin<Box<dyn Future<Output = FlowOutcome<B, E>> + Send>>;

/// The outcome of handling a delivery.
pub(super) enum FlowOutcome<B, E> {
    Responded(Response<ResponseBody<B>>),
    Failed(E),
    Panicked(Box<dyn Any + Send>),
}

impl<B, E> FlowOutcome<B, E> {
    pub(super) fn is_success(&self) -> bool {
        matches!(self, Self::Responded(response) if response.status().is_success())
    }
}

impl<B, E> ResponseFuture<B, E> {
    pub(super) fn ready(response: Response<ResponseBody<B>>) -> Self {
        Self { state: FutureState::Ready(Some(response)) }
    }

    /// Runs `flow` to its end, even if this future is dropped.
    pub(super) fn running(flow: impl Future<Output = FlowOutcome<B, E>> + Send + 'static) -> Self
    where
        B: Send + 'static,
        E: Send + 'static,
    {
        let detach = |flow: Flow<B, E>, span: CurrentSpan| {
            // Without a runtime, the flow is dropped. The claim expires, and klikit's next attempt is handled.
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn(span.instrument(async move { drop(flow.await) }));
            }
        };
        Self {
            state: FutureState::Running(RunningFlow { flow: Some(Box::pin(flow)), span: CurrentSpan::get(), detach }),
        }
    }

    /// Calls the handler, and stops it if this future is dropped.
    #[cfg(feature = "inbox")]
    pub(super) fn handling(handled: impl Future<Output = Result<Response<B>, E>> + Send + 'static) -> Self {
        Self { state: FutureState::Handling(Box::pin(handled)) }
    }
}

/// No field is pinned in place: the futures are boxed.
impl<B, E> Unpin for ResponseFuture<B, E> {}

impl<B, E> Future for ResponseFuture<B, E> {
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        const POLLED_AGAIN: &str = "a future is not polled after it is ready";
        match &mut self.state {
            FutureState::Ready(response) => Poll::Ready(Ok(response.take().expect(POLLED_AGAIN))),
            #[cfg(feature = "inbox")]
            FutureState::Handling(handled) => {
                handled.as_mut().poll(cx).map(|handled| handled.map(|response| response.map(ResponseBody::inner)))
            }
            FutureState::Running(running) => {
                // Take the flow out, so that it is not polled again after a panic.
                let mut flow = running.flow.take().expect(POLLED_AGAIN);
                let Poll::Ready(outcome) = flow.as_mut().poll(cx) else {
                    running.flow = Some(flow);
                    return Poll::Pending;
                };
                Poll::Ready(match outcome {
                    FlowOutcome::Responded(response) => Ok(response),
                    FlowOutcome::Failed(error) => Err(error),
                    FlowOutcome::Panicked(panic) => resume_unwind(panic),
                })
            }
        }
    }
}

impl<B, E> Drop for RunningFlow<B, E> {
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
