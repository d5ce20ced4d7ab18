//! The members of a head that stores keep in columns.

use serde::Deserialize;

/// What an operator knows a delivery by: those members of its head that a store keeps in columns.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Labels {
    pub(super) event_id: Option<String>,
    pub(super) event_type: Option<String>,
    pub(super) tenant: String,
}
