//! What a worker asks.

use super::{DEAD, DONE, LEASED, READY, UNFINISHED, after, tables::Tables};

/// Why a delivery is dead whose worker has died of it.
const RAN_OUT: &str = "its lease ran out on its last attempt";

impl Tables {
    /// The longest due first. What another has locked is passed over, so nothing is waited for.
    ///
    /// What a delivery waits for is seen as it was when the statement began. That is enough: who has been handled or buried
    /// by then stays so, and nobody with a smaller id can appear, because ids are given in the order of the commits. But for
    /// those that are brought back from the dead, which is why nothing is leased while that happens. One that was brought back
    /// waits also for a younger one that somebody has.
    pub(super) fn lease(&self) -> String {
        let Self { inbox, delivery, ordering, .. } = self;
        let buried = format!("state = {LEASED} AND attempts >= $3::bigint");
        let rivals = format!("SELECT FROM {ordering} AS mine JOIN {ordering} AS other ON other.key = mine.key");
        format!(
            "WITH chosen AS MATERIALIZED (SELECT id, due FROM {inbox} AS one \
             WHERE {UNFINISHED} AND due <= statement_timestamp() AND (({buried}) OR NOT ordered OR (\
             NOT EXISTS ({rivals} WHERE mine.id = one.id AND other.id < one.id) \
             AND (NOT retried OR NOT EXISTS ({rivals} JOIN {inbox} AS rival ON rival.id = other.id \
             WHERE mine.id = one.id AND other.id > one.id AND rival.state = {LEASED} \
             AND rival.due > statement_timestamp())))) \
             ORDER BY due, id LIMIT $1::bigint FOR UPDATE OF one SKIP LOCKED), \
             buried AS (UPDATE {inbox} AS one SET state = {DEAD}, reason = '{RAN_OUT}' FROM chosen \
             WHERE one.id = chosen.id AND {buried} RETURNING one.id), \
             unblocked AS (DELETE FROM {ordering} AS old USING buried WHERE old.id = buried.id), \
             leased AS (UPDATE {inbox} AS one SET state = {LEASED}, due = {until}, token = token + 1, \
             attempts = attempts + 1 FROM chosen WHERE one.id = chosen.id AND NOT ({buried}) \
             RETURNING one.id, one.token, one.attempts) \
             SELECT chosen.id, leased.token, leased.attempts, delivery.head, delivery.body FROM chosen \
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
