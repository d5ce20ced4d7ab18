//! The public store, and its implementation of [`Ledger`].

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use redis::{FromRedisValue, RedisResult, Script, ScriptInvocation};
use tower_klikit::dedupe::{
    Claim, ClaimOutcome, ClaimTerms, EventKey, Ledger, LedgerAdmin, LedgerEntry, LedgerSelection, StoreError,
};

use super::{
    connection::Connection,
    script::{Scripts, entries, millis, outcome, time_to_live},
};

/// The maximum number of keys that one call examines. The call blocks the server for a few milliseconds.
const BATCH: usize = 1000;

/// A [`Ledger`] in Redis. The [crate documentation](crate) states its rules and its requirements on the server.
///
/// Clones are cheap and share the connection.
#[derive(Clone)]
pub struct RedisStore {
    connection: Arc<Connection>,
    scripts: Arc<Scripts>,
    prefix: Arc<[u8]>,
}

impl RedisStore {
    /// The default [prefix](super::RedisStoreBuilder::key_prefix) of the keys.
    pub const DEFAULT_KEY_PREFIX: &str = "klikit:";

    pub(super) fn new(connection: Connection, scripts: Scripts, key_prefix: &[u8]) -> Self {
        Self { connection: Arc::new(connection), scripts: Arc::new(scripts), prefix: key_prefix.into() }
    }

    fn entry(&self, key: &EventKey) -> Vec<u8> {
        [&self.prefix, key.as_bytes().as_slice()].concat()
    }

    /// Returns the name of the set with the keys of an event's conflicts.
    fn conflicts(&self, event: &EventKey) -> Vec<u8> {
        [&self.prefix, b"\0".as_slice(), event.as_bytes()].concat()
    }

    /// Returns the KEYS for a claim: its entry and the set of its event's conflicts. For an entry that is not a
    /// conflict, the name of the entry takes the place of the set's name.
    fn names(&self, claim: &Claim) -> [Vec<u8>; 2] {
        let entry = self.entry(claim.key());
        let set = if claim.is_conflict() { self.conflicts(claim.event()) } else { entry.clone() };
        [entry, set]
    }

