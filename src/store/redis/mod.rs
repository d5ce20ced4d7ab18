//! Deliveries remembered by Redis, for several nodes.
//!
//! # Rules
//!
//! - A claim takes one round trip, for a delivery not seen before and for a duplicate alike. Everything that is decided is
//!   decided by a script on the server, by the server's clock, so that the nodes' clocks do not matter.
//! - All calls share one connection, on which they are pipelined. One that is cut is opened again; so is one that is silent, or
//!   leads to a server that became a replica. A call that gets no answer within 1.5 s is an error.
//! - Redis forgets an entry by itself when its time is up: there is nothing to purge.
//! - A delivery takes about 200 bytes of memory. The server's `maxmemory` has to hold a whole retention of them, and its
//!   `maxmemory-policy` has to be `noeviction`: when its memory is full, claims are errors, and nothing is forgotten.
//!
//! # What a server must be
//!
//! Redis 5 or later, or one that speaks like it, reached by `redis://`, or by `rediss://` for TLS. What can be known beforehand
//! is [checked on connecting](RedisStore::connect).
//!
//! A cluster is refused: the connection leads to one node, which holds part of the keys. Where a proxy hides a cluster, give
//! the prefix a hash tag, `{klikit}:`, so that all keys share a slot.
//!
//! # What Redis may lose
//!
//! Redis answers before a write is on disk, or on a replica. With an append-only file as it is by default
//! (`appendfsync everysec`), a crash loses the last second; without one, everything since the last snapshot; a failover, what
//! the replica did not have yet. A delivery that was forgotten so is handled again when klikit sends it again. Where that
//! must not be, take the Postgres store.
//!
//! # Examples
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use tower_klikit::store::redis::RedisStore;
//!
//! let store = RedisStore::connect("redis://127.0.0.1/").await?;
//! let staging = RedisStore::connect("rediss://user:password@redis.example:6380/2").await?.with_prefix("klikit-staging:");
//! # Ok(())
//! # }
//! ```

mod check;
mod connection;
mod error;
mod script;

use std::{
    fmt,
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use redis::{FromRedisValue, RedisResult, Script, ScriptInvocation};

pub use self::error::{RedisConnectError, RedisConnectErrorKind};
use self::{
    check::check,
    connection::Connection,
    script::{Scripts, found, millis},
};
use crate::dedupe::{Claim, ClaimOutcome, EventKey, Ledger, StoreError};

/// How many keys the server looks at in one go. A few milliseconds, in which it does nothing else.
const SLICE: usize = 1000;

/// A [`Ledger`] in Redis. The [module](self) says what it needs and what it promises.
///
/// Cheap to clone: the clones share the connection.
#[derive(Clone)]
pub struct RedisStore {
    connection: Arc<Connection>,
    scripts: Arc<Scripts>,
    prefix: Arc<[u8]>,
}

impl RedisStore {
    /// What the keys begin with, unless another [prefix](Self::with_prefix) is chosen.
    pub const DEFAULT_PREFIX: &str = "klikit:";

    /// Connects to the server at this URL, `redis://[user:password@]host[:port][/database]` or the same with `rediss://`, whose
    /// certificate must be one that the system trusts.
    ///
    /// A server that keeps no append-only file, or whose
    /// policy cannot be read, is logged as a warning and accepted.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached or is still loading, in which case it [may be tried
    /// again](RedisConnectError::is_retryable); when it denies access; when it would evict entries; when it is a replica or a
    /// node of a cluster. The [kind](RedisConnectErrorKind) tells which.
    pub async fn connect(url: &str) -> Result<Self, RedisConnectError> {
        Self::open(url, None).await
    }

    /// [Connects](Self::connect) to a `rediss://` server whose certificate is signed by one of these, in PEM, and by no other.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), and when there is no certificate in `pem`, or the URL is not for TLS.
    pub async fn connect_with_root_certificates(url: &str, pem: impl AsRef<[u8]>) -> Result<Self, RedisConnectError> {
        Self::open(url, Some(pem.as_ref())).await
    }

    /// Has the keys begin with `prefix`, so that several ledgers can share a server. The default is
    /// [`klikit:`](Self::DEFAULT_PREFIX). Every node of one ledger needs the same.
    ///
    /// Each byte is one more in every key.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl AsRef<[u8]>) -> Self {
        self.prefix = prefix.as_ref().into();
        self
    }

    async fn open(url: &str, root_certificates: Option<&[u8]>) -> Result<Self, RedisConnectError> {
        let connection = Connection::new(url, root_certificates).map_err(RedisConnectError::url)?;
        let scripts = Scripts::new();
        check(&connection, &scripts).await?;
        let prefix = Self::DEFAULT_PREFIX.as_bytes().into();
        Ok(Self { connection: Arc::new(connection), scripts: Arc::new(scripts), prefix })
    }

    fn entry(&self, key: &EventKey) -> Vec<u8> {
        [&self.prefix, key.as_bytes().as_slice()].concat()
    }

    /// Where the keys of an event's conflicts are.
    fn conflicts(&self, event: &EventKey) -> Vec<u8> {
        [&self.prefix, b"\0".as_slice(), event.as_bytes()].concat()
    }

    /// `time` is the new time to live, where the script sets one.
    async fn run<T: FromRedisValue>(&self, script: &Script, claim: &Claim, time: Duration) -> Result<T, StoreError> {
        let mut invocation = script.prepare_invoke();
        invocation
            .key(self.entry(claim.key()))
            .arg(claim.token().as_bytes())
            .arg(millis(time))
            .arg(claim.key().as_bytes())
            .arg(claim.digest().as_bytes());
        if claim.key() != claim.event() {
            invocation.key(self.conflicts(claim.event())).arg(claim.event().as_bytes());
        }
        self.invoke(&invocation).await
    }

    async fn invoke<T: FromRedisValue>(&self, invocation: &ScriptInvocation<'_>) -> Result<T, StoreError> {
        let result: RedisResult<T> =
            self.connection.call(|mut manager| async move { invocation.invoke_async(&mut manager).await }).await;
        result.map_err(StoreError::new)
    }
}

