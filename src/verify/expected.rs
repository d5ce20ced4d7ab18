use crate::{keyring::Secrets, signature::Signature};

/// The expectations about a body, from the head of its request.
pub(super) struct Expected {
    pub(super) signature: Signature,
    /// The bytes that are signed before the body. Empty unless the signature is timestamped.
    pub(super) prefix: Box<[u8]>,
    /// The secrets that the body may be signed with. Never empty.
    pub(super) secrets: Secrets,
    /// The announced length of the body in bytes, or 0.
    pub(super) length: u64,
}
