//! Verification of a body in several polls.

use std::{sync::Arc, task::Poll};

use super::{buffer::Buffer, expected::Expected};
use crate::{keyring::Signer, signature::Signing};

/// The bytes hashed in one poll, for all secrets together. Hashing them takes about half a millisecond with SHA
/// instructions. klikit's largest batches fit, so they are hashed in one poll.
pub(super) const BYTES_PER_POLL: usize = 256 * 1024;

/// The state of a verification that takes several polls.
///
/// A forged body is hashed with every secret, and the thread's other tasks must not wait for all these hashes.
#[derive(Default)]
pub(super) struct Trial {
    /// The index of the secret that is being tried.
    secret: usize,
    /// The state of the hash with that secret.
    signing: Option<Signing>,
    /// The number of bytes hashed with that secret.
    hashed: usize,
}

impl Trial {
    /// Returns whether verifying a body of `length` bytes takes several polls.
    #[inline]
    pub(super) fn is_needed(length: usize, secrets: usize) -> bool {
        length.saturating_mul(secrets) > BYTES_PER_POLL
    }

    /// Continues where the last poll stopped. Returns the signer whose secret matches, or `None` if no secret does.
    /// Registers no waker: the caller must poll again.
    pub(super) fn poll(&mut self, expected: &Expected, body: &Buffer) -> Poll<Option<Arc<Signer>>> {
        let Expected { signature, prefix, secrets, .. } = expected;
        let mut left = BYTES_PER_POLL;
        while let Some(secret) = secrets.get(self.secret) {
            let mut signing = self.signing.take().unwrap_or_else(|| secret.key().start_with(prefix, &[]));
            let mut skipped = self.hashed;
            for piece in body.pieces() {
                let rest = &piece[skipped.min(piece.len())..];
                skipped -= piece.len() - rest.len();
                if rest.len() > left {
                    signing.update(&rest[..left]);
                    self.hashed += left;
                    self.signing = Some(signing);
                    return Poll::Pending;
                }
                signing.update(rest);
                self.hashed += rest.len();
                left -= rest.len();
            }
            if signing.finish() == *signature {
                return Poll::Ready(Some(Arc::clone(secret.signer())));
            }
            self.secret += 1;
            self.hashed = 0;
        }
        Poll::Ready(None)
    }
}
