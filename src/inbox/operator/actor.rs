//! An operator and the inbox that the operator acts on.

use std::{fmt, pin::pin, sync::Arc};

use futures_util::future::{Either, select};

use crate::{
    dedupe::StoreError,
    inbox::Inbox,
    telemetry::{self, Changed},
};

/// The operator of an action, and the inbox that the operator acts on.
#[derive(Debug, Clone)]
pub(super) struct Actor {
    pub(super) inbox: Inbox,
    pub(super) name: Arc<str>,
}

impl Actor {
    /// Begins the log line of an action.
    pub(super) fn audit(&self, action: &'static str, what: &dyn fmt::Display) -> AuditLine<'_> {
        AuditLine { actor: self, action, filter: what.to_string(), deliveries: 0, is_exact: true }
    }
}

/// The log line of an action. Dropping it logs it, so that an action that fails or is dropped is logged too.
pub(super) struct AuditLine<'a> {
    actor: &'a Actor,
    action: &'static str,
    filter: String,
    /// The number of deliveries that the action has changed so far.
    pub(super) deliveries: u64,
    /// Whether no call has an unknown outcome.
    is_exact: bool,
}

impl AuditLine<'_> {
    /// Makes a call that changes deliveries. Its outcome is unknown if it fails or is dropped.
    pub(super) async fn call<T>(&mut self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.is_exact = false;
        let answer = call.await?;
        self.is_exact = true;
        Ok(answer)
    }
}

impl Drop for AuditLine<'_> {
    fn drop(&mut self) {
        let changed = if self.is_exact { Changed::Exactly } else { Changed::AtLeast };
        telemetry::operator_acted(&self.actor.name, self.action, &self.filter, changed(self.deliveries));
        // There may be deliveries to lease.
        self.actor.inbox.config.wake.notify_one();
    }
}

/// Waits for a future. Returns `None` if `stop` is ready first.
pub(super) async fn unless_stopped<T>(stop: &mut (impl Future + Unpin), future: impl Future<Output = T>) -> Option<T> {
    match select(stop, pin!(future)).await {
        Either::Left(_) => None,
        Either::Right((output, _)) => Some(output),
    }
}
