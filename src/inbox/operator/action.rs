use std::{future::pending, pin::pin};

use super::actor::{Actor, unless_stopped};
use crate::{
    dedupe::StoreError,
    inbox::{DeliveryId, DeliveryState, Filter, LedgerRows, pages::Pages},
};

/// An action of an [`Operator`](super::Operator) that does nothing until it [runs](Self::run).
#[derive(Debug, Clone)]
#[must_use = "an action does nothing until it runs"]
pub struct Action {
    actor: Actor,
    kind: ActionKind,
    selection: Selection,
}

#[derive(Debug, Clone)]
pub(super) enum ActionKind {
    DeadLetter { reason: String },
    Delete { name: &'static str, ledger: LedgerRows },
}

/// The deliveries that an action applies to.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    filter: Filter,
    /// The states of the deliveries. The filter names the same states.
    states: Vec<DeliveryState>,
}

impl Selection {
    /// Narrows a filter to states that suit an action.
    ///
    /// Takes those of the `suitable` states that the filter names. If it names none, takes `by_default`, or every
    /// suitable state if the filter names a delivery by its id.
    pub(super) fn new(filter: Filter, by_default: &[DeliveryState], suitable: &[DeliveryState]) -> Self {
        let states: Vec<_> = match (&filter.states, filter.id) {
            (Some(named), _) => suitable.iter().copied().filter(|state| named.contains(state)).collect(),
            (None, Some(_)) => suitable.to_vec(),
            (None, None) => by_default.to_vec(),
        };
        Self { filter: filter.states(states.iter().copied()), states }
    }

    /// Counts the selected deliveries.
    async fn count(&self, actor: &Actor) -> Result<u64, StoreError> {
        let mut pages = self.pages(actor);
        let mut count = 0;
        while let Some(entries) = pages.next().await? {
            count += entries.len() as u64;
        }
        Ok(count)
    }

    pub(super) fn pages<'a>(&'a self, actor: &'a Actor) -> Pages<'a> {
        Pages::new(&actor.inbox.admin, &self.filter)
    }

    pub(super) fn states(&self) -> &[DeliveryState] {
        &self.states
    }

    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }
}

impl Action {
    pub(super) fn new(
        actor: &Actor,
        kind: ActionKind,
        filter: Filter,
        by_default: &[DeliveryState],
        suitable: &[DeliveryState],
    ) -> Self {
        let selection = Selection::new(filter, by_default, suitable);
        Self { actor: actor.clone(), kind, selection }
    }

    /// Counts the deliveries that the action would apply to now. Changes nothing.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn preview(&self) -> Result<u64, StoreError> {
        self.selection.count(&self.actor).await
    }

    /// Runs the action. Returns the number of deliveries that it changed.
    ///
    /// Deliveries that the selection begins to apply to meanwhile may be changed too.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails. Some of the deliveries may be changed.
    pub async fn run(self) -> Result<u64, StoreError> {
        self.run_until(pending::<()>()).await
    }

    /// Runs the action until it is complete or `stop` is ready. Returns the number of deliveries that it changed.
    ///
    /// Unlike dropping the future of [`run`](Self::run), stopping waits for the call that changes deliveries, so the
    /// number includes what that call changed.
    ///
    /// # Errors
    ///
    /// See [`run`](Self::run).
    pub async fn run_until(self, stop: impl Future) -> Result<u64, StoreError> {
        let name = match &self.kind {
            ActionKind::DeadLetter { .. } => "dead_letter",
            ActionKind::Delete { name, .. } => name,
        };
        let mut line = self.actor.audit(name, self.selection.filter());
        let mut pages = self.selection.pages(&self.actor);
        let mut stop = pin!(stop);
        while let Some(ids) = unless_stopped(&mut stop, pages.next_ids()).await.transpose()?.flatten() {
            let changed = line.call(self.apply(&ids)).await?;
            line.deliveries += changed;
        }
        Ok(line.deliveries)
    }

    async fn apply(&self, ids: &[DeliveryId]) -> Result<u64, StoreError> {
        let (admin, states) = (&self.actor.inbox.admin, self.selection.states());
        match &self.kind {
            ActionKind::DeadLetter { reason } => admin.dead_letter(ids, states, reason).await,
            ActionKind::Delete { ledger, .. } => admin.delete(ids, states, *ledger).await,
        }
    }
}
