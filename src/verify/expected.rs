use crate::{keyring::Secrets, signature::Signature};

/// The claims of a request's head about the body.
pub(super) struct Expected {
    pub(super) signature: Signature,
    /// The bytes that are signed before the body: empty except in the timestamped form.
    pub(super) prefix: Box<[u8]>,
    /// The secrets that it may be signed with. Never empty.
    pub(super) secrets: Secrets,
    /// The length that the sender announces, or 0.
    pub(super) length: u64,
}
