//! SQL for operators.
//!
//! Run these statements with `sqlite3` or any other client, also while the store has the file open. Two rules for the
//! client:
//!
//! - Set a timeout, such as `.timeout 5000` in `sqlite3`, since the store may have the file locked for a moment.
//! - Write with SQLite 3.51.3 or later. Earlier versions can corrupt a file that another connection has open.
//!
//! The view `klikit_deliveries` has a row for each delivery:
//!
//! | column | content |
//! |---|---|
//! | `id` | the delivery's number in this file, ascending in the order of acceptance |
//! | `state` | `ready`, `leased`, `dead`, or `done` while it is [kept](tower_klikit::inbox::Inbox::keep_bodies) |
//! | `event_id`, `event_type` | the request's headers. NULL if it had none |
//! | `tenant` | the name of the keyring whose secret signed the request |
//! | `ordering_keys` | a JSON array such as `["order:42@default"]`. NULL if the delivery is in no order |
//! | `attempts` | how many attempts were begun |
//! | `due_at` | ready: next attempt; leased: end of the lease; done: end of the time that it is kept for; dead: NULL |
//! | `accepted_at` | when the delivery was accepted. This and `due_at` are in UTC, by the system clock |
//! | `reason` | why the last attempt failed |
//! | `body_bytes` | the size of the body |
//!
//! The names begin with the [table prefix](crate::SqliteStoreBuilder::table_prefix). The body itself holds customers'
//! data. It is in the table `klikit_inbox_body`.
//!
//! # Reading
//!
//! How many deliveries are in each state:
//!
//! ```sql
//! SELECT state, count(*) AS deliveries
//! FROM klikit_deliveries
//! GROUP BY state
//! ORDER BY state;
//! ```
//!
//! The oldest pending delivery:
//!
//! ```sql
//! SELECT id, state, event_id, tenant, accepted_at, attempts, due_at, reason
//! FROM klikit_deliveries
//! WHERE state IN ('ready', 'leased')
//! ORDER BY accepted_at, id
//! LIMIT 1;
//! ```
//!
//! All deliveries of an event, of which there are several if its id came with several bodies:
//!
//! ```sql
//! SELECT id, state, tenant, accepted_at, attempts, due_at, reason
//! FROM klikit_deliveries
//! WHERE event_id = 'evt-1'
//! ORDER BY id;
//! ```
//!
//! The latest deliveries of a tenant and an event type:
//!
//! ```sql
//! SELECT id, state, event_id, accepted_at, attempts, reason
//! FROM klikit_deliveries
//! WHERE tenant = 'default' AND event_type = 'order.created'
//! ORDER BY id DESC
//! LIMIT 20;
//! ```
//!
//! All deliveries that have an ordering key:
//!
//! ```sql
//! SELECT id, state, event_id, accepted_at, attempts, due_at, reason
//! FROM klikit_deliveries
//! WHERE EXISTS (SELECT 1 FROM json_each(ordering_keys) WHERE value = 'order:42@default')
//! ORDER BY id;
//! ```
//!
//! The delivery that blocks an ordering key: the one that is leased, or else the first one that is ready:
//!
//! ```sql
//! SELECT d.id, d.state, d.event_id, d.attempts, d.due_at, d.reason
//! FROM klikit_inbox_key AS k
//! JOIN klikit_deliveries AS d ON d.id = k.id
//! WHERE k.ordering_key = 'order:42@default' AND d.state IN ('ready', 'leased')
//! ORDER BY d.state = 'leased' DESC, d.id
//! LIMIT 1;
//! ```
//!
//! Dead deliveries and why they are dead, newest first:
//!
//! ```sql
//! SELECT id, event_id, event_type, tenant, accepted_at, attempts, reason
//! FROM klikit_deliveries
//! WHERE state = 'dead'
//! ORDER BY id DESC
//! LIMIT 20;
//! ```
//!
//! One delivery with the head of its request and the size of its body:
//!
//! ```sql
//! SELECT d.id, d.state, d.attempts, d.due_at, d.reason, b.head, d.body_bytes
//! FROM klikit_deliveries AS d
//! LEFT JOIN klikit_inbox_body AS b ON b.id = d.id
//! WHERE d.id = 1;
//! ```
//!
//! # Writing
//!
//! Workers see what was changed when they next look for deliveries, after their
//! [poll interval](tower_klikit::inbox::Worker::poll_interval) at the latest. In these statements, the state 0 is
//! ready and the state 2 is dead.
//!
//! Retry a dead delivery, in its old place among those that share its ordering keys:
//!
//! ```sql
//! UPDATE klikit_inbox
//! SET state = 0, due = 0, attempts = 0
//! WHERE id = 1 AND state = 2;
//! ```
//!
//! Retry all deliveries that are dead for one reason:
//!
//! ```sql
//! UPDATE klikit_inbox
//! SET state = 0, due = 0, attempts = 0
//! WHERE state = 2 AND reason LIKE '%503%';
//! ```
//!
//! Forget a dead delivery, so that klikit's next copy is accepted as a new delivery:
//!
//! ```sql
//! BEGIN IMMEDIATE;
//! DELETE FROM klikit_ledger
//! WHERE key = (SELECT key FROM klikit_inbox WHERE id = 1 AND state = 2);
//! DELETE FROM klikit_inbox_body
//! WHERE id = (SELECT id FROM klikit_inbox WHERE id = 1 AND state = 2);
//! DELETE FROM klikit_inbox
//! WHERE id = 1 AND state = 2;
//! COMMIT;
//! ```
