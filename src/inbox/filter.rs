//! Filters that select stored deliveries, and pages of results.

use std::{
    fmt,
    ops::{Range, RangeInclusive},
    time::{Duration, SystemTime},
};

use super::{
    entry::{DeliveryId, DeliveryState, Entry},
    terms::SearchTerm,
    utc::Utc,
};
use crate::{dedupe::BodyDigest, visible::Escaped};

/// A filter for stored deliveries. A new filter selects all deliveries, and each setter narrows the selection.
///
/// A [search](super::Inbox::find) uses an index for an [id](Self::id), an [event id](Self::event_id), an
/// [order](Self::order), a [branch](Self::branch), and for dead letters if they are the only [state](Self::states). It
/// examines the deliveries that match this part of the filter, or else all deliveries, up to a bounded number in each
/// page.
///
/// ```
/// use tower_klikit::inbox::{DeliveryState, Filter};
///
/// // Selects the pending deliveries with this body.
/// let body = r#"{"brand_id":1,"branch_id":2,"orders":[{"id":42}]}"#;
/// let replays = Filter::new().states([DeliveryState::Ready]).body(body);
///
/// // Selects everything about one order.
/// let order = Filter::new().order(42);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(clippy::exhaustive_structs, reason = "stores name each field, so that none selects too much")]
pub struct Filter {
    /// The delivery's id.
    pub id: Option<DeliveryId>,
    /// The states, if the filter names any.
    pub states: Option<Vec<DeliveryState>>,
    /// The name of the keyring that verified the delivery.
    pub tenant: Option<String>,
    /// The event's id.
    pub event_id: Option<String>,
    /// The event's type.
    pub event_type: Option<String>,
    /// The term of an order in the body.
    pub order: Option<SearchTerm>,
    /// The term of the branch in the body.
    pub branch: Option<SearchTerm>,
    /// The digest of the body.
    pub body: Option<BodyDigest>,
    /// A part of the reason.
    pub reason: Option<String>,
    /// The number of attempts.
    pub attempts: Option<RangeInclusive<u32>>,
    /// The time of acceptance by the store's clock, from the start to before the end.
    pub accepted: Option<Range<SystemTime>>,
    /// The least time since the acceptance, by the store's clock.
    pub min_age: Option<Duration>,
    /// The time since the acceptance that is too long, by the store's clock.
    pub max_age: Option<Duration>,
}

/// A page of [`Inbox::find`](super::Inbox::find).
#[derive(Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "stores make their own")]
pub struct Page {
    /// The deliveries without their bodies and records of attempts, smallest id first. May be empty although more pages
    /// follow.
    pub entries: Vec<Entry>,
    /// The id after which the next page starts. `None` if this is the last page.
    pub next: Option<DeliveryId>,
}

impl Filter {
    /// Creates a filter that selects every delivery.
    pub fn new() -> Self {
        Self::default()
    }

