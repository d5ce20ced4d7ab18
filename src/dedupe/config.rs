use std::{fmt, sync::Arc, time::Duration};

use super::{
    ledger::{ClaimTerms, DynLedger},
    policy::DedupePolicy,
    running::RunningClaims,
};

/// The settings of a layer, and what all its services share.
#[derive(Clone)]
pub(super) struct Config {
    pub(super) ledger: Arc<dyn DynLedger>,
    pub(super) lease: Duration,
    pub(super) retention: Duration,
    pub(super) claim_deadline: Duration,
    pub(super) handler_deadline: Duration,
    pub(super) policy: DedupePolicy,
    pub(super) running: Arc<RunningClaims>,
}

impl Config {
    /// The claim's token can be used until the handler's deadline is over, also when the store is out of reach all the
    /// while.
    pub(super) fn claim_terms(&self) -> ClaimTerms {
        ClaimTerms { lease: self.lease, grace: self.handler_deadline }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("lease", &self.lease)
            .field("retention", &self.retention)
            .field("claim_deadline", &self.claim_deadline)
            .field("handler_deadline", &self.handler_deadline)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
