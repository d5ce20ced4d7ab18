//! The error of opening a store, and its kinds.

use std::{error::Error, fmt};

use redis::{ErrorKind, RedisError, ServerErrorKind};
use tower_klikit::ErrorChain;

/// An error of opening a [`RedisStore`](super::RedisStore).
///
/// The message contains the server and the database, but never the user or the password. `Debug` writes the message and
/// all sources on one line.
pub struct RedisConnectError {
    kind: RedisConnectErrorKind,
    /// The value of the server's setting that caused the error.
    setting: Option<String>,
    /// The host, the port and the database.
    target: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The kind of a [`RedisConnectError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RedisConnectErrorKind {
    /// The URL is not a valid `redis://` or `rediss://` URL, or the root certificates are invalid or set without TLS.
    Url,
    /// Connecting or the TLS handshake failed, or the server did not answer in time.
    Unreachable,
    /// The server is still loading its data from disk.
    Loading,
    /// The user name or password is wrong, or the user lacks a permission.
    Denied,
    /// The server's `maxmemory-policy` is not `noeviction`, so it would forget deliveries when its memory is full.
    Evicts,
    /// The server is a replica, which rejects or loses writes.
    Replica,
    /// The server is a node of a cluster, which has only a part of the keys.
    Cluster,
    /// The server answered with another error.
    Failed,
}

impl RedisConnectError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> RedisConnectErrorKind {
        self.kind
    }

    /// Returns whether the same call may succeed later, because the server is
    /// [unreachable](RedisConnectErrorKind::Unreachable) or [loading](RedisConnectErrorKind::Loading).
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, RedisConnectErrorKind::Unreachable | RedisConnectErrorKind::Loading)
    }

    pub(super) fn new(kind: RedisConnectErrorKind) -> Self {
        Self { kind, setting: None, target: None, source: None }
    }

    pub(super) fn evicts(policy: String) -> Self {
        Self { setting: Some(policy), ..Self::new(RedisConnectErrorKind::Evicts) }
    }

    /// Adds the server that the error is about.
    pub(super) fn at(self, target: String) -> Self {
        Self { target: Some(target), ..self }
    }

    pub(super) fn url(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..Self::new(RedisConnectErrorKind::Url) }
    }
}

impl From<RedisError> for RedisConnectError {
    fn from(error: RedisError) -> Self {
        let kind = match error.kind() {
            ErrorKind::Server(ServerErrorKind::BusyLoading) => RedisConnectErrorKind::Loading,
            ErrorKind::Server(ServerErrorKind::NoPerm) | ErrorKind::AuthenticationFailed => {
                RedisConnectErrorKind::Denied
            }
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => {
                RedisConnectErrorKind::Replica
            }
            ErrorKind::InvalidClientConfig => RedisConnectErrorKind::Url,
            ErrorKind::Io => RedisConnectErrorKind::Unreachable,
            _ if matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) => RedisConnectErrorKind::Denied,
            _ => RedisConnectErrorKind::Failed,
        };
        Self { kind, setting: None, target: None, source: Some(error.into()) }
    }
}

impl fmt::Display for RedisConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fault, remedy) = match self.kind {
            RedisConnectErrorKind::Url => (
                "the Redis URL or the certificates are invalid",
                "use redis://[user:password@]host[:port][/database], or rediss:// for TLS",
            ),
            RedisConnectErrorKind::Unreachable => {
                ("Redis cannot be reached", "check the URL, and that the server is running")
            }
            RedisConnectErrorKind::Loading => ("Redis is still loading its data", "try again later"),
            RedisConnectErrorKind::Denied => (
                "Redis denies access or a command that the ledger needs",
                "check the user, the password and the user's permissions",
            ),
            RedisConnectErrorKind::Evicts => {
                ("Redis would forget deliveries when its memory is full", "set its maxmemory-policy to noeviction")
            }
            RedisConnectErrorKind::Replica => ("this Redis is a replica", "connect to the primary"),
            RedisConnectErrorKind::Cluster => {
                ("this Redis is a node of a cluster", "connect to a server that has all keys")
            }
            RedisConnectErrorKind::Failed => ("Redis answered with an error", "see its text"),
        };
        f.write_str(fault)?;
        if let Some(target) = &self.target {
            write!(f, ", at {target}")?;
        }
        write!(f, ": {remedy}")?;
        self.setting.as_ref().map_or(Ok(()), |setting| write!(f, " (it is {setting})"))
    }
}

/// Writes the message and its sources, since a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for RedisConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&ErrorChain::new(self), f)
    }
}

impl Error for RedisConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
