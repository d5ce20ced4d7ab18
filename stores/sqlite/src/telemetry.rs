//! The store's log messages.

use tracing::warn;

/// Warns that the system clock was stepped by this many milliseconds.
pub(crate) fn system_clock_stepped(milliseconds: i64) {
    let seconds = (milliseconds.unsigned_abs() + 500) / 1000;
    let step = match milliseconds {
        ..0 => format!("was set back by {seconds} s"),
        _ => format!("was set ahead by {seconds} s, or the machine was suspended"),
    };
    warn!("the system clock {step}: leases, retries and retention are not affected");
}
