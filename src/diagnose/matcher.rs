//! Comparison of the signature header with the signatures of texts that klikit may have signed.

use super::{
    budget::{KEY_COST, SearchBudget, TAG_COST},
    readings::{SignatureReading, SignatureReadings},
};
use crate::{
    keyring::KeyedSecret,
    secret::WebhookSecret,
    signature::{Signing, SigningKey},
};

/// The secret and the reading of the header that match a text.
pub(super) struct SignatureMatch {
    /// Index into the matcher's `secrets`.
    pub(super) secret: usize,
    /// Index into the readings of the header.
    pub(super) reading: usize,
}

/// Tries texts: signs them with the configured secrets and compares the result with the signature header.
pub(super) struct SignatureMatcher<'a> {
    pub(super) secrets: &'a [KeyedSecret],
    pub(super) readings: &'a SignatureReadings,
    /// The distinct prefixes of the readings, which are signed before the body.
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

    /// Returns the index of the reading that equals this key's signature of the text.
    pub(super) fn match_with_key(&self, key: &SigningKey, text: &[u8], budget: &mut SearchBudget) -> Option<usize> {
        self.prefixes.iter().find_map(|prefix| {
            let is_affordable = budget.try_spend(prefix.len() + text.len() + TAG_COST);
            is_affordable.then(|| self.readings.position(prefix, &key.sign_pieces(prefix, [text]))).flatten()
        })
    }

    /// Returns the index of the reading that equals the signature of the text under a secret, whose key is derived first.
    pub(super) fn match_with_secret(&self, secret: &[u8], text: &[u8], budget: &mut SearchBudget) -> Option<usize> {
        if !budget.try_spend(secret.len() + KEY_COST) {
            return None;
        }
        self.match_with_key(WebhookSecret::new(secret).ok()?.key(), text, budget)
    }

    /// Tries the text with each configured secret.
    pub(super) fn match_body(&self, text: &[u8], budget: &mut SearchBudget) -> Option<SignatureMatch> {
        self.secrets.iter().enumerate().find_map(|(secret, held)| {
            let reading = self.match_with_key(held.key(), text, budget)?;
            Some(SignatureMatch { secret, reading })
        })
    }

    /// Tries the text, and the text followed by a line feed, with each configured secret. Returns whether the line feed was needed.
    ///
    /// The text is hashed only once for both.
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

    /// Starts to hash a text that comes in pieces. Returns `None` if the budget does not allow it.
    pub(super) fn start_stream(&self, budget: &mut SearchBudget) -> Option<StreamMatcher<'a>> {
        let overhead: usize = self.prefixes.iter().map(|prefix| prefix.len() + TAG_COST).sum();
        if !budget.try_spend(self.secrets.len() * overhead) {
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

/// A text that is hashed piece by piece with each secret and each prefix.
pub(super) struct StreamMatcher<'a> {
    readings: &'a SignatureReadings,
    signings: Vec<(usize, &'a [u8], Signing)>,
}

impl StreamMatcher<'_> {
    /// Returns how many times each piece is hashed.
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
