//! Where handled deliveries are remembered, and where an inbox keeps what is yet to be handled.
//!
//! | store | for | a restart | several nodes | inbox |
//! |---|---|---|---|---|
//! | [`MemoryStore`] | tests, and services that can live with a doubled order after a restart | forgets | no | for tests |
//! | [`SqliteStore`] | one machine: a file, and the default choice | remembers | processes on that machine | yes |
//! | [`PostgresStore`] | services that have a Postgres | remembers | yes | yes |
//! | [`RedisStore`] | services that have a Redis that does not evict | as Redis is set to persist | yes | no: it would acknowledge what is not on disk yet |
//!
//! Each keeps the contract of [`Ledger`](crate::dedupe::Ledger), and those with an inbox that of
//! [`InboxStore`](crate::inbox::InboxStore). So can a store of your own: see `testing::ledger` and `testing::inbox`.

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
