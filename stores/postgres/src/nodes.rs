//! A guide to running several nodes.
//!
//! # Shared state
//!
//! Nodes share only the database. Each node runs the same program and opens a store on the same tables. A load balancer
//! may send any delivery to any node: the ledger distinguishes copies from new deliveries, and one node may handle a
//! delivery that another node has accepted.
//!
//! - All times come from the database server's clock, so the nodes' clocks need not agree.
//! - A node handles its own deliveries at once. It finds other nodes' deliveries when it
//!   [polls](tower_klikit::inbox::Worker::poll_interval), every second by default.
//! - A delivery is leased to one node at a time. If that node crashes, another node handles the delivery once the
//!   [lease](tower_klikit::inbox::Worker::lease) has expired, after 30 seconds by default.
//! - Budgets, limits and metrics are per node. Let a single worker report the contents of the inbox: see
//!   [`metrics_interval`](tower_klikit::inbox::Worker::metrics_interval).
//!
//! # Ordering
//!
//! [Ordering keys](tower_klikit::inbox::OrderBy) apply across nodes. Of the deliveries that share a key, only the head of
//! the queue is leased, no matter which node accepted it. So deliveries of one order are handled one after another, and
//! each takes a round of leasing and settling. More nodes handle more orders at the same time, but no single order faster.
//!
//! Deliveries are ordered by their commits. Two deliveries of an order that arrive at the same time at two nodes may be
//! stored in either order.
//!
//! # Attempts and prefetching
//!
//! While there are more deliveries than handlers, a worker leases up to 200 deliveries [ahead of
//! need](tower_klikit::inbox::Worker::prefetch), as many as its handlers finish in a tenth of a second. Their attempts
//! count only when their handlers start. A worker releases these leases when it stops or its handlers become slow.
//!
//! # Connections
//!
//! A store opens up to [10 connections](crate::PostgresStoreBuilder::max_connections), and no more than it needs.
//! Postgres accepts 100 by default (`max_connections`), for all programs together. So `nodes × 10` must leave some for
//! others, even during a rolling deploy, when old and new nodes run at the same time.
//!
//! - A few connections are enough. Calls of the inbox that arrive together share a transaction. Usually two connections
//!   store deliveries, one counts attempts, one settles, and one leases. The ledger of
//!   [`KlikitDedupeLayer`](tower_klikit::dedupe::KlikitDedupeLayer) uses one connection for each call.
//! - A call that gets no connection within the [deadline](crate::PostgresStoreBuilder::deadline) fails. The delivery is
//!   answered with 503, and klikit sends it again.
//! - A connection whose call has failed still counts until the server has responded. So there are never more backends
//!   than `max_connections`, even while a table is locked or a standby is gone. Each transaction's `statement_timeout` is
//!   the deadline. If there is no response for 30 deadlines, the store cancels the statement and closes the connection.
//!
//! With [your own pool](crate::PostgresStore::from_pool), cancelling works only without TLS. With TLS, such a connection
//! counts until it ends.
//!
//! # Poolers
//!
//! The store works behind PgBouncer and other poolers, in session mode and in transaction mode, in every version. It
//! sends each statement without a name, inside a transaction, and changes settings only for that transaction. It does not
//! work in statement mode: opening the store fails there.
//!
//! Make the pooler's pool at least as large as all stores' pools together, or callers wait in the pooler. Do not set
//! [`named_statements`](crate::PostgresStoreBuilder::named_statements) behind a pooler in transaction mode.
//!
//! # Vacuum
//!
//! Each delivery leaves dead rows: when it is leased, when its attempt is counted, and when it is settled. Vacuum often
//! and without pauses, so that the tables and their indexes stay small:
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
//! Vacuum keeps rows that an open snapshot might still see, such as the snapshot of `pg_dump`, of a long report, or of a
//! standby with `hot_standby_feedback`. The tables grow meanwhile, but leasing stays fast. If a search reads more than
//! 2,000 index entries, the next searches begin shortly before the first delivery that was found, and every 30 seconds one
//! begins at the start. Searches for ordered deliveries cannot skip a delivery that is due and blocked.
//!
//! # Rolling deploys
//!
//! - On SIGTERM, let the server finish its requests, and the worker [drain](tower_klikit::inbox::Worker::drain_deadline).
//!   Deliveries that the worker has leased but not started are released at once, and another node handles them.
//! - A new release may contain a migration. The first node that opens a store runs it, and the others wait. Nodes of the
//!   old release continue with their open stores, but cannot open the newer schema: start no old node after that. To
//!   choose the time of the migration, run the SQL of [`migrations`](crate::PostgresStoreBuilder::migrations) first.
//! - All nodes need the same [`table_prefix`](crate::PostgresStoreBuilder::table_prefix),
//!   [scope](tower_klikit::inbox::Inbox::scope) and [ordering](tower_klikit::inbox::Inbox::order_by).
//!
//! # Failover
//!
//! Name all servers in the URL, and ask for the one that accepts writes:
//!
//! ```text
//! postgres://klikit:password@db1,db2/orders?sslmode=require&target_session_attrs=read-write
//! ```
//!
//! If the primary fails, deliveries are answered with 503 until a standby is promoted, and are then accepted again without
//! a restart. If the server's machine disappears, the store notices after 10 seconds (`tcp_user_timeout` in the URL). If the
//! URL names several hosts, the store skips a host that does not respond within the deadline.
//!
//! The kind of replication decides which deliveries survive:
//!
//! - **Synchronous** (`synchronous_standby_names` is set, and `synchronous_commit` is `on` or `remote_apply`): nothing
//!   that was acknowledged is lost. While the standby is gone, deliveries are answered with 503. This also holds if an
//!   operator cancels a statement that waits for the standby. Postgres then reports success, but the store treats the
//!   outcome as unknown, and acknowledges the delivery once the standby has it. Until then the delivery may be handled, and
//!   after a failover handled again. [Your own pool](crate::PostgresStore::from_pool) does not give this guarantee, because
//!   it hides the server's warning.
//! - **Asynchronous**: the standby lacks the last transactions, usually those of less than a second. Deliveries that were
//!   acknowledged in that time are lost, and klikit does not send them again. Deliveries that were handled in that time
//!   are handled again.
//!
//! In both cases, the counts of attempts may be slightly too low after a failover, because no commit waits for them.
//!
//! Connect to the primary only. A standby lags behind, and rejects writes.
