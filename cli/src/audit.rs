//! The log lines of operators' actions.

use std::{fmt, io};

use tracing::{Level, info};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt};

use crate::error::one_line;

/// The target of the lines in [`tower_klikit::inbox`].
const TARGET: &str = "tower_klikit::inbox::audit";

/// Writes a line to standard error for each action: who, what, which deliveries, and how many.
pub(crate) fn log_to_stderr() {
    let lines = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).finish();
    let audit = lines.with(Targets::new().with_target(TARGET, Level::INFO));
    tracing::subscriber::set_global_default(audit).expect("a command sets up its log once");
}

/// The line of an action on a ledger without an inbox, in the format of [`tower_klikit::inbox`]. Dropping it logs it, so
/// that an action that fails or is dropped is logged too.
pub(crate) struct AuditLine<'a> {
    operator: &'a str,
    action: &'static str,
    filter: String,
    /// The number of deliveries that the action has changed, once it is complete.
    pub(crate) deliveries: Option<u64>,
}

impl<'a> AuditLine<'a> {
    pub(crate) fn new(operator: &'a str, action: &'static str, filter: &impl fmt::Display) -> Self {
        Self { operator, action, filter: filter.to_string(), deliveries: None }
    }
}

impl Drop for AuditLine<'_> {
    fn drop(&mut self) {
        let Self { operator, action, filter, deliveries } = self;
        let operator = one_line(operator);
        let deliveries_at_least = deliveries.is_none().then_some(0_u64);
        info!(
            target: TARGET, %operator, action, filter, deliveries, deliveries_at_least, "operator acted on deliveries"
        );
    }
}
