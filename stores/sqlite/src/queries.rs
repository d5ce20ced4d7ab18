//! SQL for operators.
//!
//! You can run these statements with `sqlite3` or any other client while the store has the file open. Two rules apply:
//!
//! - Set a timeout, such as `.timeout 5000` in `sqlite3`, since the store may lock the file for a moment.
//! - To write, use SQLite 3.51.3 or later. Earlier versions can corrupt a file that another connection has open.
//!
//! The view `klikit_deliveries` has a row for each delivery:
//!
//! | column | content |
//! |---|---|
//! | `id` | the delivery's number in this file, ascending in the order of acceptance |
//! | `state` | `ready` (pending), `leased`, `dead`, or `done` while it is [kept](tower_klikit::inbox::Inbox::keep_bodies) |
//! | `event_id`, `event_type` | the values of the request's headers. NULL if a header is missing |
//! | `tenant` | the name of the keyring whose secret signed the request |
//! | `branch` | the term of the branch in the body, such as `branch:7`, or NULL |
//! | `orders` | a JSON array of the terms of the orders in the body, such as `["order:42"]`, or NULL |
//! | `ordering_keys` | a JSON array such as `["order:42@default"]`. NULL if the delivery has no ordering keys |
//! | `attempts` | how many attempts were started |
//! | `due_at` | ready: next attempt; leased: end of the lease; done: end of the time that it is kept for; dead: NULL |
//! | `accepted_at` | when the delivery was accepted. All times are system times in UTC |
//! | `started_at`, `worker` | when and where the open attempt started. NULL if no attempt is open |
//! | `reason` | why the last attempt failed |
//! | `body_bytes` | the size of the body in bytes. NULL if the history alone is kept |
//!
//! All names begin with the [table prefix](crate::SqliteStoreBuilder::table_prefix). The table `klikit_inbox_body`
//! contains the body itself, which is customers' data. The table `klikit_inbox_attempt` contains the attempts that have
//! ended, and `klikit_inbox_pause` the pauses.
//!
//! # Reading
//!
//! The number of deliveries in each state:
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
//! All deliveries of an event. There are several if klikit sent the event id with different bodies:
//!
//! ```sql
//! SELECT id, state, tenant, accepted_at, attempts, due_at, reason
//! FROM klikit_deliveries
//! WHERE event_id = 'evt-1'
//! ORDER BY id;
//! ```
//!
//! All deliveries of an order:
//!
//! ```sql
//! SELECT id, state, event_id, accepted_at, attempts, due_at, reason
//! FROM klikit_deliveries
//! WHERE EXISTS (SELECT 1 FROM json_each(orders) WHERE value = 'order:42')
//! ORDER BY id;
//! ```
//!
//! The attempts of a delivery that have ended, oldest first:
//!
//! ```sql
//! SELECT
//!     attempt,
//!     worker,
//!     strftime('%Y-%m-%dT%H:%M:%SZ', started_at / 1000, 'unixepoch') AS started_at,
//!     ended_at - started_at AS milliseconds,
//!     status,
//!     reason
//! FROM klikit_inbox_attempt
//! WHERE id = 1
//! ORDER BY token;
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
//! The delivery that blocks an ordering key, which is the leased one, or else the head of the queue:
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
//! Dead deliveries with their reasons, newest first:
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
//! Workers notice a change when they next poll for deliveries, after their
//! [poll interval](tower_klikit::inbox::Worker::poll_interval) at the latest. In these statements, state 0 is ready and
//! state 2 is dead.
//!
//! Retry a dead delivery. It returns to its old place in the queues of its ordering keys:
//!
//! ```sql
//! UPDATE klikit_inbox
//! SET state = 0, due = 0, attempts = 0
//! WHERE id = 1 AND state = 2;
//! ```
//!
//! Retry all dead deliveries with a certain reason:
//!
//! ```sql
//! UPDATE klikit_inbox
//! SET state = 0, due = 0, attempts = 0
//! WHERE state = 2 AND reason LIKE '%503%';
//! ```
//!
//! Forget a dead delivery, so that the next copy from klikit is accepted as a new delivery:
//!
//! ```sql
//! BEGIN IMMEDIATE;
//! DELETE FROM klikit_ledger
//! WHERE key = (SELECT key FROM klikit_inbox WHERE id = 1 AND state = 2);
//! DELETE FROM klikit_inbox_body
//! WHERE id = (SELECT id FROM klikit_inbox WHERE id = 1 AND state = 2);
//! DELETE FROM klikit_inbox_attempt
//! WHERE id = (SELECT id FROM klikit_inbox WHERE id = 1 AND state = 2);
//! DELETE FROM klikit_inbox
//! WHERE id = 1 AND state = 2;
//! COMMIT;
//! ```
