//! Why a delivery did not verify: for the log, now and then, and never for the wire.

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
    diagnose::{self, Accepted, Diagnosis, Forms, SupportReport},
    keyring::{Keyring, Secrets},
    telemetry::{self, Explanation},
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
    /// A search that waits for its thread is not to be joined by others.
    is_searching: AtomicBool,
}

/// What was found out about a refused delivery.
pub(super) struct Explained {
    diagnosis: Diagnosis,
    /// Of a delivery that came whole, if anybody hears of it.
    report: Option<SupportReport>,
}

/// When one was looked at last.
#[derive(Default)]
struct Turn(Mutex<Option<Instant>>);

impl Explain {
    pub(super) fn new(candidates: Option<Keyring>) -> Self {
        Self { candidates, plain: Turn::default(), mismatches: Turn::default(), is_searching: AtomicBool::new(false) }
    }

    /// Of a request whose head was refused, by a layer that does or does not accept the older form.
    pub(super) fn head(&self, kind: RejectionKind, timestamped: bool, headers: &HeaderMap) -> Option<Explained> {
        match kind {
            RejectionKind::MissingSignature | RejectionKind::MalformedSignature => {
                self.plain(|| diagnose::of_signature(headers, forms(timestamped)))
            }
            RejectionKind::StaleTimestamp => self.plain(diagnose::of_time),
            RejectionKind::MissingEventId | RejectionKind::MalformedEventId => {
                self.plain(|| diagnose::of_event_id(headers))
            }
            _ => None,
        }
    }

    /// Of a body that was rejected, and not for its signature. No more than this of it has come.
    pub(super) fn body(&self, kind: RejectionKind, headers: &HeaderMap, bytes: usize) -> Option<Explained> {
        match kind {
            RejectionKind::BodyTimeout | RejectionKind::BodyUnreadable => {
                self.plain(|| diagnose::of_incomplete(headers, bytes))
            }
            RejectionKind::TimestampInBody => self.plain(diagnose::of_timestamp_in_body),
            _ => None,
        }
    }

    fn plain(&self, diagnose: impl FnOnce() -> Diagnosis) -> Option<Explained> {
        self.plain.take().then(|| Explained { diagnosis: diagnose(), report: None })
    }

    /// Of a body that was not signed with any of these secrets, and has this length.
    pub(super) fn mismatch(
        self: &Arc<Self>,
        secrets: &Secrets,
        timestamped: bool,
        headers: &HeaderMap,
        bytes: usize,
        body: impl FnOnce() -> Bytes,
    ) -> Option<Search> {
        // Acquire and release: one search begins where the last has ended.
        let due = bytes <= MAX_BODY && !self.is_searching.load(Ordering::Acquire) && self.mismatches.take();
        due.then(|| {
            let searching = Searching::begin(Arc::clone(self));
            let (secrets, headers, body) = (Arc::clone(secrets), headers.clone(), body());
            // Asked here, since a thread may have a log of its own.
            let reported = telemetry::reports_are_heard();
            // Of the event id the head was sound enough.
            let accepted = Accepted { forms: forms(timestamped), missing_event_id: true };
            Search::begin(move || {
                let candidates = searching.0.candidates.as_ref();
                let diagnosis = diagnose::of_delivery(&secrets, candidates, accepted, &headers, &body);
                let report = reported.then(|| SupportReport::new(&diagnosis, &headers, &body));
                Explained { diagnosis, report }
            })
        })
    }
}

impl Explained {
    /// `status` is that of the answer.
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

fn forms(timestamped: bool) -> Forms {
    if timestamped { Forms::Both } else { Forms::Current }
}

/// A search for a cause. It takes some milliseconds, for which whatever else the executor's thread serves is not to wait.
pub(super) enum Search {
    Aside(JoinHandle<Explained>),
    Over(Box<Option<Explained>>),
}

impl Search {
    fn begin(search: impl FnOnce() -> Explained + Send + 'static) -> Self {
        // A body that is there at once needs no runtime otherwise.
        let Ok(runtime) = Handle::try_current() else { return Self::Over(Box::new(Some(search()))) };
        // It panics where the system has no thread left. Who asked is answered all the same.
        let aside = panic::catch_unwind(AssertUnwindSafe(|| runtime.spawn_blocking(search)));
        aside.map_or_else(|_| Self::Over(Box::default()), Self::Aside)
    }

    /// `None` when the runtime is shutting down, or has no thread for it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Explained>> {
        Poll::Ready(match self {
            Self::Aside(search) => ready!(Pin::new(search).poll(cx)).ok(),
            Self::Over(explained) => explained.take(),
        })
    }
}

/// Nobody is to hear of it any more.
impl Drop for Search {
    fn drop(&mut self) {
        if let Self::Aside(search) = self {
            search.abort();
        }
    }
}

/// While it is there, no other search begins.
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
