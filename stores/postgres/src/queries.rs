//! Twelve SQL queries for operators.
//!
//! They use the default table prefix, `klikit_`. Replace the example values, such as `'evt-1042'` and `17`.
//!
//! The view `klikit_deliveries` shows the inbox's deliveries with their states as words. It has no row for a delivery
//! that was handled, unless [bodies are kept](tower_klikit::inbox::Inbox::keep_bodies). Queries by event id, tenant,
//! event type and ordering key read all of its rows. These rows are short, and no query reads a body.
//!
//! The statements that write may run while workers run. The same holds for other statements that delete deliveries, or
//! change their states or ordering keys, because triggers maintain the queues of the ordering keys. A delivery that is set
//! to ready by hand runs. A delivery that is deleted or set to dead by hand no longer blocks others.
//!
//! `TRUNCATE` runs no triggers, and `session_replication_role` can switch them off. A delivery that is removed without
//! triggers blocks no others either, but leaves its rows in `klikit_inbox_key`. A delivery that is set to ready without
//! triggers runs out of order. To empty the inbox, truncate `klikit_inbox`, `klikit_inbox_body`, `klikit_inbox_key` and
//! `klikit_inbox_attempt` together.
//!
//! A delivery that was inserted by hand, or moved to another tenant, is leased within 30 seconds, even if the tenant is new.
//!
//! # How many deliveries are in each state
//!
//! ```sql
//! SELECT state, count(*) AS deliveries
//! FROM klikit_deliveries
//! GROUP BY state
//! ORDER BY state;
//! ```
//!
//! # The oldest pending deliveries
//!
//! ```sql
//! SELECT id, state, event_id, accepted_at, attempts, reason
//! FROM klikit_deliveries
//! WHERE state IN ('ready', 'leased')
//! ORDER BY accepted_at, id
//! LIMIT 10;
//! ```
//!
//! # The deliveries of an event
//!
//! ```sql
//! SELECT *
//! FROM klikit_deliveries
//! WHERE event_id = 'evt-1042'
//! ORDER BY id;
//! ```
//!
//! # The deliveries that contain an order
//!
//! This query uses an index. The `branch` of a delivery has one too, with values such as `'branch:7'`.
//!
//! ```sql
//! SELECT *
//! FROM klikit_deliveries
//! WHERE orders @> ARRAY['order:42']
//! ORDER BY id;
//! ```
//!
//! # The attempts to handle a delivery
//!
//! The attempt that is open now is in the columns `started_at` and `worker` of `klikit_inbox`.
//!
//! ```sql
//! SELECT attempt, worker, started_at, ended_at, status, reason
//! FROM klikit_inbox_attempt
//! WHERE id = 17
//! ORDER BY started_at;
//! ```
//!
//! # The deliveries of a tenant and an event type
//!
//! ```sql
//! SELECT *
//! FROM klikit_deliveries
//! WHERE tenant = 'warung' AND event_type = 'order.created'
//! ORDER BY id DESC
//! LIMIT 100;
//! ```
//!
//! # The deliveries of an ordering key
//!
//! The text of a key contains its kind, the id and the tenant: see [`OrderingKey`](tower_klikit::inbox::OrderingKey).
//!
//! ```sql
//! SELECT *
//! FROM klikit_deliveries
//! WHERE 'order:42@warung' = ANY (ordering_keys)
//! ORDER BY id;
//! ```
//!
//! # The queue of an ordering key
//!
//! The first row is the head of the queue. It blocks the others until it is handled or dead.
//!
//! ```sql
//! SELECT id, state, event_id, attempts, due_at, reason
//! FROM klikit_inbox_key
//! JOIN klikit_deliveries USING (id)
//! WHERE ordering_key = 'order:42@warung' AND state IN ('ready', 'leased')
//! ORDER BY id
//! LIMIT 10;
//! ```
//!
//! # Dead deliveries and their reasons, newest first
//!
//! ```sql
//! SELECT id, event_id, event_type, tenant, attempts, accepted_at, reason
//! FROM klikit_deliveries
//! WHERE state = 'dead'
//! ORDER BY id DESC
//! LIMIT 100;
//! ```
//!
//! # One delivery, with its head and the size of its body
//!
//! ```sql
//! SELECT klikit_deliveries.*, head
//! FROM klikit_deliveries
//! JOIN klikit_inbox_body USING (id)
//! WHERE id = 17;
//! ```
//!
//! # Retry dead deliveries
//!
//! The lock prevents leasing and forgetting meanwhile. Without the lock, this statement and one of the store's may
//! deadlock, and Postgres ends one of them. A retry in a session with autocommit off stops all leasing until it is
//! committed.
//!
//! A single delivery:
//!
//! ```sql
//! BEGIN;
//! SELECT pg_advisory_xact_lock(1802267500, 'klikit_inbox'::regclass::oid::integer);
//! UPDATE klikit_inbox
//! SET state = 0, due = now(), attempts = 0
//! WHERE id = 17 AND state = 2;
//! COMMIT;
//! ```
//!
//! All deliveries with a certain reason:
//!
//! ```sql
//! BEGIN;
//! SELECT pg_advisory_xact_lock(1802267500, 'klikit_inbox'::regclass::oid::integer);
//! UPDATE klikit_inbox
//! SET state = 0, due = now(), attempts = 0
//! WHERE state = 2 AND reason = '503 Service Unavailable';
//! COMMIT;
//! ```
//!
//! # Forget a dead delivery
//!
//! klikit's next copy of the delivery is then accepted as a new one.
//!
//! ```sql
//! BEGIN;
//! SELECT pg_advisory_xact_lock(1802267500, 'klikit_inbox'::regclass::oid::integer);
//! DELETE FROM klikit_ledger
//! WHERE key = (SELECT key FROM klikit_inbox WHERE id = 17 AND state = 2);
//! DELETE FROM klikit_inbox_body
//! WHERE id = (SELECT id FROM klikit_inbox WHERE id = 17 AND state = 2);
//! DELETE FROM klikit_inbox_attempt
//! WHERE id = (SELECT id FROM klikit_inbox WHERE id = 17 AND state = 2);
//! DELETE FROM klikit_inbox WHERE id = 17 AND state = 2;
//! COMMIT;
//! ```
