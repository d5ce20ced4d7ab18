//! Observation of one delivery in the verify layer: its span, its times, and its counters.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::StatusCode;
use tokio::time::Instant;

use super::{
    LogContext, LogLimits, RejectionRecord, counts,
    span::{self, DeliverySpan, Entered},
};
use crate::{
    event::{EventId, EventType},
    keyring::Signer,
    rejection_log::{Draft, RejectedRequest},
    verify::RejectionKind,
};

/// The time after which a response is logged as slow. klikit times out after 10 seconds.
const SLOW: Duration = Duration::from_secs(8);

/// An observer of one delivery. If nothing is logged and nothing is counted, the observer is empty: it reads no clock
/// and allocates no memory.
pub(crate) struct Watch(Option<Box<Watched>>);

/// The state of an observer that is not empty.
struct Watched {
    started: Instant,
    /// The time for which the body was awaited and read, without the hashing.
    waited: Duration,
    hashed: Duration,
    /// The number of bytes of the body that have arrived.
    bytes: usize,
    stage: Stage,
    labels: UnverifiedLabels,
    span: DeliverySpan,
    limits: Arc<LogLimits>,
    /// The entry for the rejection log, if there is such a log and the delivery is not verified.
    draft: Option<Box<Draft>>,
}

/// The stage of a delivery.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// There is no verdict yet.
    Unverified,
    /// The delivery will be rejected for this reason, and the response is not ready yet.
    Rejecting(RejectionKind),
    /// The delivery is verified, and the response is not ready yet.
    Verified,
    /// The response is ready.
    Answered,
}

/// Event id, event type and tenant of a request that is not verified.
#[derive(Default)]
pub(crate) struct UnverifiedLabels {
    pub(crate) event_id: Option<EventId>,
    pub(crate) event_type: Option<EventType>,
    /// The name of the keyring with which the request will be verified.
    pub(crate) tenant: Option<Arc<str>>,
}

/// Event id, event type, signer and time of arrival of a verified delivery.
pub(crate) struct VerifiedLabels<'a> {
    pub(crate) event_id: Option<&'a EventId>,
    pub(crate) event_type: Option<&'a EventType>,
    pub(crate) signer: &'a Signer,
    pub(crate) received_at: SystemTime,
}

impl Watch {
    /// Begins to observe a delivery whose head has arrived.
    #[inline]
    pub(crate) fn begin(limits: &Arc<LogLimits>) -> Self {
        if !is_enabled() {
            return Self::disabled();
        }
        Self(Some(Box::new(Watched::new(Arc::clone(limits), None))))
    }

    /// Begins to observe a delivery of a layer with a rejection log. `draft` becomes an entry of the log if the delivery
    /// is rejected.
    #[cold]
    pub(crate) fn begin_with(limits: &Arc<LogLimits>, draft: Box<Draft>) -> Self {
        Self(Some(Box::new(Watched::new(Arc::clone(limits), Some(draft)))))
    }

    /// Returns an empty observer, for a stored delivery that was observed when it was accepted.
    pub(crate) fn disabled() -> Self {
        Self(None)
    }

    /// Returns a guard. Until it is dropped, log lines belong to the span of the delivery.
    #[inline]
    pub(crate) fn enter(&self) -> impl Sized + use<> {
        self.0.as_ref().map(|watched| watched.enter())
    }

    /// Sets the labels that log lines and the span have until the delivery is verified.
    #[inline]
    pub(crate) fn set_labels(&mut self, labels: impl FnOnce() -> UnverifiedLabels) {
        if let Some(watched) = &mut self.0 {
            watched.set_labels(labels());
        }
    }

    /// Runs `hash` and adds its duration to the time spent hashing. A large body is hashed in several parts.
    #[inline]
    pub(crate) fn hashing<T>(&mut self, hash: impl FnOnce() -> T) -> T {
        let started = self.0.as_ref().map(|_| now());
        let hashed = hash();
        if let (Some(watched), Some(started)) = (&mut self.0, started) {
            watched.hashed(started);
        }
        hashed
    }

