//! The members of a stored head that have columns of their own.

use serde::Deserialize;

/// The members of a stored head that stores also keep in columns, because operators search for deliveries by them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Labels {
    pub(super) event_id: Option<String>,
    pub(super) event_type: Option<String>,
    pub(super) tenant: String,
}
