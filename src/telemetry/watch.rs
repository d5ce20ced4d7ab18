//! One delivery on its way through the verify layer: its span, its times, and what is counted of it.

use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::Refusal;
use crate::{
    event::{EventId, EventType},
    keyring::Signer,
};

/// From when on an answer is worth a warning: there is little left of klikit's 10 seconds.
const SLOW: Duration = Duration::from_secs(8);

/// Watches one delivery, if anybody wants to know: otherwise it costs no clock and no memory.
pub(crate) struct Watch(Option<Box<Watched>>);

struct Watched {
    started: Instant,
    /// How long the body was waited for, and read.
    received: Duration,
    hashed: Duration,
    stage: Stage,
    /// For the log.
    event_id: Option<EventId>,
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// There is no verdict yet.
    Unverified,
    /// It waits for its answer.
    Verified,
    /// It has its answer.
    Over,
}

/// What a verified delivery is known by.
pub(crate) struct Known<'a> {
    pub(crate) event_id: Option<&'a EventId>,
    pub(crate) event_type: Option<&'a EventType>,
    pub(crate) signer: &'a Signer,
    pub(crate) bytes: usize,
}

/// While it is there, what is logged belongs to the delivery.
#[cfg_attr(feature = "tracing", expect(dead_code, reason = "it is held, not read"))]
pub(crate) struct Entered(#[cfg(feature = "tracing")] Option<tracing::span::EnteredSpan>);

impl Watch {
    #[inline]
    pub(crate) fn begin() -> Self {
        if !somebody_listens() {
            return Self::nobody();
        }
        Self(Some(Box::new(Watched::new())))
    }

    /// Of a delivery that was watched before.
    pub(crate) fn nobody() -> Self {
        Self(None)
    }

    #[inline]
    pub(crate) fn enter(&self) -> Entered {
        Entered(
            #[cfg(feature = "tracing")]
            self.0.as_ref().map(|watched| watched.enter()),
        )
    }

    /// Runs what hashes, or a part of it.
    #[inline]
    pub(crate) fn hashing<T>(&mut self, hash: impl FnOnce() -> T) -> T {
        let started = self.0.as_ref().map(|_| now());
        let hashed = hash();
        if let (Some(watched), Some(started)) = (&mut self.0, started) {
            watched.hashed(started);
        }
        hashed
    }

    /// The body is whole, or it will never be.
    #[inline]
    pub(crate) fn received(&mut self) {
        if let Some(watched) = &mut self.0 {
            watched.received();
        }
    }

    #[inline]
    pub(crate) fn verified(&mut self, known: &Known<'_>) {
        if let Some(watched) = &mut self.0 {
            watched.verified(known);
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

/// None of it is inlined: a delivery that nobody watches is not to pay for it.
impl Watched {
    #[cold]
    fn new() -> Self {
        Self {
            started: Instant::now(),
            received: Duration::ZERO,
            hashed: Duration::ZERO,
            stage: Stage::Unverified,
            event_id: None,
            #[cfg(feature = "tracing")]
            span: tracing::info_span!(
                "klikit_delivery",
                event_id = tracing::field::Empty,
                event_type = tracing::field::Empty,
                tenant = tracing::field::Empty,
                secret_id = tracing::field::Empty,
                verdict = tracing::field::Empty,
                status = tracing::field::Empty,
                bytes = tracing::field::Empty,
                body_wait_ms = tracing::field::Empty,
                hash_us = tracing::field::Empty,
            ),
        }
    }

    #[cfg(feature = "tracing")]
    #[cold]
    fn enter(&self) -> tracing::span::EnteredSpan {
        self.span.clone().entered()
    }

    #[cold]
    fn hashed(&mut self, since: Instant) {
        self.hashed += since.elapsed();
    }

    #[cold]
    fn received(&mut self) {
        self.received = self.started.elapsed().saturating_sub(self.hashed);
    }

    #[cold]
    fn verified(&mut self, known: &Known<'_>) {
        let Known { event_id, event_type, signer, bytes } = *known;
        self.stage = Stage::Verified;
        self.event_id = event_id.cloned();
        #[cfg(feature = "tracing")]
        {
            self.record_delivery(event_id, Some(&signer.tenant));
            self.span.record("verdict", "verified");
            self.span.record("event_type", event_type.map(EventType::as_str));
            self.span.record("secret_id", &*signer.secret_id);
            self.span.record("bytes", bytes);
            self.record_times();
        }
        #[cfg(feature = "metrics")]
        super::metrics::verified(signer, bytes);
    }

    #[cold]
    fn rejected(&mut self, refusal: &Refusal<'_>) {
        self.stage = Stage::Over;
        #[cfg(feature = "tracing")]
        {
            self.record_delivery(refusal.event_id, refusal.tenant.map(|tenant| &**tenant));
            self.span.record("verdict", "rejected");
            self.span.record("status", refusal.status.as_u16());
            self.record_times();
        }
        refusal.log();
        #[cfg(feature = "metrics")]
        super::metrics::rejected(refusal.reason, refusal.tenant);
    }

    #[cold]
    fn answered(&mut self, status: Option<StatusCode>) {
        self.stage = Stage::Over;
        #[cfg(feature = "tracing")]
        self.span.record("status", status.map(|status| status.as_u16()));
        let elapsed = self.started.elapsed();
        if elapsed >= SLOW {
            super::answered_slowly(self.event_id.as_ref(), elapsed);
        }
        #[cfg(feature = "metrics")]
        super::metrics::answered(status, elapsed);
    }

    #[cfg(feature = "tracing")]
    fn record_delivery(&self, event_id: Option<&EventId>, tenant: Option<&str>) {
        self.span.record("event_id", event_id.map(EventId::as_str));
        self.span.record("tenant", tenant);
    }

    #[cfg(feature = "tracing")]
    fn record_times(&self) {
        let whole = |count: u128| u64::try_from(count).unwrap_or(u64::MAX);
        self.span.record("body_wait_ms", whole(self.received.as_millis()));
        self.span.record("hash_us", whole(self.hashed.as_micros()));
    }
}

/// Dropped before it was answered: the sender has hung up, a layer outside has given up, or the handler has panicked.
impl Drop for Watched {
    fn drop(&mut self) {
        if self.stage == Stage::Over {
            return;
        }
        #[cfg(feature = "tracing")]
        let _entered = self.span.enter();
        if self.stage == Stage::Unverified {
            #[cfg(feature = "tracing")]
            self.span.record("verdict", "abandoned");
            #[cfg(feature = "metrics")]
            super::metrics::abandoned();
        }
        let elapsed = self.started.elapsed();
        if self.stage == Stage::Verified && elapsed >= SLOW {
            super::not_answered(self.event_id.as_ref(), elapsed);
        }
    }
}

#[cold]
fn now() -> Instant {
    Instant::now()
}

#[inline]
fn somebody_listens() -> bool {
    // A recorder cannot be asked for.
    #[cfg(feature = "metrics")]
    let listens = true;
    #[cfg(all(feature = "tracing", not(feature = "metrics")))]
    let listens = tracing::enabled!(tracing::Level::WARN);
    #[cfg(not(any(feature = "tracing", feature = "metrics")))]
    let listens = false;
    listens
}
