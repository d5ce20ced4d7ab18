use std::{error::Error, fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::{explain::Explained, rejection_kind::RejectionKind};
use crate::{rejection_log::Draft, telemetry::RejectionRecord, visible::Escaped};

/// Any error that a request's body may have.
pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// The reason why the verify layer rejected a request.
///
/// [`on_rejection`](super::KlikitVerifyLayer::on_rejection) receives it, and the layer inserts it into the response's
/// extensions for logging layers outside. Its `Display` is for the log: it says more than the response does.
#[derive(Clone)]
pub struct Rejection {
    kind: RejectionKind,
    source: Option<Arc<dyn Error + Send + Sync>>,
    /// For the log only, because a forger could learn from it.
    explanation: Option<Arc<Explained>>,
}

impl Rejection {
    pub(super) fn body_unreadable(source: BoxError) -> Self {
        Self { source: Some(source.into()), ..RejectionKind::BodyUnreadable.into() }
    }

    pub(super) fn explain(&mut self, explanation: Option<Explained>) {
        self.explanation = explanation.map(Arc::new);
    }

    /// Returns the rejection for the log. `status` is the status of the response.
    pub(super) fn record(&self, status: StatusCode) -> RejectionRecord<'_> {
        let explanation = self.explanation.as_deref().map(|explained| explained.explanation(status));
        RejectionRecord { status, kind: self.kind, error: self, explanation }
    }

    /// Adds the cause, if it is known, to the draft of an entry for the rejection log.
    pub(super) fn add_cause(&self, draft: &mut Draft) {
        if let Some(explained) = &self.explanation {
            explained.add_cause(draft);
        }
    }

    /// Returns what was wrong.
    pub fn kind(&self) -> RejectionKind {
        self.kind
    }

    /// Returns the status of the default response.
    pub fn status(&self) -> StatusCode {
        self.kind.wire().0
    }

    /// Returns the body of the default response: JSON that does not say why a signature did not match.
    pub fn wire_text(&self) -> &'static str {
        self.kind.wire().1
    }

    /// Returns the default response: [`status`](Self::status) and [`wire_text`](Self::wire_text) as `application/json`,
    /// with `Retry-After: 1` if the status is 503.
    pub fn to_response(&self) -> Response<Bytes> {
        let (status, text) = self.kind.wire();
        let mut response = Response::new(Bytes::from_static(text.as_bytes()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            // The buffer budget may have space again by then.
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<RejectionKind> for Rejection {
    fn from(kind: RejectionKind) -> Self {
        Self { kind, source: None, explanation: None }
    }
}

/// Leaves out the explanation, because a handler may print this into a response.
impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejection")
            .field("kind", &self.kind)
            .field("source", &self.source.as_ref().map(Escaped))
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.reason())
    }
}

impl Error for Rejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
