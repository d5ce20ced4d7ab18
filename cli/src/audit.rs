//! The log lines of operators' actions.

use std::io;

use tracing::Level;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt};

/// The target of the lines in [`tower_klikit::inbox`].
const TARGET: &str = "tower_klikit::inbox::audit";

/// Writes a line to standard error for each action: who, what, which deliveries, and how many.
pub(crate) fn log_to_stderr() {
    let lines = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).finish();
    let audit = lines.with(Targets::new().with_target(TARGET, Level::INFO));
    tracing::subscriber::set_global_default(audit).expect("a command sets up its log once");
}