    /// Prepares a script for the entries of an event.
    fn of_event<'a>(&self, script: &'a Script, event: &EventKey) -> ScriptInvocation<'a> {
        let mut invocation = script.prepare_invoke();
        invocation.key(self.entry(event)).key(self.conflicts(event)).arg(event.as_bytes()).arg(&*self.prefix);
        invocation
    }

    /// Runs a script for all entries and a window, a thousand entries at a time, and passes each result on.
    async fn scan<T: FromRedisValue>(
        &self,
        script: &Script,
        window: &Range<SystemTime>,
        mut each: impl FnMut(T) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let pattern = &[glob_escaped(&self.prefix), b"*".to_vec()].concat();
        let mut cursor = 0;
        loop {
            let (next, names): (u64, Vec<Vec<u8>>) = self
                .connection
                .call(|mut manager| async move {
                    let mut scan = redis::cmd("SCAN");
                    scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(BATCH).query_async(&mut manager).await
                })
                .await
                .map_err(StoreError::new)?;
            let mut invocation = script.prepare_invoke();
            // Leave out the sets of conflicts, and the keys of ledgers whose prefix begins with this ledger's prefix.
            let names = names.into_iter().filter(|name| name.len() == self.prefix.len() + 16);
            let mut any = false;
            for name in names {
                invocation.key(name);
                any = true;
            }
            if any {
                invocation.arg(micros(window.start)).arg(micros(window.end));
                each(self.invoke(&invocation).await?)?;
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// Runs the script for an event, or the script for a window for all entries. Returns the sum of the results.
    async fn sum(&self, selection: &LedgerSelection, of_event: &Script, claimed: &Script) -> Result<u64, StoreError> {
        let mut sum = 0;
        match selection {
            LedgerSelection::Event(event) => sum = self.invoke(&self.of_event(of_event, event)).await?,
            LedgerSelection::Claimed(window) => {
                let add = |number: u64| {
                    sum += number;
                    Ok(())
                };
                self.scan(claimed, window, add).await?;
            }
        }
        Ok(sum)
    }

    async fn invoke<T: FromRedisValue>(&self, invocation: &ScriptInvocation<'_>) -> Result<T, StoreError> {
        let result: RedisResult<T> =
            self.connection.call(|mut manager| async move { invocation.invoke_async(&mut manager).await }).await;
        result.map_err(StoreError::new)
    }
}

impl Ledger for RedisStore {
    async fn claim(&self, claim: &Claim, terms: &ClaimTerms) -> Result<ClaimOutcome, StoreError> {
        let event = if claim.is_conflict() { claim.event().as_bytes().as_slice() } else { &[] };
        let (lease, grace) = (millis(terms.lease), millis(terms.grace));
        let mut invocation = self.scripts.claim.prepare_invoke();
        invocation
            .key(&self.names(claim))
            .arg(time_to_live(lease + grace))
            .arg(grace)
            .arg(claim.token().as_bytes())
            .arg(claim.key().as_bytes())
            .arg(claim.digest().as_bytes())
            .arg(event);
        outcome(self.invoke(&invocation).await?)
    }

    async fn complete(&self, claim: &Claim, retention: Duration) -> Result<bool, StoreError> {
        let mut invocation = self.scripts.complete.prepare_invoke();
        invocation
            .key(&self.names(claim))
            .arg(time_to_live(millis(retention)))
            .arg(claim.token().as_bytes())
            .arg(claim.key().as_bytes());
        self.invoke(&invocation).await
    }

    async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        let mut invocation = self.scripts.release.prepare_invoke();
        invocation.key(&self.names(claim)).arg(claim.token().as_bytes()).arg(claim.key().as_bytes());
        let _: bool = self.invoke(&invocation).await?;
        Ok(())
    }

    /// Takes one round trip per thousand claims. Each round trip is atomic.
    async fn renew(&self, claims: &[Claim], terms: &ClaimTerms) -> Result<Vec<bool>, StoreError> {
        let (lease, grace) = (millis(terms.lease), millis(terms.grace));
        let mut renewed = Vec::with_capacity(claims.len());
        for batch in claims.chunks(BATCH) {
            let mut invocation = self.scripts.renew.prepare_invoke();
            invocation.arg(time_to_live(lease + grace)).arg(grace);
            for claim in batch {
                invocation.key(&self.names(claim)).arg(claim.token().as_bytes());
            }
            renewed.extend(self.invoke::<Vec<bool>>(&invocation).await?);
        }
        Ok(renewed)
    }

    /// Scans all keys of the database for a window, a thousand at a time, which may take minutes if there are millions.
    /// If it fails, some entries may already be forgotten: call it again.
    async fn forget(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        self.sum(selection, &self.scripts.forget, &self.scripts.forget_claimed).await
    }

    async fn purge(&self, _: u32) -> Result<u64, StoreError> {
        Ok(0)
    }
}

impl LedgerAdmin for RedisStore {
    /// Scans all keys of the database for a window, as [`forget`](Self::forget) does.
    async fn entries(
        &self,
        selection: &LedgerSelection,
        after: Option<EventKey>,
        limit: u32,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        // Sorted, and each once: a scan may return a key several times.
        let mut listed = BTreeMap::new();
        let mut list = |found| {
            for entry in entries(found)?.into_iter().filter(|entry| after.is_none_or(|after| entry.key > after)) {
                listed.insert(entry.key, entry);
                if listed.len() > usize::try_from(limit).unwrap_or(usize::MAX) {
                    listed.pop_last();
                }
            }
            Ok::<_, StoreError>(())
        };
        match selection {
            LedgerSelection::Event(event) => list(self.invoke(&self.of_event(&self.scripts.list, event)).await?)?,
            LedgerSelection::Claimed(window) => self.scan(&self.scripts.list_claimed, window, list).await?,
        }
        Ok(listed.into_values().collect())
    }

    /// Scans all keys of the database for a window, as [`forget`](Self::forget) does.
    async fn count(&self, selection: &LedgerSelection) -> Result<u64, StoreError> {
        self.sum(selection, &self.scripts.count, &self.scripts.count_claimed).await
    }
}

/// Omits the URL, which may contain a password.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("prefix", &String::from_utf8_lossy(&self.prefix)).finish_non_exhaustive()
    }
}

/// Returns a glob pattern that matches exactly these bytes.
fn glob_escaped(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|&byte| [b'\\', byte]).collect()
}

/// Returns the first whole microsecond that is not before `time`. Entries record whole microseconds, so the rounded
/// window contains the same entries.
fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_bounds_are_rounded_up() {
        let at = |nanos| micros(UNIX_EPOCH + Duration::from_nanos(nanos));
        assert_eq!([at(0), at(1), at(999), at(1000), at(1001)], [0, 1, 1, 1, 2]);
        assert_eq!(micros(UNIX_EPOCH - Duration::from_secs(1)), 0);
    }
}
