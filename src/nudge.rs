//! A thread that keeps the timers of a multi-threaded runtime going while handlers block the runtime's threads.
//!
//! One thread of such a runtime at a time waits for timers and sockets. If a handler blocks that thread, the idle
//! threads may stay asleep, and no timer fires. Spawning a task from outside the runtime wakes an idle thread, which then
//! waits for timers and sockets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use tokio::runtime::{Handle, RuntimeFlavor};

/// The number of wake-ups per lease. Leases are extended half as often, so that no extension is missed.
pub(crate) const NUDGES_PER_LEASE: u32 = 6;

/// A guard for a thread that wakes the runtime at intervals. Dropping the guard ends the thread.
pub(crate) struct Nudges {
    ended: Arc<AtomicBool>,
    thread: Thread,
}

impl Nudges {
    /// Starts a thread that wakes the current runtime. Returns `None` on a single-threaded runtime, which has no idle
    /// thread to wake, and if the system cannot start a thread.
    pub(crate) fn start(interval: Duration) -> Option<Self> {
        let runtime = Handle::try_current().ok()?;
        if matches!(runtime.runtime_flavor(), RuntimeFlavor::CurrentThread) {
            return None;
        }
        let ended = Arc::new(AtomicBool::new(false));
        let has_ended = Arc::clone(&ended);
        let nudge = move || {
            while !has_ended.load(Ordering::Acquire) {
                thread::park_timeout(interval);
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
