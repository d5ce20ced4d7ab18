//! Times from klikit's documentation.

use std::time::Duration;

// These are functions, because the documentation of a public constant would show the path of a private constant.

/// Returns the time after which klikit treats a delivery without a response as failed ("Webhook retries" in its
/// developer documentation).
pub(crate) const fn timeout() -> Duration {
    Duration::from_secs(10)
}

/// Returns the pauses after failed attempts, from an older version of klikit's documentation. The current version says
/// only that the pauses grow exponentially.
#[cfg(any(feature = "dedupe", feature = "testing"))]
pub(crate) const fn pauses() -> [Duration; 6] {
    [
        Duration::from_secs(30),
        Duration::from_secs(2 * 60),
        Duration::from_secs(10 * 60),
        Duration::from_secs(60 * 60),
        Duration::from_secs(6 * 60 * 60),
        Duration::from_secs(24 * 60 * 60),
    ]
}

/// Returns the time from the first attempt at a delivery to the last one.
#[cfg(feature = "dedupe")]
pub(crate) fn retries_span() -> Duration {
    pauses().iter().sum()
}
