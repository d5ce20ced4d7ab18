//! Comparisons of results that contain durations.

use std::time::{Duration, SystemTime};

use proptest::{prop_assert, prop_assert_eq};
use tower_klikit::{
    dedupe::ClaimOutcome,
    inbox::{Acceptance, AttemptRecord},
};

use crate::{
    inbox::{state::EndedAttempt, steps::STEP},
    random::Comparison,
};

pub(super) fn same_acceptance(found: &Acceptance, expected: &Acceptance) -> Comparison {
    match (found, expected) {
        (
            Acceptance::InFlight { digest, remaining },
            Acceptance::InFlight { digest: digest_expected, remaining: remaining_expected },
        ) => {
            prop_assert_eq!(digest, digest_expected);
            nearly(*remaining, *remaining_expected)
        }
        _ => {
            prop_assert_eq!(found, expected);
            Ok(())
        }
    }
}

pub(super) fn same_outcome(found: &ClaimOutcome, expected: &ClaimOutcome) -> Comparison {
    match (found, expected) {
        (
            ClaimOutcome::InFlight { digest, remaining },
            ClaimOutcome::InFlight { digest: digest_expected, remaining: remaining_expected },
        ) => {
            prop_assert_eq!(digest, digest_expected);
            nearly(*remaining, *remaining_expected)
        }
        _ => {
            prop_assert_eq!(found, expected);
            Ok(())
        }
    }
}

/// Compares the records of a delivery's attempts. `age` returns the time since a time of the reference.
pub(super) fn same_history(
    found: &[AttemptRecord],
    expected: &[EndedAttempt],
    age: impl Fn(Duration) -> Duration,
) -> Comparison {
    let wall = SystemTime::now();
    let since = |time: SystemTime| wall.duration_since(time).unwrap_or_default();
    prop_assert_eq!(found.len(), expected.len(), "{:?}, not {:?}", found, expected);
    for (record, expected) in found.iter().zip(expected) {
        let found = (record.number, &record.worker, record.status, &record.reason, record.ended_at.is_some());
        let EndedAttempt { attempt, number, ended, status, reason } = expected;
        prop_assert_eq!(found, (*number, &attempt.worker, *status, reason, ended.is_some()));
        nearly(since(record.started_at), age(attempt.started))?;
        if let (Some(found), Some(ended)) = (record.ended_at, *ended) {
            nearly(since(found), age(ended))?;
        }
    }
    Ok(())
}

/// Compares durations, with tolerance for the real time that passes during a case.
pub(super) fn nearly(found: Duration, expected: Duration) -> Comparison {
    let off = found.abs_diff(expected);
    prop_assert!(off < Duration::from_secs(STEP / 2), "{:?}, not {:?}", found, expected);
    Ok(())
}
