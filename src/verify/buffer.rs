//! The bytes of a body that has not ended yet.

use std::{mem, sync::Arc};

use bytes::Bytes;
use tokio::time::Instant;

use super::budget::{Budget, Charge, Exhausted, Released};

/// The first allocation for a body of several frames.
const MIN_CAPACITY: usize = 4096;

/// What a frame that waits is charged at least: however short, it can keep a whole read buffer of the transport's alive, and
/// HTTP/2 sends frames of up to 16 KiB unless told otherwise (RFC 9113).
const MIN_FRAME_CHARGE: usize = 16 * 1024;

/// A first frame as it came, or everything in one growing buffer.
///
/// A list of frames would cost many times the body when a sender uses chunks of one byte.
#[derive(Default)]
pub(super) enum Buffer {
    #[default]
    Empty,
    /// Charged once it has to wait for more: until then it costs nothing that the transport does not hold anyway.
    One {
        frame: Bytes,
        charge: Option<Charge>,
    },
    Many {
        bytes: Vec<u8>,
        charge: Charge,
    },
}

impl Buffer {
    /// Adds a frame. The capacity doubles, starting from what has arrived and never from what was announced, and stops at
    /// `limit`, which the caller has checked the length against, and at the budget.
    pub(super) fn append(
        &mut self,
        frame: Bytes,
        limit: usize,
        budget: &Arc<Budget>,
        waiting_since: Option<Instant>,
    ) -> Result<(), Exhausted> {
        let needed = self.as_slice().len() + frame.len();
        let limit = limit.min(budget.limit());
        let doubled = |length: usize| length.saturating_mul(2).max(MIN_CAPACITY).min(limit).max(needed);
        match self {
            Self::Empty => *self = Self::One { frame, charge: None },
            Self::One { frame: first, .. } => {
                let capacity = doubled(needed);
                let charge = budget.charge(capacity, waiting_since)?;
                let mut bytes = Vec::with_capacity(capacity);
                bytes.extend_from_slice(first);
                bytes.extend_from_slice(&frame);
                *self = Self::Many { bytes, charge };
            }
            Self::Many { bytes, charge } => {
                if needed > bytes.capacity() {
                    let capacity = doubled(bytes.capacity());
                    charge.grow_to(capacity, waiting_since)?;
                    bytes.reserve_exact(capacity - bytes.len());
                }
                bytes.extend_from_slice(&frame);
            }
        }
        Ok(())
    }

    /// Takes the buffer away to be parked, charged for all that it keeps.
    pub(super) fn take_to_wait(&mut self, budget: &Arc<Budget>, since: Instant) -> Result<Self, Exhausted> {
        if let Self::One { frame, charge: charge @ None } = self {
            let bytes = frame.len().max(MIN_FRAME_CHARGE.min(budget.limit()));
            *charge = Some(budget.charge(bytes, Some(since))?);
        }
        Ok(mem::take(self))
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Empty => &[],
            Self::One { frame, .. } => frame,
            Self::Many { bytes, .. } => bytes,
        }
    }

    /// Gives back what it was charged, and leaves the memory to be dropped.
    pub(super) fn evict(self) -> (Bytes, Option<Released>) {
        match self {
            Self::Empty => (Bytes::new(), None),
            Self::One { frame, charge } => (frame, charge.map(Charge::release)),
            Self::Many { bytes, charge } => (bytes.into(), Some(charge.release())),
        }
    }

    /// The whole, without a copy. What it was charged is given back: it is no longer unverified.
    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Empty => Bytes::new(),
            Self::One { frame, .. } => frame,
            Self::Many { bytes, .. } => bytes.into(),
        }
    }
}
