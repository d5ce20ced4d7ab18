//! Isolation of faults: an unreadable row must not fail calls for other rows.
//!
//! Once SQLite has read a damaged page, the transaction can neither write nor commit. The store therefore rolls the
//! transaction back and repeats it without the steps that failed.

use std::{cell::RefCell, mem};

use super::{error::SqliteError, fault::Fault};

/// How a transaction handles a step that fails because of one row.
#[derive(Clone, Copy)]
pub(super) enum Isolation<'a> {
    /// A failed step is left out: a transaction that only reads can continue after any fault.
    Reading,
    /// A damaged page fails the transaction.
    None,
    /// A damaged page fails the transaction, which is then repeated without the step.
    Repeating(&'a RefCell<Failures>),
}

/// The failed steps of a transaction that is repeated without them.
#[derive(Default)]
pub(super) struct Failures {
    /// The numbers and faults of the failed steps.
    failed: Vec<(usize, Fault)>,
    /// How many steps this attempt has begun.
    steps: usize,
    has_begun: bool,
    /// Whether this attempt has added a failed step.
    has_new_failure: bool,
}

impl Failures {
    /// Begins an attempt. Returns `false` if the last attempt found no new failed step, so that another attempt would
    /// fail in the same way.
    pub(super) fn begin(&mut self) -> bool {
        self.steps = 0;
        let is_first = !mem::replace(&mut self.has_begun, true);
        mem::take(&mut self.has_new_failure) || is_first
    }

    /// Begins a step. Returns its number, or its fault if it failed in an earlier attempt.
    fn step(&mut self) -> Result<usize, Fault> {
        let number = self.steps;
        self.steps += 1;
        match self.failed.iter().find(|(failed, _)| *failed == number) {
            Some((_, fault)) => Err(fault.clone()),
            None => Ok(number),
        }
    }

    /// Records a failed step. If a nested step has failed in this attempt, only that one is recorded.
    fn record(&mut self, number: usize, fault: Fault) {
        if !self.has_new_failure {
            // The steps nested in this one will not begin any more, so later steps get their numbers.
            self.failed.retain(|(failed, _)| *failed < number);
            self.failed.push((number, fault));
            self.has_new_failure = true;
        }
    }
}

impl Isolation<'_> {
    /// Runs a step for one row. Returns an inner error if the step is left out because of the row's fault.
    pub(super) fn isolate<T>(&self, step: impl FnOnce() -> rusqlite::Result<T>) -> rusqlite::Result<Result<T, Fault>> {
        let number = match self {
            Self::Repeating(failures) => match failures.borrow_mut().step() {
                Ok(number) => number,
                Err(fault) => return Ok(Err(fault)),
            },
            Self::Reading | Self::None => 0,
        };
        let error = match step() {
            Ok(result) => return Ok(Ok(result)),
            Err(error) => error,
        };
        match (Fault::of(&error), self) {
            (Some(fault), Self::Reading) => Ok(Err(fault)),
            (Some(fault), _) if !fault.is_damage() => Ok(Err(fault)),
            (Some(fault), Self::Repeating(failures)) => {
                failures.borrow_mut().record(number, fault);
                Err(error)
            }
            _ => Err(error),
        }
    }

    /// Runs a step for each item. If some steps fail, runs the others nevertheless and returns an inner error.
    pub(super) fn each<T, R>(
        &self,
        items: &[T],
        mut run: impl FnMut(&T) -> rusqlite::Result<R>,
    ) -> rusqlite::Result<Result<Vec<R>, SqliteError>> {
        let (mut results, mut failed) = (Vec::with_capacity(items.len()), None);
        for item in items {
            match self.isolate(|| run(item))? {
                Ok(result) => results.push(result),
                Err(fault) => failed = Some(fault.into()),
            }
        }
        Ok(failed.map_or(Ok(results), Err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage() -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), None)
    }

    /// Runs the steps 0 to 9, of which 3, 8 and a step within 6 fail.
    fn attempt(isolation: Isolation<'_>) -> rusqlite::Result<Vec<i32>> {
        let mut done = Vec::new();
        for n in 0..10 {
            let step = isolation.isolate(|| match n {
                3 => Err(damage()),
                6 => isolation.isolate(|| Err::<(), _>(damage())).map(|_| n),
                8 => Err(Fault::new("its row is missing").into()),
                _ => Ok(n),
            });
            done.extend(step?);
        }
        Ok(done)
    }

    #[test]
    fn repeats_without_the_failed_steps() {
        let failures = RefCell::new(Failures::default());
        let mut attempts = 0;
        while failures.borrow_mut().begin() {
            attempts += 1;
            if let Ok(done) = attempt(Isolation::Repeating(&failures)) {
                // The step nested in step 6 was left out, but not step 6 itself.
                assert_eq!((attempts, done), (3, vec![0, 1, 2, 4, 5, 6, 7, 9]));
                return;
            }
        }
        panic!("no attempt succeeded");
    }

    #[test]
    fn step_may_fail_after_a_nested_one() {
        let failures = RefCell::new(Failures::default());
        let isolation = Isolation::Repeating(&failures);
        let attempt = || {
            let first = isolation.isolate(|| {
                assert!(isolation.isolate(|| Err::<(), _>(damage()))?.is_err());
                Err::<(), _>(damage())
            })?;
            Ok::<_, rusqlite::Error>((first.is_err(), isolation.isolate(|| Ok(17))?))
        };
        let mut attempts = Vec::new();
        while failures.borrow_mut().begin() {
            attempts.push(attempt().ok());
        }
        assert_eq!(attempts, [None, None, Some((true, Ok(17)))]);
    }

    #[test]
    fn stops_when_no_step_can_be_left_out() {
        let failures = RefCell::new(Failures::default());
        for steps in 0..3 {
            assert_eq!(failures.borrow_mut().begin(), steps == 0);
            // All steps succeed: the transaction fails outside of them.
            assert!((0..steps).all(|_| Isolation::Repeating(&failures).isolate(|| Ok(())).is_ok()));
        }
    }

    #[test]
    fn reading_leaves_out_failed_steps() {
        assert_eq!(attempt(Isolation::Reading).unwrap(), [0, 1, 2, 4, 5, 6, 7, 9]);
        assert!(attempt(Isolation::None).is_err());
    }
}
