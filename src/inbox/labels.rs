//! The members of a head that stores keep in columns.

use serde::Deserialize;

/// The members of a head that a store keeps in columns, because operators look for deliveries by them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Labels {
    pub(super) event_id: Option<String>,
    pub(super) event_type: Option<String>,
    pub(super) tenant: String,
}
