//! A store that remembers deliveries in Redis, for several nodes.
//!
//! # Rules
//!
//! - A claim takes one round trip, for a new delivery and for a duplicate alike, and so does renewing up to 1000
//!   claims. Scripts on the server decide everything by the server's clock, so the nodes' clocks do not matter.
//! - All calls share one connection, on which they are pipelined. The store reopens a connection that is cut, does not
//!   answer, or leads to a server that became a replica. A call without an answer within 1.5 s is an error.
//! - Redis expires entries by itself, so [`purge`](tower_klikit::dedupe::Ledger::purge) has nothing to do. The time to
//!   live of a claimed key is its lease plus its grace, and that of a done key its retention. An expired claim can
//!   therefore still be completed during its grace, unless another token has taken it over.
//! - A delivery takes about 200 bytes of memory, and some 20 more while it is claimed. The server's `maxmemory` has to
//!   hold a whole retention of them, and its `maxmemory-policy` has to be `noeviction`: while its memory is full,
//!   claims and completions are errors, renewals work, and nothing is forgotten.
//! - A key of the ledger that holds anything else is an error, and stays as it is.
//!
//! # Server requirements
//!
//! Redis 5 or later, or a server that speaks its protocol, reached by `redis://`, or by `rediss://` for TLS. The store
//! [checks the server when it connects](RedisStoreBuilder::open).
//!
//! A cluster is rejected, because the connection leads to one node, which holds part of the keys. Where a proxy hides a
//! cluster, give the prefix a hash tag, `{klikit}:`, so that all keys share a slot.
//!
//! # What Redis may lose
//!
//! Redis answers before a write is on disk or on a replica. With an append-only file as it is by default (`appendfsync
//! everysec`), a crash loses the last second; without one, everything since the last snapshot. A failover loses what
//! the replica did not have yet. A delivery that is lost in this way is handled again when klikit sends it again. Use
//! the Postgres store where that must not happen.
//!
//! # Examples
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use tower_klikit_redis::RedisStore;
//!
//! let store = RedisStore::open("redis://127.0.0.1/").await?;
//! let staging = RedisStore::builder()
//!     .key_prefix("klikit-staging:")
//!     .open("rediss://user:password@redis.example:6380/2")
//!     .await?;
//! # Ok(())
//! # }
//! ```

mod builder;
mod check;
mod connection;
mod error;
mod script;
mod store;
mod telemetry;

pub use self::{
    builder::RedisStoreBuilder,
    error::{RedisConnectError, RedisConnectErrorKind},
    store::RedisStore,
};
