//! Several secrets side by side, changed while running.

mod preflight;

use std::{
    error::Error,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use crate::{
    secret::WebhookSecret,
    signature::{Signature, SigningKey},
};

/// The webhook secrets of one tenant, each under an id.
///
/// klikit's pages disagree on how long an old secret stays valid when it is rotated: not at all, 15 minutes, 24 hours. So a
/// receiver accepts the old and the new one side by side:
///
/// 1. [`add`](Self::add) the new secret, then have klikit rotate;
/// 2. watch [`Delivery::secret_id`](crate::Delivery::secret_id) until nothing comes under the old one;
/// 3. [`retire`](Self::retire) the old one.
///
/// Clones share the secrets: a change through one is seen by all, by the next request. A request whose head had arrived by
/// then is verified with the secrets of that moment.
///
/// ```
/// use tower_klikit::{Keyring, KlikitVerifyLayer, WebhookSecret};
///
/// let keyring = Keyring::new("bali-bites", "2026-06", WebhookSecret::new("the old one")?);
/// let layer = KlikitVerifyLayer::with_keyring(keyring.clone());
///
/// // Later, while the layer is serving:
/// keyring.add("2026-11", WebhookSecret::new("the new one")?)?;
/// keyring.retire("2026-06")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The name is the tenant: it tells the deliveries of several businesses apart, in [`Delivery::tenant`] and wherever
/// deliveries are remembered. Give it once and keep it: it must outlive every secret.
///
/// [`Delivery::tenant`]: crate::Delivery::tenant
#[derive(Clone)]
pub struct Keyring {
    shared: Arc<Shared>,
}

struct Shared {
    name: Arc<str>,
    /// Newest first, never empty. A reader takes the whole list and lets go of the lock.
    secrets: RwLock<Secrets>,
}

/// The secrets of a keyring at one moment.
pub(crate) type Secrets = Arc<[KeyedSecret]>;

/// One secret, and what a delivery is marked with when this secret matched.
#[derive(Clone)]
pub(crate) struct KeyedSecret {
    signer: Arc<Signer>,
    secret: WebhookSecret,
}

/// Whose secret vouched for a delivery. Neither name is secret.
#[derive(Debug)]
pub(crate) struct Signer {
    pub(crate) tenant: Arc<str>,
    pub(crate) secret_id: Arc<str>,
}

impl KeyedSecret {
    fn new(tenant: &Arc<str>, id: Arc<str>, secret: WebhookSecret) -> Self {
        Self { signer: Arc::new(Signer { tenant: Arc::clone(tenant), secret_id: id }), secret }
    }

    pub(crate) fn id(&self) -> &str {
        &self.signer.secret_id
    }

    #[cfg(feature = "diagnose")]
    pub(crate) fn secret(&self) -> &WebhookSecret {
        &self.secret
    }

    pub(crate) fn signer(&self) -> &Arc<Signer> {
        &self.signer
    }

    pub(crate) fn key(&self) -> &SigningKey {
        self.secret.key()
    }

    /// Returns whether this secret has signed a body, which is given in pieces, after a prefix.
    #[inline]
    pub(crate) fn matches<'a>(
        &self,
        prefix: &[u8],
        body: impl IntoIterator<Item = &'a [u8]>,
        signature: &Signature,
    ) -> bool {
        self.key().sign_pieces(prefix, body) == *signature
    }
}

impl Keyring {
    /// How many secrets a keyring holds at most. Each costs a forged delivery one more hash of its body.
    pub const MAX_SECRETS: usize = 8;

    /// The name and the id that a single secret goes by.
    pub(crate) const DEFAULT: &str = "default";

    /// A keyring for the tenant `name` with one secret, known as `id`.
    ///
    /// Neither name is secret: both appear in logs.
    pub fn new(name: impl Into<Arc<str>>, id: impl Into<Arc<str>>, secret: WebhookSecret) -> Self {
        let name = name.into();
        let secrets = Arc::new([KeyedSecret::new(&name, id.into(), secret)]);
        Self { shared: Arc::new(Shared { name, secrets: RwLock::new(secrets) }) }
    }

    /// The tenant.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The ids of the secrets, newest first.
    pub fn ids(&self) -> Vec<String> {
        self.secrets().iter().map(|held| held.id().to_owned()).collect()
    }

    /// Accepts a further secret, known as `id`. It is tried before those already there.
    ///
    /// # Errors
    ///
    /// When the keyring is [full](Self::MAX_SECRETS), or holds this id or this secret already.
    pub fn add(&self, id: impl Into<Arc<str>>, secret: WebhookSecret) -> Result<(), KeyringError> {
        let id = id.into();
        self.change(|secrets| {
            if secrets.iter().any(|held| held.id() == &*id) {
                return Err(KeyringErrorKind::IdTaken);
            }
            if secrets.iter().any(|held| held.secret.same_as(&secret)) {
                return Err(KeyringErrorKind::SecretTaken);
            }
            if secrets.len() == Self::MAX_SECRETS {
                return Err(KeyringErrorKind::Full);
            }
            secrets.insert(0, KeyedSecret::new(&self.shared.name, id, secret));
            Ok(())
        })
    }

