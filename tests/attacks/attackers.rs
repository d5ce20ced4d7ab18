//! Attackers: senders without the secret that try to use up the server's resources.

use std::{
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::{child, http1::Uploads, http2::Streams};

/// The plan of an attacker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Attack {
    Http1(Uploads),
    Http2(Streams),
}

/// Counts of an attacker's requests and their outcomes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Requests that were begun.
    pub(crate) begun: u64,
    /// Bytes sent, without those of TCP and IP.
    pub(crate) bytes: u64,
    /// Requests that were answered before the attacker ended them.
    pub(crate) answered: u64,
    /// HTTP/1.1 requests among `answered` with the status 503.
    pub(crate) overloaded: u64,
    /// Requests that could not be written completely, but whose response could then be read. Many clients do not try to read.
    pub(crate) broken: u64,
    /// Requests whose connection the server closed or reset without an answer that the sender could read.
    pub(crate) cut_off: u64,
    /// Connections that failed or that the server ended, other than in `broken` and `cut_off`.
    pub(crate) lost: u64,
    /// The time in which these counts were taken.
    pub(crate) time: Duration,
}

/// A [`Tally`] that the tasks of an attacker share.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedTally(Arc<Mutex<Tally>>);

impl SharedTally {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attack {
    /// Returns the number of requests that the attack holds open at the same time.
    pub(crate) fn open_requests(&self) -> usize {
        match self {
            Self::Http1(uploads) => uploads.connections,
            Self::Http2(streams) => streams.connections * streams.streams,
        }
    }

    pub(crate) fn connections(&self) -> usize {
        match self {
            Self::Http1(uploads) => uploads.connections,
            Self::Http2(streams) => streams.connections,
        }
    }

    /// Returns the number of requests per second that keeps [`open_requests`](Self::open_requests) of them open. Returns
    /// `None` if requests are held for so short a time that the server determines the rate.
    pub(crate) fn target_rate(&self) -> Option<f64> {
        let (hold, max_rate) = match self {
            Self::Http1(uploads) => (uploads.hold, uploads.max_rate),
            Self::Http2(streams) => (streams.hold, streams.max_rate),
        };
        let target_rate = (self.open_requests() as f64 / hold.as_secs_f64()).min(f64::from(max_rate));
        (hold >= Duration::from_millis(200)).then_some(target_rate)
    }

    /// Attacks until the input ends. Prints `up` once enough requests have begun, and at the end the [`Tally`] since then.
    pub(crate) async fn run(self, port: u16) {
        let (shared_tally, open_requests) = (SharedTally::default(), self.open_requests() as u64);
        match self {
            Self::Http1(uploads) => uploads.start(port, &shared_tally),
            Self::Http2(streams) => streams.start(port, &shared_tally),
        }
        while shared_tally.lock().begun < open_requests {
            sleep(Duration::from_millis(10)).await;
        }
        *shared_tally.lock() = Tally::default();
        let since = Instant::now();
        child::tell_parent("up");
        thread::spawn(move || {
            child::wait_for_stop();
            let tally = Tally { time: since.elapsed(), ..shared_tally.lock().clone() };
            child::tell_parent(&serde_json::to_string(&tally).expect("a tally is plain data"));
            process::exit(0);
        });
        std::future::pending().await
    }
}
