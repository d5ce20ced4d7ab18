//! Why a delivery did not verify: for the log, now and then, and never for the wire.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::HeaderMap;
use tokio::time::Instant;

use super::rejection_kind::RejectionKind;
use crate::{
    diagnose::{self, Accepted, Diagnosis, Forms, SupportReport},
    keyring::{KeyedSecret, Keyring},
    telemetry,
};

/// From one diagnosis to the next, whoever sends what: that is what makes a flood of forged deliveries cheap.
const PAUSE: Duration = Duration::from_secs(1);

/// Of a body that is looked at. A single order has 4 to 27 kB, and twice that when something has indented it; what is wrong with a
/// large batch is wrong with those too.
const MAX_BODY: usize = 64 * 1024;

/// Looks for causes, shared by all services of a layer.
pub(super) struct Explain {
    candidates: Option<Keyring>,
    /// Of what nothing is hashed for. Of its own: anybody can send a request without a signature each second, and is to hide
    /// nothing by it.
    plain: Turn,
    mismatches: Turn,
}

/// What was found out about a refused delivery.
#[derive(Debug)]
pub(super) struct Explained {
    pub(super) diagnosis: Diagnosis,
    /// Of a delivery that came whole, if anybody hears of it.
    pub(super) report: Option<SupportReport>,
}

/// When one was looked at last.
#[derive(Default)]
struct Turn(Mutex<Option<Instant>>);

impl Explain {
    pub(super) fn new(candidates: Option<Keyring>) -> Self {
        Self { candidates, plain: Turn::default(), mismatches: Turn::default() }
    }

    /// Of a request whose head was refused.
    pub(super) fn head(&self, kind: RejectionKind, forms: Forms, headers: &HeaderMap) -> Option<Explained> {
        match kind {
            RejectionKind::MissingSignature | RejectionKind::MalformedSignature => {
                self.plain(|| diagnose::of_signature(headers, forms))
            }
            RejectionKind::StaleTimestamp => self.plain(diagnose::of_time),
            RejectionKind::MissingEventId | RejectionKind::MalformedEventId => {
                self.plain(|| diagnose::of_event_id(headers))
            }
            _ => None,
        }
    }

    /// Of a body of which no more than this has come.
    pub(super) fn incomplete(&self, kind: RejectionKind, headers: &HeaderMap, bytes: usize) -> Option<Explained> {
        match kind {
            RejectionKind::BodyTimeout | RejectionKind::BodyUnreadable => {
                self.plain(|| diagnose::of_incomplete(headers, bytes))
            }
            _ => None,
        }
    }

    fn plain(&self, diagnose: impl FnOnce() -> Diagnosis) -> Option<Explained> {
        self.plain.take().then(|| Explained { diagnosis: diagnose(), report: None })
    }

    /// Of a body that was not signed with any of these secrets.
    pub(super) fn mismatch(
        &self,
        secrets: &[KeyedSecret],
        forms: Forms,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Option<Explained> {
        let due = body.len() <= MAX_BODY && self.mismatches.take();
        due.then(|| {
            // Of the event id the head was sound enough.
            let accepted = Accepted { forms, missing_event_id: true };
            let diagnosis = diagnose::of_delivery(secrets, self.candidates.as_ref(), accepted, headers, body);
            let report = telemetry::reports_are_heard().then(|| SupportReport::new(&diagnosis, headers, body));
            Explained { diagnosis, report }
        })
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
