use std::{future::pending, num::NonZeroU32, pin::pin, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    action::Selection,
    actor::{Actor, unless_stopped},
};
use crate::{
    dedupe::StoreError,
    inbox::{DeliveryState, Filter},
};

/// An action of an [`Operator`](super::Operator) that makes deliveries pending again, and does nothing until it
/// [runs](Self::run).
#[derive(Debug, Clone)]
#[must_use = "an action does nothing until it runs"]
pub struct Requeue {
    actor: Actor,
    name: &'static str,
    selection: Selection,
    /// The maximum number of deliveries in a second.
    rate: Option<NonZeroU32>,
}

impl Requeue {
    pub(super) fn new(actor: &Actor, name: &'static str, filter: Filter, state: DeliveryState) -> Self {
        let selection = Selection::new(filter, &[state], &[state]);
        Self { actor: actor.clone(), name, selection, rate: None }
    }

    /// Sets the maximum number of deliveries that become pending in a second, so that a handler or a service behind it
    /// is not flooded. 0 counts as 1. Default: no limit.
    pub fn rate(self, deliveries: u32) -> Self {
        Self { rate: NonZeroU32::new(deliveries.max(1)), ..self }
    }

    /// Counts the deliveries that the action would apply to now. Changes nothing.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn preview(&self) -> Result<u64, StoreError> {
        let mut pages = self.selection.pages(&self.actor);
        let mut count = 0;
        while let Some(entries) = pages.next().await? {
            count += entries.iter().filter(|entry| entry.has_body).count() as u64;
        }
        Ok(count)
    }

    /// Runs the action. Returns the number of deliveries that are pending again. With a [rate](Self::rate), this takes
    /// as long as the rate requires. If the future is dropped, the rest stays as it is.
    ///
    /// Each delivery becomes pending at most once.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails. Some of the deliveries may be pending.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime with an enabled timer if there is a rate.
    pub async fn run(self) -> Result<u64, StoreError> {
        self.run_until(pending::<()>()).await
    }

    /// Runs the action until it is complete or `stop` is ready. Returns the number of deliveries that are pending again.
    ///
    /// Unlike dropping the future of [`run`](Self::run), stopping waits for the call that changes deliveries, so the
    /// number includes what that call changed.
    ///
    /// # Errors
    ///
    /// See [`run`](Self::run).
    ///
    /// # Panics
    ///
    /// See [`run`](Self::run).
    pub async fn run_until(self, stop: impl Future) -> Result<u64, StoreError> {
        let Self { actor, name, selection, rate } = &self;
        let mut line = actor.audit(name, selection.filter());
        let mut pages = selection.pages(actor);
        let mut next = Instant::now();
        let mut stop = pin!(stop);
        while let Some(ids) = unless_stopped(&mut stop, pages.next_ids()).await.transpose()?.flatten() {
            let batch = rate.map_or(ids.len(), |rate| batch_size(rate, ids.len()));
            for ids in ids.chunks(batch) {
                if let Some(rate) = rate {
                    if unless_stopped(&mut stop, sleep_until(next)).await.is_none() {
                        return Ok(line.deliveries);
                    }
                    next = Instant::now() + Duration::from_secs(ids.len() as u64) / rate.get();
                }
                let requeued = line.call(actor.inbox.admin.requeue(ids, selection.states())).await?;
                line.deliveries += requeued;
                actor.inbox.config.wake.notify_one();
            }
        }
        Ok(line.deliveries)
    }
}

/// Returns the number of deliveries to requeue with one call: a tenth of a second's, but at least one.
fn batch_size(rate: NonZeroU32, ids: usize) -> usize {
    usize::try_from(rate.get() / 10).unwrap_or(usize::MAX).clamp(1, ids.max(1))
}
