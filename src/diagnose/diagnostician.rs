use http::HeaderMap;

use super::{diagnosis::Diagnosis, of_delivery, readings::Forms};
use crate::keyring::Keyring;

/// Says why a delivery does not verify, and knows what the receiver accepts: see the [module](super).
///
/// Unless told otherwise it takes the receiver for a [`KlikitVerifyLayer`](crate::KlikitVerifyLayer) as that is unless told
/// otherwise. What a layer accepts beyond that has to be said here too: it would be named as a fault.
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
/// let candidates = Keyring::new("candidates", "partner API", WebhookSecret::new("the partner API's")?);
/// let diagnostician = Diagnostician::new(keyring).candidates(candidates).allow_missing_event_id();
///
/// let body = br#"{"brand_id":1,"branch_id":2,"orders":[{"id":42}]}"#;
/// let mut headers = HeaderMap::new();
/// let signature = WebhookSecret::new("the partner API's")?.sign(body).to_string();
/// headers.insert(header::SIGNATURE, HeaderValue::try_from(signature)?);
///
/// let diagnosis = diagnostician.diagnose(&headers, body);
/// assert_eq!((diagnosis.cause(), diagnosis.secret_id()), (Cause::OtherSecret, Some("partner API")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Diagnostician {
    keyring: Keyring,
    candidates: Option<Keyring>,
    accepted: Accepted,
}

/// What a receiver accepts, and so is no fault.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Accepted {
    pub(crate) forms: Forms,
    pub(crate) missing_event_id: bool,
}

impl Diagnostician {
    /// For a receiver with these secrets: those that the keyring holds whenever it diagnoses.
    pub fn new(keyring: Keyring) -> Self {
        Self { keyring, candidates: None, accepted: Accepted::default() }
    }

    /// Tries these secrets too, which klikit may have signed with in place of the right one: the partner API's, a sandbox's, the
    /// previous one. Their ids in the keyring are the names by which the diagnosis tells of them. None unless set.
    #[must_use]
    pub fn candidates(self, candidates: Keyring) -> Self {
        Self { candidates: Some(candidates), ..self }
    }

    /// Takes klikit's older form of signature for no fault, as a layer with `accept_timestamped` does. A fault unless set.
    ///
    /// Whether its time is near enough is not looked at: there is no clock here.
    #[must_use]
    pub fn accept_timestamped(mut self) -> Self {
        self.accepted.forms = Forms::Both;
        self
    }

    /// Takes a missing event id for no fault, as a layer with
    /// [`allow_missing_event_id`](crate::KlikitVerifyLayer::allow_missing_event_id) does. A fault unless set.
    #[must_use]
    pub fn allow_missing_event_id(mut self) -> Self {
        self.accepted.missing_event_id = true;
        self
    }

    /// Says why this delivery does not verify, or that it does.
    pub fn diagnose(&self, headers: &HeaderMap, body: &[u8]) -> Diagnosis {
        of_delivery(&self.keyring.secrets(), self.candidates.as_ref(), self.accepted, headers, body)
    }
}
