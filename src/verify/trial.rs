//! Trying the secrets of a keyring on a whole body.

use std::{sync::Arc, task::Poll};

use super::{buffer::Buffer, expected::Expected};
use crate::{keyring::Signer, signature::Signing};

/// How many bytes are hashed in one poll, for all secrets together. It takes about half a millisecond with SHA instructions, and
/// the largest batches of klikit's are hashed at once.
const BYTES_PER_POLL: usize = 256 * 1024;

/// A search for the secret that has signed a body, which takes several polls.
///
/// A forged body is hashed with every secret, and the other tasks of the thread must not wait for all of them.
#[derive(Default)]
pub(super) struct Trial {
    /// The index of the secret that is being tried.
    secret: usize,
    /// The state of the hash with that secret.
    signing: Option<Signing>,
    /// How much of the body that is, in bytes.
    hashed: usize,
}

impl Trial {
    /// Returns whether a body of this length has to be tried in several polls.
    #[inline]
    pub(super) fn is_needed(length: usize, secrets: usize) -> bool {
        length.saturating_mul(secrets) > BYTES_PER_POLL
    }

    /// Goes on where the last poll has left off. The caller has to poll again.
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
