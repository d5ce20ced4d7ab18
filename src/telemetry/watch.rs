//! One delivery on its way through the verify layer: its span, its times, and what is counted of it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::StatusCode;
use tokio::time::Instant;

use super::{
    LogContext, LogLimits, Refusal, counts,
    span::{self, DeliverySpan, Entered},
};
use crate::{
    event::{EventId, EventType},
    keyring::Signer,
};

/// From when on an answer is worth a warning: there is little left of klikit's 10 seconds.
const SLOW: Duration = Duration::from_secs(8);

/// Watches one delivery, if anybody wants to know: otherwise it looks at no clock and takes no memory.
pub(crate) struct Watch(Option<Box<Watched>>);

struct Watched {
    started: Instant,
    /// How long the body was waited for, and read.
    waited: Duration,
    hashed: Duration,
    /// How much of the body has come.
    bytes: usize,
    stage: Stage,
    claimed: Claimed,
    span: DeliverySpan,
    limits: Arc<LogLimits>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// There is no verdict yet.
    Unverified,
    /// It is rejected for this reason, and waits for its answer.
    Refused(&'static str),
    /// It waits for its answer.
    Verified,
    /// It has its answer.
    Over,
}

/// The unverified labels of a request.
#[derive(Default)]
pub(crate) struct Claimed {
    pub(crate) event_id: Option<EventId>,
    pub(crate) event_type: Option<EventType>,
    /// The keyring that verifies it.
    pub(crate) tenant: Option<Arc<str>>,
}

/// The labels of a verified delivery.
pub(crate) struct Known<'a> {
    pub(crate) event_id: Option<&'a EventId>,
    pub(crate) event_type: Option<&'a EventType>,
    pub(crate) signer: &'a Signer,
    pub(crate) received_at: SystemTime,
}

impl Watch {
    #[inline]
    pub(crate) fn begin(limits: &Arc<LogLimits>) -> Self {
        if !somebody_listens() {
            return Self::nobody();
        }
        Self(Some(Box::new(Watched::new(Arc::clone(limits)))))
    }

    /// Watches nothing: for a delivery that was watched before.
    pub(crate) fn nobody() -> Self {
        Self(None)
    }

    /// Returns a guard. While it is there, log lines belong to the delivery.
    #[inline]
    pub(crate) fn enter(&self) -> impl Sized + use<> {
        self.0.as_ref().map(|watched| watched.enter())
    }

    #[inline]
    pub(crate) fn claims(&mut self, claimed: impl FnOnce() -> Claimed) {
        if let Some(watched) = &mut self.0 {
            watched.claims(claimed());
        }
    }

    /// Runs what hashes. A large body is hashed in several parts.
    #[inline]
    pub(crate) fn hashing<T>(&mut self, hash: impl FnOnce() -> T) -> T {
        let started = self.0.as_ref().map(|_| now());
        let hashed = hash();
        if let (Some(watched), Some(started)) = (&mut self.0, started) {
            watched.hashed(started);
        }
        hashed
    }

    /// Notes that this many bytes of the body have come, and that more are awaited.
    #[inline]
    pub(crate) fn waits(&mut self, bytes: usize) {
        if let Some(watched) = &mut self.0 {
            watched.bytes = bytes;
        }
    }

    /// Nothing more comes of the body, of which so many bytes have come.
    #[inline]
    pub(crate) fn received(&mut self, bytes: usize) {
        if let Some(watched) = &mut self.0 {
            watched.received(bytes);
        }
    }

    #[inline]
    pub(crate) fn verified(&mut self, known: &Known<'_>) {
        if let Some(watched) = &mut self.0 {
            watched.verified(known);
        }
    }

    /// Notes that the delivery will be rejected. Its sender may hang up before that.
    pub(crate) fn refused(&mut self, reason: &'static str) {
        if let Some(watched) = &mut self.0 {
            watched.stage = Stage::Refused(reason);
        }
    }

    pub(crate) fn rejected(&mut self, refusal: &Refusal<'_>) {
        if let Some(watched) = &mut self.0 {
            watched.rejected(refusal);
        }
    }

    /// `None`: the inner service failed in place of answering.
    #[inline]
    pub(crate) fn answered(&mut self, status: Option<StatusCode>) {
        if let Some(watched) = &mut self.0 {
            watched.answered(status);
        }
    }
}

/// Nothing here is inlined, so that a delivery that is not watched does not pay for it.
impl Watched {
    #[cold]
    fn new(limits: Arc<LogLimits>) -> Self {
        Self {
            limits,
            started: Instant::now(),
            waited: Duration::ZERO,
            hashed: Duration::ZERO,
            bytes: 0,
            stage: Stage::Unverified,
            claimed: Claimed::default(),
            span: DeliverySpan::new(),
        }
    }

    #[cold]
    fn enter(&self) -> Entered {
        self.span.enter()
    }

    #[cold]
    fn claims(&mut self, claimed: Claimed) {
        self.claimed = claimed;
    }

