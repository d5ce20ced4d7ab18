//! The tags of what the delivery may have been, held against what its header says; and what all that may cost.

use super::readings::{Reading, Readings};
use crate::{
    keyring::KeyedSecret,
    signature::{Signature, Signing, SigningKey},
};

/// How often a body is hashed or written, at most, in one diagnosis: in bytes, so that a body that grows when written anew
/// counts for what it costs. 256 hashes of 8 KB take some milliseconds.
pub(super) const WORK: usize = 256;

/// What a hash costs beside its text: key, padding, and the tag, in bytes.
const EACH: usize = 256;

/// What is left to spend, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Work {
    left: usize,
    held_back: usize,
    ran_out: bool,
}

impl Work {
    pub(super) fn for_body(len: usize) -> Self {
        Self { left: len.saturating_add(EACH).saturating_mul(WORK), held_back: 0, ran_out: false }
    }

    /// Sets all aside but a `part`th of what is left, for what is tried later.
    pub(super) fn hold_back(&mut self, part: usize) {
        self.held_back += self.left - self.left / part;
        self.left /= part;
    }

    pub(super) fn give_back(&mut self) {
        self.left += self.held_back;
        self.held_back = 0;
    }

    /// Whether there was as much left; it is spent then.
    pub(super) fn spend(&mut self, bytes: usize) -> bool {
        let left = self.left.checked_sub(bytes);
        self.ran_out |= left.is_none();
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }

    /// Whether something was left untried for its cost.
    pub(super) fn ran_out(self) -> bool {
        self.ran_out
    }
}

/// A text that matched.
pub(super) struct Hit {
    /// Which secret.
    pub(super) secret: usize,
    /// Which reading of the header.
    pub(super) reading: usize,
}

pub(super) struct Search<'a> {
    pub(super) secrets: &'a [KeyedSecret],
    pub(super) readings: &'a Readings,
    /// What is signed before the body, each once.
    prefixes: Vec<&'a [u8]>,
    pub(super) work: Work,
    /// Counted where it is done, so that a test can hold it against what was spent.
    #[cfg(test)]
    pub(super) hashed: usize,
}

impl<'a> Search<'a> {
    pub(super) fn new(secrets: &'a [KeyedSecret], readings: &'a Readings, body: &[u8]) -> Self {
        let mut prefixes: Vec<&[u8]> = Vec::new();
        for reading in &readings.all {
            if !prefixes.contains(&&*reading.prefix) {
                prefixes.push(&reading.prefix);
            }
        }
        Self {
            secrets,
            readings,
            prefixes,
            work: Work::for_body(body.len()),
            #[cfg(test)]
            hashed: 0,
        }
    }

    pub(super) fn reading(&self, hit: &Hit) -> &'a Reading {
        &self.readings.all[hit.reading]
    }

    /// Which reading is this key's tag of the text.
    pub(super) fn with_key(&mut self, key: &SigningKey, text: &[u8]) -> Option<usize> {
        for prefix in &self.prefixes {
            if !self.work.spend(text.len() + EACH) {
                return None;
            }
            #[cfg(test)]
            (self.hashed += text.len());
            let found = find(self.readings, prefix, &key.sign_after(prefix, text));
            if found.is_some() {
                return found;
            }
        }
        None
    }

    pub(super) fn with_any(&mut self, text: &[u8]) -> Option<Hit> {
        let secrets = self.secrets;
        let hit = |(secret, held): (usize, &KeyedSecret)| {
            self.with_key(held.key(), text).map(|reading| Hit { secret, reading })
        };
        secrets.iter().enumerate().find_map(hit)
    }

    /// The text, and the text and a line feed, which costs no second hash of it. Says whether it was with the line feed.
    pub(super) fn with_any_or_newline(&mut self, text: &[u8]) -> Option<(Hit, bool)> {
        for (secret, held) in self.secrets.iter().enumerate() {
            for prefix in &self.prefixes {
                if !self.work.spend(text.len() + 2 * EACH) {
                    return None;
                }
                #[cfg(test)]
                (self.hashed += text.len());
                let without = held.key().start_with(prefix, text);
                let mut with = without.clone();
                with.update(b"\n");
                for (signing, newline) in [(without, false), (with, true)] {
                    if let Some(reading) = find(self.readings, prefix, &signing.finish()) {
                        return Some((Hit { secret, reading }, newline));
                    }
                }
            }
        }
        None
    }

    /// Begins to hash a text that comes in pieces.
    pub(super) fn start(&self) -> Pieces<'a> {
        let each = |(secret, held): (usize, &KeyedSecret)| {
            self.prefixes
                .iter()
                .map(move |prefix| (secret, *prefix, held.key().start_with(prefix, &[])))
                .collect::<Vec<_>>()
        };
        Pieces { readings: self.readings, signings: self.secrets.iter().enumerate().flat_map(each).collect() }
    }
}

fn find(readings: &Readings, prefix: &[u8], signature: &Signature) -> Option<usize> {
    readings.all.iter().position(|reading| *reading.prefix == *prefix && reading.matches(signature))
}

pub(super) struct Pieces<'a> {
    readings: &'a Readings,
    signings: Vec<(usize, &'a [u8], Signing)>,
}

impl Pieces<'_> {
    /// Whether there was enough left to spend.
    pub(super) fn update(&mut self, piece: &[u8], work: &mut Work) -> bool {
        if !work.spend(piece.len() * (self.signings.len() + 1)) {
            return false;
        }
        self.signings.iter_mut().for_each(|(_, _, signing)| signing.update(piece));
        true
    }

    pub(super) fn finish(self) -> Option<Hit> {
        let readings = self.readings;
        self.signings.into_iter().find_map(|(secret, prefix, signing)| {
            find(readings, prefix, &signing.finish()).map(|reading| Hit { secret, reading })
        })
    }
}
