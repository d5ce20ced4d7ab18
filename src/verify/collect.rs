//! Reads and verifies a body, within limits of bytes and time. Each poll reads and hashes a bounded amount.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::Body;
use tokio::time::{Instant, Sleep, sleep};

use super::{
    buffer::Buffer,
    charge::Exhausted,
    config::VerifyConfig,
    digest::Digesting,
    expected::Expected,
    explain::CauseSearch,
    parking::Ticket,
    rejection::{BoxError, Rejection},
    rejection_kind::RejectionKind,
    trial::Trial,
};
use crate::{keyring::Signer, telemetry::Watch};

/// The frames that one poll reads before it yields, empty frames included. Otherwise a body that is always ready could
/// block the thread and outlast its deadline.
const FRAMES_PER_POLL: usize = 64;

/// The time for which the rest of a rejected body is read, so that its sender sees the response and not a broken
/// connection.
const DRAIN: Duration = Duration::from_secs(1);

/// The state of a body that is being read and verified.
pub(super) struct Collect {
    config: Arc<VerifyConfig>,
    expected: Expected,
    /// The number of bytes that have arrived.
    seen: usize,
    buffer: Buffer,
    /// Set when the body first has to wait: a body that arrives at once needs no timer.
    timer: Option<Pin<Box<Sleep>>>,
    ticket: Option<Ticket>,
    /// The reason why the body is rejected. While it is set, the rest of the body is read and discarded.
    draining: Option<RejectionKind>,
    /// Set once the body is complete, if verifying it takes several polls.
    trial: Option<Box<Trial>>,
}

/// A body with a valid signature.
pub(super) struct Verified {
    pub(super) bytes: Bytes,
    pub(super) signer: Arc<Signer>,
}

impl Collect {
    #[inline]
    pub(super) fn new(config: Arc<VerifyConfig>, expected: Expected) -> Self {
        let is_too_large = expected.length > config.body_limit as u64;
        let draining = is_too_large.then_some(RejectionKind::BodyTooLarge);
        Self { config, expected, seen: 0, buffer: Buffer::default(), timer: None, ticket: None, draining, trial: None }
    }

    pub(super) fn config(&self) -> &Arc<VerifyConfig> {
        &self.config
    }

    /// Returns the reason for the rejection while the rest of a rejected body is being read.
    pub(super) fn rejected(&self) -> Option<RejectionKind> {
        self.draining
    }

    /// Returns the number of bytes that have arrived.
    pub(super) fn seen(&self) -> usize {
        self.seen
    }

    /// Diagnoses the rejection if the layer is configured to. Returns the search for the cause of a mismatch, and adds
    /// any other diagnosis to `rejection`.
    pub(super) fn explain(&mut self, rejection: &mut Rejection, headers: &HeaderMap) -> Option<CauseSearch> {
        let Self { config, expected, buffer, .. } = self;
        let explain = config.explainer()?;
        match rejection.kind() {
            RejectionKind::SignatureMismatch => {
                let body = || {
                    let bytes = mem::take(buffer).into_bytes();
                    *buffer = Buffer::One(bytes.clone());
                    bytes
                };
                explain.mismatch(&expected.secrets, config.signature_forms(), headers, self.seen, body)
            }
            kind => {
                rejection.explain(explain.body(kind, headers, self.seen));
                None
            }
        }
    }

    /// Puts a body back that was rejected although its signature is valid.
    #[cold]
    pub(super) fn restore(&mut self, body: Bytes) {
        self.buffer = Buffer::One(body);
    }

    /// Takes the rejected body to compute its digest. Returns `None` if the body is not complete.
    #[cold]
    pub(super) fn digest(&mut self, kind: RejectionKind) -> Option<Box<Digesting>> {
        match kind {
            RejectionKind::SignatureMismatch
            | RejectionKind::TimestampInBody
            | RejectionKind::EventIdMismatch
            | RejectionKind::MalformedEnvelope => {
                let spent = self.seen.saturating_mul(self.expected.secrets.len());
                Some(Digesting::begin(mem::take(&mut self.buffer), spent))
            }
            _ => None,
        }
    }

