//! The options for opening a store.

use std::fmt;

use super::{check::check, connection::Connection, error::RedisConnectError, script::Scripts, store::RedisStore};

/// Options for opening a [`RedisStore`]. [`RedisStore::builder`] returns the defaults.
#[derive(Clone)]
#[must_use]
pub struct RedisStoreBuilder {
    key_prefix: Vec<u8>,
    root_certificates: Option<Vec<u8>>,
}

impl RedisStore {
    /// Connects to the server at this URL with the default options. See [`RedisStoreBuilder::open`].
    ///
    /// # Errors
    ///
    /// Returns an error if [`RedisStoreBuilder::open`] does.
    pub async fn open(url: &str) -> Result<Self, RedisConnectError> {
        Self::builder().open(url).await
    }

    /// Returns the default options: the prefix of the keys, and the system's root certificates.
    pub fn builder() -> RedisStoreBuilder {
        RedisStoreBuilder { key_prefix: Self::DEFAULT_KEY_PREFIX.into(), root_certificates: None }
    }
}

impl RedisStoreBuilder {
    /// Sets the prefix of the keys, so that several ledgers can share a server. The default is
    /// [`klikit:`](RedisStore::DEFAULT_KEY_PREFIX). All nodes of a ledger need the same prefix.
    ///
    /// Every key contains the prefix, so a long prefix takes more memory.
    pub fn key_prefix(mut self, prefix: impl AsRef<[u8]>) -> Self {
        self.key_prefix = prefix.as_ref().into();
        self
    }

    /// Trusts only these root certificates, in PEM format, instead of the system's. Requires a `rediss://` URL.
    pub fn root_certificates(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.root_certificates = Some(pem.as_ref().into());
        self
    }

    /// Connects to the server at this URL: `redis://[user:password@]host[:port][/database]`, or `rediss://` for TLS.
    ///
    /// Logs a warning if the server has no append-only file, or if its eviction policy cannot be read.
    ///
    /// # Errors
    ///
    /// Returns an error in these cases. Its [kind](RedisConnectError::kind) tells which:
    ///
    /// - The URL or the [root certificates](Self::root_certificates) are invalid, or certificates are set without TLS.
    /// - The server cannot be reached or is still loading, which [can be retried](RedisConnectError::is_retryable).
    /// - The server denies access, evicts entries, is a replica, or is a node of a cluster.
    pub async fn open(self, url: &str) -> Result<RedisStore, RedisConnectError> {
        let connection = Connection::new(url, self.root_certificates.as_deref()).map_err(RedisConnectError::url)?;
        let scripts = Scripts::new();
        check(&connection, &scripts).await.map_err(|error| error.at(connection.target()))?;
        Ok(RedisStore::new(connection, scripts, &self.key_prefix))
    }
}

impl fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStoreBuilder")
            .field("key_prefix", &String::from_utf8_lossy(&self.key_prefix))
            .finish_non_exhaustive()
    }
}
