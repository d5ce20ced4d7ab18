use std::{ops::Range, sync::Arc, time::SystemTime};

use super::{
    action::{Action, ActionKind},
    actor::Actor,
    forget::Forget,
    requeue::Requeue,
};
use crate::{
    dedupe::StoreError,
    inbox::{DeliveryState, Filter, Inbox, LedgerRows, Pause},
};

/// Actions on the stored deliveries of an inbox, in the name of an operator.
///
/// An action applies to one delivery, by its [`DeliveryId`](crate::inbox::DeliveryId), or to all that a [`Filter`]
/// selects. It does nothing until it [runs](Action::run), and can be [previewed](Action::preview) first. It never
/// touches a delivery whose state does not suit it: see each action.
///
/// Each action that runs logs a line at level `info` with the target `tower_klikit::inbox::audit`: the operator, the
/// action, the filter, and the number of deliveries. If a call fails or is dropped, it is not known what the call has
/// changed: the line then has the field `deliveries_at_least` in the place of `deliveries`. A filter may contain an event
/// id or an order's id, and the log line contains the filter.
///
/// ```
/// # async fn retry(inbox: &tower_klikit::inbox::Inbox) -> Result<(), tower_klikit::dedupe::StoreError> {
/// use tower_klikit::inbox::Filter;
///
/// // The printer was out of paper. Its dead letters can be handled now, at most 5 a second.
/// let retry = inbox.operator("budi").retry(Filter::new().reason("out of paper")).rate(5);
/// println!("retrying {} deliveries", retry.preview().await?);
/// retry.run().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Operator(Actor);

impl Inbox {
    /// Returns the actions of the operator with this name, which appears in the log.
    pub fn operator(&self, name: impl Into<Arc<str>>) -> Operator {
        Operator(Actor { inbox: self.clone(), name: name.into() })
    }
}

impl Operator {
    /// Makes dead letters pending again, and counts their attempts from zero.
    ///
    /// A delivery with [ordering keys](crate::inbox::OrderBy) returns to its old place, ahead of later deliveries that
    /// share a key. A delivery that had [expired](crate::inbox::Worker::expire_after) does not expire again before its
    /// next attempt.
    pub fn retry(&self, selection: impl Into<Filter>) -> Requeue {
        Requeue::new(&self.0, "retry", selection.into(), DeliveryState::Dead)
    }

    /// Makes handled deliveries that are [kept](Inbox::keep_bodies) with their bodies pending again, so that they are
    /// handled once more.
    pub fn replay(&self, selection: impl Into<Filter>) -> Requeue {
        Requeue::new(&self.0, "replay", selection.into(), DeliveryState::Done)
    }

