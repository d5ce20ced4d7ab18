//! A fake klikit that sends a delivery and retries failed attempts.

use std::{future::poll_fn, pin::pin, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use tokio::time::{Instant, sleep, timeout};
use tower_service::Service;

use super::SignedDelivery;
use crate::klikit;

/// A fake klikit that sends a delivery and retries failed attempts.
///
/// An attempt succeeds if a complete 2xx response arrives within 10 seconds. After each failed attempt, the fake pauses
/// and tries again, until no pause is left.
///
/// [klikit's pauses](Self::PAUSES) add up to more than 31 hours, so run the fake on tokio's paused clock, where
/// sleeping takes no time.
///
/// ```
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// use axum::{Router, body::Body, http::StatusCode, routing::post};
/// use tower_klikit::{KlikitVerifyLayer, testing::{FakeKlikit, SignedDelivery}};
///
/// # let mut builder = tokio::runtime::Builder::new_current_thread();
/// # builder.enable_time().start_paused(true).build().unwrap().block_on(async {
/// // In a test: #[tokio::test(start_paused = true)]
/// static FAILED: AtomicBool = AtomicBool::new(false);
/// async fn fails_once() -> StatusCode {
///     let has_failed = FAILED.swap(true, Ordering::SeqCst);
///     if has_failed { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }
/// }
/// let verify = KlikitVerifyLayer::new("secret");
/// let app: Router = Router::new().route("/webhooks/klikit", post(fails_once).layer(verify));
///
/// let delivery = SignedDelivery::new("secret", "{}");
/// let report = FakeKlikit::new().deliver::<Body>(&app, &delivery).await;
/// assert!(report.is_delivered());
/// assert_eq!(report.statuses(), [500, 200]);
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct FakeKlikit {
    pauses: Vec<Duration>,
    timeout: Duration,
}

/// The attempts of a delivery and their results.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// The attempts, oldest first. Never empty.
    pub attempts: Vec<Attempted>,
}

/// An attempt and its result.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Attempted {
    /// The time from the start of the first attempt to the start of this one.
    pub after: Duration,
    /// The result of the attempt.
    pub answer: Answer,
}

/// The result of an attempt, as klikit sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// A complete response arrived in time.
    Status(StatusCode),
    /// No complete response arrived in time, so klikit disconnected.
    TimedOut,
    /// The service or the response's body returned an error.
    Failed,
}

impl FakeKlikit {
    /// klikit's pauses between attempts: 30 seconds, 2 minutes, 10 minutes, 1 hour, 6 hours and 24 hours. After the
    /// seventh attempt, klikit dead-letters the delivery. An older version of klikit's documentation says so.
    pub const PAUSES: [Duration; 6] = klikit::pauses();

    /// The time in which klikit expects a complete response to an attempt: 10 seconds.
    pub const TIMEOUT: Duration = klikit::timeout();

    /// Creates a fake with [klikit's pauses](Self::PAUSES) and [timeout](Self::TIMEOUT).
    pub fn new() -> Self {
        Self { pauses: Self::PAUSES.to_vec(), timeout: Self::TIMEOUT }
    }

    /// Sets the pauses before the first retry, the second retry and so on. Without pauses, the fake never retries.
    #[must_use]
    pub fn pauses(mut self, pauses: impl IntoIterator<Item = Duration>) -> Self {
        self.pauses = pauses.into_iter().collect();
        self
    }

    /// Sends `delivery` to `service` until an attempt succeeds or no pause is left.
    ///
    /// Each attempt sends the same request, with the same event id, to a clone of `service`. If a response takes too
    /// long, the response future or the response body is dropped, as in a server whose peer disconnects.
    ///
    /// # Panics
    ///
    /// If the future is polled outside of a tokio runtime, or if the runtime's time driver is disabled.
    pub async fn deliver<B: From<Bytes>>(
        &self,
        service: &(impl Service<Request<B>, Response = Response<impl Body>> + Clone),
        delivery: &SignedDelivery,
    ) -> Report {
        let started = Instant::now();
        let mut attempts = Vec::new();
        let mut pauses = self.pauses.iter();
        loop {
            let after = started.elapsed();
            let in_time = timeout(self.timeout, send(service.clone(), delivery.request())).await;
            let answer = in_time.unwrap_or(Answer::TimedOut);
            attempts.push(Attempted { after, answer });
            match pauses.next() {
                Some(pause) if !answer.is_success() => sleep(*pause).await,
                _ => return Report { attempts },
            }
        }
    }
}

/// Sends one request and reads the response to its end.
async fn send<B>(mut service: impl Service<Request<B>, Response = Response<impl Body>>, request: Request<B>) -> Answer {
    if poll_fn(|cx| service.poll_ready(cx)).await.is_err() {
        return Answer::Failed;
    }
    let Ok(response) = service.call(request).await else { return Answer::Failed };
    let (parts, body) = response.into_parts();
    let mut body = pin!(body);
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        if frame.is_err() {
            return Answer::Failed;
        }
    }
    Answer::Status(parts.status)
}

impl Answer {
    fn is_success(self) -> bool {
        matches!(self, Self::Status(status) if status.is_success())
    }
}

impl Report {
    /// Returns whether the last attempt got a 2xx in time.
    pub fn is_delivered(&self) -> bool {
        self.attempts.last().is_some_and(|attempt| attempt.answer.is_success())
    }

    /// Returns the status codes of the responses that arrived in time, oldest first.
    pub fn statuses(&self) -> Vec<u16> {
        let statuses = self.attempts.iter().filter_map(|attempt| match attempt.answer {
            Answer::Status(status) => Some(status.as_u16()),
            Answer::TimedOut | Answer::Failed => None,
        });
        statuses.collect()
    }
}

impl Default for FakeKlikit {
    fn default() -> Self {
        Self::new()
    }
}
