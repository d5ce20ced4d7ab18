//! Where handled deliveries are remembered.
//!
//! | store | for | a restart | several nodes |
//! |---|---|---|---|
//! | [`MemoryStore`] | tests, and services that can live with a doubled order after a restart | forgets | no |
//! | [`SqliteStore`] | one machine: a file, and the default choice | remembers | processes on that machine |
//! | [`PostgresStore`] | services that have a Postgres | remembers | yes |
//! | [`RedisStore`] | services that have a Redis that does not evict | as Redis is set to persist | yes |
//!
//! Each keeps the contract of [`Ledger`](crate::dedupe::Ledger), and so can a store of your own: see `testing::ledger`.

mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use self::memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use self::postgres::PostgresStore;
#[cfg(feature = "redis")]
pub use self::redis::RedisStore;
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteStore;
