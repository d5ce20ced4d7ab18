//! The outcomes of attempts, as workers report them to a store.

use std::time::Duration;

/// The reason of a delivery that was dead-lettered because its lease expired on the last attempt.
pub const LEASE_EXPIRED: &str = "the lease expired on the last attempt: its worker died, or lost the store";

/// The reason in the [record](super::AttemptRecord) of an attempt whose worker reported no outcome.
pub const OUTCOME_UNKNOWN: &str = "outcome unknown: the worker died, or lost the store or the lease";

/// The reason of a delivery that was dead-lettered because it was [too old](super::Worker::expire_after) to be handled.
pub const EXPIRED: &str = "expired before it was handled";

/// The outcome of an attempt, which determines the next state of the delivery.
///
/// `status` is the status of the handler's response, if there was one, for the [record of the
/// attempt](super::AttemptRecord).
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a store that does not know an outcome could not record it")]
pub enum Settlement {
    /// The delivery was handled. It is kept as DONE for the longer of the two times, or deleted if both are zero. Once
    /// `keep` is over, it has no body.
    Done {
        /// The time to keep the delivery with its body.
        keep: Duration,
        /// The time to keep the delivery with the records of its attempts.
        history: Duration,
        /// The status of the response.
        status: Option<u16>,
    },
    /// The attempt failed. The delivery is READY again and due after `delay`.
    Reschedule {
        /// The time until the next attempt.
        delay: Duration,
        /// The reason why the attempt failed.
        reason: String,
        /// Whether the delivery loses its ordering keys, so that it no longer blocks later deliveries.
        unordered: bool,
        /// The status of the response.
        status: Option<u16>,
    },
    /// No further attempt is made. The delivery is DEAD.
    DeadLetter {
        /// The reason.
        reason: String,
        /// The status of the response.
        status: Option<u16>,
    },
    /// The delivery is too old to be handled. It is DEAD with the reason [`EXPIRED`]. The attempt does not count, as
    /// for [`Release`](Self::Release).
    Expire,
    /// The attempt does not count, as when a worker stops. The delivery has as many attempts as before this one, and is
    /// READY and due now. Changes nothing if the delivery is READY already.
    Release,
}

impl Settlement {
    /// Returns whether this settlement leaves a delivery that is DEAD for `reason` as it is.
    ///
    /// Every settlement does except for [`Done`](Self::Done) and [`DeadLetter`](Self::DeadLetter), unless the reason is
    /// [`LEASE_EXPIRED`]. For any other reason, the delivery must not be handled again.
    pub fn leaves_dead(&self, reason: Option<&str>) -> bool {
        !matches!(self, Self::Done { .. } | Self::DeadLetter { .. }) && reason != Some(LEASE_EXPIRED)
    }
}

/// The result of recording a [`Settlement`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a worker must handle each")]
pub enum SettleOutcome {
    /// The settlement is recorded.
    Settled,
    /// The delivery is no longer in the inbox. An earlier call whose response was lost has settled it, the handler has
    /// finished it in its own transaction, or an operator has deleted it.
    Gone,
    /// Another worker has leased the delivery since, or klikit has sent it again. Nothing was changed.
    Superseded,
}
