//! Random numbers for ids.

use std::hash::{BuildHasher, RandomState};

/// Returns a random number, so that the ids of a run differ from those of other runs. Not for secrets.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(())
}
