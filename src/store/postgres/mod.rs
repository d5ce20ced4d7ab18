//! Handled deliveries, remembered in a Postgres table that several nodes share, and beside it an
//! [inbox](crate::inbox) of those that are still to be handled.
//!
//! - Time is the server's: the nodes' clocks need not agree.
//! - A delivery not seen before is claimed by one statement, in one round trip. Finding out about a duplicate takes two.
//! - The ledger's table creates itself. It takes some 170 bytes of disk for each remembered delivery, its indexes included.
//! - Entries whose time is up are deleted in the background, a slice of the table at a time.
//! - Nothing waits for ever: a server that hangs, or that is gone, gives an error within the
//!   [deadline](PostgresStoreBuilder::deadline), the delivery is answered with 503, and klikit sends it again. Broken
//!   connections are replaced.
//! - A node that vanishes in the middle of a transaction holds nobody up for long: the server ends that a second after the
//!   deadline.
//! - Nothing is forgotten in a crash as long as the server keeps what it has committed: leave `fsync` and
//!   `synchronous_commit` on. A store that finds one of them off when it is opened logs a warning.
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
//!
//! # The inbox
//!
//! - A delivery and its row in the ledger are stored by one statement, in one round trip. A duplicate takes two.
//! - Three tables create themselves beside the ledger's: `klikit_deliveries_inbox` says where each delivery stands,
//!   `klikit_deliveries_inbox_delivery` what it is, `klikit_deliveries_inbox_ordering` who waits for whom.
//! - Nodes that lease at the same time pass over what the other one is about to take, so that none waits for another.
//! - Deliveries that are [kept in order](crate::inbox::OrderBy) get their ids in the order in which they are committed. So those
//!   that share a key wait for each other's commit. One that is brought back from the dead takes its old place, and waits for
//!   a younger one that somebody has already.
//! - Nothing is leased while deliveries are [forgotten](crate::inbox::InboxStore::forget_accepted) or brought back: forgetting
//!   all of a time reads the whole table, and holds up leasing until it is done.
//! - [Counting](crate::inbox::InboxStore::counts) reads the whole table as well, and holds up nobody.
//! - When a connection breaks, what may be done twice is done once more on another one. So
//!   [retrying](crate::inbox::InboxStore::retry) and forgetting may say `false` or 0 though they were done: the first answer was
//!   lost. Leasing is not done twice: what was leased when the answer was lost is leased again when its time is up.
//! - A zero byte in the reason why an attempt failed is stored as U+FFFD: Postgres has no text with one.
//!
//! # Finishing in a transaction of your own
//!
//! A worker finishes a delivery after the handler has succeeded. When the process dies in between, the delivery is handled
//! again. A handler that writes to the same database can close that gap as well: it finishes the delivery in the transaction
//! that writes the order, and its effects are there exactly once.
//!
//! ```no_run
//! use axum::{Extension, body::Bytes, http::StatusCode};
//! use tower_klikit::{inbox::Attempt, store::postgres::PostgresStore};
//!
//! async fn order(
//!     Extension(pool): Extension<deadpool_postgres::Pool>,
//!     Extension(store): Extension<PostgresStore>,
//!     Extension(attempt): Extension<Attempt>,
//!     body: Bytes,
//! ) -> StatusCode {
//!     match write(&pool, &store, &attempt, &body).await {
//!         Ok(()) => StatusCode::OK,
//!         Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
//!     }
//! }
//!
//! async fn write(
//!     pool: &deadpool_postgres::Pool,
//!     store: &PostgresStore,
//!     attempt: &Attempt,
//!     body: &[u8],
//! ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//!     let mut client = pool.get().await?;
//!     let transaction = client.transaction().await?;
//!     transaction.execute("INSERT INTO orders (body) VALUES ($1)", &[&body]).await?;
//!     if !store.finish_in(&*transaction, attempt.lease()).await? {
//!         transaction.rollback().await?;
//!         return Err("another worker has this delivery".into());
//!     }
//!     transaction.commit().await?;
//!     Ok(())
//! }
//! ```
//!
//! The worker then finds the delivery finished, which is as it should be. Let the commit be the last thing that the handler does:
//! from then on the lease can no longer be extended, and a handler that goes on for long is dropped where it stands. With another
//! driver, run [`PostgresStore::finish_sql`].
//!
//! # Handing off to another queue
//!
//! Where this database has a queue already, the inbox's acceptor can feed it. With a
//! [statement](PostgresStoreBuilder::hand_off) that puts a delivery there, accepting runs that statement in the transaction that
//! remembers the delivery, so that both happen or neither does. The inbox's own tables stay empty, and no worker of this crate is
//! needed: retries and the dead are the queue's. A delivery that is accepted twice is put there once.
//!
//! With [pgmq](https://github.com/pgmq/pgmq):
//!
//! ```no_run
//! use tower_klikit::{inbox::Inbox, store::postgres::PostgresStore};
//!
//! # async fn open() -> Result<(), Box<dyn std::error::Error>> {
//! let store = PostgresStore::builder()
//!     .hand_off(
//!         "SELECT pgmq.send('klikit', jsonb_build_object(\
//!          'key', $3::text, 'head', $2::jsonb, 'body', convert_from($1, 'UTF8')::jsonb))",
//!     )
//!     .connect("postgres://klikit:password@db.example.com/orders?sslmode=require")
//!     .await?;
//! let acceptor = Inbox::new(store).acceptor();
//! # Ok(())
//! # }
//! ```
//!
//! With [Graphile Worker](https://worker.graphile.org), whose payload is `json`:
//!
//! ```sql
//! SELECT graphile_worker.add_job(
//!   'klikit_order',
//!   json_build_object('head', $2::json, 'body', convert_from($1, 'UTF8')::json),
//!   job_key => $3
//! )
//! ```
//!
//! Both read the body as JSON, and so refuse one that is not, for ever: keep it as text, or as `encode($1, 'base64')`, where
//! other bodies may come. What is stored in the inbox when the hand-off is switched on still needs a worker, and is not handed
//! off when it comes again. What is dead there is, and is deleted there.
//!
//! When the statement fails, the error has the server's code alone, since its message may repeat the body; where the statement itself
//! is wrong, the message too.

mod builder;
mod connection;
mod error;
mod inbox;
mod refusal;
mod sql;
mod store;
mod sweep;
mod tls;
mod values;

pub use self::{builder::PostgresStoreBuilder, error::PostgresError, store::PostgresStore};
