//! Parts of SQL that several statements share.

/// The time until which a ledger entry is kept.
pub(crate) const KEPT_UNTIL: &str = "coalesce(kept_until, until)";

/// The state of a claimed ledger entry.
pub(crate) const CLAIMED: i16 = 0;

/// The state of a done ledger entry.
pub(crate) const DONE: i16 = 1;

/// The class of the leasing lock, an advisory lock: the letters "klkl". Leasing takes the lock shared. Statements that
/// bring deliveries back from DEAD take it exclusively.
///
/// The number must never change, because a trigger of the schema and the documented queries use it too.
pub(crate) const LEASING_LOCKS: i32 = 0x6b6c_6b6c;

/// Returns an expression that converts a `bytea` parameter to a key's `uuid`.
pub(crate) fn uuid(parameter: u8) -> String {
    format!("encode(${parameter}::bytea, 'hex')::uuid")
}

/// Returns a condition that holds for the rows of the event in this parameter: the row with the event's key, and the rows of
/// conflicts.
pub(crate) fn of_event(parameter: u8) -> String {
    format!("((key = {event} AND event_key IS NULL) OR event_key = {event})", event = uuid(parameter))
}

/// Returns an expression for the time that is the parameter's number of seconds from now.
pub(crate) fn after(parameter: u8) -> String {
    format!("clock_timestamp() + make_interval(secs => ${parameter}::float8)")
}
