//! Keyrings, which hold several webhook secrets and can change while a service runs.

mod preflight;

use std::{
    error::Error,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use crate::{
    secret::{SecretError, WebhookSecret},
    signature::{Signature, SigningKey},
};

/// The webhook secrets of one tenant, each under an id.
///
/// klikit's pages disagree on how long an old secret stays valid when it is rotated: not at all, 15 minutes, or 24
/// hours. A receiver should therefore accept both secrets for a while:
///
/// 1. [`add`](Self::add) the new secret, then have klikit rotate;
/// 2. watch [`Delivery::secret_id`](crate::Delivery::secret_id) until no deliveries use the old secret;
/// 3. [`retire`](Self::retire) the old secret.
///
/// A service whose keyring is [from the environment](Self::from_env) is rotated by its environment and a restart
/// instead, without code.
///
/// Clones share the secrets. A change through one clone applies to the next request of all. A request whose head
/// arrived before the change is verified with the secrets at that time.
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
/// One process can serve many businesses: [`with_resolver`] chooses a keyring for each request, by its path or by the
/// partner key in `Authorization`. One path for many keyrings without such a key is not supported, because each forged
/// delivery would have to be hashed with all secrets.
///
/// The name of the keyring is the tenant. It tells the deliveries of several businesses apart, in [`Delivery::tenant`]
/// and in the stores. Do not change it when the secrets change, because stored deliveries are found by it.
///
/// [`Delivery::tenant`]: crate::Delivery::tenant
/// [`with_resolver`]: crate::KlikitVerifyLayer::with_resolver
#[derive(Clone)]
pub struct Keyring {
    shared: Arc<SharedKeyring>,
}

/// The state that all clones of a keyring share.
struct SharedKeyring {
    name: Arc<str>,
    /// Newest first, never empty. A reader clones the pointer to the list, so that it holds the lock only briefly.
    secrets: RwLock<Secrets>,
}

/// The secrets of a keyring at one time.
pub(crate) type Secrets = Arc<[KeyedSecret]>;

/// A secret with its id and tenant.
#[derive(Clone)]
pub(crate) struct KeyedSecret {
    signer: Arc<Signer>,
    secret: WebhookSecret,
}

/// The tenant and the id of the secret that signed a delivery. Neither is confidential.
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

    /// Returns whether `signature` is this secret's signature over a prefix and a body in pieces.
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
    /// The most secrets that a keyring can hold. Each secret costs one more hash of the body of each forged delivery.
    pub const MAX_SECRETS: usize = 8;

    /// The default tenant and the default id of a secret.
    pub(crate) const DEFAULT: &str = "default";

    /// The id of the secret before a rotation, if it comes from the environment.
    const OLD: &str = "old";

    /// Creates a keyring for the tenant `name` with one secret, which has the id `id`.
    ///
    /// The name and the id appear in logs.
    pub fn new(name: impl Into<Arc<str>>, id: impl Into<Arc<str>>, secret: WebhookSecret) -> Self {
        Self::holding(name.into(), [(id.into(), secret)])
    }

    /// Creates a keyring for the tenant `default` with the secrets in the environment, without trimming them:
    ///
    /// - the secret in `KLIKIT_WEBHOOK_SECRET`, which has the id `default`;
    /// - the secret in `KLIKIT_WEBHOOK_SECRET_OLD`, which has the id `old` and is tried second, if the variable is set.
    ///
    /// To rotate the secret, set the first variable to the new secret and the second one to the old secret, and restart
    /// the service. Remove the second variable once klikit has stopped retrying what it signed with the old secret,
    /// which takes 31 hours. Do not set it if the old secret has leaked.
    ///
    /// If both variables hold the same secret, the keyring holds it once, with the id `default`.
    ///
    /// # Errors
    ///
    /// If `KLIKIT_WEBHOOK_SECRET` is not set, or if either value is empty or blank as in [`WebhookSecret::new`]. The
    /// error names the variable.
    pub fn from_env() -> Result<Self, SecretError> {
        let newest = WebhookSecret::from_env()?;
        let old = WebhookSecret::old_from_env()?.filter(|old| !old.same_as(&newest));
        let secrets = [(Self::DEFAULT, newest)].into_iter().chain(old.map(|old| (Self::OLD, old)));
        Ok(Self::holding(Self::DEFAULT.into(), secrets.map(|(id, secret)| (id.into(), secret))))
    }

    /// Creates a keyring with these secrets and their ids, newest first. There must be at least one secret.
    fn holding(name: Arc<str>, secrets: impl IntoIterator<Item = (Arc<str>, WebhookSecret)>) -> Self {
        let secrets = secrets.into_iter().map(|(id, secret)| KeyedSecret::new(&name, id, secret)).collect();
        Self { shared: Arc::new(SharedKeyring { name, secrets: RwLock::new(secrets) }) }
    }

    /// Returns the name, which is the tenant.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Returns the ids of the secrets, newest first.
    pub fn ids(&self) -> Vec<String> {
        self.secrets().iter().map(|held| held.id().to_owned()).collect()
    }

    /// Adds a secret with the id `id`. It is tried before the older secrets.
    ///
    /// # Errors
    ///
    /// If the keyring is [full](Self::MAX_SECRETS), or already holds the id or the secret.
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

    /// Removes the secret with the id `id`. From the next request on, deliveries that are signed with it are rejected.
    ///
    /// # Errors
    ///
    /// If there is no such secret, or it is the last one.
    pub fn retire(&self, id: &str) -> Result<(), KeyringError> {
        self.change(|secrets| {
            let index = secrets.iter().position(|held| held.id() == id).ok_or(KeyringErrorKind::UnknownId)?;
            if secrets.len() == 1 {
                return Err(KeyringErrorKind::LastSecret);
            }
            secrets.remove(index);
            Ok(())
        })
    }

    pub(crate) fn secrets(&self) -> Secrets {
        // Ignore poisoning: the list is replaced as a whole, so a panic cannot leave it inconsistent.
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

/// Creates a keyring with the name `default` and this secret, which has the id `default`.
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

/// The error of a change to a [`Keyring`]. The keyring is unchanged.
///
/// `Debug` writes the same message as `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyringError {
    kind: KeyringErrorKind,
}

/// The reasons for a [`KeyringError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyringErrorKind {
    /// The keyring already holds [`Keyring::MAX_SECRETS`] secrets.
    Full,
    /// The keyring already holds a secret with this id.
    IdTaken,
    /// The keyring already holds this secret under another id.
    SecretTaken,
    /// The keyring holds no secret with this id.
    UnknownId,
    /// The last secret cannot be retired.
    LastSecret,
}

