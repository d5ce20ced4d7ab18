//! Handled deliveries, remembered in a Postgres table that several nodes share.
//!
//! - Time is the server's: the nodes' clocks need not agree.
//! - A delivery not seen before is claimed by one statement, in one round trip. Finding out about a duplicate takes two.
//! - The table creates itself. It takes some 170 bytes of disk for each remembered delivery, its indexes included.
//! - Entries whose time is up are deleted in the background, a slice of the table at a time.
//! - Nothing waits for ever: a server that hangs, or that is gone, gives an error within the
//!   [deadline](PostgresStoreBuilder::deadline), the delivery is answered with 503, and klikit sends it again. Broken
//!   connections are replaced.
//! - Nothing is forgotten in a crash as long as the server keeps what it has committed: leave `fsync` and
//!   `synchronous_commit` on.
//!
//! ```no_run
//! use tower_klikit::store::postgres::PostgresStore;
//!
//! # async fn open() -> Result<(), Box<dyn std::error::Error>> {
//! let store = PostgresStore::connect("postgres://klikit:password@db.example.com/orders?sslmode=require").await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Completing in a transaction of your own
//!
//! The layer completes a claim after the handler has succeeded. When the process dies in between, the delivery comes again
//! and is handled again. A handler that writes to the same database can close that gap: it completes the claim in the
//! transaction that writes the order, so that both happen or neither does.
//!
//! ```no_run
//! use tower_klikit::{dedupe::Claim, store::postgres::PostgresStore};
//!
//! # const RETENTION: std::time::Duration = std::time::Duration::from_secs(35 * 24 * 60 * 60);
//! async fn handle(
//!     pool: &deadpool_postgres::Pool,
//!     store: &PostgresStore,
//!     claim: &Claim,
//!     order: &str,
//! ) -> Result<(), Box<dyn std::error::Error>> {
//!     let mut client = pool.get().await?;
//!     let transaction = client.transaction().await?;
//!     transaction.execute("INSERT INTO orders (body) VALUES ($1)", &[&order]).await?;
//!     if !store.complete_in(&*transaction, claim, RETENTION).await? {
//!         transaction.rollback().await?;
//!         return Err("another copy of this delivery is being handled".into());
//!     }
//!     transaction.commit().await?;
//!     Ok(())
//! }
//! ```
//!
//! The layer then completes the same claim once more, which changes nothing. With another driver, run
//! [`PostgresStore::complete_sql`].

mod builder;
mod connection;
mod error;
mod sql;
mod store;
mod sweep;
mod tls;

pub use self::{builder::PostgresStoreBuilder, error::PostgresError, store::PostgresStore};
