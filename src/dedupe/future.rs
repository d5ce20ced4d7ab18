use std::{
    any::Any,
    fmt,
    future::Future,
    panic::resume_unwind,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use tokio::sync::oneshot;

use crate::{answer::Answer, verify::ResponseBody};

/// The future of [`KlikitDedupe`](super::KlikitDedupe): waits for the task that claims and handles the delivery.
///
/// Dropping it stops neither, but for a delivery that an inbox's worker handles. A handler's panic goes on from here.
pub struct ResponseFuture<B, E> {
    state: State<B, E>,
}

enum State<B, E> {
    Ready(Option<Response<ResponseBody<B>>>),
    Spawned(oneshot::Receiver<Outcome<B, E>>),
    #[cfg(feature = "inbox")]
    Boxed(Pin<Box<dyn Future<Output = Result<Response<B>, E>> + Send>>),
}

/// How the task tells what is to be answered.
pub(super) type Sender<B, E> = oneshot::Sender<Outcome<B, E>>;

pub(super) enum Outcome<B, E> {
    Answered(Response<ResponseBody<B>>),
    Failed(E),
    Panicked(Box<dyn Any + Send>),
}

impl<B, E> ResponseFuture<B, E> {
    pub(super) fn ready(response: Response<ResponseBody<B>>) -> Self {
        Self { state: State::Ready(Some(response)) }
    }

    /// Dropped, it stops the handler.
    #[cfg(feature = "inbox")]
    pub(super) fn boxed(handled: impl Future<Output = Result<Response<B>, E>> + Send + 'static) -> Self {
        Self { state: State::Boxed(Box::pin(handled)) }
    }

    pub(super) fn spawned(spawn: impl FnOnce(Sender<B, E>)) -> Self {
        let (sender, receiver) = oneshot::channel();
        spawn(sender);
        Self { state: State::Spawned(receiver) }
    }
}

/// Nothing in it is pinned.
impl<B, E> Unpin for ResponseFuture<B, E> {}

impl<B, E> Future for ResponseFuture<B, E> {
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match &mut self.state {
            State::Ready(response) => Ok(response.take().expect("a future is not polled after it is ready")),
            #[cfg(feature = "inbox")]
            State::Boxed(handled) => {
                ready!(handled.as_mut().poll(cx)).map(|response| response.map(ResponseBody::inner))
            }
            State::Spawned(receiver) => match ready!(Pin::new(receiver).poll(cx)) {
                Ok(Outcome::Answered(response)) => Ok(response),
                Ok(Outcome::Failed(error)) => Err(error),
                Ok(Outcome::Panicked(panic)) => resume_unwind(panic),
                // The task was dropped: the runtime shuts down.
                Err(_) => Ok(Answer::Unsure.into_response()),
            },
        })
    }
}

impl<B, E> fmt::Debug for ResponseFuture<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