impl KeyringError {
    /// Returns what was wrong.
    pub fn kind(&self) -> KeyringErrorKind {
        self.kind
    }
}

impl fmt::Display for KeyringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            KeyringErrorKind::Full => {
                write!(f, "the keyring already holds {} secrets: retire one first", Keyring::MAX_SECRETS)
            }
            KeyringErrorKind::IdTaken => f.write_str(
                "the keyring already holds a secret with this id: use another id, or retire that secret first",
            ),
            KeyringErrorKind::SecretTaken => f.write_str("the keyring already holds this secret under another id"),
            KeyringErrorKind::UnknownId => f.write_str("the keyring holds no secret with this id"),
            KeyringErrorKind::LastSecret => {
                f.write_str("the last secret of a keyring cannot be retired: add its successor first")
            }
        }
    }
}

/// Writes the message, because a `main` that returns the error prints its `Debug`.
impl fmt::Debug for KeyringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
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
    fn clones_share_changes() {
        let keyring = Keyring::from(secret("old"));
        let clone = keyring.clone();
        keyring.add("new", secret("new")).unwrap();
        assert_eq!(clone.ids(), ["new", "default"]);
        clone.retire("default").unwrap();
        assert_eq!(keyring.ids(), ["new"]);
    }

    #[test]
    fn failed_changes_have_no_effect() {
        let keyring = Keyring::new("tenant", "a", secret("a"));
        let results = [
            (keyring.add("a", secret("b")), KeyringErrorKind::IdTaken),
            (keyring.add("b", secret("a")), KeyringErrorKind::SecretTaken),
            (keyring.retire("b"), KeyringErrorKind::UnknownId),
            (keyring.retire("a"), KeyringErrorKind::LastSecret),
        ];
        for (result, kind) in results {
            assert_eq!(result.unwrap_err().kind(), kind);
        }
        assert_eq!(keyring.ids(), ["a"]);
    }

    #[test]
    fn holds_at_most_eight_secrets() {
        let keyring = Keyring::from(secret("0"));
        for n in 1..Keyring::MAX_SECRETS {
            keyring.add(n.to_string(), secret(&n.to_string())).unwrap();
        }
        let error = keyring.add("8", secret("8")).unwrap_err();
        assert_eq!(error.kind(), KeyringErrorKind::Full);
        assert_eq!(format!("{error:?}"), "the keyring already holds 8 secrets: retire one first");
        assert_eq!(keyring.ids().len(), Keyring::MAX_SECRETS);
    }

    #[test]
    fn debug_shows_ids_but_no_secret() {
        let debug = format!("{:?}", Keyring::new("tenant", "2026-06", secret("hunter2")));
        assert!(debug.contains("tenant") && debug.contains("2026-06") && !debug.contains("hunter2"), "{debug}");
    }
}
