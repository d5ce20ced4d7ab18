//! Claims, connections and counters for the tests.

use std::{collections::BTreeMap, slice, time::Duration};

use redis::{AsyncConnectionConfig, aio::MultiplexedConnection};
use tower_klikit::dedupe::{BodyDigest, Claim, ClaimOutcome, ClaimTerms, Ledger};
use tower_klikit_redis::RedisStore;

use crate::servers::redis::Redis;

pub(crate) const LEASE: Duration = Duration::from_secs(600);
pub(crate) const TERMS: ClaimTerms = ClaimTerms { lease: LEASE, grace: Duration::from_secs(60) };
/// Terms of a claim that expires at once.
pub(crate) const OVER: ClaimTerms = ClaimTerms { lease: Duration::from_millis(1), grace: Duration::ZERO };
pub(crate) const RETENTION: Duration = Duration::from_secs(3600);

/// Returns a claim with this token on this event.
pub(crate) fn claim(event: u64, token: u64) -> Claim {
    Claim::new(bytes(event), bytes(event), digest(event), bytes(token))
}

/// Returns a claim on a conflict: a delivery with the event's id and a different body.
pub(crate) fn conflict(key: u64, event: u64, token: u64) -> Claim {
    Claim::new(bytes(key), bytes(event), digest(key), bytes(token))
}

pub(crate) fn digest(event: u64) -> BodyDigest {
    BodyDigest::of(&event.to_be_bytes())
}

pub(crate) fn done(event: u64) -> ClaimOutcome {
    ClaimOutcome::Done { digest: digest(event) }
}

/// Returns bytes for this number that contain special characters of glob patterns, strings and the Redis protocol.
fn bytes(number: u64) -> [u8; 16] {
    let mut bytes = *b"\0\r\n\xff{}*\\\0\0\0\0\0\0\0\0";
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Returns the Redis key of the event's entry.
pub(crate) fn name(prefix: &str, event: u64) -> Vec<u8> {
    [prefix.as_bytes(), &bytes(event)].concat()
}

pub(crate) async fn store(redis: &Redis) -> RedisStore {
    RedisStore::builder().key_prefix(&redis.prefix).open(&redis.url).await.unwrap()
}

/// Opens a connection for the test itself.
pub(crate) async fn raw(url: &str) -> MultiplexedConnection {
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    redis::Client::open(url).unwrap().get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

/// Runs a command, whose words are separated by spaces.
pub(crate) async fn run<T: redis::FromRedisValue>(connection: &mut MultiplexedConnection, command: &str) -> T {
    let mut words = command.split(' ');
    let mut cmd = redis::cmd(words.next().unwrap());
    for word in words {
        cmd.arg(word);
    }
    cmd.query_async(connection).await.unwrap()
}

/// Returns how often each command was run, by clients and by scripts.
pub(crate) async fn command_counts(connection: &mut MultiplexedConnection) -> BTreeMap<String, u64> {
    let info: String = run(connection, "INFO commandstats").await;
    info.lines()
        .filter_map(|line| {
            let (command, stats) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((command.to_owned(), stats.split_once(',')?.0.parse().ok()?))
        })
        .collect()
}

/// Renews a claim. Returns whether that succeeded.
pub(crate) async fn renew(store: &RedisStore, claim: &Claim, terms: &ClaimTerms) -> bool {
    let renewed = store.renew(slice::from_ref(claim), terms).await.unwrap();
    assert_eq!(renewed.len(), 1);
    renewed[0]
}

/// Claims and completes an entry.
pub(crate) async fn handle(store: &RedisStore, claim: &Claim) {
    assert_eq!(store.claim(claim, &TERMS).await.unwrap(), ClaimOutcome::Claimed);
    assert!(store.complete(claim, RETENTION).await.unwrap());
}
