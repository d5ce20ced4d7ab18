use std::{fmt, slice, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Response, request::Parts};

use super::{basic::BasicAuth, budget::Budget, explain::Explain, rejection::Rejection, rejection_kind::RejectionKind};
use crate::{
    keyring::{Keyring, Secrets},
    rejection_log::RejectionLog,
    signature::SignatureForms,
    telemetry::{self, LogLimits},
};

type Resolver = dyn Fn(&Parts) -> Option<Keyring> + Send + Sync;
type OnRejection = dyn Fn(&Rejection) -> Response<Bytes> + Send + Sync;

/// The configuration of a layer, shared by all its services.
#[derive(Clone)]
pub(super) struct VerifyConfig {
    pub(super) keyrings: Keyrings,
    pub(super) body_limit: usize,
    pub(super) body_deadline: Duration,
    pub(super) budget: Arc<Budget>,
    pub(super) missing_event_id_allowed: bool,
    pub(super) basic_auth: Option<BasicAuth>,
    /// The tolerance for the time of a timestamped signature. `None` if timestamped signatures are rejected.
    pub(super) timestamped: Option<Duration>,
    pub(super) on_rejection: Option<Arc<OnRejection>>,
    pub(super) explain: Option<Arc<Explain>>,
    pub(super) rejection_log: Option<RejectionLog>,
    pub(super) log_limits: Arc<LogLimits>,
}

/// The keyrings that a layer verifies with.
#[derive(Clone)]
pub(super) enum Keyrings {
    One(Keyring),
    PerRequest {
        resolve: Arc<Resolver>,
        /// The keyrings that `resolve` may return, as far as they are known in advance.
        known: Vec<Keyring>,
    },
}

impl Keyrings {
    /// Returns the keyrings that are known before the first request.
    pub(super) fn known(&self) -> &[Keyring] {
        match self {
            Self::One(keyring) => slice::from_ref(keyring),
            Self::PerRequest { known, .. } => known,
        }
    }
}

impl VerifyConfig {
    /// Returns the secrets that a request with this head may be signed with, or `None` if the resolver returns no
    /// keyring.
    pub(super) fn secrets(&self, parts: &Parts) -> Option<Secrets> {
        match &self.keyrings {
            Keyrings::One(keyring) => Some(keyring.secrets()),
            Keyrings::PerRequest { resolve, .. } => resolve(parts).map(|keyring| keyring.secrets()),
        }
    }

    /// Registers the counters of the known keyrings, so that they begin at 0.
    pub(super) fn register_metrics(&self) {
        for keyring in self.keyrings.known() {
            telemetry::start_counters(keyring, RejectionKind::SignatureMismatch.as_str());
        }
    }

    pub(super) fn signature_forms(&self) -> SignatureForms {
        if self.timestamped.is_some() { SignatureForms::CurrentAndTimestamped } else { SignatureForms::Current }
    }

    /// Returns the diagnoses, if the layer explains rejections and the causes are logged anywhere.
    pub(super) fn explainer(&self) -> Option<&Arc<Explain>> {
        self.explain.as_ref().filter(|_| self.rejection_log.is_some() || telemetry::rejections_are_logged())
    }

    /// Rejects a request because of its head.
    pub(super) fn reject_head(&self, kind: RejectionKind, headers: &HeaderMap) -> Rejection {
        let mut rejection = Rejection::from(kind);
        if let Some(explain) = self.explainer() {
            rejection.explain(explain.head(kind, self.signature_forms(), headers));
        }
        rejection
    }

    /// Builds the response to a rejected request.
    pub(super) fn respond(&self, rejection: &Rejection) -> Response<Bytes> {
        let mut response = match &self.on_rejection {
            None => rejection.to_response(),
            Some(respond) => respond(rejection),
        };
        let sent = response.status();
        if !sent.is_client_error() && !sent.is_server_error() {
            telemetry::rejection_sent_as_success(rejection.status(), sent, &self.log_limits);
            *response.status_mut() = rejection.status();
        }
        response.extensions_mut().insert(rejection.clone());
        response
    }

    /// Returns the number of bytes up to which a body that is too large is still read and discarded.
    pub(super) fn drain_limit(&self) -> u64 {
        (self.body_limit as u64).saturating_mul(2)
    }
}

impl fmt::Debug for VerifyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keyring: &dyn fmt::Debug = match &self.keyrings {
            Keyrings::One(keyring) => keyring,
            Keyrings::PerRequest { .. } => &"per request",
        };
        let mut config = f.debug_struct("Config");
        config
            .field("keyring", keyring)
            .field("body_limit", &self.body_limit)
            .field("body_deadline", &self.body_deadline)
            .field("buffer_budget", &self.budget.limit())
            .field("allow_missing_event_id", &self.missing_event_id_allowed)
            .field("require_basic_auth", &self.basic_auth.is_some())
            .field("accept_timestamped", &self.timestamped)
            .field("on_rejection", &self.on_rejection.is_some());
        config.field("explain_mismatches", &self.explain.is_some()).field("rejection_log", &self.rejection_log).finish()
    }
}
