use std::{fmt, slice, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Response, request::Parts};

use super::{basic::BasicAuth, budget::Budget, explain::Explain, rejection::Rejection, rejection_kind::RejectionKind};
use crate::{
    keyring::{Keyring, Secrets},
    telemetry::{self, LogLimits},
};

type Resolver = dyn Fn(&Parts) -> Option<Keyring> + Send + Sync;
type OnRejection = dyn Fn(&Rejection) -> Response<Bytes> + Send + Sync;

/// What the layer was told, shared by all its services.
#[derive(Clone)]
pub(super) struct Config {
    pub(super) keyrings: Keyrings,
    pub(super) body_limit: usize,
    pub(super) body_deadline: Duration,
    pub(super) budget: Arc<Budget>,
    pub(super) missing_event_id_allowed: bool,
    pub(super) basic_auth: Option<BasicAuth>,
    /// How far away the time of a delivery of the older form may be. `None`: that form is refused.
    pub(super) timestamped: Option<Duration>,
    pub(super) on_rejection: Option<Arc<OnRejection>>,
    pub(super) explain: Option<Arc<Explain>>,
    pub(super) log_limits: Arc<LogLimits>,
}

#[derive(Clone)]
pub(super) enum Keyrings {
    One(Keyring),
    PerRequest {
        resolve: Arc<Resolver>,
        /// What it may pick, as far as that is known.
        known: Vec<Keyring>,
    },
}

impl Keyrings {
    /// Those that are known before a request comes.
    pub(super) fn known(&self) -> &[Keyring] {
        match self {
            Self::One(keyring) => slice::from_ref(keyring),
            Self::PerRequest { known, .. } => known,
        }
    }
}

impl Config {
    /// What a request with this head may be signed with.
    pub(super) fn secrets(&self, parts: &Parts) -> Option<Secrets> {
        match &self.keyrings {
            Keyrings::One(keyring) => Some(keyring.secrets()),
            Keyrings::PerRequest { resolve, .. } => resolve(parts).map(|keyring| keyring.secrets()),
        }
    }

    /// Tells whoever counts what there will be to count.
    pub(super) fn announce(&self) {
        for keyring in self.keyrings.known() {
            telemetry::serves(keyring, RejectionKind::SignatureMismatch.as_str());
        }
    }

    /// The rejection of a request whose head was refused.
    pub(super) fn refuse(&self, kind: RejectionKind, headers: &HeaderMap) -> Rejection {
        let mut rejection = Rejection::from(kind);
        if let Some(explain) = &self.explain {
            rejection.explain(explain.head(kind, self.timestamped.is_some(), headers));
        }
        rejection
    }

    /// Answers a refused request.
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

    /// Beyond this a body that is too large is not even read and dropped.
    pub(super) fn drain_limit(&self) -> u64 {
        (self.body_limit as u64).saturating_mul(2)
    }
}

impl fmt::Debug for Config {
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
        config.field("explain_mismatches", &self.explain.is_some()).finish()
    }
}
