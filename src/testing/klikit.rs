//! klikit, as a sender that does not give up.

use std::{future::poll_fn, pin::pin, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use tokio::time::{Instant, sleep, timeout};
use tower_service::Service;

use super::SignedDelivery;
use crate::klikit;

/// klikit, as a sender: it delivers until it gets a 2xx within 10 seconds, and tries again after growing pauses.
///
/// It sleeps between attempts, and klikit's pauses add up to 31 hours: run it on tokio's paused clock, where that takes no time.
///
/// ```
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// use axum::{Router, body::Body, http::StatusCode, routing::post};
/// use tower_klikit::{KlikitVerifyLayer, testing::{FakeKlikit, SignedDelivery}};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// // In a test: #[tokio::test(start_paused = true)]
/// static FAILED: AtomicBool = AtomicBool::new(false);
/// async fn fails_once() -> StatusCode {
///     if FAILED.swap(true, Ordering::SeqCst) { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }
/// }
/// let app = Router::new().route("/webhooks/klikit", post(fails_once)).layer(KlikitVerifyLayer::new("secret"));
///
/// let report = FakeKlikit::new().deliver::<Body>(&app, &SignedDelivery::new("secret", "{}")).await;
/// assert!(report.is_delivered());
/// assert_eq!(report.statuses(), [500, 200]);
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct FakeKlikit {
    pauses: Vec<Duration>,
    timeout: Duration,
}

/// What a delivery was answered, attempt by attempt.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// In their order. Never empty.
    pub attempts: Vec<Attempted>,
}

/// One attempt.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Attempted {
    /// How long after the first it was made.
    pub after: Duration,
    /// What came of it.
    pub answer: Answer,
}

/// What klikit makes of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// It was answered in time, body and all.
    Status(StatusCode),
    /// It was not: klikit hung up.
    TimedOut,
    /// The service failed, or the answer's body did.
    Failed,
}

impl FakeKlikit {
    /// The pauses after failed attempts in an older text of klikit's: 30 seconds, 2 minutes, 10 minutes, and 1, 6 and 24 hours. Then
    /// the delivery is given up.
    pub const PAUSES: [Duration; 6] = klikit::PAUSES;

    /// With [klikit's pauses](Self::PAUSES), and 10 seconds for an answer.
    pub fn new() -> Self {
        Self { pauses: Self::PAUSES.to_vec(), timeout: klikit::TIMEOUT }
    }

    /// With other pauses, as many as there are to be retries.
    #[must_use]
    pub fn pauses(mut self, pauses: impl IntoIterator<Item = Duration>) -> Self {
        self.pauses = pauses.into_iter().collect();
        self
    }

    /// Delivers to `service`, under the same id each time, until it is delivered or given up. When an answer takes too long, the
    /// service's future is dropped, as a server does when its peer hangs up.
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
            let answer = timeout(self.timeout, ask(service.clone(), delivery.request())).await;
            let answer = answer.unwrap_or(Answer::TimedOut);
            attempts.push(Attempted { after, answer });
            match pauses.next() {
                Some(pause) if !answer.is_success() => sleep(*pause).await,
                _ => return Report { attempts },
            }
        }
    }
}

async fn ask<B>(mut service: impl Service<Request<B>, Response = Response<impl Body>>, request: Request<B>) -> Answer {
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
    /// Whether the last attempt was answered with a 2xx in time.
    pub fn is_delivered(&self) -> bool {
        self.attempts.last().is_some_and(|attempt| attempt.answer.is_success())
    }

    /// The statuses that were answered in time, as numbers.
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
