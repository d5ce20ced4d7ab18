use std::{fmt, sync::Arc, time::Duration};

use super::{DynLedger, identity::Recognition};

/// What the layer was told, shared by all its services.
#[derive(Clone)]
pub(super) struct Config {
    pub(super) ledger: Arc<dyn DynLedger>,
    pub(super) lease: Duration,
    pub(super) retention: Duration,
    pub(super) claim_deadline: Duration,
    pub(super) handler_deadline: Duration,
    pub(super) recognition: Recognition,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("lease", &self.lease)
            .field("retention", &self.retention)
            .field("claim_deadline", &self.claim_deadline)
            .field("handler_deadline", &self.handler_deadline)
            .field("recognition", &self.recognition)
            .finish_non_exhaustive()
    }
}
