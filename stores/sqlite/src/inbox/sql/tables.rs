//! The names of the tables.

/// The names of the tables that the inbox's statements read and write.
pub(super) struct Tables {
    /// Short rows that change: the state of each delivery.
    pub(super) inbox: String,
    /// Long rows: the digest, the head and the body of each delivery.
    pub(super) body: String,
    /// The queue of each ordering key: the deliveries that are READY or LEASED.
    pub(super) queue: String,
    /// The attempts that have ended.
    pub(super) attempt: String,
    pub(super) pause: String,
    pub(super) ledger: String,
}

impl Tables {
    /// Returns the names for tables whose names begin with `prefix`.
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            inbox: format!("{prefix}inbox"),
            body: format!("{prefix}inbox_body"),
            queue: format!("{prefix}inbox_key"),
            attempt: format!("{prefix}inbox_attempt"),
            pause: format!("{prefix}inbox_pause"),
            ledger: format!("{prefix}ledger"),
        }
    }
}
