use std::{fmt, sync::Arc, time::SystemTime};

use http::StatusCode;

#[cfg(feature = "diagnose")]
use crate::diagnose::Cause;
use crate::{event::EventId, verify::RejectionKind};

/// A rejection in a [`RejectionLog`](super::RejectionLog).
///
/// Contains no body, signature, secret or credentials. The event id and the path come from a request that is **not
/// verified**: any sender can choose them. Both are short and contain no line breaks or hidden characters, but they may
/// contain HTML.
///
/// `Display` is a single line with all facts except the time. Its texts are quoted, so that a sender cannot forge
/// another fact:
///
/// ```text
/// #17 403 signature_mismatch event_id="evt-7" tenant="default" path="/webhooks/klikit" bytes=49 sha256=d3b0…
/// ```
#[derive(Clone)]
pub struct LoggedRejection {
    number: u64,
    facts: Arc<Facts>,
}

/// The facts about a rejection.
pub(super) struct Facts {
    pub(super) time: SystemTime,
    pub(super) status: Option<StatusCode>,
    pub(super) kind: RejectionKind,
    #[cfg(feature = "diagnose")]
    pub(super) cause: Option<Cause>,
    pub(super) event_id: Option<EventId>,
    pub(super) tenant: Option<Arc<str>>,
    pub(super) path: Box<str>,
    pub(super) bytes: usize,
    pub(super) body_digest: Option<[u8; 32]>,
}

impl LoggedRejection {
    pub(super) fn new(number: u64, facts: Arc<Facts>) -> Self {
        Self { number, facts }
    }

    /// Returns the memory that the entry takes in a log, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.facts.memory()
    }

    /// Returns the number of this rejection among all that the log has recorded, from 1. If numbers are missing between
    /// two entries, the log has evicted rejections.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns the time of the rejection, by this machine's clock.
    pub fn time(&self) -> SystemTime {
        self.facts.time
    }

    /// Returns the status of the response. `None` if there was no response, because the sender disconnected, an outer
    /// layer dropped the request, or [`on_rejection`](crate::KlikitVerifyLayer::on_rejection) panicked.
    pub fn status(&self) -> Option<StatusCode> {
        self.facts.status
    }

    /// Returns the reason for the rejection.
    pub fn kind(&self) -> RejectionKind {
        self.facts.kind
    }

    /// Returns the cause, if the layer [explained](crate::KlikitVerifyLayer::explain_mismatches) this rejection. It
    /// explains at most one mismatch a second.
    #[cfg(feature = "diagnose")]
    pub fn cause(&self) -> Option<Cause> {
        self.facts.cause
    }

    /// Returns the unverified event id in the request's header: 1 to 255 visible ASCII characters. `None` if there is
    /// not exactly one such id.
    pub fn event_id(&self) -> Option<&str> {
        self.facts.event_id.as_ref().map(EventId::as_str)
    }

    /// Returns the [name](crate::Keyring::name) of the keyring for the request. `None` if the request was rejected
    /// before a keyring was chosen.
    pub fn tenant(&self) -> Option<&str> {
        self.facts.tenant.as_deref()
    }

    /// Returns the first 200 characters of the request's path, without its query. Control characters, line separators
    /// and invisible format characters are replaced by spaces.
    ///
    /// With the feature `axum`, this is the whole path, also in a nested router.
    pub fn path(&self) -> &str {
        &self.facts.path
    }

    /// Returns the number of bytes of the body that had arrived. 0 if the request was rejected because of its head.
    pub fn bytes(&self) -> usize {
        self.facts.bytes
    }

    /// Returns the SHA-256 of the body, if the layer has read the whole body.
    ///
    /// klikit sends the same body again when it retries, so equal digests are usually attempts of one delivery. With
    /// the feature `dedupe`, [`BodyDigest`](crate::dedupe::BodyDigest) can be converted from the digest, for example to
    /// find the same body in an inbox.
    pub fn body_digest(&self) -> Option<[u8; 32]> {
        self.facts.body_digest
    }
}

impl Facts {
    /// Returns the memory that an entry with these facts takes in a log, in bytes.
    fn memory(&self) -> usize {
        // An `Arc` has two counters.
        const ARC: usize = 2 * size_of::<usize>();
        let event_id = self.event_id.as_ref().map_or(0, |event_id| ARC + event_id.as_str().len());
        // Usually shared with the keyring. Counted all the same, because a resolver may create keyrings.
        let tenant = self.tenant.as_ref().map_or(0, |tenant| ARC + tenant.len());
        size_of::<LoggedRejection>() + ARC + size_of::<Self>() + event_id + tenant + self.path.len()
    }
}

impl fmt::Display for LoggedRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { status, kind, event_id, tenant, path, bytes, body_digest, .. } = &*self.facts;
        write!(f, "#{} ", self.number)?;
        match status {
            Some(status) => write!(f, "{} ", status.as_u16())?,
            None => f.write_str("unanswered ")?,
        }
        f.write_str(kind.as_str())?;
        #[cfg(feature = "diagnose")]
        if let Some(cause) = self.facts.cause {
            write!(f, " cause={}", cause.as_str())?;
        }
        if let Some(event_id) = event_id {
            write!(f, " event_id={:?}", event_id.as_str())?;
        }
        if let Some(tenant) = tenant {
            write!(f, " tenant={tenant:?}")?;
        }
        write!(f, " path={path:?} bytes={bytes}")?;
        if let Some(digest) = body_digest {
            write!(f, " sha256={}", hex::encode(digest))?;
        }
        Ok(())
    }
}

impl fmt::Debug for LoggedRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut entry = f.debug_struct("LoggedRejection");
        entry
            .field("number", &self.number)
            .field("time", &self.facts.time)
            .field("status", &self.facts.status)
            .field("kind", &self.facts.kind);
        #[cfg(feature = "diagnose")]
        entry.field("cause", &self.facts.cause);
        entry
            .field("event_id", &self.event_id())
            .field("tenant", &self.facts.tenant)
            .field("path", &self.facts.path)
            .field("bytes", &self.facts.bytes)
            .field("body_digest", &self.facts.body_digest.map(hex::encode))
            .finish()
    }
}
