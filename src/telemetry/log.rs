//! The macros that log, and the targets by which users filter: the crate's public modules.
#![cfg_attr(not(feature = "inbox"), allow(unused_imports, dead_code, reason = "the inbox uses all of them"))]

#[cfg(feature = "tracing")]
use std::{error::Error, fmt};

#[cfg(feature = "tracing")]
use tracing::field::{Value, display};

#[cfg(feature = "tracing")]
use crate::visible::Escaped;

pub(super) const VERIFY: &str = "tower_klikit::verify";
pub(super) const DEDUPE: &str = "tower_klikit::dedupe";
pub(super) const INBOX: &str = "tower_klikit::inbox";
pub(super) const STORE: &str = "tower_klikit::store";

#[cfg(feature = "tracing")]
pub(super) use tracing::{debug, error, info, warn};

/// Returns the sources of an error, for a field.
///
/// They are shown as texts, because a field that is an error is written without escapes.
#[cfg(feature = "tracing")]
pub(super) fn source_of<'a>(error: &'a dyn Error) -> Option<impl Value + use<'a>> {
    error.source().map(|source| display(Escaped(Chain(source))))
}

/// An error and its sources.
#[cfg(feature = "tracing")]
struct Chain<'a>(&'a dyn Error);

#[cfg(feature = "tracing")]
impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(not(feature = "tracing"))]
pub(super) use self::silent::{nothing as debug, nothing as error, nothing as info, nothing as warn, source_of};

#[cfg(not(feature = "tracing"))]
mod silent {
    /// Uses the target, so that constants are not unused.
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
