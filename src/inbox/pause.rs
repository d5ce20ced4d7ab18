//! Pauses of leasing.

use std::{fmt, time::SystemTime};

use crate::visible::Escaped;

/// A selection of deliveries that no worker leases while the pause lasts: those of a tenant, of an event type, of both,
/// or all.
///
/// ```
/// use tower_klikit::inbox::Pause;
///
/// let orders_of_one_tenant = Pause::everything().tenant("warung").event_type("klikit.order.created.v2");
/// assert_eq!(orders_of_one_tenant.to_string(), "tenant=warung event_type=klikit.order.created.v2");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[allow(clippy::exhaustive_structs, reason = "stores name each field, so that no pause selects too much")]
pub struct Pause {
    /// The name of the keyring that verified the deliveries. `None`: every tenant.
    pub tenant: Option<String>,
    /// The event type, which klikit does not sign. `None`: every event type, and deliveries without one.
    pub event_type: Option<String>,
}

/// A pause that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "stores make their own")]
pub struct ActivePause {
    /// The deliveries that are not leased.
    pub pause: Pause,
    /// The name of the operator who paused them first.
    pub operator: String,
    /// When the pause began, by the store's clock.
    pub since: SystemTime,
}

impl Pause {
    /// Creates a pause of all deliveries.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Narrows the pause to deliveries that the keyring with this name has verified.
    #[must_use]
    pub fn tenant(self, name: impl Into<String>) -> Self {
        Self { tenant: Some(name.into()), ..self }
    }

    /// Narrows the pause to deliveries with this event type.
    #[must_use]
    pub fn event_type(self, event_type: impl Into<String>) -> Self {
        Self { event_type: Some(event_type.into()), ..self }
    }

    /// Returns whether the pause selects a delivery of this tenant with this event type.
    pub fn matches(&self, tenant: &str, event_type: Option<&str>) -> bool {
        self.tenant.as_deref().is_none_or(|paused| paused == tenant)
            && self.event_type.as_deref().is_none_or(|paused| event_type == Some(paused))
    }
}

/// Writes the parts of the pause, such as `tenant=warung`, or `everything`.
impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.tenant, &self.event_type) {
            (None, None) => f.write_str("everything"),
            (Some(tenant), None) => write!(f, "tenant={}", Escaped(tenant)),
            (None, Some(event_type)) => write!(f, "event_type={}", Escaped(event_type)),
            (Some(tenant), Some(event_type)) => {
                write!(f, "tenant={} event_type={}", Escaped(tenant), Escaped(event_type))
            }
        }
    }
}
