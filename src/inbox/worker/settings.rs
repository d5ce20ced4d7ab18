use std::{fmt, sync::Arc, time::Duration};

use http::StatusCode;

use super::{backoff::Backoff, expiry::Expiries, name::default_name, outcome::Outcome};

/// The settings of a worker.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) name: Arc<str>,
    pub(super) concurrency: usize,
    /// The maximum number of prefetched deliveries. `None` for the store's default.
    pub(super) prefetch: Option<usize>,
    pub(super) lease: Duration,
    pub(super) max_attempts: u32,
    pub(super) backoff: Backoff,
    pub(super) handler_deadline: Duration,
    pub(super) drain_deadline: Duration,
    pub(super) poll_interval: Duration,
    #[cfg(feature = "metrics")]
    pub(super) metrics_interval: Option<Duration>,
    pub(super) outcome: Arc<dyn Fn(StatusCode) -> Outcome + Send + Sync>,
    pub(super) expiries: Expiries,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: default_name(),
            concurrency: 16,
            prefetch: None,
            lease: Duration::from_secs(30),
            max_attempts: 25,
            backoff: Backoff { first: Duration::from_secs(1), last: Duration::from_secs(6 * 60 * 60) },
            handler_deadline: Duration::from_secs(5 * 60),
            drain_deadline: Duration::from_secs(25),
            poll_interval: Duration::from_secs(1),
            #[cfg(feature = "metrics")]
            metrics_interval: Some(Duration::from_secs(15)),
            outcome: Arc::new(Outcome::of),
            expiries: Expiries::default(),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("name", &self.name)
            .field("concurrency", &self.concurrency)
            .field("prefetch", &self.prefetch)
            .field("lease", &self.lease)
            .field("max_attempts", &self.max_attempts)
            .field("backoff", &self.backoff)
            .field("handler_deadline", &self.handler_deadline)
            .field("drain_deadline", &self.drain_deadline)
            .field("poll_interval", &self.poll_interval)
            .field("expiries", &self.expiries)
            .finish_non_exhaustive()
    }
}
