//! What a worker asks.

use super::{DEAD, DONE, LEASED, READY, UNFINISHED, after, tables::Tables};
use crate::inbox::RAN_OUT;

/// How many of those in order are looked at before their keys are.
const NEAR: u32 = 500;

impl Tables {
    /// The longest due first. What another has locked is passed over, so nothing is waited for. It is passed over before the
    /// limit is counted, so that two nodes with one backlog find different parts of it. That locks some more than are taken
    /// where there are both such that are in order and others: the lock goes with the transaction.
    ///
    /// What a delivery waits for is seen as it was when the statement began. That is enough: who has been handled or buried
    /// by then stays so, and nobody with a smaller id can appear, because ids are given in the order of the commits. But for
    /// those that are brought back from the dead, which is why nothing is leased while that happens. One that was brought back
    /// waits also for a younger one that somebody has.
    ///
    /// Those in order are looked for among the first that are due, where there mostly are enough. Where too many of these wait
    /// for others, as behind a delivery that fails again and again, the first of each ordering key is looked at instead: that
    /// takes as long as there are keys, and not as there are deliveries.
    pub(super) fn lease(&self) -> String {
        let Self { inbox, delivery, ordering, .. } = self;
        let due = format!("{UNFINISHED} AND due <= statement_timestamp()");
        let buried = format!("state = {LEASED} AND attempts >= $3::bigint");
        let rivals = format!("SELECT FROM {ordering} AS mine JOIN {ordering} AS other ON other.key = mine.key");
        let free = format!(
            "({buried}) OR (NOT EXISTS ({rivals} AND other.id < mine.id WHERE mine.id = one.id) \
             AND (NOT retried OR NOT EXISTS ({rivals} AND other.id > mine.id JOIN {inbox} AS rival ON rival.id = other.id \
             WHERE mine.id = one.id AND rival.state = {LEASED} AND rival.due > statement_timestamp())))"
        );
        format!(
            "WITH RECURSIVE loose AS MATERIALIZED (SELECT id, due FROM {inbox} WHERE {due} AND NOT ordered \
             ORDER BY due, id LIMIT $1::bigint FOR UPDATE SKIP LOCKED), \
             near AS MATERIALIZED (SELECT id, state, attempts, retried FROM {inbox} WHERE {due} AND ordered \
             ORDER BY due, id LIMIT {NEAR}), \
             free AS MATERIALIZED (SELECT id FROM near AS one WHERE {free}), \
             close AS MATERIALIZED (SELECT id, due FROM {inbox} WHERE {due} AND id = ANY(ARRAY(SELECT id FROM free)) \
             ORDER BY due, id LIMIT $1::bigint FOR UPDATE SKIP LOCKED), \
             firsts AS ((SELECT key, id FROM {ordering} WHERE (SELECT count(*) FROM near) = {NEAR} \
             AND (SELECT count(*) FROM close) < $1::bigint ORDER BY key, id LIMIT 1) \
             UNION ALL SELECT next.key, next.id FROM firsts, LATERAL (SELECT key, id FROM {ordering} AS later \
             WHERE later.key > firsts.key ORDER BY key, id LIMIT 1) AS next), \
             far AS MATERIALIZED (SELECT id FROM {inbox} AS one WHERE id IN (SELECT id FROM firsts EXCEPT SELECT id FROM close) \
             AND {due} AND ({free})), \
             distant AS MATERIALIZED (SELECT id, due FROM {inbox} WHERE {due} AND id = ANY(ARRAY(SELECT id FROM far)) \
             ORDER BY due, id LIMIT $1::bigint FOR UPDATE SKIP LOCKED), \
             chosen AS MATERIALIZED (SELECT id, due FROM (\
             SELECT id, due FROM loose UNION ALL SELECT id, due FROM close UNION ALL SELECT id, due FROM distant) AS locked \
             ORDER BY due, id LIMIT $1::bigint), \
             buried AS (UPDATE {inbox} AS one SET state = {DEAD}, reason = '{RAN_OUT}' FROM chosen \
             WHERE one.id = chosen.id AND {buried} RETURNING one.id), \
             unblocked AS (DELETE FROM {ordering} AS old USING buried WHERE old.id = buried.id), \
             leased AS (UPDATE {inbox} AS one SET state = {LEASED}, due = {until}, token = token + 1, \
             attempts = attempts + 1 FROM chosen WHERE one.id = chosen.id AND NOT ({buried}) \
             RETURNING one.id, one.token, one.attempts) \
             SELECT chosen.id, leased.token, leased.attempts, delivery.head, delivery.body, before.state = {LEASED} \
             FROM chosen JOIN {inbox} AS before ON before.id = chosen.id \
             LEFT JOIN leased ON leased.id = chosen.id LEFT JOIN {delivery} AS delivery ON delivery.id = leased.id \
             ORDER BY chosen.due, chosen.id",
            until = after(2),
        )
    }

    pub(super) fn extend(&self) -> String {
        let held = Self::held();
        format!("UPDATE {} SET due = {} WHERE {held} AND due > clock_timestamp()", self.inbox, after(3))
    }

    /// Its last part changes the row, so that it is also for other drivers to run.
    pub(super) fn finish(&self) -> String {
        let Self { inbox, delivery, ordering, .. } = self;
        format!(
            "WITH finished AS (DELETE FROM {inbox} WHERE {} RETURNING id), \
             unblocked AS (DELETE FROM {ordering} AS old USING finished WHERE old.id = finished.id) \
             DELETE FROM {delivery} AS old USING finished WHERE old.id = finished.id",
            Self::held()
        )
    }

    pub(super) fn keep(&self) -> String {
        self.end(&format!("state = {DONE}, due = {}, reason = NULL", after(3)))
    }

    pub(super) fn postpone(&self) -> String {
        let Self { inbox, .. } = self;
        format!("UPDATE {inbox} SET state = {READY}, due = {}, reason = $4::text WHERE {}", after(3), Self::held())
    }

    pub(super) fn bury(&self) -> String {
        self.end(&format!("state = {DEAD}, reason = $3::text"))
    }

    pub(super) fn give_back(&self) -> String {
        let Self { inbox, .. } = self;
        let changes = format!("state = {READY}, due = clock_timestamp(), attempts = attempts - 1");
        format!("UPDATE {inbox} SET {changes} WHERE {}", Self::held())
    }

    /// Those that share its ordering keys need not wait for it any more.
    fn end(&self, changes: &str) -> String {
        let Self { inbox, ordering, .. } = self;
        format!(
            "WITH ended AS (UPDATE {inbox} SET {changes} WHERE {} RETURNING id), \
             unblocked AS (DELETE FROM {ordering} AS old USING ended WHERE old.id = ended.id) \
             SELECT id FROM ended",
            Self::held()
        )
    }
}
