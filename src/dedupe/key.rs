//! The keys of entries, digests of bodies, and fencing tokens.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use sha2::{Digest, Sha256};

/// The key of an event of a tenant: 16 bytes of a SHA-256, so that keys are short and reveal neither ids nor tenants.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventKey([u8; 16]);

/// The SHA-256 by which bodies are compared. It covers the body as sent, or its canonical JSON under
/// [`ConflictPolicy::SameJson`](super::ConflictPolicy::SameJson).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BodyDigest([u8; 32]);

/// A fencing token, unique to one claim across all processes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; 16]);

impl EventKey {
    /// Returns the key of an event that is identified by its id: the first 16 bytes of SHA-256(scope ‖ 0 ‖ id).
    ///
    /// The scope is the keyring's name, unless the layer or the inbox has a scope of its own.
    pub fn of_event(scope: &str, id: &str) -> Self {
        Self::hashed(&[scope.as_bytes(), b"\0", id.as_bytes()])
    }

    /// Returns the key of an event that is identified by its body. No event has an empty id, so the keys differ from
    /// those of [`of_event`](Self::of_event).
    pub fn of_body(scope: &str, digest: &BodyDigest) -> Self {
        Self::hashed(&[scope.as_bytes(), b"\0\0", digest.as_bytes()])
    }

    /// Returns the key of a conflict: another body under the id of this event.
    pub fn with_body(&self, digest: &BodyDigest) -> Self {
        Self::hashed(&[&self.0, b"\0", digest.as_bytes()])
    }

    fn hashed(parts: &[&[u8]]) -> Self {
        Self(short_hash(parts))
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl From<[u8; 16]> for EventKey {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// Returns the first 16 bytes of the SHA-256 over the concatenated parts.
pub(crate) fn short_hash(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    let digest: [u8; 32] = hash.finalize().into();
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

/// Passes on half of the key. The key is a hash already, and 8 bytes are enough for a hash table.
impl Hash for EventKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [half @ .., _, _, _, _, _, _, _, _] = self.0;
        state.write_u64(u64::from_ne_bytes(half));
    }
}

impl BodyDigest {
    /// Hashes a body.
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for BodyDigest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl Token {
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

macro_rules! debug_as_hex {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }
    )*};
}

debug_as_hex!(EventKey, BodyDigest, Token);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_and_conflicts_have_different_keys() {
        let digest = BodyDigest::of(b"body");
        let keys = [
            EventKey::of_event("warung", "evt-1"),
            EventKey::of_event("warung", "evt-2"),
            EventKey::of_event("kedai", "evt-1"),
            EventKey::of_event("", "evt-1"),
            EventKey::of_event("warung", "evt-1").with_body(&digest),
            EventKey::of_event("warung", "evt-1").with_body(&BodyDigest::of(b"other")),
            EventKey::of_body("warung", &digest),
            EventKey::of_body("kedai", &digest),
        ];
        for (n, key) in keys.iter().enumerate() {
            assert!(!keys[n + 1..].contains(key));
        }
    }
}
