//! The in-memory store, and the choice of a store.
//!
//! A store remembers the deliveries that were handled, and an inbox keeps its pending deliveries in one.
//!
//! | store | crate | for | after a restart | several nodes | inbox |
//! |---|---|---|---|---|---|
//! | [`MemoryStore`] | this one | tests, and services that can live with a doubled order after a restart | forgets | no | for tests |
//! | `SqliteStore` | `tower-klikit-sqlite` | one machine: a file, and the default choice | remembers | processes on that machine | yes |
//! | `PostgresStore` | `tower-klikit-postgres` | services that have a Postgres | remembers | yes | yes |
//! | `RedisStore` | `tower-klikit-redis` | services that have a Redis that does not evict | as Redis is configured to persist | yes | no: it would acknowledge what is not durable yet |
//!
//! Each keeps the contract of [`Ledger`](crate::dedupe::Ledger), and those with an inbox that of `InboxStore`. A store of your own
//! can do the same: the suites in `tower-klikit-store-tests` check it.

mod memory;

pub use self::memory::MemoryStore;