    pub(super) fn poll<B>(
        &mut self,
        cx: &mut Context<'_>,
        mut body: Pin<&mut B>,
        watch: &mut Watch,
    ) -> Poll<Result<Verified, Rejection>>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        if self.trial.is_some() {
            // The body is complete, so its deadline no longer applies.
            return self.finish_in_parts(cx, watch);
        }
        self.resume(cx)?;
        for _ in 0..FRAMES_PER_POLL {
            match body.as_mut().poll_frame(cx) {
                Poll::Pending => return self.pause(cx),
                Poll::Ready(None) if self.needs_trial() => return self.finish_in_parts(cx, watch),
                Poll::Ready(None) => return Poll::Ready(Ok(self.finish(watch)?)),
                Poll::Ready(Some(Err(error))) => {
                    let rejection = match self.draining {
                        Some(kind) => kind.into(),
                        None => Rejection::body_unreadable(error.into()),
                    };
                    return Poll::Ready(Err(rejection));
                }
                // Drop trailers, because they are not signed.
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.push(data)?;
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        self.pause(cx)
    }

    fn push(&mut self, mut data: impl Buf) -> Result<(), RejectionKind> {
        let length = data.remaining();
        self.seen = self.seen.saturating_add(length);
        if self.seen > self.config.body_limit {
            self.drain(RejectionKind::BodyTooLarge);
        }
        if let Some(kind) = self.draining {
            return if self.seen as u64 > self.config.drain_limit() { Err(kind) } else { Ok(()) };
        }
        if length > 0 {
            let frame = data.copy_to_bytes(length);
            if let Err(exhausted) = self.buffer.append(frame, self.longest(), &self.config.budget) {
                self.drain(exhausted.into());
            }
        }
        Ok(())
    }

    /// Returns the greatest length that the body can have, as far as it is known.
    fn longest(&self) -> usize {
        let announced = usize::try_from(self.expected.length).ok().filter(|&length| length > 0);
        announced.map_or(self.config.body_limit, |length| length.min(self.config.body_limit))
    }

    /// Rejects the body: drops its buffer, and has the rest read for at most [`DRAIN`].
    fn drain(&mut self, kind: RejectionKind) {
        if self.draining.is_some() {
            return;
        }
        self.draining = Some(kind);
        self.buffer = Buffer::Empty;
        if let Some(timer) = &mut self.timer {
            let sooner = timer.deadline().min(Instant::now() + DRAIN);
            timer.as_mut().reset(sooner);
        }
    }

    /// Returns whether verifying the complete body takes several polls.
    fn needs_trial(&self) -> bool {
        Trial::is_needed(self.seen, self.expected.secrets.len()) && self.draining.is_none()
    }

    /// Verifies the complete body.
    fn finish(&mut self, watch: &mut Watch) -> Result<Verified, RejectionKind> {
        if let Some(kind) = self.draining {
            return Err(kind);
        }
        let signer = watch.hashing(|| self.signer()).ok_or(RejectionKind::SignatureMismatch)?;
        Ok(self.verified(signer))
    }

    /// Verifies the complete body in several polls.
    #[cold]
    fn finish_in_parts(&mut self, cx: &mut Context<'_>, watch: &mut Watch) -> Poll<Result<Verified, Rejection>> {
        let Self { expected, buffer, trial, .. } = self;
        let trial = trial.get_or_insert_default();
        match watch.hashing(|| trial.poll(expected, buffer)) {
            Poll::Pending => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(None) => Poll::Ready(Err(RejectionKind::SignatureMismatch.into())),
            Poll::Ready(Some(signer)) => Poll::Ready(Ok(self.verified(signer))),
        }
    }

    fn verified(&mut self, signer: Arc<Signer>) -> Verified {
        Verified { bytes: mem::take(&mut self.buffer).into_bytes(), signer }
    }

    /// Returns the signer whose secret matches the signature of the complete body.
    ///
    /// The body is not hashed while it arrives, so that an incomplete body costs no hashing.
    #[inline]
    fn signer(&self) -> Option<Arc<Signer>> {
        let Expected { signature, prefix, secrets, .. } = &self.expected;
        let secret = secrets.iter().find(|secret| secret.matches(prefix, self.buffer.pieces(), signature))?;
        Some(Arc::clone(secret.signer()))
    }

    /// Takes the buffer that [`pause`](Self::pause) parked, and checks the deadline.
    fn resume(&mut self, cx: &mut Context<'_>) -> Result<(), RejectionKind> {
        if let Some(ticket) = &self.ticket {
            match ticket.unpark() {
                Ok(Some(blocks)) => self.buffer = Buffer::Many(blocks),
                Ok(None) => {}
                Err(evicted) => self.drain(evicted.into()),
            }
        }
        let is_over = self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
        if is_over { Err(self.out_of_time()) } else { Ok(()) }
    }

    /// Parks the buffer, which can then be evicted, and starts the timer if it is not running.
    fn pause<T>(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Rejection>> {
        if !self.buffer.is_empty()
            && let Err(exhausted) = self.park(cx)
        {
            self.drain(exhausted.into());
        }
        if self.timer.is_none() {
            let deadline = self.config.body_deadline;
            let time = if self.draining.is_some() { deadline.min(DRAIN) } else { deadline };
            let timer = self.timer.insert(Box::pin(sleep(time)));
            if timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(self.out_of_time().into()));
            }
        }
        Poll::Pending
    }

    fn park(&mut self, cx: &mut Context<'_>) -> Result<(), Exhausted> {
        let budget = &self.config.budget;
        let blocks = self.buffer.take_to_park(budget)?;
        self.ticket.get_or_insert_with(|| budget.ticket()).park(blocks, cx.waker().clone());
        Ok(())
    }

    /// Returns the reason for the rejection of a body whose time is up.
    fn out_of_time(&self) -> RejectionKind {
        self.draining.unwrap_or(RejectionKind::BodyTimeout)
    }
}
