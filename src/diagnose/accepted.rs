//! The optional features of deliveries.

use crate::signature::SignatureForms;

/// The optional features of deliveries that a receiver accepts, and which are therefore no faults.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Accepted {
    pub(crate) forms: SignatureForms,
    pub(crate) missing_event_id: bool,
}