impl Ledger for RedisStore {
    async fn claim(&self, claim: &Claim, lease: Duration) -> Result<ClaimOutcome, StoreError> {
        let there: Option<(Vec<u8>, i64)> = self.run(&self.scripts.claim, claim, lease).await?;
        match there {
            None => Ok(ClaimOutcome::Claimed),
            Some((value, remaining)) => found(&value, remaining),
        }
    }

    async fn complete(&self, claim: &Claim, retention: Duration) -> Result<bool, StoreError> {
        self.run(&self.scripts.complete, claim, retention).await
    }

    async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        let _: bool = self.run(&self.scripts.release, claim, Duration::ZERO).await?;
        Ok(())
    }

    async fn renew(&self, claim: &Claim, lease: Duration) -> Result<bool, StoreError> {
        self.run(&self.scripts.renew, claim, lease).await
    }

    async fn forget(&self, event: &EventKey) -> Result<u64, StoreError> {
        let mut invocation = self.scripts.forget.prepare_invoke();
        invocation.key(self.entry(event)).key(self.conflicts(event)).arg(event.as_bytes()).arg(&*self.prefix);
        self.invoke(&invocation).await
    }

    /// Looks at every key of the server's database, some at a time, and so may take minutes where there are millions. An error
    /// half way leaves some forgotten: call it again.
    async fn forget_claimed(&self, window: Range<SystemTime>) -> Result<u64, StoreError> {
        let pattern = &[glob_escaped(&self.prefix), b"*".to_vec()].concat();
        let (mut cursor, mut forgotten) = (0, 0);
        loop {
            let (next, names): (u64, Vec<Vec<u8>>) = self
                .connection
                .call(|mut manager| async move {
                    let mut scan = redis::cmd("SCAN");
                    scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(SLICE).query_async(&mut manager).await
                })
                .await
                .map_err(StoreError::new)?;
            let mut invocation = self.scripts.forget_claimed.prepare_invoke();
            // Not the conflicts' sets, nor the keys of a ledger whose prefix begins with this one's.
            let names = names.into_iter().filter(|name| name.len() == self.prefix.len() + 16);
            let mut any = false;
            for name in names {
                invocation.key(name);
                any = true;
            }
            if any {
                invocation.arg(micros(window.start)).arg(micros(window.end));
                forgotten += self.invoke::<u64>(&invocation).await?;
            }
            if next == 0 {
                return Ok(forgotten);
            }
            cursor = next;
        }
    }

    async fn purge(&self, _: u32) -> Result<u64, StoreError> {
        Ok(0)
    }
}

/// Without the URL, which may hold a password.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("prefix", &String::from_utf8_lossy(&self.prefix)).finish_non_exhaustive()
    }
}

/// Matches these bytes and no others.
fn glob_escaped(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|&byte| [b'\\', byte]).collect()
}

/// The first whole microsecond that is not before `time`: entries have no finer times, so a window of these holds the same.
fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_what_it_would_in_finer_times() {
        let at = |nanos| micros(UNIX_EPOCH + Duration::from_nanos(nanos));
        assert_eq!([at(0), at(1), at(999), at(1000), at(1001)], [0, 1, 1, 1, 2]);
        assert_eq!(micros(UNIX_EPOCH - Duration::from_secs(1)), 0);
    }
}
