//! A hash map that is indexed by event keys.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
};

use super::key::EventKey;

/// A hash map that is indexed by event keys.
///
/// An event key is part of a SHA-256, so a single multiplication is a sufficient hash. The factor is random, because
/// senders choose event ids and could otherwise choose ids whose keys collide.
pub(crate) type KeyMap<V> = HashMap<EventKey, V, KeyHasher>;

/// A hasher that multiplies an event key by a random factor.
#[derive(Clone)]
pub(crate) struct KeyHasher {
    factor: u64,
    hash: u64,
}

impl Default for KeyHasher {
    fn default() -> Self {
        // An odd factor makes the multiplication reversible, so that it loses no information.
        Self { factor: RandomState::new().hash_one(0) | 1, hash: 0 }
    }
}

impl BuildHasher for KeyHasher {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        self.clone()
    }
}

impl Hasher for KeyHasher {
    fn write_u64(&mut self, half: u64) {
        // The high bits of a product are well mixed, but a table is indexed by the low bits.
        self.hash = (self.hash ^ half).wrapping_mul(self.factor).swap_bytes();
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn spreads_keys_over_the_low_bits() {
        let hasher = KeyHasher::default();
        let keys = (0..256).map(|n| EventKey::of_event("default", &format!("evt-{n}")));
        let places: HashSet<_> = keys.map(|key| hasher.hash_one(key) % 256).collect();
        // Random places would fill about 162 of 256.
        assert!(places.len() > 100, "{}", places.len());
    }

    #[test]
    fn each_map_has_a_random_factor() {
        let key = EventKey::of_event("default", "evt-1");
        assert_ne!(KeyHasher::default().hash_one(key), KeyHasher::default().hash_one(key));
    }
}