    #[cold]
    fn hashed(&mut self, since: Instant) {
        self.hashed += since.elapsed();
    }

    #[cold]
    fn received(&mut self, bytes: usize) {
        self.bytes = bytes;
        self.waited = self.started.elapsed().saturating_sub(self.hashed);
    }

    #[cold]
    fn verified(&mut self, known: &Known<'_>) {
        let Known { event_id, event_type, signer, received_at } = *known;
        self.stage = Stage::Verified;
        // In klikit's older form the body says which, and not the head.
        self.claimed = Claimed {
            event_id: event_id.cloned(),
            event_type: event_type.cloned(),
            tenant: Some(Arc::clone(&signer.tenant)),
        };
        self.record("verified");
        self.span.record("secret_id", &*signer.secret_id);
        counts::verified(signer, self.bytes, received_at);
    }

    #[cold]
    fn rejected(&mut self, refusal: &Refusal<'_>) {
        self.record_rejected(refusal.reason);
        self.span.record("status", refusal.status.as_u16());
        refusal.log(self.subject(), &self.limits);
        if let Some(elapsed) = self.ended() {
            super::rejected_slowly(self.subject(), refusal.status, elapsed, &self.limits);
        }
    }

    fn record_rejected(&self, reason: &'static str) {
        self.record("rejected");
        self.span.record("reason", reason);
        counts::rejected(reason, self.claimed.tenant.as_ref());
    }

    #[cold]
    fn answered(&mut self, status: Option<StatusCode>) {
        if let Some(status) = status {
            self.span.record("status", status.as_u16());
        }
        if let Some(elapsed) = self.ended() {
            // Each of these is verified, so a sender without a secret can cause few of them.
            super::answered_slowly(self.subject(), status, elapsed, None);
        }
        counts::answered(status, self.started.elapsed());
    }

    /// Returns how long the answer took, if that is worth a warning.
    fn ended(&mut self) -> Option<Duration> {
        self.stage = Stage::Over;
        Some(self.started.elapsed()).filter(|&elapsed| elapsed >= SLOW)
    }

    fn subject(&self) -> LogContext<'_> {
        LogContext::new(self.claimed.event_id.as_ref(), self.claimed.tenant.as_deref())
    }

    /// Records the labels and times that are known by the time of a verdict.
    fn record(&self, verdict: &str) {
        let Self { span, claimed, .. } = self;
        // What is missing is left out: some loggers print a field that is recorded as nothing.
        for (field, value) in [
            ("event_id", claimed.event_id.as_ref().map(EventId::as_str)),
            ("event_type", claimed.event_type.as_ref().map(EventType::as_str)),
            ("tenant", claimed.tenant.as_deref()),
        ] {
            if let Some(value) = value {
                span.record(field, value);
            }
        }
        span.record("verdict", verdict);
        span.record("bytes", self.bytes);
        let whole = |count: u128| u64::try_from(count).unwrap_or(u64::MAX);
        span.record("body_wait_ms", whole(self.waited.as_millis()));
        span.record("hash_us", whole(self.hashed.as_micros()));
    }
}

/// A delivery that is dropped without an answer: the sender hung up, an outer layer timed out, or the handler panicked.
impl Drop for Watched {
    fn drop(&mut self) {
        if self.stage == Stage::Over {
            return;
        }
        let _entered = self.span.enter();
        let elapsed = self.started.elapsed();
        let late = elapsed >= SLOW;
        match self.stage {
            Stage::Over => {}
            Stage::Unverified => {
                self.waited = elapsed.saturating_sub(self.hashed);
                self.record("abandoned");
                counts::abandoned(self.claimed.tenant.as_ref());
                if late {
                    super::not_received(self.subject(), self.bytes, elapsed, &self.limits);
                }
            }
            Stage::Refused(reason) => {
                self.record_rejected(reason);
                super::refused_unheard(self.subject(), reason, &self.limits);
            }
            Stage::Verified => {
                counts::not_answered(elapsed);
                if late {
                    super::not_answered(self.subject(), elapsed);
                }
            }
        }
    }
}

#[inline]
fn somebody_listens() -> bool {
    // A metrics recorder cannot be asked.
    cfg!(feature = "metrics") || span::is_wanted()
}

#[cold]
fn now() -> Instant {
    Instant::now()
}

#[cfg(all(test, feature = "dedupe"))]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn hashing_is_no_waiting() {
        let mut watch = Watch(Some(Box::new(Watched::new(Arc::new(LogLimits::new())))));
        let takes = |millis| move || assert!(advance(Duration::from_millis(millis)).now_or_never().is_none());
        advance(Duration::from_millis(100)).await;
        watch.hashing(takes(7));
        watch.received(3);
        let watched = watch.0.as_mut().expect("it is watched");
        assert_eq!((watched.hashed.as_millis(), watched.waited.as_millis(), watched.bytes), (7, 100, 3));
        watched.stage = Stage::Over;
    }
}
