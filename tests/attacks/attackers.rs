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
pub(crate) struct Counter(Arc<Mutex<Tally>>);

impl Counter {
    pub(crate) fn get(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attack {
    /// Returns the number of requests that the attack holds open at the same time.
    pub(crate) fn width(&self) -> usize {
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

    /// Returns the number of requests per second that keeps `width` of them open. Returns `None` if requests are held so
    /// shortly that the server determines the rate.
    pub(crate) fn rate(&self) -> Option<f64> {
        let (hold, most) = match self {
            Self::Http1(uploads) => (uploads.hold, uploads.rate),
            Self::Http2(streams) => (streams.hold, streams.rate),
        };
        let rate = (self.width() as f64 / hold.as_secs_f64()).min(f64::from(most));
        (hold >= Duration::from_millis(200)).then_some(rate)
    }

    /// Attacks until the input ends. Prints `up` after every request was begun once, and at the end the [`Tally`] since then.
    pub(crate) async fn run(self, port: u16) {
        let (counter, width) = (Counter::default(), self.width() as u64);
        match self {
            Self::Http1(uploads) => uploads.start(port, &counter),
            Self::Http2(streams) => streams.start(port, &counter),
        }
        while counter.get().begun < width {
            sleep(Duration::from_millis(10)).await;
        }
        *counter.get() = Tally::default();
        let since = Instant::now();
        child::say("up");
        thread::spawn(move || {
            child::wait_for_stop();
            let tally = Tally { time: since.elapsed(), ..counter.get().clone() };
            child::say(&serde_json::to_string(&tally).expect("a tally is plain data"));
            process::exit(0);
        });
        std::future::pending().await
    }
}
