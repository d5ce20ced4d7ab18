//! The tags of what the delivery may have been, held against what its header says.

use super::{
    readings::{Reading, Readings},
    work::{KEY, TAG, Work},
};
use crate::{
    keyring::KeyedSecret,
    secret::WebhookSecret,
    signature::{Signing, SigningKey},
};

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
}

impl<'a> Search<'a> {
    pub(super) fn new(secrets: &'a [KeyedSecret], readings: &'a Readings) -> Self {
        let mut prefixes: Vec<&[u8]> = Vec::new();
        for reading in &readings.all {
            if !prefixes.contains(&&*reading.prefix) {
                prefixes.push(&reading.prefix);
            }
        }
        Self { secrets, readings, prefixes }
    }

    pub(super) fn reading(&self, hit: &Hit) -> &'a Reading {
        &self.readings.all[hit.reading]
    }

    /// Which reading is this key's tag of the text.
    pub(super) fn with_key(&self, key: &SigningKey, text: &[u8], work: &mut Work) -> Option<usize> {
        self.prefixes.iter().find_map(|prefix| {
            let affordable = work.spend(prefix.len() + text.len() + TAG);
            affordable.then(|| self.readings.position(prefix, &key.sign_pieces(prefix, [text]))).flatten()
        })
    }

    /// The same, with a secret whose key is to be made.
    pub(super) fn with_secret(&self, secret: &[u8], text: &[u8], work: &mut Work) -> Option<usize> {
        if !work.spend(secret.len() + KEY) {
            return None;
        }
        self.with_key(WebhookSecret::new(secret).ok()?.key(), text, work)
    }

    pub(super) fn with_any(&self, text: &[u8], work: &mut Work) -> Option<Hit> {
        self.secrets.iter().enumerate().find_map(|(secret, held)| {
            let reading = self.with_key(held.key(), text, work)?;
            Some(Hit { secret, reading })
        })
    }

    /// The text, and the text and a line feed, which costs no second hash of it. Says whether it was with the line feed.
    pub(super) fn with_any_or_newline(&self, text: &[u8], work: &mut Work) -> Option<(Hit, bool)> {
        for (secret, held) in self.secrets.iter().enumerate() {
            for prefix in &self.prefixes {
                if !work.spend(prefix.len() + text.len() + 2 * TAG) {
                    return None;
                }
                let without = held.key().start_with(prefix, text);
                let mut with = without.clone();
                with.update(b"\n");
                for (signing, newline) in [(without, false), (with, true)] {
                    if let Some(reading) = self.readings.position(prefix, &signing.finish()) {
                        return Some((Hit { secret, reading }, newline));
                    }
                }
            }
        }
        None
    }

    /// Begins to hash a text that comes in pieces, if that is affordable.
    pub(super) fn start(&self, work: &mut Work) -> Option<Pieces<'a>> {
        let before: usize = self.prefixes.iter().map(|prefix| prefix.len() + TAG).sum();
        if !work.spend(self.secrets.len() * before) {
            return None;
        }
        let each = |(secret, held): (usize, &KeyedSecret)| {
            self.prefixes
                .iter()
                .map(move |prefix| (secret, *prefix, held.key().start_with(prefix, &[])))
                .collect::<Vec<_>>()
        };
        Some(Pieces { readings: self.readings, signings: self.secrets.iter().enumerate().flat_map(each).collect() })
    }
}

pub(super) struct Pieces<'a> {
    readings: &'a Readings,
    signings: Vec<(usize, &'a [u8], Signing)>,
}

impl Pieces<'_> {
    /// How often a piece is hashed.
    pub(super) fn times(&self) -> usize {
        self.signings.len()
    }

    pub(super) fn update(&mut self, piece: &[u8]) {
        self.signings.iter_mut().for_each(|(_, _, signing)| signing.update(piece));
    }

    pub(super) fn finish(self) -> Option<Hit> {
        let readings = self.readings;
        self.signings.into_iter().find_map(|(secret, prefix, signing)| {
            readings.position(prefix, &signing.finish()).map(|reading| Hit { secret, reading })
        })
    }
}
