//! The digest of a rejected body, for the rejection log.

use std::{
    mem,
    task::{Context, Poll},
};

use sha2::{Digest, Sha256};

use super::{buffer::Buffer, trial::BYTES_PER_POLL};

/// The state of a hash of a whole body that was rejected. It takes several polls if the body is large.
pub(super) struct Digesting {
    /// Stays charged to the buffer budget until it is hashed.
    body: Buffer,
    hash: Sha256,
    /// The number of bytes hashed so far.
    hashed: usize,
    /// The number of bytes that the current poll may still hash.
    left: usize,
}

impl Digesting {
    /// Begins in a poll that has hashed `spent` bytes to verify the body.
    pub(super) fn begin(body: Buffer, spent: usize) -> Box<Self> {
        let left = BYTES_PER_POLL.saturating_sub(spent);
        Box::new(Self { body, hash: Sha256::new(), hashed: 0, left })
    }

    /// Continues where the last poll stopped. Returns the SHA-256 of the body.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<[u8; 32]> {
        let mut skipped = self.hashed;
        for piece in self.body.pieces() {
            let rest = &piece[skipped.min(piece.len())..];
            skipped -= piece.len() - rest.len();
            let (now, later) = rest.split_at(rest.len().min(self.left));
            self.hash.update(now);
            self.hashed += now.len();
            self.left -= now.len();
            if !later.is_empty() {
                self.left = BYTES_PER_POLL;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        Poll::Ready(mem::take(&mut self.hash).finalize().into())
    }
}
