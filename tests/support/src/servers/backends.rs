//! Counting the processes with which a Postgres server serves its clients.

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

/// The time from one count to the next, which reads the state of all processes of the machine.
const INTERVAL: Duration = Duration::from_millis(25);

/// How many counts in a row a backend is in before it matters. A backend whose client has just gone takes a moment to
/// end.
const SUSTAINED: usize = 5;

/// A thread that counts backends, until it is dropped.
///
/// It looks at the processes and not at `pg_stat_activity`, which lacks the backends that still start, and which a
/// server that hangs cannot show.
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

    /// Returns how many backends there have been at once.
    pub fn peak(mut self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().expect("only this takes it").join().expect("counting does not panic")
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// Whether this process serves a client that is not a replica. Its title tells the user, the database, the address of
/// the client, and what the backend does.
fn is_backend(pid: u32) -> bool {
    let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    title.starts_with(b"postgres: klikit ")
}
