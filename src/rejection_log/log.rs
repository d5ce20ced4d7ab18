use std::{
    cmp::Reverse,
    collections::VecDeque,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::entry::{Facts, LoggedRejection};
use crate::verify::RejectionKind;

/// The last rejections of one or several verify layers, in memory.
///
/// The log is off by default. [`KlikitVerifyLayer::rejection_log`](crate::KlikitVerifyLayer::rejection_log) fills it,
/// whether or not a `tracing` subscriber listens. Clones share their entries, and several layers can share a log. The
/// entries are lost when the process ends, and each process has its own.
///
/// ```
/// use std::fmt::Write;
///
/// use axum::{Router, extract::State, routing::{get, post}};
/// use tower_klikit::{KlikitVerifyLayer, RejectionLog};
///
/// /// Shows the last rejections as plain text.
/// async fn rejections(State(log): State<RejectionLog>) -> String {
///     let mut page = format!("{} rejections, of which {} were evicted\n", log.recorded(), log.evicted());
///     for entry in log.entries() {
///         let age = entry.time().elapsed().unwrap_or_default().as_secs();
///         let _ = writeln!(page, "{age} s ago: {entry}");
///     }
///     page
/// }
///
/// let log = RejectionLog::new();
/// let verify = KlikitVerifyLayer::new("your-webhook-secret").rejection_log(log.clone());
/// let public: Router = Router::new().route("/webhooks/klikit", post(|| async {}).layer(verify));
/// // Serve this router on an address that only operators can reach.
/// let internal: Router = Router::new().route("/rejections", get(rejections)).with_state(log);
/// ```
///
/// Show the log only to operators: it tells a forger why a signature did not match. Escape the entries if you show them
/// as HTML, because any sender can choose their event id and path.
///
/// # What it contains
///
/// Each [rejection](crate::RejectionKind) of the layer, once, also if its sender disconnected before the response. Not
/// the requests that were dropped before there was a verdict, and nothing that a handler or a layer inside has rejected.
/// See [`LoggedRejection`] for the facts. There is never a body, a signature, a secret, credentials or a query among
/// them. But there is the path, with a token if the path has one.
///
/// With the feature `diagnose`, an entry has the cause of the rejection if the layer
/// [explained](crate::KlikitVerifyLayer::explain_mismatches) it. The log alone starts no diagnosis.
///
/// # Bounds
///
/// A log has at most [1,000 entries](Self::max_entries), which take at most [1 MiB](Self::max_bytes).
///
/// If there are more, the log evicts the oldest entry of the reason that has the most entries. A flood for one reason,
/// such as unsigned requests of a scanner, therefore leaves the entries of other reasons in the log. A flood of forged
/// signatures does evict older mismatches. It cannot hide that: [`evicted`](Self::evicted) counts evicted entries,
/// and the [numbers](LoggedRejection::number) of the remaining ones show where they are missing.
///
/// # What it costs
///
/// With a log, the layer hashes each rejected body once more, for its
/// [digest](LoggedRejection::body_digest), if it has read the whole body. A forged body thus costs as much as if the
/// keyring had one more secret. The body counts towards the [`buffer_budget`](crate::KlikitVerifyLayer::buffer_budget)
/// meanwhile, if it did before, and one poll still hashes at most 256 KiB. A delivery that is accepted takes
/// two more allocations and is not hashed again. Without a log, nothing is hashed or allocated for it.
#[derive(Clone)]
pub struct RejectionLog(Arc<Mutex<Entries>>);

/// The state of a log.
struct Entries {
    /// One queue for each reason that has occurred.
    queues: Vec<Queue>,
    /// The number of entries in all queues.
    len: usize,
    /// The memory of all entries, in bytes.
    memory: usize,
    max_entries: usize,
    max_bytes: usize,
    recorded: u64,
    evicted: u64,
}

/// The entries with one reason, oldest first.
struct Queue {
    kind: RejectionKind,
    entries: VecDeque<LoggedRejection>,
}

impl RejectionLog {
    /// The default of [`max_entries`](Self::max_entries): 1,000.
    pub const DEFAULT_MAX_ENTRIES: usize = 1_000;

    /// The default of [`max_bytes`](Self::max_bytes): 1 MiB.
    pub const DEFAULT_MAX_BYTES: usize = 1_048_576;

    /// Creates an empty log.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Entries {
            queues: Vec::new(),
            len: 0,
            memory: 0,
            max_entries: Self::DEFAULT_MAX_ENTRIES,
            max_bytes: Self::DEFAULT_MAX_BYTES,
            recorded: 0,
            evicted: 0,
        })))
    }

    /// Sets the greatest number of entries, for all clones. Default: [1,000](Self::DEFAULT_MAX_ENTRIES).
    #[must_use]
    pub fn max_entries(self, entries: usize) -> Self {
        self.set_bound(|log| log.max_entries = entries)
    }

    /// Sets how many bytes of memory all entries may take, for all clones. Default: [1 MiB](Self::DEFAULT_MAX_BYTES).
    ///
    /// An entry usually takes about 250 bytes, and about 1,300 at most, unless the tenant has a long name. What the
    /// allocator needs in addition is not counted.
    #[must_use]
    pub fn max_bytes(self, bytes: usize) -> Self {
        self.set_bound(|log| log.max_bytes = bytes)
    }

    /// Returns the entries, newest first.
    pub fn entries(&self) -> Vec<LoggedRejection> {
        let mut entries = self.snapshot();
        entries.sort_unstable_by_key(|entry| Reverse(entry.number()));
        entries
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.lock().len
    }

    /// Returns whether the log has no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of rejections that were ever added to the log. [`clear`](Self::clear) does not change it.
    pub fn recorded(&self) -> u64 {
        self.lock().recorded
    }

    /// Returns the number of entries that were removed because of the [bounds](#bounds), not by [`clear`](Self::clear).
    pub fn evicted(&self) -> u64 {
        self.lock().evicted
    }

    /// Removes all entries.
    pub fn clear(&self) {
        let removed = {
            let mut log = self.lock();
            (log.len, log.memory) = (0, 0);
            mem::take(&mut log.queues)
        };
        // Free the memory without the lock.
        drop(removed);
    }

    /// Adds an entry, and evicts others if there are too many.
    pub(super) fn push(&self, facts: Facts) {
        let kind = facts.kind;
        let facts = Arc::new(facts);
        let mut log = self.lock();
        log.recorded += 1;
        let entry = LoggedRejection::new(log.recorded, facts);
        log.len += 1;
        log.memory += entry.memory();
        log.queue(kind).push_back(entry);
        log.evict();
    }

    fn set_bound(self, set: impl FnOnce(&mut Entries)) -> Self {
        {
            let mut log = self.lock();
            set(&mut log);
            log.evict();
        }
        self
    }

    /// Returns the entries in any order. Allocates only without the lock.
    fn snapshot(&self) -> Vec<LoggedRejection> {
        let mut snapshot = Vec::new();
        loop {
            let len = {
                let log = self.lock();
                if log.len <= snapshot.capacity() {
                    snapshot.extend(log.queues.iter().flat_map(|queue| &queue.entries).cloned());
                    return snapshot;
                }
                log.len
            };
            snapshot.reserve(len);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // No code under the lock panics, so a poisoned lock holds a valid log.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// Returns the queue for this reason.
    fn queue(&mut self, kind: RejectionKind) -> &mut VecDeque<LoggedRejection> {
        let index = self.queues.iter().position(|queue| queue.kind == kind).unwrap_or_else(|| {
            self.queues.push(Queue { kind, entries: VecDeque::new() });
            self.queues.len() - 1
        });
        &mut self.queues[index].entries
    }

    /// Evicts the oldest entries of the longest queues until the log is within its bounds.
    fn evict(&mut self) {
        while self.len > self.max_entries || self.memory > self.max_bytes {
            // If several queues are longest, choose the one with the oldest entry.
            let rank =
                |queue: &&mut Queue| (queue.entries.len(), Reverse(queue.entries.front().map(LoggedRejection::number)));
            let Some(longest) = self.queues.iter_mut().max_by_key(rank) else { return };
            let Some(oldest) = longest.entries.pop_front() else { return };
            // Entries of other reasons may have taken the place of most of this queue.
            if longest.entries.len() < longest.entries.capacity() / 4 {
                longest.entries.shrink_to(longest.entries.capacity() / 2);
            }
            self.len -= 1;
            self.memory -= oldest.memory();
            self.evicted += 1;
        }
    }
}

impl Default for RejectionLog {
    fn default() -> Self {
        Self::new()
    }
}

/// Leaves out the entries.
impl fmt::Debug for RejectionLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = self.lock();
        f.debug_struct("RejectionLog")
            .field("len", &log.len)
            .field("max_entries", &log.max_entries)
            .field("max_bytes", &log.max_bytes)
            .field("recorded", &log.recorded)
            .field("evicted", &log.evicted)
            .finish()
    }
}
