//! A guide: running several nodes.
//!
//! # What the nodes share
//!
//! Nodes share the database and nothing else. Each runs the same program and opens a store on the same tables. A load
//! balancer may give any delivery to any node: the ledger row tells a copy from a new delivery, and a delivery that one
//! node has accepted may be handled by another.
//!
//! - Times are the database server's, so the nodes' clocks need not agree.
//! - A node handles what it has accepted at once. It finds what other nodes have accepted when it
//!   [polls](tower_klikit::inbox::Worker::poll_interval), every second by default.
//! - A delivery is leased to one node at a time. If that node dies, the delivery is handled elsewhere once the
//!   [lease](tower_klikit::inbox::Worker::lease) has expired, after 30 seconds by default.
//! - Budgets, limits and metrics are per node. Let a single worker report the contents of the inbox: see
//!   [`metrics_interval`](tower_klikit::inbox::Worker::metrics_interval).
//!
//! # Ordering
//!
//! [Ordering keys](tower_klikit::inbox::OrderBy) hold across nodes. Of the deliveries that share a key, only the first
//! unfinished one is leased, wherever it was accepted. So deliveries of one order are handled one after another, and
//! each costs a round of leasing and settling. More nodes handle more orders at a time, but no single order faster.
//!
//! The order is that of the commits. Two deliveries of an order that arrive at the same time at two nodes may be stored
//! in either order.
//!
//! # Attempts and prefetching
//!
//! While there are more deliveries than handlers, a worker leases up to 200 [ahead of
//! need](tower_klikit::inbox::Worker::prefetch), as many as its handlers finish in a tenth of a second. These count no
//! attempt before their handlers start. A worker that stops releases them, and so does one whose handlers have become
//! slow.
//!
//! # Connections
//!
//! A store opens [10 connections](crate::PostgresStoreBuilder::max_connections) at most, and no more than it needs.
//! Postgres accepts 100 by default (`max_connections`), for all programs together. So `nodes × 10` must leave some for
//! others, also during a rolling deploy, when old and new nodes run side by side.
//!
//! - A few connections are enough. Calls of the inbox that arrive together share a transaction: mostly, two
//!   connections store deliveries, one counts attempts, one settles, and one leases. The ledger of
//!   [`KlikitDedupeLayer`](tower_klikit::dedupe::KlikitDedupeLayer) uses one connection for each call.
//! - A call that finds no connection within the [deadline](crate::PostgresStoreBuilder::deadline) fails. The delivery
//!   is answered with 503, and klikit sends it again.
//! - A connection whose call has failed stays counted until the server has answered. So there are never more backends
//!   than `max_connections`, also while a table is locked or a standby is gone. Each transaction has the deadline as its
//!   `statement_timeout`. If there is no answer for 30 deadlines, the store cancels the statement and closes the
//!   connection.
//!
//! With [a pool of your own](crate::PostgresStore::from_pool), cancelling works without TLS only. Otherwise such a
//! connection stays counted until it ends.
//!
//! # Poolers
//!
//! The store works behind PgBouncer and other poolers in session mode and in transaction mode, in every version. It
//! sends each statement without a name, inside a transaction, and changes no setting beyond that transaction. It does not
//! work in statement mode, and opening fails there.
//!
//! Keep the pooler's pool at least as large as the stores' together, or callers wait in the pooler instead. Do not set
//! [`named_statements`](crate::PostgresStoreBuilder::named_statements) behind a pooler in transaction mode.
//!
//! # Vacuum
//!
//! Each delivery leaves dead rows: when it is leased, when its attempt is counted, and when it is settled. Vacuum them
//! often, and without pauses, so that the tables and their indexes stay small:
//!
//! ```sql
//! ALTER TABLE klikit_inbox SET (
//!     autovacuum_vacuum_scale_factor = 0,
//!     autovacuum_vacuum_threshold = 10000,
//!     autovacuum_vacuum_cost_delay = 0
//! );
//!
//! ALTER TABLE klikit_inbox_body SET (
//!     autovacuum_vacuum_scale_factor = 0,
//!     autovacuum_vacuum_threshold = 10000,
//!     toast.autovacuum_vacuum_scale_factor = 0,
//!     toast.autovacuum_vacuum_threshold = 50000
//! );
//!
//! ALTER TABLE klikit_inbox_key SET (
//!     autovacuum_vacuum_scale_factor = 0,
//!     autovacuum_vacuum_threshold = 10000,
//!     autovacuum_vacuum_cost_delay = 0
//! );
//! ```
//!
//! Vacuum removes nothing that an open snapshot might still see, as that of `pg_dump`, of a long report, or of a
//! standby with `hot_standby_feedback`. Leasing copes with that: if a search reads more than 2,000 index entries, the
//! next searches begin shortly before the first delivery that was found, and every 30 seconds one begins at the start. An
//! ordered delivery that is due and blocked keeps the searches for ordered ones from beginning later. The tables grow
//! meanwhile.
//!
//! # Rolling deploys
//!
//! - On SIGTERM, let the server finish its requests, and the worker [drain](tower_klikit::inbox::Worker::drain_deadline).
//!   What it has not started is released at once, and another node handles it.
//! - A new release may bring a migration. The first node that opens a store runs it, and the others wait. A node of the
//!   old release goes on with its open store, but cannot open the newer schema: start no old node after that. To
//!   migrate at a time of your own, run the SQL of [`migrations`](crate::PostgresStoreBuilder::migrations) first.
//! - Nodes that run side by side need the same [`table_prefix`](crate::PostgresStoreBuilder::table_prefix),
//!   [scope](tower_klikit::inbox::Inbox::scope) and [ordering](tower_klikit::inbox::Inbox::order_by).
//!
//! # Failover
//!
//! Name all servers in the URL, and ask for the one that accepts writes:
//!
//! ```text
//! postgres://klikit:password@db1.example.com,db2.example.com/orders?sslmode=require&target_session_attrs=read-write
//! ```
//!
//! If the primary fails, deliveries are answered with 503 until a standby is promoted, and then accepted again without a
//! restart. A server whose machine is gone without a word is noticed after 10 seconds (`tcp_user_timeout` in the URL).
//! When there are several hosts, one that does not answer within the deadline is passed over.
//!
//! The replication decides which deliveries survive:
//!
//! - **Synchronous** (`synchronous_standby_names` is set, and `synchronous_commit` is `on` or `remote_apply`): nothing
//!   that was acknowledged is lost. While the standby is gone, deliveries are answered with 503. An operator who cancels
//!   a statement that waits for the standby does not change that: Postgres then reports success, but the store treats
//!   the outcome as unknown, and acknowledges the delivery once the standby has it. Until then it may be handled, and
//!   after a failover handled again. This does not hold for [a pool of your own](crate::PostgresStore::from_pool), which does not
//!   pass the server's warning on.
//! - **Asynchronous**: the standby lacks the last transactions, mostly those of less than a second. Deliveries that were
//!   acknowledged in that time are lost, and klikit does not send them again. Deliveries that were handled in that time
//!   are handled again.
//!
//! In both cases, the counts of attempts may be a little behind after a failover, because no commit waits for them.
//!
//! Connect to the primary only. A standby is behind, and rejects writes.