    /// Records that `bytes` bytes of the body have arrived so far, and that the layer awaits more.
    #[inline]
    pub(crate) fn waits(&mut self, bytes: usize) {
        if let Some(watched) = &mut self.0 {
            watched.bytes = bytes;
        }
    }

    /// Records that the layer has stopped reading the body after `bytes` bytes.
    #[inline]
    pub(crate) fn received(&mut self, bytes: usize) {
        if let Some(watched) = &mut self.0 {
            watched.received(bytes);
        }
    }

    /// Records and counts a verified delivery.
    #[inline]
    pub(crate) fn verified(&mut self, labels: &VerifiedLabels<'_>) {
        if let Some(watched) = &mut self.0 {
            watched.verified(labels);
        }
    }

    /// Records that the delivery will be rejected, so that the rejection counts even if the sender hangs up first.
    pub(crate) fn will_reject(&mut self, kind: RejectionKind) {
        if let Some(watched) = &mut self.0 {
            watched.stage = Stage::Rejecting(kind);
        }
    }

    /// Returns the draft of the entry for the rejection log, if there is such a log.
    pub(crate) fn draft(&mut self) -> Option<&mut Draft> {
        self.0.as_mut()?.draft.as_deref_mut()
    }

    /// Records, logs and counts a rejection whose response is ready.
    pub(crate) fn rejected(&mut self, rejection: &RejectionRecord<'_>) {
        if let Some(watched) = &mut self.0 {
            watched.rejected(rejection);
        }
    }

    /// Records and counts the response to a verified delivery. `status` is `None` if the inner service returned an
    /// error.
    #[inline]
    pub(crate) fn answered(&mut self, status: Option<StatusCode>) {
        if let Some(watched) = &mut self.0 {
            watched.answered(status);
        }
    }
}

/// The functions are cold, so that they add no code to the path of a delivery that is not observed.
impl Watched {
    #[cold]
    fn new(limits: Arc<LogLimits>, draft: Option<Box<Draft>>) -> Self {
        Self {
            limits,
            draft,
            started: Instant::now(),
            waited: Duration::ZERO,
            hashed: Duration::ZERO,
            bytes: 0,
            stage: Stage::Unverified,
            labels: UnverifiedLabels::default(),
            span: DeliverySpan::new(),
        }
    }

    #[cold]
    fn enter(&self) -> Entered {
        self.span.enter()
    }

    #[cold]
    fn set_labels(&mut self, labels: UnverifiedLabels) {
        self.labels = labels;
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
    fn verified(&mut self, labels: &VerifiedLabels<'_>) {
        let VerifiedLabels { event_id, event_type, signer, received_at } = *labels;
        self.stage = Stage::Verified;
        self.draft = None;
        // With a timestamped signature, id and type are read from the body, so the head's may be missing.
        self.labels = UnverifiedLabels {
            event_id: event_id.cloned(),
            event_type: event_type.cloned(),
            tenant: Some(Arc::clone(&signer.tenant)),
        };
        self.record_ids();
        self.record("verified");
        self.span.record("bytes", self.bytes);
        self.span.record("secret_id", &*signer.secret_id);
        counts::verified(signer, self.bytes, received_at);
    }

    #[cold]
    fn rejected(&mut self, rejection: &RejectionRecord<'_>) {
        self.record("rejected");
        self.span.record("bytes", self.bytes);
        rejection.log(self.context(), &self.limits);
        if let Some(elapsed) = self.end() {
            super::rejected_slowly(self.context(), rejection.status, elapsed, &self.limits);
        }
        self.record_rejected(rejection.kind, Some(rejection.status));
        self.span.record("status", rejection.status.as_u16());
    }

    /// Counts a rejection, adds it to the rejection log, and records what its line has as fields. `status` is `None` if
    /// there is no response.
    fn record_rejected(&mut self, kind: RejectionKind, status: Option<StatusCode>) {
        let reason = kind.as_str();
        self.record_ids();
        self.span.record("reason", reason);
        let UnverifiedLabels { event_id, tenant, .. } = &self.labels;
        let (event_id, tenant) = (event_id.as_ref(), tenant.as_ref());
        counts::rejected(reason, tenant);
        if let Some(draft) = self.draft.take() {
            draft.record(&RejectedRequest { kind, status, event_id, tenant, bytes: self.bytes });
        }
    }

    #[cold]
    fn answered(&mut self, status: Option<StatusCode>) {
        if let Some(elapsed) = self.end() {
            // No rate limit: only verified deliveries cause this line.
            super::answered_slowly(self.context(), status, elapsed, None);
        }
        if let Some(status) = status {
            self.span.record("status", status.as_u16());
        }
        counts::answered(status, self.started.elapsed());
    }

    /// Notes that the response is ready. Returns the time that it took, if that is at least [`SLOW`].
    fn end(&mut self) -> Option<Duration> {
        self.stage = Stage::Answered;
        Some(self.started.elapsed()).filter(|&elapsed| elapsed >= SLOW)
    }

    fn context(&self) -> LogContext<'_> {
        LogContext::new(self.labels.event_id.as_ref(), self.labels.tenant.as_deref())
    }

