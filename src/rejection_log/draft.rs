use std::{sync::Arc, time::SystemTime};

use http::{StatusCode, Uri};

use super::{entry::Facts, log::RejectionLog};
#[cfg(feature = "diagnose")]
use crate::diagnose::Cause;
use crate::{event::EventId, verify::RejectionKind, visible::one_line};

/// An entry for a log, as long as it is not known whether the request will be rejected.
pub(crate) struct Draft {
    log: RejectionLog,
    uri: Uri,
    body_digest: Option<[u8; 32]>,
    #[cfg(feature = "diagnose")]
    cause: Option<Cause>,
}

/// A rejection, as the verify layer reports it to the log.
pub(crate) struct RejectedRequest<'a> {
    pub(crate) kind: RejectionKind,
    /// The status of the response. `None` if the request was dropped before.
    pub(crate) status: Option<StatusCode>,
    pub(crate) event_id: Option<&'a EventId>,
    pub(crate) tenant: Option<&'a Arc<str>>,
    /// The number of bytes of the body that have arrived.
    pub(crate) bytes: usize,
}

impl Draft {
    /// Creates a draft for a request. Copies no text, because most requests are accepted.
    #[cold]
    pub(crate) fn new(log: &RejectionLog, uri: &Uri) -> Box<Self> {
        Box::new(Self {
            log: log.clone(),
            uri: uri.clone(),
            body_digest: None,
            #[cfg(feature = "diagnose")]
            cause: None,
        })
    }

    pub(crate) fn set_body_digest(&mut self, digest: [u8; 32]) {
        self.body_digest = Some(digest);
    }

    #[cfg(feature = "diagnose")]
    pub(crate) fn set_cause(&mut self, cause: Cause) {
        self.cause = Some(cause);
    }

    /// Completes the entry and adds it to the log.
    pub(crate) fn record(self, rejected: &RejectedRequest<'_>) {
        self.log.push(Facts {
            time: SystemTime::now(),
            status: rejected.status,
            kind: rejected.kind,
            #[cfg(feature = "diagnose")]
            cause: self.cause,
            event_id: rejected.event_id.cloned(),
            tenant: rejected.tenant.cloned(),
            // Without the query, which may contain a token.
            path: one_line(self.uri.path()).into(),
            bytes: rejected.bytes,
            body_digest: self.body_digest,
        });
    }
}
