//! The tenants that a store knows.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The largest number of tenants that a store keeps in memory.
const MAX_TENANTS: usize = 10_000;

/// Tenants that are in the table of tenants. Deliveries of these tenants are stored with a shorter statement.
///
/// The store deletes no row from the table. If a row is deleted by hand, a search for due deliveries adds it within 30 seconds.
#[derive(Default)]
pub(crate) struct KnownTenants(Mutex<HashSet<String>>);

impl KnownTenants {
    /// Returns whether all of these tenants are known.
    pub(super) fn contains_all(&self, tenants: &[String]) -> bool {
        let known = self.known();
        tenants.iter().all(|tenant| known.contains(tenant))
    }

    /// Adds tenants whose rows are committed.
    pub(super) fn add<'a>(&self, tenants: impl Iterator<Item = &'a String>) {
        let mut known = self.known();
        for tenant in tenants {
            if known.len() >= MAX_TENANTS {
                known.clear();
            }
            if !known.contains(tenant) {
                known.insert(tenant.clone());
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_tenants_that_were_added() {
        let known = KnownTenants::default();
        let [warung, kedai] = ["warung".to_owned(), "kedai".to_owned()];
        assert!(!known.contains_all(std::slice::from_ref(&warung)));
        known.add([&warung].into_iter());
        assert!(known.contains_all(std::slice::from_ref(&warung)));
        assert!(!known.contains_all(&[warung, kedai]));
    }

    #[test]
    fn number_of_tenants_is_bounded() {
        let known = KnownTenants::default();
        let tenants: Vec<_> = (0..=MAX_TENANTS).map(|n| n.to_string()).collect();
        known.add(tenants.iter());
        assert!(known.known().len() <= MAX_TENANTS);
        assert!(known.contains_all(&tenants[MAX_TENANTS..]));
    }
}