    /// Dead-letters pending deliveries, with this reason.
    ///
    /// A filter selects a pending delivery only if it names its id, or the state [`Ready`](DeliveryState::Ready) or
    /// [`Leased`](DeliveryState::Leased). A handler that is running continues. If it succeeds, that counts. If it
    /// fails, the delivery stays a dead letter. Deliveries that share an ordering key with it no longer wait for it.
    ///
    /// ```
    /// # async fn drop_replays(
    /// #     inbox: &tower_klikit::inbox::Inbox,
    /// #     captured: &[u8],
    /// # ) -> Result<(), tower_klikit::dedupe::StoreError> {
    /// use tower_klikit::inbox::{DeliveryState, Filter};
    ///
    /// // Somebody replays a captured delivery.
    /// let replays = Filter::new().states([DeliveryState::Ready]).body(captured);
    /// let stopped = inbox.operator("ana").dead_letter(replays, "a replay").run().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn dead_letter(&self, selection: impl Into<Filter>, reason: impl Into<String>) -> Action {
        let pending = [DeliveryState::Ready, DeliveryState::Leased];
        Action::new(&self.0, ActionKind::DeadLetter { reason: reason.into() }, selection.into(), &[], &pending)
    }

    /// Deletes deliveries, and forgets that they came. If klikit sends them again, they are handled.
    ///
    /// A pending delivery is selected only as in [`dead_letter`](Self::dead_letter). It is then **not handled** unless
    /// klikit sends it again, which klikit does only if somebody asks for the replay. A handler that is running
    /// continues, and its outcome is not recorded.
    ///
    /// A filter cannot select deliveries that were handled and are not [kept](Inbox::keep_bodies).
    /// [`forget_event`](Self::forget_event) and [`forget_accepted`](Self::forget_accepted) forget those too.
    pub fn forget(&self, selection: impl Into<Filter>) -> Action {
        self.delete(selection.into(), "forget", LedgerRows::Delete)
    }

    /// Deletes deliveries with everything that contains customers' data: bodies, ordering keys, search terms and
    /// records of attempts. Copies of the deliveries are still duplicates for the [retention](Inbox::retention),
    /// because their ledger rows stay. A row has hashes of the event id and of the body, and no other data.
    ///
    /// A pending delivery is selected only as in [`dead_letter`](Self::dead_letter). It is then **not handled**. A
    /// handler that is running continues, and its outcome is not recorded.
    pub fn erase(&self, selection: impl Into<Filter>) -> Action {
        self.delete(selection.into(), "erase", LedgerRows::Keep)
    }

    /// Deletes dead letters and kept deliveries to make space. Never touches a pending delivery. Copies of the
    /// deliveries are still duplicates, as after [`erase`](Self::erase).
    pub fn purge(&self, selection: impl Into<Filter>) -> Action {
        let finished = [DeliveryState::Dead, DeliveryState::Done];
        let kind = ActionKind::Delete { name: "purge", ledger: LedgerRows::Keep };
        Action::new(&self.0, kind, selection.into(), &finished, &finished)
    }

    fn delete(&self, filter: Filter, name: &'static str, ledger: LedgerRows) -> Action {
        let finished = [DeliveryState::Dead, DeliveryState::Done];
        let every = [DeliveryState::Ready, DeliveryState::Leased, DeliveryState::Dead, DeliveryState::Done];
        Action::new(&self.0, ActionKind::Delete { name, ledger }, filter, &finished, &every)
    }

    /// Forgets and deletes a delivery that was handled or dead-lettered, so that it is handled again when klikit
    /// replays it. Request the replay after the action has run. The action applies to more than one delivery if the id
    /// came with several bodies.
    ///
    /// A pending delivery stays.
    ///
    /// `tenant` is the name of the keyring, which is `default` unless set. Deliveries that are identified by their
    /// body, with [`Identity::Body`](crate::dedupe::Identity::Body) or without an id, are forgotten with
    /// [`forget_body`](Self::forget_body).
    pub fn forget_event(&self, tenant: &str, event_id: &str) -> Forget {
        let key = self.0.inbox.config.policy.key_of_event(tenant, event_id);
        Forget::new(&self.0, key.into(), Filter::new().tenant(tenant).event_id(event_id))
    }

    /// Forgets a delivery that is identified by its body: see [`forget_event`](Self::forget_event).
    pub fn forget_body(&self, tenant: &str, body: impl AsRef<[u8]>) -> Forget {
        let key = self.0.inbox.config.policy.key_of_body(tenant, body.as_ref());
        Forget::new(&self.0, key.into(), Filter::new().tenant(tenant).body(body))
    }

    /// Forgets all deliveries of all tenants that arrived within this window, by the store's clock, and were handled or
    /// dead-lettered: see [`forget_event`](Self::forget_event).
    pub fn forget_accepted(&self, window: Range<SystemTime>) -> Forget {
        Forget::new(&self.0, window.clone().into(), Filter::new().accepted(window))
    }

    /// Keeps workers from starting the deliveries that the pause selects, until they are [resumed](Self::resume). The
    /// pause is stored, so that all workers that share the store obey it, also after a restart. Returns the number of
    /// deliveries that were leased and had not started, and are pending again.
    ///
    /// Deliveries are accepted and stored as before, up to [`max_backlog`](Inbox::max_backlog). Running handlers
    /// finish.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn pause(&self, pause: &Pause) -> Result<u64, StoreError> {
        let mut line = self.0.audit("pause", pause);
        line.deliveries = line.call(self.0.inbox.admin.pause(pause, &self.0.name)).await?;
        Ok(line.deliveries)
    }

    /// Lifts the pause that is equal to this one. Returns `false` if no such pause is in force. Deliveries that another
    /// pause selects stay paused.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn resume(&self, pause: &Pause) -> Result<bool, StoreError> {
        self.0.audit("resume", pause).call(self.0.inbox.admin.resume(pause)).await
    }
}
