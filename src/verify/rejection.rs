use std::{error::Error, fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::{explain::Explained, rejection_kind::RejectionKind};
use crate::{telemetry::Refusal, visible::Escaped};

/// Any error, as middleware passes it on.
pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// Why a request was refused.
///
/// It is what [`on_rejection`](super::KlikitVerifyLayer::on_rejection) is given, and it lies in the extensions of the
/// response, for logging layers outside. Its `Display` says more than the wire does.
#[derive(Clone)]
pub struct Rejection {
    kind: RejectionKind,
    source: Option<Arc<dyn Error + Send + Sync>>,
    /// For the log alone: whoever forges deliveries is not to learn from it.
    explanation: Option<Arc<Explained>>,
}

impl Rejection {
    pub(super) fn body_unreadable(source: BoxError) -> Self {
        Self { source: Some(source.into()), ..RejectionKind::BodyUnreadable.into() }
    }

    pub(super) fn explain(&mut self, explanation: Option<Explained>) {
        self.explanation = explanation.map(Arc::new);
    }

    /// For the log. `status` is that of the answer.
    pub(super) fn refusal(&self, status: StatusCode) -> Refusal<'_> {
        let explanation = self.explanation.as_deref().map(|explained| explained.explanation(status));
        Refusal { status, reason: self.kind.as_str(), error: self, explanation }
    }

    /// What was wrong.
    pub fn kind(&self) -> RejectionKind {
        self.kind
    }

    /// The status that the default response has.
    pub fn status(&self) -> StatusCode {
        self.kind.wire().0
    }

    /// The body that the default response has: JSON that does not say why a signature did not match.
    pub fn wire_text(&self) -> &'static str {
        self.kind.wire().1
    }

    /// The default response: [`status`](Self::status) and [`wire_text`](Self::wire_text) as `application/json`, with
    /// `Retry-After: 1` beside a 503.
    pub fn to_response(&self) -> Response<Bytes> {
        let (status, text) = self.kind.wire();
        let mut response = Response::new(Bytes::from_static(text.as_bytes()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            // By then others may have made room.
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

/// Without what the log alone is told: whoever prints it may print it on the wire.
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
