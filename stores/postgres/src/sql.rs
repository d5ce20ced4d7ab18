//! Parts that many statements share.

/// The end of the time for which an entry of the ledger is kept.
pub(crate) const KEPT_UNTIL: &str = "coalesce(kept_until, until)";

/// The state of an entry of the ledger that is claimed.
pub(crate) const CLAIMED: i16 = 0;

/// The state of an entry of the ledger that is done.
pub(crate) const DONE: i16 = 1;

/// The class of the advisory lock that leasing takes shared, and that statements take alone that bring DEAD deliveries
/// back. It can be any number that nothing else uses: these are the letters "klkl".
///
/// A trigger of the schema and the documented queries take this lock too, so that the number must not change.
pub(crate) const LEASING_LOCKS: i32 = 0x6b6c_6b6c;

/// Returns a key from a `bytea` parameter, as it is in a column.
pub(crate) fn uuid(parameter: u8) -> String {
    format!("encode(${parameter}::bytea, 'hex')::uuid")
}

/// Returns the time that is as many seconds from now as a parameter says.
pub(crate) fn after(parameter: u8) -> String {
    format!("clock_timestamp() + make_interval(secs => ${parameter}::float8)")
}