    /// Records in the span the facts that no line about a rejection has as fields: event type, verdict and times.
    ///
    /// Subscribers print the fields of the span in front of each line. The lines have their own fields for event id,
    /// tenant, reason and status, because a subscriber may not print spans. Those are recorded [after](Self::record_ids)
    /// the line was logged, so that each fact is in the line once.
    fn record(&self, verdict: &str) {
        let Self { span, labels, .. } = self;
        if let Some(event_type) = &labels.event_type {
            span.record("event_type", event_type.as_str());
        }
        span.record("verdict", verdict);
        let whole = |count: u128| u64::try_from(count).unwrap_or(u64::MAX);
        span.record("body_wait_ms", whole(self.waited.as_millis()));
        span.record("hash_us", whole(self.hashed.as_micros()));
    }

    /// Records the event id and the tenant in the span.
    fn record_ids(&self) {
        // A missing label is left out, because some subscribers print a field that is recorded as `None`.
        if let Some(event_id) = &self.labels.event_id {
            self.span.record("event_id", event_id.as_str());
        }
        if let Some(tenant) = &self.labels.tenant {
            self.span.record("tenant", &**tenant);
        }
    }
}

/// Records and counts a delivery that is dropped before its response is ready: the sender hung up, an outer layer timed
/// out, or the handler panicked.
impl Drop for Watched {
    fn drop(&mut self) {
        if self.stage == Stage::Answered {
            return;
        }
        let _entered = self.span.enter();
        let elapsed = self.started.elapsed();
        let late = elapsed >= SLOW;
        match self.stage {
            Stage::Answered => {}
            Stage::Unverified => {
                self.waited = elapsed.saturating_sub(self.hashed);
                self.record("abandoned");
                counts::abandoned(self.labels.tenant.as_ref());
                if late {
                    super::not_received(self.context(), self.bytes, elapsed, &self.limits);
                }
                self.record_ids();
                self.span.record("bytes", self.bytes);
            }
            Stage::Rejecting(kind) => {
                self.record("rejected");
                self.span.record("bytes", self.bytes);
                super::rejection_unsent(self.context(), kind.as_str(), &self.limits);
                self.record_rejected(kind, None);
            }
            Stage::Verified => {
                counts::not_answered(elapsed);
                if late {
                    super::not_answered(self.context(), elapsed);
                }
            }
        }
    }
}

#[inline]
fn is_enabled() -> bool {
    // The `metrics` facade cannot tell whether a recorder is installed.
    cfg!(feature = "metrics") || span::is_enabled()
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
    async fn waiting_time_excludes_hashing() {
        let mut watch = Watch(Some(Box::new(Watched::new(Arc::new(LogLimits::new()), None))));
        let takes = |millis| move || assert!(advance(Duration::from_millis(millis)).now_or_never().is_none());
        advance(Duration::from_millis(100)).await;
        watch.hashing(takes(7));
        watch.received(3);
        let watched = watch.0.as_mut().expect("the watch is enabled");
        assert_eq!((watched.hashed.as_millis(), watched.waited.as_millis(), watched.bytes), (7, 100, 3));
        watched.stage = Stage::Answered;
    }
}