    /// Refuses, from the next request on, whatever is signed with the secret known as `id`.
    ///
    /// # Errors
    ///
    /// When there is no such secret, or it is the last one.
    pub fn retire(&self, id: &str) -> Result<(), KeyringError> {
        self.change(|secrets| {
            let at = secrets.iter().position(|held| held.id() == id).ok_or(KeyringErrorKind::UnknownId)?;
            if secrets.len() == 1 {
                return Err(KeyringErrorKind::LastSecret);
            }
            secrets.remove(at);
            Ok(())
        })
    }

    pub(crate) fn secrets(&self) -> Secrets {
        // A panic cannot leave the list half changed: it is replaced whole.
        Arc::clone(&self.shared.secrets.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(
        &self,
        edit: impl FnOnce(&mut Vec<KeyedSecret>) -> Result<(), KeyringErrorKind>,
    ) -> Result<(), KeyringError> {
        let mut current = self.shared.secrets.write().unwrap_or_else(PoisonError::into_inner);
        let mut secrets = current.to_vec();
        edit(&mut secrets).map_err(|kind| KeyringError { kind })?;
        *current = secrets.into();
        Ok(())
    }
}

/// A keyring named `default` with this one secret, known as `default`.
impl From<WebhookSecret> for Keyring {
    fn from(secret: WebhookSecret) -> Self {
        Self::new(Self::DEFAULT, Self::DEFAULT, secret)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("name", &self.name()).field("ids", &self.ids()).finish()
    }
}

/// Why a [`Keyring`] was not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyringError {
    kind: KeyringErrorKind,
}

/// The reasons for a [`KeyringError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyringErrorKind {
    /// It holds [`Keyring::MAX_SECRETS`] already.
    Full,
    /// It holds a secret with this id already.
    IdTaken,
    /// It holds this secret already, under another id.
    SecretTaken,
    /// It holds no secret with this id.
    UnknownId,
    /// The last secret cannot be retired.
    LastSecret,
}

impl KeyringError {
    /// What was wrong.
    pub fn kind(&self) -> KeyringErrorKind {
        self.kind
    }
}

impl fmt::Display for KeyringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            KeyringErrorKind::Full => write!(f, "the keyring holds {} secrets already", Keyring::MAX_SECRETS),
            KeyringErrorKind::IdTaken => f.write_str("the keyring holds a secret with this id already"),
            KeyringErrorKind::SecretTaken => f.write_str("the keyring holds this secret already, under another id"),
            KeyringErrorKind::UnknownId => f.write_str("the keyring holds no secret with this id"),
            KeyringErrorKind::LastSecret => f.write_str("the last secret of a keyring cannot be retired"),
        }
    }
}

impl Error for KeyringError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> WebhookSecret {
        WebhookSecret::new(text).unwrap()
    }

    #[test]
    fn a_change_is_seen_by_every_clone() {
        let keyring = Keyring::from(secret("old"));
        let clone = keyring.clone();
        keyring.add("new", secret("new")).unwrap();
        assert_eq!(clone.ids(), ["new", "default"]);
        clone.retire("default").unwrap();
        assert_eq!(keyring.ids(), ["new"]);
    }

    #[test]
    fn a_refused_change_changes_nothing() {
        let keyring = Keyring::new("tenant", "a", secret("a"));
        let refusals = [
            (keyring.add("a", secret("b")), KeyringErrorKind::IdTaken),
            (keyring.add("b", secret("a")), KeyringErrorKind::SecretTaken),
            (keyring.retire("b"), KeyringErrorKind::UnknownId),
            (keyring.retire("a"), KeyringErrorKind::LastSecret),
        ];
        for (result, kind) in refusals {
            assert_eq!(result.unwrap_err().kind(), kind);
        }
        assert_eq!(keyring.ids(), ["a"]);
    }

    #[test]
    fn a_keyring_holds_eight() {
        let keyring = Keyring::from(secret("0"));
        for n in 1..Keyring::MAX_SECRETS {
            keyring.add(n.to_string(), secret(&n.to_string())).unwrap();
        }
        assert_eq!(keyring.add("8", secret("8")).unwrap_err().kind(), KeyringErrorKind::Full);
        assert_eq!(keyring.ids().len(), Keyring::MAX_SECRETS);
    }

    #[test]
    fn debug_names_ids_and_no_secret() {
        let debug = format!("{:?}", Keyring::new("tenant", "2026-06", secret("hunter2")));
        assert!(debug.contains("tenant") && debug.contains("2026-06") && !debug.contains("hunter2"), "{debug}");
    }
}
