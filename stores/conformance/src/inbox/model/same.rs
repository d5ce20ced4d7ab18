//! Comparisons of results that contain durations.

use std::time::Duration;

use proptest::{prop_assert, prop_assert_eq};
use tower_klikit::{dedupe::ClaimOutcome, inbox::Acceptance};

use crate::{inbox::steps::STEP, random::Comparison};

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

/// Compares durations, with tolerance for the real time that passes during a case.
pub(super) fn nearly(found: Duration, expected: Duration) -> Comparison {
    let off = found.abs_diff(expected);
    prop_assert!(off < Duration::from_secs(STEP / 2), "{:?}, not {:?}", found, expected);
    Ok(())
}
