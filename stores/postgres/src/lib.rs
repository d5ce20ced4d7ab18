//! A [ledger](tower_klikit::dedupe::Ledger) and an [inbox](tower_klikit::inbox) in Postgres tables that several nodes
//! share.
//!
//! - All times come from the server's clock, so the nodes' clocks need not agree.
//! - Claiming a new delivery takes one statement and one round trip. A duplicate takes two.
//! - The store creates its tables, and migrates them when a later release changes them: see
//!   [below](#tables-and-migrations).
//! - The ledger takes some 170 bytes of disk for each remembered delivery, including its indexes.
//! - Expired ledger entries are deleted in the background, a slice of the table at a time.
//! - If the server hangs or is gone, calls fail within the [deadline](PostgresStoreBuilder::deadline). The delivery is
//!   answered with 503, and klikit sends it again. Broken connections are replaced.
//! - If a node vanishes in the middle of a transaction, the server ends that transaction within the deadline, so that the
//!   other nodes do not wait for its locks.
//! - A store never has more backends than [connections](PostgresStoreBuilder::max_connections), even while a table is locked
//!   or a standby is gone. Statements have no names, so connection poolers work. See [`nodes`].
//! - A call about many claims or leases does not wait for locks on them, so that one delivery does not delay the others. If
//!   another transaction has locked a claim or a lease that the caller still holds, the claim or lease counts as renewed.
//!   The other transaction may be that of a handler which [completes](#completing-in-your-own-transaction) the claim.
//! - A crash loses nothing if the server's commits are durable: leave `fsync` and `synchronous_commit` on. If one of them
//!   is off when the store is opened, the store logs a warning.
//!
//! ```no_run
//! use tower_klikit_postgres::PostgresStore;
//!
//! # async fn open() -> Result<(), Box<dyn std::error::Error>> {
//! let url = "postgres://klikit:password@db.example.com/orders?sslmode=require";
//! let store = PostgresStore::open(url).await?;
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
//! | `klikit_inbox_body` | the head, the body and the search terms of each delivery |
//! | `klikit_inbox_key` | the queue of each ordering key: deliveries that are ready or leased |
//! | `klikit_inbox_attempt` | the attempts of stored deliveries that have ended |
//! | `klikit_inbox_tenant` | the tenants that have had deliveries |
//! | `klikit_inbox_pause` | the pauses that are in force |
//! | `klikit_deliveries` | a view of the inbox for operators |
//!
//! - [`table_prefix`](PostgresStoreBuilder::table_prefix) replaces `klikit_`, and may name a schema.
//! - [`ledger_only`](PostgresStoreBuilder::ledger_only) leaves out the inbox.
//! - Opening runs the missing migrations in one transaction, one node at a time. If one migration fails, nothing changes.
//! - [`migrations`](PostgresStoreBuilder::migrations) returns their SQL, for your own migration tool. The store then needs
//!   only `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the tables.
//! - Opening fails if the tables belong to a later release, or to a release that had no schema versions.
//!
//! # Completing in your own transaction
//!
//! The layer completes a claim after the handler has succeeded. If the process crashes in between, klikit sends the
//! delivery again, and the handler runs again. A handler that writes to the same database can close that gap. It completes
//! the claim in the transaction that writes the order, so that both happen or neither does.
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
//! The layer then completes the claim once more, which changes nothing. With another driver, run
//! [`PostgresStore::complete_sql`].
//!
//! # The inbox
//!
//! - One statement stores a delivery and its ledger row, in one round trip. Up to 64 deliveries that arrive together share
//!   a statement. If the server rejects one of them, each is stored by itself, so that only the bad one fails. A duplicate
//!   takes two round trips, and a conflict takes a third one, which reads the stored body.
//! - Leasing, counting attempts and settling take one round trip each. Calls that arrive together share it.
//! - Workers lease up to 200 deliveries [ahead of need](tower_klikit::inbox::Worker::prefetch).
//! - An attempt is recorded in the row of its delivery while it is open. A delivery that is handled at its first attempt and
//!   not kept writes no other row for it.
//! - A [search](tower_klikit::inbox::InboxAdmin::find) examines up to 5,000 deliveries for a page. If it uses an index, it
//!   examines up to 1,000, and for an order all deliveries that contain it.
//! - The deliveries of each tenant are searched by themselves when leasing. A tenant that was written by hand, or by a node
//!   of a release without the table of tenants, is found within 30 seconds.
//! - Operators read the view `klikit_deliveries`, and change deliveries with SQL: see the [queries].
//! - Nodes that lease at the same time skip each other's deliveries, so that no node waits for another.
//! - Deliveries with [ordering keys](tower_klikit::inbox::OrderBy) get their ids in the order of their commits, so
//!   deliveries that share a key wait for each other's commit. A dead delivery that is retried takes its old place in the
//!   queue, and is blocked while a later delivery of the queue is leased.
//! - Nothing is leased while deliveries are [forgotten](tower_klikit::inbox::InboxAdmin::forget_keys), requeued or
//!   [paused](tower_klikit::inbox::InboxAdmin::pause), or while a dead delivery is revived because klikit has sent it again.
//!   Forgetting all deliveries of a window reads the whole table, and pausing reads all pending deliveries that the pause
//!   may select. Nothing is leased until that is done.
//! - [Counting](tower_klikit::inbox::InboxStore::counts) deliveries, counting the [keys](tower_klikit::inbox::InboxAdmin::count_keys)
//!   of a window, and [listing](tower_klikit::dedupe::LedgerAdmin::entries) its entries also read whole tables, but block nothing.
//! - If a connection breaks, calls that can be repeated are repeated once on another connection. So
//!   [requeuing](tower_klikit::inbox::InboxAdmin::requeue), deleting, forgetting, pausing and resuming may return 0 or `false`
//!   although they succeeded, because the first response was lost. Leasing is not repeated: deliveries whose lease was lost with the response are
//!   leased again once the lease has expired.
//! - If the server rejects one settlement of many, or another transaction has locked a delivery, the others are still
//!   recorded. The call then fails, and the caller repeats it.
//! - A delivery whose content is missing or damaged is dead-lettered, and the others are leased. If the content cannot be
//!   read for another reason, the delivery is leased again once its lease has expired. If the content is missing and klikit
//!   sends the delivery again, the content is restored.
//! - A NUL in the reason of a failed attempt is stored as U+FFFD, because Postgres cannot store a NUL in text.
//!
//! # Finishing in your own transaction
//!
//! A worker finishes a delivery after the handler has succeeded. If the process crashes in between, the delivery is
//! handled again. A handler that writes to the same database can close that gap too. It finishes the delivery in the
//! transaction that writes the order, so that its effects happen exactly once.
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
//! The worker then finds the delivery finished, as intended. Commit as the last action of the handler: after the commit,
//! the lease cannot be extended, and the worker would log a lost lease. With another driver, run
//! [`PostgresStore::finish_sql`].
//!
//! # Handing off to another queue
//!
//! If this database already has a queue, the inbox's acceptor can feed it. Set a
//! [statement](PostgresStoreBuilder::hand_off) that enqueues a delivery. The acceptor runs the statement in the
//! transaction that writes the ledger row, so that both happen or neither does. The inbox's tables stay empty, and no
//! worker of this crate is needed: the queue handles retries and dead letters. A delivery that klikit sends twice is
//! enqueued once.
//!
//! With [Graphile Worker](https://worker.graphile.org) and a task named `kitchen`
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
//! - The ledger ensures that a delivery is enqueued once. The job key matters only if the delivery is forgotten, or its
//!   retention ends, while its job still exists.
//! - In that case, with [`preserve_run_at`](https://worker.graphile.org/docs/job-key#job_key_mode), a job that has not
//!   started keeps its place, a job that has failed starts over, and a job that is running is followed by another one.
//! - Do not use `unsafe_dedupe`: if the old job has failed permanently, the delivery would be lost.
//! - Keep the payload an object: Graphile Worker appends an array to the payload of a job with the same key.
//! - If a worker is killed, its jobs are not run for four hours, unless you call
//!   `graphile_worker.force_unlock_workers`.
//!
//! With [pgmq](https://github.com/pgmq/pgmq) and a queue named `klikit`
//! ([`send`](https://github.com/pgmq/pgmq/blob/main/docs/api/sql/functions.md#send)):
//!
//! ```sql
//! SELECT pgmq.send(
//!     'klikit',
//!     jsonb_build_object('key', $3::text, 'head', $2::jsonb, 'body', encode($1, 'base64'))
//! )
//! ```
//!
//! With [River](https://riverqueue.com) and a worker for the kind `klikit_order`
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
//! - Do not set `unique_key`: if the delivery is forgotten and sent again, the insert would fail while the old job exists.
//!
//! All three statements pass the body as base64, in lines of 76 characters, so that they work with every body that klikit
//! signs. With `convert_from($1, 'UTF8')::json` the payload is readable, but a body that is not JSON is always rejected.
//! With `jsonb`, a body that contains the escape `\u0000` is also rejected.
//!
//! Deliveries that are pending in the inbox when the hand-off is enabled still need a worker. If klikit sends one of them
//! again, it is not handed off. If klikit sends a dead delivery again, it is handed off and deleted from the inbox.
//!
//! If the statement fails, the error contains only the server's severity and code, because the message may repeat the
//! body. If the statement itself is wrong, the error also contains the message.

mod batch;
mod builder;
mod connect;
mod connection;
mod error;
mod hand_off_error;
mod inbox;
mod ledger;
mod names;
pub mod nodes;
pub mod queries;
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
