//! What these tests share.

use std::{collections::BTreeMap, time::Duration};

use redis::{AsyncConnectionConfig, aio::MultiplexedConnection};
use tower_klikit::{
    dedupe::{BodyDigest, Claim, ClaimOutcome, Ledger},
    store::redis::RedisStore,
};

use crate::servers::redis::Redis;

pub(crate) const LEASE: Duration = Duration::from_secs(600);
pub(crate) const RETENTION: Duration = Duration::from_secs(3600);

/// A claim by this token on the event of this number.
pub(crate) fn claim(event: u64, token: u64) -> Claim {
    Claim::new(bytes(event), bytes(event), digest(event), bytes(token))
}

/// A claim on another body under the id of that event.
pub(crate) fn conflict(key: u64, event: u64, token: u64) -> Claim {
    Claim::new(bytes(key), bytes(event), digest(key), bytes(token))
}

pub(crate) fn digest(event: u64) -> BodyDigest {
    BodyDigest::of(&event.to_be_bytes())
}

pub(crate) fn done(event: u64) -> ClaimOutcome {
    ClaimOutcome::Done { digest: digest(event) }
}

/// Every byte is one that might be taken for something else.
fn bytes(number: u64) -> [u8; 16] {
    let mut bytes = *b"\0\r\n\xff{}*\\\0\0\0\0\0\0\0\0";
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    bytes
}

pub(crate) fn name(prefix: &str, event: u64) -> Vec<u8> {
    [prefix.as_bytes(), &bytes(event)].concat()
}

pub(crate) async fn store(redis: &Redis) -> RedisStore {
    RedisStore::connect(&redis.url).await.unwrap().with_prefix(&redis.prefix)
}

/// A connection of the test's own.
pub(crate) async fn raw(url: &str) -> MultiplexedConnection {
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    redis::Client::open(url).unwrap().get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

/// Runs one command, given in words.
pub(crate) async fn run<T: redis::FromRedisValue>(connection: &mut MultiplexedConnection, command: &str) -> T {
    let mut words = command.split(' ');
    let mut cmd = redis::cmd(words.next().unwrap());
    for word in words {
        cmd.arg(word);
    }
    cmd.query_async(connection).await.unwrap()
}

/// How often each command was run, by clients and by scripts.
pub(crate) async fn command_counts(connection: &mut MultiplexedConnection) -> BTreeMap<String, u64> {
    let info: String = run(connection, "INFO commandstats").await;
    info.lines()
        .filter_map(|line| {
            let (command, stats) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((command.to_owned(), stats.split_once(',')?.0.parse().ok()?))
        })
        .collect()
}

/// Claims and completes.
pub(crate) async fn handle(store: &RedisStore, claim: &Claim) {
    assert_eq!(store.claim(claim, LEASE).await.unwrap(), ClaimOutcome::Claimed);
    assert!(store.complete(claim, RETENTION).await.unwrap());
}
