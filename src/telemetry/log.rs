//! The logging macros, and the log targets: the paths of the crate's public modules.
#![cfg_attr(not(feature = "inbox"), allow(unused_imports, dead_code, reason = "the inbox uses all of them"))]

#[cfg(feature = "tracing")]
use std::error::Error;

#[cfg(feature = "tracing")]
use tracing::field::{Value, display};

#[cfg(feature = "tracing")]
use crate::error_chain::ErrorChain;

pub(super) const VERIFY: &str = "tower_klikit::verify";
pub(super) const DEDUPE: &str = "tower_klikit::dedupe";
pub(super) const INBOX: &str = "tower_klikit::inbox";
pub(super) const AUDIT: &str = "tower_klikit::inbox::audit";
pub(super) const STORE: &str = "tower_klikit::store";

#[cfg(feature = "tracing")]
pub(super) use tracing::{debug, error, info, warn};

/// Returns the sources of an error as the value of a field.
///
/// The value is escaped text. Subscribers write fields that are errors without escapes, so that an error could forge a
/// log line.
#[cfg(feature = "tracing")]
pub(super) fn source_of<'a>(error: &'a dyn Error) -> Option<impl Value + use<'a>> {
    error.source().map(|source| display(ErrorChain::new(source)))
}

#[cfg(not(feature = "tracing"))]
pub(super) use self::silent::{nothing as debug, nothing as error, nothing as info, nothing as warn, source_of};

#[cfg(not(feature = "tracing"))]
mod silent {
    /// Evaluates the target only, so that the constants above count as used.
    macro_rules! nothing {
        (target: $target:expr, $($rest:tt)*) => {{
            let _: &str = $target;
        }};
    }

    pub(in crate::telemetry) use nothing;

    pub(in crate::telemetry) fn source_of(_: &dyn std::error::Error) -> Option<()> {
        None
    }
}
