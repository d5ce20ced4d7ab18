use http::HeaderMap;

use super::{accepted::Accepted, diagnosis::Diagnosis, search::diagnose_delivery};
use crate::{keyring::Keyring, signature::SignatureForms};

/// A configurable [`diagnose`](super::diagnose()): further secrets to try, and what the receiver accepts. See the [module](super).
///
/// By default, the receiver is a [`KlikitVerifyLayer`](crate::KlikitVerifyLayer) with default settings. Configure here what your layer
/// accepts beyond that; otherwise a diagnosis reports it as a fault.
///
/// ```
/// use http::{HeaderMap, HeaderValue};
/// use tower_klikit::{
///     Keyring, WebhookSecret,
///     diagnose::{Cause, Diagnostician},
///     header,
/// };
///
/// let keyring = Keyring::from(WebhookSecret::new("your-webhook-secret")?);
/// let partner_api = WebhookSecret::new("the partner API's")?;
/// let candidates = Keyring::new("candidates", "partner API", partner_api);
/// let diagnostician =
///     Diagnostician::new(keyring).candidates(candidates).allow_missing_event_id();
///
/// let body = br#"{"brand_id":1,"branch_id":2,"orders":[{"id":42}]}"#;
/// let mut headers = HeaderMap::new();
/// let signature = WebhookSecret::new("the partner API's")?.sign(body).to_string();
/// headers.insert(header::SIGNATURE, HeaderValue::try_from(signature)?);
///
/// let diagnosis = diagnostician.diagnose(&headers, body);
/// assert_eq!(diagnosis.cause(), Cause::OtherSecret);
/// assert_eq!(diagnosis.secret_id(), Some("partner API"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Diagnostician {
    keyring: Keyring,
    candidates: Option<Keyring>,
    accepted: Accepted,
}

impl Diagnostician {
    /// Creates a diagnostician for a receiver with this keyring. Each diagnosis uses the secrets that the keyring holds at that time.
    pub fn new(keyring: Keyring) -> Self {
        Self { keyring, candidates: None, accepted: Accepted::default() }
    }

    /// Tries these secrets too. Add those that klikit may have used by mistake: the partner API's, a sandbox's, the previous one. The
    /// diagnosis reports a candidate by its id in this keyring. By default there are no candidates.
    #[must_use]
    pub fn candidates(self, candidates: Keyring) -> Self {
        Self { candidates: Some(candidates), ..self }
    }

    /// Accepts timestamped signatures, as a layer with `accept_timestamped` does. By default they are a fault.
    ///
    /// The time of the signature is not checked, because a diagnostician has no clock.
    #[must_use]
    pub fn accept_timestamped(mut self) -> Self {
        self.accepted.forms = SignatureForms::CurrentAndTimestamped;
        self
    }

    /// Accepts a missing event id, as a layer with
    /// [`allow_missing_event_id`](crate::KlikitVerifyLayer::allow_missing_event_id) does. By default it is a fault.
    #[must_use]
    pub fn allow_missing_event_id(mut self) -> Self {
        self.accepted.missing_event_id = true;
        self
    }

    /// Returns why this delivery does not verify, or that it does.
    pub fn diagnose(&self, headers: &HeaderMap, body: &[u8]) -> Diagnosis {
        diagnose_delivery(&self.keyring.secrets(), self.candidates.as_ref(), self.accepted, headers, body)
    }
}
