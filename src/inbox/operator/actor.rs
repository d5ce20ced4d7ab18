//! An operator and the inbox that the operator acts on.

use std::{fmt, sync::Arc};

use crate::{inbox::Inbox, telemetry};

/// The operator of an action, and the inbox that the operator acts on.
#[derive(Debug, Clone)]
pub(super) struct Actor {
    pub(super) inbox: Inbox,
    pub(super) name: Arc<str>,
}

impl Actor {
    /// Begins the log line of an action.
    pub(super) fn audit(&self, action: &'static str, what: &dyn fmt::Display) -> AuditLine<'_> {
        AuditLine { actor: self, action, filter: what.to_string(), deliveries: 0 }
    }
}

/// The log line of an action. Dropping it logs it, so that an action that fails or is dropped is logged too.
pub(super) struct AuditLine<'a> {
    actor: &'a Actor,
    action: &'static str,
    filter: String,
    /// The number of deliveries that the action has changed so far.
    pub(super) deliveries: u64,
}

impl Drop for AuditLine<'_> {
    fn drop(&mut self) {
        telemetry::operator_acted(&self.actor.name, self.action, &self.filter, self.deliveries);
        // There may be deliveries to lease.
        self.actor.inbox.config.wake.notify_one();
    }
}
