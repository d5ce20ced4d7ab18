//! Whether an answer is the expected one.

use std::time::Duration;

use proptest::{prop_assert, prop_assert_eq, test_runner::TestCaseError};
use tower_klikit::{dedupe::ClaimOutcome, inbox::Acceptance};

use crate::inbox::steps::STEP;

/// Fails the case if the store differs from the reference.
pub(super) type Checked = Result<(), TestCaseError>;

pub(super) fn same_acceptance(found: &Acceptance, expected: &Acceptance) -> Checked {
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

pub(super) fn same_outcome(found: &ClaimOutcome, expected: &ClaimOutcome) -> Checked {
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

/// Time passes by itself as well.
pub(super) fn nearly(found: Duration, expected: Duration) -> Checked {
    let off = found.abs_diff(expected);
    prop_assert!(off < Duration::from_secs(STEP / 2), "{:?} remain, not {:?}", found, expected);
    Ok(())
}
