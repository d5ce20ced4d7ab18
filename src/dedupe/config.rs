use std::{fmt, sync::Arc, time::Duration};

use super::{
    ledger::{ClaimTerms, DynLedger},
    policy::DedupePolicy,
    running::RunningClaims,
};

/// The settings of a layer and the state that its services share.
#[derive(Clone)]
pub(super) struct DedupeConfig {
    pub(super) ledger: Arc<dyn DynLedger>,
    pub(super) lease: Duration,
    pub(super) retention: Duration,
    pub(super) claim_deadline: Duration,
    pub(super) handler_deadline: Duration,
    pub(super) policy: DedupePolicy,
    pub(super) running: Arc<RunningClaims>,
}

impl DedupeConfig {
    /// Returns the terms of a claim. The grace lasts as long as the handler's deadline, so that a handler can complete
    /// its claim even if the claim was never renewed.
    pub(super) fn claim_terms(&self) -> ClaimTerms {
        ClaimTerms { lease: self.lease, grace: self.handler_deadline }
    }
}

impl fmt::Debug for DedupeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DedupeConfig")
            .field("lease", &self.lease)
            .field("retention", &self.retention)
            .field("claim_deadline", &self.claim_deadline)
            .field("handler_deadline", &self.handler_deadline)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
