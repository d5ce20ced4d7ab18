use std::{error::Error, fmt};

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why a [`RedisStore`](super::RedisStore) was not opened.
#[derive(Debug)]
pub struct RedisConnectError {
    kind: RedisConnectErrorKind,
    /// What the server has set, where that is what is wrong.
    setting: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What is wrong with the server, or with how it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedisConnectErrorKind {
    /// The URL is no `redis://` or `rediss://` URL, or the certificates are none.
    Url,
    /// No connection, no TLS session, or no answer in time.
    Unreachable,
    /// The server is still reading its data from the disk.
    Loading,
    /// The user, the password or the user's permissions are not enough.
    Denied,
    /// Its `maxmemory-policy` is other than `noeviction`: when its memory is full it would forget deliveries.
    Evicts,
    /// It is a replica: what is written there is refused, or lost.
    Replica,
    /// It is one node of a cluster, which holds part of the keys only.
    Cluster,
    /// It answered with another error.
    Failed,
}

impl RedisConnectError {
    /// What is wrong.
    pub fn kind(&self) -> RedisConnectErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later without anything being changed: the server is
    /// [unreachable](RedisConnectErrorKind::Unreachable) or [loading](RedisConnectErrorKind::Loading).
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, RedisConnectErrorKind::Unreachable | RedisConnectErrorKind::Loading)
    }

    pub(super) fn new(kind: RedisConnectErrorKind) -> Self {
        Self { kind, setting: None, source: None }
    }

    pub(super) fn evicts(policy: String) -> Self {
        Self { setting: Some(policy), ..Self::new(RedisConnectErrorKind::Evicts) }
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
        Self { kind, setting: None, source: Some(error.into()) }
    }
}

impl fmt::Display for RedisConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            RedisConnectErrorKind::Url => "no URL or certificates that Redis can be reached with",
            RedisConnectErrorKind::Unreachable => "Redis cannot be reached",
            RedisConnectErrorKind::Loading => "Redis is still loading its data, try again later",
            RedisConnectErrorKind::Denied => "Redis denies access, or a command that the ledger needs",
            RedisConnectErrorKind::Evicts => {
                "Redis would forget deliveries when its memory is full: set its maxmemory-policy to noeviction"
            }
            RedisConnectErrorKind::Replica => "this Redis is a replica: connect to the primary",
            RedisConnectErrorKind::Cluster => {
                "this Redis is a node of a cluster: the ledger needs a server that holds all keys"
            }
            RedisConnectErrorKind::Failed => "Redis answered with an error",
        })?;
        match &self.setting {
            Some(setting) => write!(f, " (it is {setting})"),
            None => Ok(()),
        }
    }
}

impl Error for RedisConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
