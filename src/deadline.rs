//! Deadlines that create a timer only for futures that are pending at the first poll.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};

use crate::dedupe::StoreError;

pin_project! {
    /// The future of [`within`].
    pub(crate) struct Within<F> {
        #[pin]
        future: F,
        limit: Duration,
        // In a box, so that the futures of calls that need no timer are small.
        timer: Option<Pin<Box<Timer>>>,
    }
}

pin_project! {
    struct Timer {
        #[pin]
        sleep: Sleep,
        // The real time at which the timer was set. tokio's clock may be paused.
        set_at: Instant,
    }
}

/// The error of a future that was not ready in time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expired {
    /// Whether tokio's clock was paused and has jumped to the end of the limit, as in a test of a service.
    pub(crate) is_clock_paused: bool,
}

impl From<Expired> for StoreError {
    fn from(expired: Expired) -> Self {
        Self::new(if expired.is_clock_paused {
            "tokio's clock is paused and has jumped to the deadline: test with MemoryStore, or without pausing the clock"
        } else {
            "it took longer than the deadline"
        })
    }
}

/// Waits for `future`, but not longer than `limit`.
///
/// The timer is created when the future is pending for the first time, so `limit` counts from the first poll.
pub(crate) fn within<F: Future>(limit: Duration, future: F) -> Within<F> {
    Within { future, limit, timer: None }
}

impl<F: Future> Future for Within<F> {
    type Output = Result<F::Output, Expired>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        let limit = *this.limit;
        let timer = this.timer.get_or_insert_with(|| Box::pin(Timer { sleep: sleep(limit), set_at: Instant::now() }));
        let timer = timer.as_mut().project();
        timer.sleep.poll(cx).map(|()| Err(Expired { is_clock_paused: timer.set_at.elapsed() < limit }))
    }
}

/// Waits for a call to a store. Returns an error if the call takes longer than `limit`.
pub(crate) fn store_call<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, StoreError>>,
) -> impl Future<Output = Result<T, StoreError>> {
    within(limit, call).map(|answer| answer.unwrap_or_else(|expired| Err(expired.into())))
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn, ready};

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn ready_futures_need_no_timer() {
        // There is no runtime here, so a timer would panic.
        assert_eq!(within(Duration::ZERO, ready(1)).now_or_never(), Some(Ok(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn waits_no_longer_than_the_limit() {
        let started = Instant::now();
        assert_eq!(within(Duration::from_secs(2), pending::<()>()).await, Err(Expired { is_clock_paused: true }));
        assert_eq!(started.elapsed(), Duration::from_secs(2));
        assert_eq!(within(Duration::from_secs(2), sleep(Duration::from_secs(1))).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn names_a_paused_clock() {
        let error = store_call(Duration::from_secs(2), pending::<Result<(), StoreError>>()).await.unwrap_err();
        assert!(format!("{error:?}").contains("tokio's clock is paused"), "{error:?}");
    }

    #[tokio::test]
    async fn names_a_call_over_its_deadline() {
        let error = store_call(Duration::from_millis(1), pending::<Result<(), StoreError>>()).await.unwrap_err();
        assert!(format!("{error:?}").contains("it took longer than the deadline"), "{error:?}");
    }

    #[tokio::test]
    async fn polls_inner_future_once_per_poll() {
        let mut polls = 0;
        let yields_twice = poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            if polls == 3 { Poll::Ready(()) } else { Poll::Pending }
        });
        let mut waiting = tokio_test::task::spawn(within(Duration::from_secs(60), yields_twice));
        assert!(waiting.poll().is_pending() && waiting.poll().is_pending() && waiting.poll().is_ready());
    }
}
