//! A ledger in Redis, which several nodes can share.
//!
//! # Rules
//!
//! - A claim takes one round trip, for a new delivery and for a duplicate. Renewing up to 1000 claims takes one round
//!   trip too. Scripts on the server use the server's clock, so the nodes' clocks do not matter.
//! - All calls are pipelined on one connection. The store replaces a connection that is cut, does not answer, or leads
//!   to a server that became a replica. A call fails if it has no answer within 1.5 s.
//! - Redis expires entries, so [`purge`](tower_klikit::dedupe::Ledger::purge) does nothing. The time to live of a
//!   claimed key is its lease plus its grace. The time to live of a done key is its retention. An expired claim can
//!   therefore still be completed during its grace, unless another token has claimed the delivery.
//! - A delivery takes about 200 bytes of memory, and about 20 more while it is claimed. Set the server's `maxmemory`
//!   high enough for all deliveries of a retention, and its `maxmemory-policy` to `noeviction`. While the memory is
//!   full, claims and completions fail, renewals work, and nothing is forgotten.
//! - Listing or forgetting the entries of a window scans all keys of the database, and listing does so for each page.
//! - If a key of the ledger contains a foreign value, calls for it fail, and the value stays unchanged.
//!
//! # Server requirements
//!
//! The store needs Redis 5 or later, or a server that is compatible with it. Use `redis://` URLs, or `rediss://` URLs
//! for TLS. [Opening a store](RedisStoreBuilder::open) checks the server.
//!
//! A cluster is rejected, because the connection leads to one node, which has only a part of the keys. If a proxy hides
//! a cluster, use a prefix with a hash tag, such as `{klikit}:`, so that all keys are in one slot.
//!
//! # Durability
//!
//! Redis answers before a write is on disk or on a replica:
//!
//! - With an append-only file and its default setting (`appendfsync everysec`), a crash loses the last second.
//! - Without an append-only file, a crash loses everything since the last snapshot.
//! - A failover loses the writes that the replica has not received yet.
//!
//! If klikit sends a lost delivery again, it is handled again. If that is not acceptable, use the Postgres store.
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
