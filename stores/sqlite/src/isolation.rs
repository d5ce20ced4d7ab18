//! Isolates a failure that concerns one row from the other rows.
//!
//! Once SQLite has come across a damaged page, it neither writes nor commits in that transaction any more. So the
//! transaction is repeated without the steps that have failed.

use std::{cell::RefCell, mem};

use super::{error::SqliteError, fault::Fault};

/// How a transaction deals with a step that fails because of one row.
#[derive(Clone, Copy)]
pub(super) enum Isolation<'a> {
    /// The transaction only reads, so that each step can fail alone.
    Reading,
    /// A damaged page fails the transaction.
    None,
    /// A damaged page fails the transaction, which is then repeated without the step.
    Repeating(&'a RefCell<Failures>),
}

/// The steps of a transaction that have failed.
#[derive(Default)]
pub(super) struct Failures {
    /// Each with its number.
    failed: Vec<(usize, Fault)>,
    /// How many steps this attempt has begun.
    steps: usize,
    has_begun: bool,
    has_news: bool,
}

impl Failures {
    /// Begins an attempt. Returns `false` if it would fail like the last one.
    pub(super) fn begin(&mut self) -> bool {
        self.steps = 0;
        let is_first = !mem::replace(&mut self.has_begun, true);
        mem::take(&mut self.has_news) || is_first
    }

    /// Begins a step. Returns its number, or why it must be left out.
    fn step(&mut self) -> Result<usize, Fault> {
        let number = self.steps;
        self.steps += 1;
        match self.failed.iter().find(|(failed, _)| *failed == number) {
            Some((_, fault)) => Err(fault.clone()),
            None => Ok(number),
        }
    }

    /// Keeps a failure, unless a step within this one has caused it.
    fn keep(&mut self, number: usize, fault: Fault) {
        if !self.has_news {
            self.failed.push((number, fault));
            self.has_news = true;
        }
    }
}

impl Isolation<'_> {
    /// Runs a step that concerns one row. If the row cannot be read, the inner result says why.
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
                failures.borrow_mut().keep(number, fault);
                Err(error)
            }
            _ => Err(error),
        }
    }

    /// Runs a step for each item. If it fails for some, it still runs for the others, and the inner result is the
    /// error.
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
    fn repeats_without_the_steps_that_failed() {
        let failures = RefCell::new(Failures::default());
        let mut attempts = 0;
        while failures.borrow_mut().begin() {
            attempts += 1;
            if let Ok(done) = attempt(Isolation::Repeating(&failures)) {
                // The step within 6 was left out, and not 6.
                assert_eq!((attempts, done), (3, vec![0, 1, 2, 4, 5, 6, 7, 9]));
                return;
            }
        }
        panic!("no attempt succeeded");
    }

    #[test]
    fn gives_up_when_nothing_can_be_left_out() {
        let failures = RefCell::new(Failures::default());
        for steps in 0..3 {
            assert_eq!(failures.borrow_mut().begin(), steps == 0);
            // What fails is no step.
            assert!((0..steps).all(|_| Isolation::Repeating(&failures).isolate(|| Ok(())).is_ok()));
        }
    }

    #[test]
    fn reading_leaves_out_what_fails() {
        assert_eq!(attempt(Isolation::Reading).unwrap(), [0, 1, 2, 4, 5, 6, 7, 9]);
        assert!(attempt(Isolation::None).is_err());
    }
}
