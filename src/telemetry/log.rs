//! The macros that log, and the targets by which users filter: the crate's public modules.
#![cfg_attr(not(feature = "inbox"), allow(unused_imports, dead_code, reason = "the inbox uses all of them"))]

pub(super) const VERIFY: &str = "tower_klikit::verify";
pub(super) const DEDUPE: &str = "tower_klikit::dedupe";
pub(super) const INBOX: &str = "tower_klikit::inbox";
pub(super) const STORE: &str = "tower_klikit::store";

#[cfg(feature = "tracing")]
pub(super) use tracing::{debug, error, info, warn};

#[cfg(not(feature = "tracing"))]
pub(super) use self::silent::{nothing as debug, nothing as error, nothing as info, nothing as warn};

#[cfg(not(feature = "tracing"))]
mod silent {
    /// Uses the target, so that constants are not unused.
    macro_rules! nothing {
        (target: $target:expr, $($rest:tt)*) => {{
            let _: &str = $target;
        }};
    }

    pub(in crate::telemetry) use nothing;
}
