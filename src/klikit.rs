//! The numbers of klikit's documentation that the crate counts on.

use std::time::Duration;

/// Returns how long klikit waits for an answer, before it counts a delivery as failed ("Webhook retries" in its developer
/// documentation).
///
/// These are functions, because the documentation of a public constant would show the path of a private constant.
pub(crate) const fn timeout() -> Duration {
    Duration::from_secs(10)
}

/// Returns the pauses after failed attempts at a delivery, by an older text of klikit's own. The newer one says that they
/// grow exponentially, and no more.
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

/// From the first attempt at a delivery to the last.
#[cfg(feature = "dedupe")]
pub(crate) fn retries_span() -> Duration {
    pauses().iter().sum()
}
