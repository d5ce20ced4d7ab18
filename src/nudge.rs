//! Keeps the timers of a multi-threaded runtime going while a handler blocks a thread.
//!
//! One thread of such a runtime at a time waits for timers and sockets. If a handler blocks that very thread, the
//! others may sleep on, and no timer fires, although they are idle. A task that is spawned from outside wakes one of
//! them, and that one then takes over the waiting.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use tokio::runtime::{Handle, RuntimeFlavor};

/// Twice as often as leases are extended, so that no extension is missed.
pub(crate) const NUDGES_PER_LEASE: u32 = 6;

/// Wakes a thread of the runtime now and then, until it is dropped.
pub(crate) struct Nudges {
    ended: Arc<AtomicBool>,
    thread: Thread,
}

impl Nudges {
    /// Starts a thread that wakes the current runtime. Returns `None` if that is of no use, as on a runtime with one
    /// thread, or if the system has no thread left.
    pub(crate) fn start(every: Duration) -> Option<Self> {
        let runtime = Handle::try_current().ok()?;
        if matches!(runtime.runtime_flavor(), RuntimeFlavor::CurrentThread) {
            return None;
        }
        let ended = Arc::new(AtomicBool::new(false));
        let has_ended = Arc::clone(&ended);
        let nudge = move || {
            while !has_ended.load(Ordering::Acquire) {
                thread::park_timeout(every);
                drop(runtime.spawn(async {}));
            }
        };
        let thread = thread::Builder::new().name("klikit-nudge".into()).spawn(nudge).ok()?;
        Some(Self { ended, thread: thread.thread().clone() })
    }
}

impl Drop for Nudges {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        self.thread.unpark();
    }
}
