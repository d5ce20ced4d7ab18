//! A counter of the backends of a Postgres server.

use std::{
    collections::VecDeque,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::processes::children;

/// The time between two counts. Each count reads the state of all processes on the machine.
const INTERVAL: Duration = Duration::from_millis(25);

/// The number of counts in a row that a peak must last. A backend takes a moment to end after its client has gone.
const SUSTAINED: usize = 5;

/// A thread that counts backends until this value is dropped.
///
/// The thread counts processes. `pg_stat_activity` lacks backends that are still starting, and cannot be read on a
/// server that hangs.
pub struct Backends {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<usize>>,
}

impl Backends {
    /// Counts the backends of the server with this pid, except those with the pids in `own`.
    pub(super) fn watch(server: u32, own: Vec<u32>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let count = move || {
            let (mut peak, mut last) = (0, VecDeque::new());
            while !stopped.load(Ordering::SeqCst) {
                last.push_back(children(server).filter(|pid| !own.contains(pid) && is_backend(*pid)).count());
                if last.len() > SUSTAINED {
                    last.pop_front();
                    peak = peak.max(last.iter().copied().min().unwrap_or_default());
                }
                thread::sleep(INTERVAL);
            }
            peak
        };
        Self { stop, thread: Some(thread::spawn(count)) }
    }

    /// Stops counting and returns the largest number of backends.
    pub fn peak(mut self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().expect("only `peak` takes the thread").join().expect("counting does not panic")
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// Returns whether this process serves a client that is not a replica. Such a process's title begins with the user's name.
fn is_backend(pid: u32) -> bool {
    let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    title.starts_with(b"postgres: klikit ")
}
