//! The tags of what the delivery may have been, held against what its header says.

use super::{
    budget::{KEY_COST, SearchBudget, TAG_COST},
    readings::{SignatureReading, SignatureReadings},
};
use crate::{
    keyring::KeyedSecret,
    secret::WebhookSecret,
    signature::{Signing, SigningKey},
};

/// A text that matched.
pub(super) struct SignatureMatch {
    /// Which secret.
    pub(super) secret: usize,
    /// Which reading of the header.
    pub(super) reading: usize,
}

pub(super) struct SignatureMatcher<'a> {
    pub(super) secrets: &'a [KeyedSecret],
    pub(super) readings: &'a SignatureReadings,
    /// What is signed before the body, each once.
    prefixes: Vec<&'a [u8]>,
}

impl<'a> SignatureMatcher<'a> {
    pub(super) fn new(secrets: &'a [KeyedSecret], readings: &'a SignatureReadings) -> Self {
        let mut prefixes: Vec<&[u8]> = Vec::new();
        for reading in &readings.all {
            if !prefixes.contains(&&*reading.prefix) {
                prefixes.push(&reading.prefix);
            }
        }
        Self { secrets, readings, prefixes }
    }

    pub(super) fn reading(&self, hit: &SignatureMatch) -> &'a SignatureReading {
        &self.readings.all[hit.reading]
    }

    /// Which reading is this key's tag of the text.
    pub(super) fn match_with_key(&self, key: &SigningKey, text: &[u8], budget: &mut SearchBudget) -> Option<usize> {
        self.prefixes.iter().find_map(|prefix| {
            let affordable = budget.try_spend(prefix.len() + text.len() + TAG_COST);
            affordable.then(|| self.readings.position(prefix, &key.sign_pieces(prefix, [text]))).flatten()
        })
    }

    /// The same, with a secret whose key is to be made.
    pub(super) fn match_with_secret(&self, secret: &[u8], text: &[u8], budget: &mut SearchBudget) -> Option<usize> {
        if !budget.try_spend(secret.len() + KEY_COST) {
            return None;
        }
        self.match_with_key(WebhookSecret::new(secret).ok()?.key(), text, budget)
    }

    pub(super) fn match_body(&self, text: &[u8], budget: &mut SearchBudget) -> Option<SignatureMatch> {
        self.secrets.iter().enumerate().find_map(|(secret, held)| {
            let reading = self.match_with_key(held.key(), text, budget)?;
            Some(SignatureMatch { secret, reading })
        })
    }

    /// The text, and the text and a line feed, which costs no second hash of it. Says whether it was with the line feed.
    pub(super) fn match_body_or_newline(
        &self,
        text: &[u8],
        budget: &mut SearchBudget,
    ) -> Option<(SignatureMatch, bool)> {
        for (secret, held) in self.secrets.iter().enumerate() {
            for prefix in &self.prefixes {
                if !budget.try_spend(prefix.len() + text.len() + 2 * TAG_COST) {
                    return None;
                }
                let without = held.key().start_with(prefix, text);
                let mut with = without.clone();
                with.update(b"\n");
                for (signing, newline) in [(without, false), (with, true)] {
                    if let Some(reading) = self.readings.position(prefix, &signing.finish()) {
                        return Some((SignatureMatch { secret, reading }, newline));
                    }
                }
            }
        }
        None
    }

    /// Begins to hash a text that comes in pieces, if that is affordable.
    pub(super) fn start_stream(&self, budget: &mut SearchBudget) -> Option<StreamMatcher<'a>> {
        let before: usize = self.prefixes.iter().map(|prefix| prefix.len() + TAG_COST).sum();
        if !budget.try_spend(self.secrets.len() * before) {
            return None;
        }
        let each = |(secret, held): (usize, &KeyedSecret)| {
            self.prefixes
                .iter()
                .map(move |prefix| (secret, *prefix, held.key().start_with(prefix, &[])))
                .collect::<Vec<_>>()
        };
        Some(StreamMatcher {
            readings: self.readings,
            signings: self.secrets.iter().enumerate().flat_map(each).collect(),
        })
    }
}

pub(super) struct StreamMatcher<'a> {
    readings: &'a SignatureReadings,
    signings: Vec<(usize, &'a [u8], Signing)>,
}

impl StreamMatcher<'_> {
    /// How often a piece is hashed.
    pub(super) fn hashes_per_byte(&self) -> usize {
        self.signings.len()
    }

    pub(super) fn update(&mut self, piece: &[u8]) {
        self.signings.iter_mut().for_each(|(_, _, signing)| signing.update(piece));
    }

    pub(super) fn finish(self) -> Option<SignatureMatch> {
        let readings = self.readings;
        self.signings.into_iter().find_map(|(secret, prefix, signing)| {
            readings.position(prefix, &signing.finish()).map(|reading| SignatureMatch { secret, reading })
        })
    }
}
