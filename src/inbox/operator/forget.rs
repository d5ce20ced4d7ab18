use super::actor::Actor;
use crate::{
    dedupe::{LedgerSelection, StoreError},
    inbox::Filter,
};

/// An action of an [`Operator`](super::Operator) that forgets deliveries by their keys in the ledger, and does nothing
/// until it [runs](Self::run).
///
/// The action also applies to deliveries that are no longer stored, which a [`Filter`] cannot select.
#[derive(Debug, Clone)]
#[must_use = "an action does nothing until it runs"]
pub struct Forget {
    actor: Actor,
    selection: LedgerSelection,
    /// Describes the selection in the log.
    filter: Filter,
}

impl Forget {
    pub(super) fn new(actor: &Actor, selection: LedgerSelection, filter: Filter) -> Self {
        Self { actor: actor.clone(), selection, filter }
    }

    /// Counts the deliveries that the action would forget now. Changes nothing.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn preview(&self) -> Result<u64, StoreError> {
        self.actor.inbox.admin.count_keys(&self.selection).await
    }

    /// Runs the action. Returns the number of deliveries that are forgotten. If the future is dropped, some or all of
    /// them may be forgotten.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails. Some of the deliveries may be forgotten.
    pub async fn run(self) -> Result<u64, StoreError> {
        let mut line = self.actor.audit("forget", &self.filter);
        line.deliveries = line.call(self.actor.inbox.admin.forget_keys(&self.selection)).await?;
        Ok(line.deliveries)
    }
}
