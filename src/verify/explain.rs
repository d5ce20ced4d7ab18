//! Diagnoses of rejected deliveries, limited in rate, for the log only.

use std::{
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::{runtime::Handle, task::JoinHandle, time::Instant};

use super::rejection_kind::RejectionKind;
use crate::{
    diagnose::{self, Accepted, Diagnosis, SupportReport},
    keyring::{Keyring, Secrets},
    rejection_log::Draft,
    signature::SignatureForms,
    telemetry::{self, Explanation},
};

/// The least time between two diagnoses of one kind, for all senders together. It keeps a flood of forged deliveries
/// cheap.
const PAUSE: Duration = Duration::from_secs(1);

/// The largest body that is diagnosed, in bytes. A single order takes 4 to 27 kB, and twice that if something indented
/// it. A fault that affects large batches affects single orders too.
const MAX_BODY: usize = 64 * 1024;

/// The diagnoses of a layer, shared by all its services.
pub(super) struct Explain {
    candidates: Option<Keyring>,
    /// Rate limit for diagnoses that need no hashing. Separate, so that requests without a signature cannot starve the
    /// others.
    plain: RateLimit,
    /// Rate limit for diagnoses of mismatches.
    mismatches: RateLimit,
    /// Whether a search runs or waits for its thread. Searches must not pile up.
    is_searching: AtomicBool,
}

/// The diagnosis of a rejected delivery.
pub(super) struct Explained {
    diagnosis: Diagnosis,
    /// The report for klikit's support, if the body is complete and the report is logged.
    report: Option<SupportReport>,
}

/// A rate limit of one diagnosis per [`PAUSE`], as the time of the last one.
#[derive(Default)]
struct RateLimit(Mutex<Option<Instant>>);

impl Explain {
    pub(super) fn new(candidates: Option<Keyring>) -> Self {
        Self {
            candidates,
            plain: RateLimit::default(),
            mismatches: RateLimit::default(),
            is_searching: AtomicBool::new(false),
        }
    }

    /// Diagnoses a request whose head was rejected by a layer that accepts `forms`.
    pub(super) fn head(&self, kind: RejectionKind, forms: SignatureForms, headers: &HeaderMap) -> Option<Explained> {
        match kind {
            RejectionKind::MissingSignature | RejectionKind::MalformedSignature => {
                self.plain(|| diagnose::diagnose_signature_header(headers, forms))
            }
            RejectionKind::StaleTimestamp => self.plain(diagnose::stale_timestamp),
            RejectionKind::MissingEventId | RejectionKind::MalformedEventId => {
                self.plain(|| diagnose::diagnose_event_id_header(headers))
            }
            _ => None,
        }
    }

    /// Diagnoses a body that was rejected for another reason than its signature. `bytes` of the body have arrived.
    pub(super) fn body(&self, kind: RejectionKind, headers: &HeaderMap, bytes: usize) -> Option<Explained> {
        match kind {
            RejectionKind::BodyTimeout | RejectionKind::BodyUnreadable => {
                self.plain(|| diagnose::diagnose_incomplete_body(headers, bytes))
            }
            RejectionKind::TimestampInBody => self.plain(diagnose::timestamp_in_body),
            _ => None,
        }
    }

    fn plain(&self, diagnose: impl FnOnce() -> Diagnosis) -> Option<Explained> {
        self.plain.admit().then(|| Explained { diagnosis: diagnose(), report: None })
    }

    /// Starts the search for the cause of a mismatch, if the rate limit and the length `bytes` of the body permit.
    /// The layer accepts `forms`.
    pub(super) fn mismatch(
        self: &Arc<Self>,
        secrets: &Secrets,
        forms: SignatureForms,
        headers: &HeaderMap,
        bytes: usize,
        body: impl FnOnce() -> Bytes,
    ) -> Option<CauseSearch> {
        // Acquire pairs with the release at the end of the last search.
        let is_due = bytes <= MAX_BODY && !self.is_searching.load(Ordering::Acquire) && self.mismatches.admit();
        is_due.then(|| {
            let searching = Searching::begin(Arc::clone(self));
            let (secrets, headers, body) = (Arc::clone(secrets), headers.clone(), body());
            // Ask on this thread: another thread may have another subscriber.
            let reported = telemetry::reports_are_logged();
            // The head passed its checks, so the event id is not at fault.
            let accepted = Accepted { forms, missing_event_id: true };
            CauseSearch::begin(move || {
                let candidates = searching.0.candidates.as_ref();
                let diagnosis = diagnose::diagnose_delivery(&secrets, candidates, accepted, &headers, &body);
                let report = reported.then(|| SupportReport::new(&diagnosis, &headers, &body));
                Explained { diagnosis, report }
            })
        })
    }
}

impl Explained {
    /// Adds the cause to the draft of an entry for the rejection log.
    pub(super) fn add_cause(&self, draft: &mut Draft) {
        draft.set_cause(self.diagnosis.cause());
    }

    /// Returns the diagnosis for the log. `status` is the status of the response.
    pub(super) fn explanation(&self, status: StatusCode) -> Explanation<'_> {
        let Self { diagnosis, report } = self;
        Explanation {
            cause: diagnosis.cause().as_str(),
            certainty: diagnosis.certainty().as_str(),
            text: diagnosis,
            report: report.clone().map(|report| report.answered(status).to_string()),
        }
    }
}

/// A search for the cause of a mismatch. The search takes some milliseconds, so it runs on a blocking thread.
pub(super) enum CauseSearch {
    Spawned(JoinHandle<Explained>),
    Finished(Box<Option<Explained>>),
}

impl CauseSearch {
    fn begin(search: impl FnOnce() -> Explained + Send + 'static) -> Self {
        // A body that is complete at once can be verified without a runtime, so there may be none.
        let Ok(runtime) = Handle::try_current() else { return Self::Finished(Box::new(Some(search()))) };
        // `spawn_blocking` panics if the system has no thread left. The sender must get a response all the same.
        let spawned = panic::catch_unwind(AssertUnwindSafe(|| runtime.spawn_blocking(search)));
        spawned.map_or_else(|_| Self::Finished(Box::default()), Self::Spawned)
    }

    /// Returns the diagnosis, or `None` if the runtime shuts down or had no thread for the search.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Explained>> {
        Poll::Ready(match self {
            Self::Spawned(search) => ready!(Pin::new(search).poll(cx)).ok(),
            Self::Finished(explained) => explained.take(),
        })
    }
}

/// Cancels the search if it has not begun yet.
impl Drop for CauseSearch {
    fn drop(&mut self) {
        if let Self::Spawned(search) = self {
            search.abort();
        }
    }
}

/// A guard that prevents other searches from beginning.
struct Searching(Arc<Explain>);

impl Searching {
    fn begin(explain: Arc<Explain>) -> Self {
        explain.is_searching.store(true, Ordering::Relaxed);
        Self(explain)
    }
}

impl Drop for Searching {
    fn drop(&mut self) {
        self.0.is_searching.store(false, Ordering::Release);
    }
}

impl RateLimit {
    /// Returns whether a diagnosis may begin now, and counts it.
    fn admit(&self) -> bool {
        // Ignore poisoning: nothing that panics runs under the lock.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| last.elapsed() >= PAUSE);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}
