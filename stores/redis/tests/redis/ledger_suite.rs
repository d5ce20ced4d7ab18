//! The conformance tests of the ledger.

use std::time::Duration;

use redis::{Script, aio::ConnectionManager};
use tokio::runtime::Runtime;
use tower_klikit_redis::RedisStore;
use tower_klikit_store_tests::ledger;

use crate::servers;

/// Moves all stored times back. An entry has the time of its claim, in microseconds, after its first byte, and a time
/// to live. Sets have only a time to live.
const AGE: &str = "
for _, name in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  local left = redis.call('PTTL', name) - tonumber(ARGV[2])
  if left <= 0 then
    redis.call('DEL', name)
  else
    if redis.call('TYPE', name).ok == 'string' then
      local at = struct.unpack('>I8', redis.call('GETRANGE', name, 1, 8))
      redis.call('SETRANGE', name, 1, struct.pack('>I8', at - tonumber(ARGV[2]) * 1000))
    end
    redis.call('PEXPIRE', name, left)
  end
end
";

/// Deletes all keys of the ledger.
const EMPTY: &str = "
for _, name in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  redis.call('DEL', name)
end
";

#[test]
fn follows_the_rules() {
    let Some(server) = servers::redis::any() else { return };
    let runtime = Runtime::new().unwrap();
    let fixture = runtime.block_on(Fixture::new(&server));
    runtime.block_on(ledger::check(async || fixture.emptied().await, async |_, time| fixture.age(time).await));
}

#[test]
fn matches_the_reference() {
    let Some(server) = servers::redis::any() else { return };
    let runtime = Runtime::new().unwrap();
    let fixture = runtime.block_on(Fixture::new(&server));
    ledger::compare(32, 60, &runtime, async || fixture.emptied().await, &async |_: &_, time| fixture.age(time).await);
}

/// A store, and the test's own connection to the same server.
struct Fixture {
    store: RedisStore,
    connection: ConnectionManager,
    prefix: String,
}

impl Fixture {
    async fn new(server: &servers::redis::Redis) -> Self {
        let store = RedisStore::builder().key_prefix(&server.prefix).open(&server.url).await.unwrap();
        let client = redis::Client::open(server.url.as_str()).unwrap();
        Self { store, connection: client.get_connection_manager().await.unwrap(), prefix: server.prefix.clone() }
    }

    /// Deletes all entries, and returns the store for the next check.
    async fn emptied(&self) -> RedisStore {
        self.run(EMPTY, Duration::ZERO).await;
        self.store.clone()
    }

    /// Moves all stored times back, as if `time` had passed.
    async fn age(&self, time: Duration) {
        self.run(AGE, time).await;
    }

    async fn run(&self, script: &str, time: Duration) {
        let milliseconds = u64::try_from(time.as_millis()).unwrap();
        let script = Script::new(script);
        let mut invocation = script.prepare_invoke();
        invocation.arg(&self.prefix).arg(milliseconds);
        let () = invocation.invoke_async(&mut self.connection.clone()).await.unwrap();
    }
}
