//! Reading a body: bounded in bytes, in time, and in how much one poll reads and hashes.

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
    config::Config,
    expected::Expected,
    explain::Search,
    parking::Ticket,
    rejection::{BoxError, Rejection},
    rejection_kind::RejectionKind,
    trial::Trial,
};
use crate::{keyring::Signer, telemetry::Watch};

/// After so many frames in one poll the future yields, so that a body that is always ready cannot hold the thread or
/// outrun its deadline. Empty frames count.
const FRAMES_PER_POLL: usize = 64;

/// How long the rest of a rejected body is read, so that its sender sees the response and not a broken connection.
const DRAIN: Duration = Duration::from_secs(1);

/// A body on its way in.
pub(super) struct Collect {
    config: Arc<Config>,
    expected: Expected,
    seen: usize,
    buffer: Buffer,
    /// Set at the first wait: a body that is there at once needs no timer.
    timer: Option<Pin<Box<Sleep>>>,
    ticket: Option<Ticket>,
    /// Why the body is rejected, once it is: the rest is read and dropped.
    draining: Option<RejectionKind>,
    /// Set once the body is whole, if it takes several polls to verify it.
    trial: Option<Box<Trial>>,
}

/// A body whose signature holds.
pub(super) struct Verified {
    pub(super) bytes: Bytes,
    pub(super) signer: Arc<Signer>,
}

impl Collect {
    #[inline]
    pub(super) fn new(config: Arc<Config>, expected: Expected) -> Self {
        let is_too_large = expected.length > config.body_limit as u64;
        let draining = is_too_large.then_some(RejectionKind::BodyTooLarge);
        Self { config, expected, seen: 0, buffer: Buffer::default(), timer: None, ticket: None, draining, trial: None }
    }

    pub(super) fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Returns why the body is rejected, if it is. Its rest is being read.
    pub(super) fn rejected(&self) -> Option<RejectionKind> {
        self.draining
    }

    /// How much of the body has come.
    pub(super) fn seen(&self) -> usize {
        self.seen
    }

    /// Looks for the cause, if that is wanted.
    pub(super) fn explain(&mut self, rejection: &mut Rejection, headers: &HeaderMap) -> Option<Search> {
        let Self { config, expected, buffer, .. } = self;
        let explain = config.explain.as_ref()?;
        match rejection.kind() {
            RejectionKind::SignatureMismatch => {
                let body = || mem::take(buffer).into_bytes();
                explain.mismatch(&expected.secrets, config.timestamped.is_some(), headers, self.seen, body)
            }
            kind => {
                rejection.explain(explain.body(kind, headers, self.seen));
                None
            }
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
            // The body is whole, so no deadline applies to it any more.
            return self.finish_in_parts(cx, watch);
        }
        self.resume(cx)?;
        for _ in 0..FRAMES_PER_POLL {
            match body.as_mut().poll_frame(cx) {
                Poll::Pending => return self.pause(cx),
                Poll::Ready(None) if self.is_to_be_hashed_in_parts() => return self.finish_in_parts(cx, watch),
                Poll::Ready(None) => return Poll::Ready(Ok(self.finish(watch)?)),
                Poll::Ready(Some(Err(error))) => {
                    let rejection = match self.draining {
                        Some(kind) => kind.into(),
                        None => Rejection::body_unreadable(error.into()),
                    };
                    return Poll::Ready(Err(rejection));
                }
                // Trailers are not signed: they are dropped.
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

    /// The longest that the body can become, as far as is known.
    fn longest(&self) -> usize {
        let announced = usize::try_from(self.expected.length).ok().filter(|&length| length > 0);
        announced.map_or(self.config.body_limit, |length| length.min(self.config.body_limit))
    }

    /// Rejects the body. Keeps nothing of it, and reads the rest for a moment.
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

    fn is_to_be_hashed_in_parts(&self) -> bool {
        Trial::is_needed(self.seen, self.expected.secrets.len()) && self.draining.is_none()
    }

    fn finish(&mut self, watch: &mut Watch) -> Result<Verified, RejectionKind> {
        if let Some(kind) = self.draining {
            return Err(kind);
        }
        let signer = watch.hashing(|| self.signer()).ok_or(RejectionKind::SignatureMismatch)?;
        Ok(self.verified(signer))
    }

    /// Does the same for a body that takes several polls to verify.
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

    /// Returns the signer whose secret has signed the body.
    ///
    /// Hashes the body only once it is there: one that is never completed costs no hash.
    #[inline]
    fn signer(&self) -> Option<Arc<Signer>> {
        let Expected { signature, prefix, secrets, .. } = &self.expected;
        let secret = secrets.iter().find(|secret| secret.matches(prefix, self.buffer.pieces(), signature))?;
        Some(Arc::clone(secret.signer()))
    }

    /// Takes up where [`pause`](Self::pause) left off.
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

    /// Leaves what has arrived where it can be evicted, and waits.
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

    fn out_of_time(&self) -> RejectionKind {
        self.draining.unwrap_or(RejectionKind::BodyTimeout)
    }
}