    /// Selects the delivery with this id.
    #[must_use]
    pub fn id(self, id: impl Into<DeliveryId>) -> Self {
        Self { id: Some(id.into()), ..self }
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

    /// Selects deliveries with this event type, which klikit does not sign.
    #[must_use]
    pub fn event_type(self, event_type: impl Into<String>) -> Self {
        Self { event_type: Some(event_type.into()), ..self }
    }

    /// Selects deliveries that contain the order with this id, of any tenant.
    ///
    /// A batch with more than [63 orders](SearchTerm::MAX) is found by its first orders only. A delivery that was
    /// accepted by a release without search terms is not found.
    #[must_use]
    pub fn order(self, id: impl fmt::Display) -> Self {
        Self { order: Some(SearchTerm::order(id)), ..self }
    }

    /// Selects deliveries of the branch with this id, of any tenant. The limits are those of [`order`](Self::order).
    #[must_use]
    pub fn branch(self, id: impl fmt::Display) -> Self {
        Self { branch: Some(SearchTerm::branch(id)), ..self }
    }

    /// Selects deliveries with this body.
    ///
    /// Not under [`ConflictPolicy::SameJson`](crate::dedupe::ConflictPolicy::SameJson), where digests are computed from
    /// canonical JSON. Set the field [`body`](Self#structfield.body) to an [entry's digest](Entry::digest) there.
    #[must_use]
    pub fn body(self, body: impl AsRef<[u8]>) -> Self {
        Self { body: Some(BodyDigest::of(body.as_ref())), ..self }
    }

    /// Selects deliveries whose [reason](Entry::reason) contains this text. Upper and lower case differ.
    #[must_use]
    pub fn reason(self, part: impl Into<String>) -> Self {
        Self { reason: Some(part.into()), ..self }
    }

    /// Selects deliveries with this number of attempts.
    #[must_use]
    pub fn attempts(self, attempts: RangeInclusive<u32>) -> Self {
        Self { attempts: Some(attempts), ..self }
    }

    /// Selects deliveries that were accepted within this window, by the store's clock.
    #[must_use]
    pub fn accepted(self, window: Range<SystemTime>) -> Self {
        Self { accepted: Some(window), ..self }
    }

    /// Selects deliveries that were accepted at least this long ago.
    #[must_use]
    pub fn older_than(self, age: Duration) -> Self {
        Self { min_age: Some(age), ..self }
    }

    /// Selects deliveries that were accepted less than this long ago.
    #[must_use]
    pub fn younger_than(self, age: Duration) -> Self {
        Self { max_age: Some(age), ..self }
    }

    /// Returns the search terms that a delivery must have.
    pub fn terms(&self) -> impl Iterator<Item = &SearchTerm> {
        // The order first: fewer deliveries have it.
        self.order.iter().chain(&self.branch)
    }

    /// Returns whether the filter selects this delivery. For stores that do not filter in a database.
    pub fn matches(&self, entry: &Entry) -> bool {
        let Self { id, states, tenant, event_id, event_type, order: _, branch: _, .. } = self;
        let Self { body, reason, attempts, accepted, min_age, max_age, .. } = self;
        id.is_none_or(|id| entry.id == id)
            && states.as_ref().is_none_or(|states| states.contains(&entry.state))
            && tenant.as_deref().is_none_or(|tenant| entry.tenant() == Some(tenant))
            && event_id.as_deref().is_none_or(|id| entry.event_id() == Some(id))
            && event_type.as_deref().is_none_or(|event_type| entry.event_type() == Some(event_type))
            && self.terms().all(|term| entry.terms.contains(term))
            && body.is_none_or(|digest| entry.digest == Some(digest))
            && reason.as_deref().is_none_or(|part| entry.reason.as_deref().is_some_and(|reason| reason.contains(part)))
            && attempts.as_ref().is_none_or(|attempts| attempts.contains(&entry.attempts))
            && accepted.as_ref().is_none_or(|window| window.contains(&entry.accepted_at))
            && min_age.is_none_or(|age| entry.age >= age)
            && max_age.is_none_or(|age| entry.age < age)
    }
}

impl From<DeliveryId> for Filter {
    fn from(id: DeliveryId) -> Self {
        Self::new().id(id)
    }
}

/// Writes the parts of the filter, such as `state=dead order=42`, or `all`.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, states, tenant, event_id, event_type, order, branch, body, reason, .. } = self;
        let Self { attempts, accepted, min_age, max_age, .. } = self;
        let mut parts = Vec::new();
        parts.extend(id.map(|id| format!("id={id}")));
        parts.extend(states.as_ref().map(|states| {
            let names: Vec<_> = states.iter().map(|state| state.as_str()).collect();
            format!("state={}", names.join(","))
        }));
        for (name, text) in [("tenant", tenant), ("event_id", event_id), ("event_type", event_type)] {
            parts.extend(text.as_ref().map(|text| format!("{name}={}", Escaped(text))));
        }
        parts.extend(order.iter().chain(branch).map(|term| term.to_string().replacen(':', "=", 1)));
        parts.extend(body.map(|digest| format!("body={digest:?}")));
        parts.extend(reason.as_ref().map(|part| format!("reason~{:?}", Escaped(part))));
        parts.extend(attempts.as_ref().map(|attempts| format!("attempts={}..={}", attempts.start(), attempts.end())));
        parts.extend(accepted.as_ref().map(|window| format!("accepted={}..{}", Utc(window.start), Utc(window.end))));
        parts.extend(min_age.map(|age| format!("age>={age:?}")));
        parts.extend(max_age.map(|age| format!("age<{age:?}")));
        f.write_str(if parts.is_empty() { "all" } else { "" })?;
        f.write_str(&parts.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_each_part() {
        let filter = Filter::new()
            .id(7)
            .states([DeliveryState::Dead, DeliveryState::Done])
            .tenant("warung")
            .event_type("a\nb")
            .order(42.0)
            .branch("0x1")
            .reason("503")
            .attempts(1..=3)
            .accepted(SystemTime::UNIX_EPOCH..SystemTime::UNIX_EPOCH + Duration::from_secs(86_400))
            .older_than(Duration::from_secs(60));
        let text = "id=7 state=dead,done tenant=warung event_type=a\\nb order=42 branch=0x1 reason~\"503\" attempts=1..=3 \
                    accepted=1970-01-01T00:00:00Z..1970-01-02T00:00:00Z age>=60s";
        assert_eq!(filter.to_string(), text);
        assert_eq!(Filter::new().to_string(), "all");
    }
}
