//! Filters that select stored deliveries, and pages of results.

use std::{ops::Range, time::SystemTime};

use super::entry::{DeliveryId, DeliveryState, Entry};
use crate::dedupe::BodyDigest;

/// A filter for stored deliveries. A new filter selects all deliveries, and each setter narrows the selection.
///
/// ```
/// use tower_klikit::inbox::{DeliveryState, Filter};
///
/// // Selects the pending deliveries with this body.
/// let body = r#"{"brand_id":1,"branch_id":2,"orders":[{"id":42}]}"#;
/// let replays = Filter::new().states([DeliveryState::Ready]).body(body);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(clippy::exhaustive_structs, reason = "stores name each field, so that none selects too much")]
pub struct Filter {
    /// The states, if the filter names any.
    pub states: Option<Vec<DeliveryState>>,
    /// The name of the keyring that verified the delivery.
    pub tenant: Option<String>,
    /// The event's id.
    pub event_id: Option<String>,
    /// The digest of the body.
    pub body: Option<BodyDigest>,
    /// The time of acceptance by the store's clock, from the start to before the end.
    pub accepted: Option<Range<SystemTime>>,
}

/// A page of [`Inbox::find`](super::Inbox::find).
#[derive(Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "stores make their own")]
pub struct Page {
    /// The deliveries without their bodies, smallest id first. May be empty although more pages follow.
    pub entries: Vec<Entry>,
    /// The id after which the next page starts. `None` if this is the last page.
    pub next: Option<DeliveryId>,
}

impl Filter {
    /// Creates a filter that selects every delivery.
    pub fn new() -> Self {
        Self::default()
    }

    /// Selects deliveries in one of these states.
    #[must_use]
    pub fn states(self, states: impl IntoIterator<Item = DeliveryState>) -> Self {
        Self { states: Some(states.into_iter().collect()), ..self }
    }

    /// Selects deliveries that the keyring with this name has verified.
    #[must_use]
    pub fn tenant(self, name: impl Into<String>) -> Self {
        Self { tenant: Some(name.into()), ..self }
    }

    /// Selects deliveries of the event with this id, of any tenant.
    #[must_use]
    pub fn event_id(self, id: impl Into<String>) -> Self {
        Self { event_id: Some(id.into()), ..self }
    }

    /// Selects deliveries with this body.
    ///
    /// Not under [`ConflictPolicy::SameJson`](crate::dedupe::ConflictPolicy::SameJson), where digests are computed from
    /// canonical JSON. Set the field [`body`](Self#structfield.body) to an [entry's digest](Entry::digest) there.
    #[must_use]
    pub fn body(self, body: impl AsRef<[u8]>) -> Self {
        Self { body: Some(BodyDigest::of(body.as_ref())), ..self }
    }

    /// Selects deliveries that were accepted within this window, by the store's clock.
    #[must_use]
    pub fn accepted(self, window: Range<SystemTime>) -> Self {
        Self { accepted: Some(window), ..self }
    }

    /// Returns whether the filter selects this delivery. For stores that do not filter in a database.
    pub fn matches(&self, entry: &Entry) -> bool {
        let Self { states, tenant, event_id, body, accepted } = self;
        states.as_ref().is_none_or(|states| states.contains(&entry.state))
            && tenant.as_deref().is_none_or(|tenant| entry.tenant() == Some(tenant))
            && event_id.as_deref().is_none_or(|id| entry.event_id() == Some(id))
            && body.is_none_or(|digest| entry.digest == Some(digest))
            && accepted.as_ref().is_none_or(|window| window.contains(&entry.accepted_at))
    }
}
