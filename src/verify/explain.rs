//! Why a delivery did not verify: for the log, now and then, and never for the wire.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::HeaderMap;
use tokio::time::Instant;

use super::rejection::RejectionKind;
use crate::{
    diagnose::{self, Diagnosis},
    keyring::{KeyedSecret, Keyring},
    telemetry,
};

/// From one diagnosis to the next, whoever sends what: that is what makes a flood of forged deliveries cheap.
const PAUSE: Duration = Duration::from_secs(1);

/// Of a body that is looked at. A single order has 4 to 27 kB, and what is wrong with a large batch is wrong with those too.
pub(super) const MAX_BODY: usize = 32 * 1024;

/// Looks for causes, shared by all services of a layer.
pub(super) struct Explain {
    candidates: Option<Keyring>,
    /// Of its own, since anybody can send a request without a signature each second, and hide nothing by it.
    heads: Turn,
    bodies: Turn,
}

/// When one was looked at last.
#[derive(Default)]
struct Turn(Mutex<Option<Instant>>);

impl Explain {
    pub(super) fn new(candidates: Option<Keyring>) -> Self {
        Self { candidates, heads: Turn::default(), bodies: Turn::default() }
    }

    /// Of a request whose head was refused.
    pub(super) fn head(&self, kind: RejectionKind, headers: &HeaderMap) -> Option<Diagnosis> {
        let shows_in_headers = matches!(
            kind,
            RejectionKind::MissingSignature
                | RejectionKind::MalformedSignature
                | RejectionKind::MissingEventId
                | RejectionKind::MalformedEventId
        );
        (shows_in_headers && self.heads.take()).then(|| diagnose::of_head(headers))
    }

    /// Of a body that was not signed with any of these secrets.
    pub(super) fn mismatch(&self, secrets: &[KeyedSecret], headers: &HeaderMap, body: &[u8]) -> Option<Diagnosis> {
        let due = body.len() <= MAX_BODY && self.bodies.take();
        due.then(|| diagnose::of_delivery(secrets, self.candidates.as_ref(), headers, body))
    }
}

impl Turn {
    /// Whether it is time for the next, which then is taken.
    fn take(&self) -> bool {
        if !telemetry::refusals_are_heard() {
            return false;
        }
        // Nothing that panics runs under the lock.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= PAUSE);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}
