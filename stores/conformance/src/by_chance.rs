//! Random cases that are the same in each run, for the tests of the models.

use std::panic::{self, AssertUnwindSafe};

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};

/// Generates this many cases. They are the same each time.
pub(crate) fn cases<S: Strategy>(cases: usize, strategy: &S) -> Vec<S::Value> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..cases).map(|_| strategy.new_tree(&mut runner).expect("a case").current()).collect()
}

/// Returns whether one of these cases fails. A store that fails a call panics.
pub(crate) fn finds<C>(cases: &[C], check: impl Fn(&C) -> Result<(), TestCaseError>) -> bool {
    let fails = |case| panic::catch_unwind(AssertUnwindSafe(|| check(case).is_err())).unwrap_or(true);
    cases.iter().any(fails)
}
