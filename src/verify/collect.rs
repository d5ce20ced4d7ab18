//! Reading a body: bounded in bytes, in time, and in what one poll may do.

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
    config::Config,
    explain::Search,
    parking::Ticket,
    rejection::{BoxError, Rejection},
    rejection_kind::RejectionKind,
};
use crate::{
    keyring::{Secrets, Signer},
    signature::{Signature, Signing},
    telemetry::Watch,
};

/// After so many frames in one poll the future yields, so that a body that is always ready cannot hold the thread or
/// outrun its deadline. Empty frames count.
const FRAMES_PER_POLL: usize = 64;

/// How long the rest of a body that is too large is read, so that its sender sees the status and not a broken pipe.
const DRAIN: Duration = Duration::from_secs(1);

/// A body on its way in.
pub(super) struct Collect {
    config: Arc<Config>,
    expected: Expected,
    /// With the first secret, over what has arrived. `None` up to the second frame: a body in one frame is hashed in one go.
    signing: Option<Box<Signing>>,
    seen: usize,
    buffer: Buffer,
    /// Set at the first wait: a body that is there at once needs no timer.
    wait: Option<Wait>,
    ticket: Option<Ticket>,
    /// The body is too large: nothing is kept any more.
    draining: bool,
}

struct Wait {
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

/// What the head of the request says of the body.
pub(super) struct Expected {
    pub(super) signature: Signature,
    /// What is signed before the body: nothing, but in the older form.
    pub(super) prefix: Box<[u8]>,
    /// What it may be signed with. Never empty.
    pub(super) secrets: Secrets,
    /// The length that the sender announces, or 0.
    pub(super) length: u64,
}

/// A body whose signature holds.
pub(super) struct Verified {
    pub(super) bytes: Bytes,
    pub(super) signer: Arc<Signer>,
}

impl Collect {
    #[inline]
    pub(super) fn new(config: Arc<Config>, expected: Expected) -> Self {
        let draining = expected.length > config.body_limit as u64;
        Self { config, expected, signing: None, seen: 0, buffer: Buffer::default(), wait: None, ticket: None, draining }
    }

    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config)
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
                rejection.explain(explain.incomplete(kind, headers, self.seen));
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
        self.resume(cx)?;
        for _ in 0..FRAMES_PER_POLL {
            match body.as_mut().poll_frame(cx) {
                Poll::Pending => return self.pause(cx),
                Poll::Ready(None) => return Poll::Ready(Ok(self.finish(watch)?)),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Rejection::body_unreadable(error.into()))),
                // Trailers are not signed: they are dropped.
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.push(data, watch)?;
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        self.pause(cx)
    }

    fn push(&mut self, mut data: impl Buf, watch: &mut Watch) -> Result<(), RejectionKind> {
        let length = data.remaining();
        self.seen = self.seen.saturating_add(length);
        if self.seen > self.config.body_limit {
            self.drain();
        }
        if self.draining {
            return if self.seen as u64 > self.config.drain_limit() {
                Err(RejectionKind::BodyTooLarge)
            } else {
                Ok(())
            };
        }
        if length > 0 {
            let frame = data.copy_to_bytes(length);
            if !self.buffer.is_empty() {
                let so_far = self.buffer.as_slice();
                let Expected { secrets, prefix, .. } = &self.expected;
                let unhashed = if self.signing.is_none() { so_far.len() } else { 0 };
                watch.hashing_piece(unhashed + frame.len(), || {
                    let start = || Box::new(secrets[0].key().start_with(prefix, so_far));
                    self.signing.get_or_insert_with(start).update(&frame);
                });
            }
            let since = self.wait.as_ref().map(|wait| wait.since);
            self.buffer.append(frame, self.config.body_limit, &self.config.budget, since)?;
        }
        Ok(())
    }

    fn drain(&mut self) {
        if self.draining {
            return;
        }
        self.draining = true;
        self.buffer = Buffer::Empty;
        if let Some(Wait { timer, .. }) = &mut self.wait {
            let sooner = timer.deadline().min(Instant::now() + DRAIN);
            timer.as_mut().reset(sooner);
        }
    }

    fn finish(&mut self, watch: &mut Watch) -> Result<Verified, RejectionKind> {
        if self.draining {
            return Err(RejectionKind::BodyTooLarge);
        }
        let signer = watch.hashing(|| self.signer()).ok_or(RejectionKind::SignatureMismatch)?;
        Ok(Verified { bytes: mem::take(&mut self.buffer).into_bytes(), signer })
    }

    /// Whose secret has signed the body.
    #[inline]
    fn signer(&mut self) -> Option<Arc<Signer>> {
        let body = self.buffer.as_slice();
        let Expected { signature, prefix, secrets, .. } = &self.expected;
        let by_first = match self.signing.take() {
            Some(signing) => signing.finish(),
            None => secrets[0].key().sign_after(prefix, body),
        };
        let secret = if by_first == *signature {
            &secrets[0]
        } else {
            secrets[1..].iter().find(|other| other.matches(prefix, body, signature))?
        };
        Some(Arc::clone(secret.signer()))
    }

    /// Takes up where [`pause`](Self::pause) left off.
    fn resume(&mut self, cx: &mut Context<'_>) -> Result<(), RejectionKind> {
        if let Some(ticket) = &self.ticket
            && let Some(buffer) = ticket.unpark()?
        {
            self.buffer = buffer;
        }
        if let Some(wait) = &mut self.wait
            && wait.timer.as_mut().poll(cx).is_ready()
        {
            return Err(self.out_of_time());
        }
        Ok(())
    }

    /// Leaves what has arrived where it can be evicted, and waits.
    fn pause<T>(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Rejection>> {
        let since = match &self.wait {
            Some(wait) => wait.since,
            None => {
                let deadline = self.config.body_deadline;
                let time = if self.draining { deadline.min(DRAIN) } else { deadline };
                let wait = self.wait.insert(Wait { since: Instant::now(), timer: Box::pin(sleep(time)) });
                if wait.timer.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(self.out_of_time().into()));
                }
                wait.since
            }
        };
        if !self.buffer.is_empty() {
            let budget = &self.config.budget;
            let buffer = self.buffer.take_to_wait(budget, since).map_err(RejectionKind::from)?;
            self.ticket.get_or_insert_with(|| Ticket::new(budget, since)).park(buffer, cx.waker().clone());
        }
        Poll::Pending
    }

    fn out_of_time(&self) -> RejectionKind {
        if self.draining { RejectionKind::BodyTooLarge } else { RejectionKind::BodyTimeout }
    }
}
