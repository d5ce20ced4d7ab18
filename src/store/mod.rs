//! The in-memory store, and a comparison of the available stores.
//!
//! A store remembers which deliveries were handled, and contains the deliveries of an inbox.
//!
//! | store | crate | suitable for | after a restart | several nodes | inbox |
//! |---|---|---|---|---|---|
//! | [`MemoryStore`] | this one | tests, and services that tolerate duplicate orders after a restart | forgets | no | for tests |
//! | `SqliteStore` | `tower-klikit-sqlite` | one machine: a file, and the default choice | remembers | processes on that machine | yes |
//! | `PostgresStore` | `tower-klikit-postgres` | services that use Postgres | remembers | yes | yes |
//! | `RedisStore` | `tower-klikit-redis` | services that use a Redis that does not evict | depends on the persistence that Redis is configured for | yes | no: it would acknowledge deliveries before they are durable |
//!
//! # What they cost
//!
//! On Redis and Postgres, a new delivery takes one round trip before the handler and one after it. On SQLite, it takes
//! one wait for the disk, which concurrent deliveries share. With 64 senders and a disk that takes a millisecond, that
//! is 20 times the rate of one commit per delivery (`cargo bench -p tower-klikit-sqlite --bench ledger_sqlite`).
//!
//! # Your own store
//!
//! Every store implements [`Ledger`](crate::dedupe::Ledger), and a store with an inbox also
//! [`InboxStore`](crate::inbox::InboxStore). You can
//! implement both for a store of your own, and test it with the suites in `tower-klikit-store-tests`.

mod memory;

pub use self::memory::MemoryStore;
