//! A [ledger](tower_klikit::dedupe::Ledger) and an [inbox](tower_klikit::inbox) in Postgres tables that several nodes
//! share.
//!
//! - Times are measured by the server's clock, so the nodes' clocks need not agree.
//! - Claiming a new delivery takes one statement and one round trip. A duplicate takes two.
//! - The store creates its tables, and migrates them when a later release needs other ones: see
//!   [below](#tables-and-migrations).
//! - The ledger takes some 170 bytes of disk for each remembered delivery, including its indexes.
//! - Entries whose time is over are deleted in the background, a slice of the table at a time.
//! - A server that hangs or is gone gives an error within the [deadline](PostgresStoreBuilder::deadline): the delivery
//!   is answered with 503, and klikit sends it again. Broken connections are replaced.
//! - If a node vanishes in the middle of a transaction, the server ends that transaction within the deadline, so that
//!   others do not wait for it.
//! - There are never more backends than [connections](PostgresStoreBuilder::max_connections), also while a table is locked
//!   or a standby is gone. Statements have no names, so that poolers work. [`nodes`] tells more.
//! - A call about many claims or leases waits for no lock, so that one delivery does not hold up the others. If another
//!   transaction has locked a claim or a lease, as that of a handler that
//!   [completes](#completing-in-a-transaction-of-your-own) its claim, it counts as renewed.
//! - Nothing is lost in a crash as long as the server keeps what it has committed: leave `fsync` and
//!   `synchronous_commit` on. A store that finds one of them off when it is opened logs a warning.
//!
//! ```no_run
//! use tower_klikit_postgres::PostgresStore;
//!
//! # async fn open() -> Result<(), Box<dyn std::error::Error>> {
//! let store = PostgresStore::open("postgres://klikit:password@db.example.com/orders?sslmode=require").await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Tables and migrations
//!
//! | table | rows |
//! |---|---|
//! | `klikit_schema` | the version of each part of the schema: `ledger` and `inbox` |
//! | `klikit_ledger` | remembered deliveries |
//! | `klikit_inbox` | the state and the labels of each delivery in the inbox |
//! | `klikit_inbox_body` | the head and the body of each delivery |
//! | `klikit_inbox_key` | the queue of each ordering key: deliveries that are ready or leased |
//! | `klikit_inbox_attempt` | the attempts to handle each delivery; not filled yet |
//! | `klikit_deliveries` | a view of the inbox for operators |
//!
//! - [`table_prefix`](PostgresStoreBuilder::table_prefix) replaces `klikit_`, and may name a schema.
//! - [`ledger_only`](PostgresStoreBuilder::ledger_only) leaves out the inbox.
//! - Opening runs the missing migrations in one transaction, while no other node does. If one fails, nothing has
//!   changed.
//! - [`migrations`](PostgresStoreBuilder::migrations) returns their SQL, for a migration tool of your own. The store
//!   then needs `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the tables only.
//! - Opening fails if the tables are those of a later release, or of a release that had no schema versions.
//!
//! # Completing in a transaction of your own
//!
//! The layer completes a claim after the handler has succeeded. If the process dies in between, the delivery comes
//! again and is handled again. A handler that writes to the same database can close that gap: it completes the claim in
//! the transaction that writes the order, so that both happen or neither does.
//!
//! ```no_run
//! use tower_klikit::dedupe::Claim;
//! use tower_klikit_postgres::PostgresStore;
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
//! - One statement stores a delivery and its ledger row, in one round trip. Deliveries that arrive together share it, up
//!   to 64 of them. If the server rejects one, each is stored by itself, and that one fails alone. A duplicate takes two
//!   round trips, and a conflict a third, which reads the stored body.
//! - Leasing takes one round trip, and so do counting attempts and settling. Calls that arrive together share it.
//! - Workers lease up to 200 deliveries [ahead of need](tower_klikit::inbox::Worker::prefetch).
//! - Operators read the view `klikit_deliveries`, and change deliveries with SQL: see the [queries].
//! - Nodes that lease at the same time pass over what the other one is about to lease, so that none waits for another.
//! - Deliveries that are [kept in order](tower_klikit::inbox::OrderBy) get their ids in the order of their commits. So
//!   those that share a key wait for each other's commit. A dead delivery that is retried takes its old place, and
//!   waits for a later one that is leased.
//! - Nothing is leased while deliveries are [forgotten](tower_klikit::inbox::InboxAdmin::forget_accepted) or brought
//!   back from the dead. Forgetting all deliveries of a time reads the whole table, and holds up leasing until it is
//!   done.
//! - [Counting](tower_klikit::inbox::InboxStore::counts) reads the whole table as well, and holds up nothing.
//! - If a connection breaks, calls that can be repeated are repeated once on another one. So
//!   [retrying](tower_klikit::inbox::InboxAdmin::retry) and forgetting may return `false` or 0 although they succeeded:
//!   the first answer was lost. Leasing is not repeated: what was leased when the answer was lost is leased again once
//!   its lease has expired.
//! - If the server rejects one settlement of many, or another transaction has locked a delivery, the others are
//!   recorded all the same. The call then fails, and the caller repeats it.
//! - A delivery whose content is missing or damaged is dead-lettered, and the others are leased. One whose content
//!   cannot be read for another reason is leased again once its lease has expired. If klikit sends a delivery again
//!   whose content is missing, its content is restored.
//! - A NUL in the reason why an attempt failed is stored as U+FFFD: Postgres's text cannot hold one.
//!
//! # Finishing in a transaction of your own
//!
//! A worker finishes a delivery after the handler has succeeded. If the process dies in between, the delivery is
//! handled again. A handler that writes to the same database can close that gap as well: it finishes the delivery in
//! the transaction that writes the order, and its effects happen exactly once.
//!
//! ```no_run
//! use axum::{Extension, body::Bytes, http::StatusCode};
//! use tower_klikit::inbox::Attempt;
//! use tower_klikit_postgres::PostgresStore;
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
//! The worker then finds the delivery finished, as it should. Let the commit be the last thing that the handler does:
//! from then on the lease cannot be extended, and the worker logs that it is lost. With another driver, run
//! [`PostgresStore::finish_sql`].
//!
//! # Handing off to another queue
//!
//! If this database already has a queue, the inbox's acceptor can feed it. With a
//! [statement](PostgresStoreBuilder::hand_off) that enqueues a delivery, the acceptor runs that statement in the
//! transaction that remembers the delivery, so that both happen or neither does. The inbox's own tables stay empty, and
//! no worker of this crate is needed: retries and dead letters are the queue's. A delivery that is accepted twice is
//! enqueued once.
//!
//! With [Graphile Worker](https://worker.graphile.org), whose task is `kitchen`
//! ([`add_job`](https://worker.graphile.org/docs/sql-add-job)):
//!
//! ```no_run
//! use tower_klikit::inbox::Inbox;
//! use tower_klikit_postgres::PostgresStore;
//!
//! # async fn open() -> Result<(), Box<dyn std::error::Error>> {
//! let store = PostgresStore::builder()
//!     .hand_off(
//!         "SELECT graphile_worker.add_job(
//!             'kitchen',
//!             json_build_object('head', $2::json, 'body', encode($1, 'base64')),
//!             job_key => $3,
//!             job_key_mode => 'preserve_run_at'
//!         )",
//!     )
//!     .open("postgres://klikit:password@db.example.com/orders?sslmode=require")
//!     .await?;
//! let acceptor = Inbox::new(store).acceptor();
//! # Ok(())
//! # }
//! ```
//!
//! - The ledger sees to it that a delivery is enqueued once. The key matters only if the delivery is forgotten, or its
//!   retention ends, while its job still exists.
//! - With [`preserve_run_at`](https://worker.graphile.org/docs/job-key#job_key_mode), a job that has not started then
//!   keeps its place, a job that has failed starts over, and a job that is running is followed by another one.
//! - Do not use `unsafe_dedupe`: a job that has failed for good would swallow the delivery.
//! - Leave the payload an object: Graphile Worker appends an array to that of a job with the same key.
//! - If a worker is killed, nobody runs its jobs for four hours, unless you call
//!   `graphile_worker.force_unlock_workers`.
//!
//! With [pgmq](https://github.com/pgmq/pgmq), whose queue is `klikit`
//! ([`send`](https://github.com/pgmq/pgmq/blob/main/docs/api/sql/functions.md#send)):
//!
//! ```sql
//! SELECT pgmq.send(
//!     'klikit',
//!     jsonb_build_object('key', $3::text, 'head', $2::jsonb, 'body', encode($1, 'base64'))
//! )
//! ```
//!
//! With [River](https://riverqueue.com), whose worker is for the kind `klikit_order`
//! ([`river_job`](https://github.com/riverqueue/river/tree/master/riverdriver/riverpgxv5/migration/main)):
//!
//! ```sql
//! INSERT INTO river_job (kind, max_attempts, args)
//! VALUES (
//!     'klikit_order',
//!     25,
//!     jsonb_build_object('key', $3::text, 'head', $2::jsonb, 'body', encode($1, 'base64'))
//! )
//! ```
//!
//! - River's own client also notifies its workers, which otherwise look for jobs every second.
//! - Do not set `unique_key`: if the delivery is forgotten and comes again, the insert would fail as long as the old job
//!   exists.
//!
//! All three pass the body as base64, in lines of 76 characters, so that they take any body that klikit has signed. With
//! `convert_from($1, 'UTF8')::json` the payload is readable, but a body that is no JSON is rejected every time. As
//! `jsonb`, a body that has the escape `\u0000` is rejected too.
//!
//! Deliveries that are pending in the inbox when the hand-off is switched on still need a worker, and are not handed off
//! if they come again. Dead deliveries are handed off if they come again, and are deleted from the inbox.
//!
//! If the statement fails, the error has the server's code alone, because its message may repeat the body. If the
//! statement itself is wrong, the error has the message too.

mod batch;
mod builder;
mod connect;
mod connection;
mod error;
mod inbox;
mod ledger;
mod names;
pub mod nodes;
pub mod queries;
mod refusal;
mod schema;
mod sql;
mod store;
mod sweep;
mod telemetry;
mod tls;
mod values;

pub use self::{
    builder::PostgresStoreBuilder,
    error::{PostgresError, PostgresErrorKind},
    schema::Migration,
    store::PostgresStore,
};
