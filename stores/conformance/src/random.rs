//! Comparisons of a store with a reference, on random cases. The tests of the models use the same cases in each run.

use proptest::test_runner::TestCaseError;
#[cfg(test)]
use std::panic::{self, AssertUnwindSafe};

#[cfg(test)]
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

/// The result of comparing a store with the reference: an error if they differ.
pub(crate) type Comparison = Result<(), TestCaseError>;

/// Generates `cases` cases. They are the same in each run.
#[cfg(test)]
pub(crate) fn cases<S: Strategy>(cases: usize, strategy: &S) -> Vec<S::Value> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..cases).map(|_| strategy.new_tree(&mut runner).expect("the strategy generates a case").current()).collect()
}

/// Returns whether any of these cases fails. A panic counts as a failure, because the models unwrap the store's results.
#[cfg(test)]
pub(crate) fn finds<C>(cases: &[C], check: impl Fn(&C) -> Comparison) -> bool {
    let fails = |case| panic::catch_unwind(AssertUnwindSafe(|| check(case).is_err())).unwrap_or(true);
    cases.iter().any(fails)
}
