//! Detection of secrets that are likely wrong, by their form.

use super::{
    WebhookSecret, is_binary,
    normalize::{without_escape, without_name, without_padding, without_quotes},
    placeholder::is_placeholder,
};
use crate::preflight::ProblemKind;

/// The least length of a secret, in bytes. An attacker who has one body and its signature can guess shorter secrets
/// offline.
const MIN_LEN: usize = 16;

impl WebhookSecret {
    /// Returns the problems of the secret, in the order of [`ProblemKind`].
    pub(crate) fn problems(&self) -> Vec<ProblemKind> {
        let NormalizedSecret { core, mut problems } = NormalizedSecret::new(&self.bytes);
        let is_text = str::from_utf8(core).is_ok_and(|text| !text.contains(char::is_control));
        if !is_text {
            problems.push(ProblemKind::SecretNotText);
        } else if is_placeholder(core) {
            problems.push(ProblemKind::SecretPlaceholder);
        } else if core.len() < MIN_LEN {
            problems.push(ProblemKind::SecretTooShort);
        }
        problems.sort_unstable_by_key(|&kind| kind as u8);
        problems
    }

    /// Returns whether two secrets differ only by white space, names, quotes and escapes around them.
    pub(crate) fn is_nearly(&self, other: &Self) -> bool {
        NormalizedSecret::new(&self.bytes).core == NormalizedSecret::new(&other.bytes).core
    }
}

/// A secret without the white space, names, quotes and escapes around it.
struct NormalizedSecret<'a> {
    core: &'a [u8],
    /// The kinds of text that were removed.
    problems: Vec<ProblemKind>,
}

impl<'a> NormalizedSecret<'a> {
    fn new(secret: &'a [u8]) -> Self {
        let mut normalized = Self { core: secret, problems: Vec::new() };
        let Ok(mut core) = str::from_utf8(secret) else { return normalized };
        while let Some((rest, kind)) = remove_outermost(core) {
            core = rest;
            // Quotes and white space around the value of a line are part of that line, so report only the line.
            let is_line = normalized.problems.contains(&ProblemKind::SecretLine);
            if !is_line && !normalized.problems.contains(&kind) {
                normalized.problems.push(kind);
            }
        }
        if core.is_empty() && is_binary(secret) {
            // The key consists of control bytes, which were removed as white space.
            return Self { core: secret, problems: Vec::new() };
        }
        normalized.core = core.as_bytes();
        normalized
    }
}

/// Removes the outermost white space, name, quotes or escape. Returns the rest, which may be empty, or `None` if there
/// is nothing to remove.
fn remove_outermost(text: &str) -> Option<(&str, ProblemKind)> {
    let padded = without_padding(text).map(|rest| (rest, ProblemKind::SecretWhiteSpace));
    padded
        .or_else(|| without_name(text).map(|rest| (rest, ProblemKind::SecretLine)))
        .or_else(|| without_quotes(text).map(|rest| (rest, ProblemKind::SecretQuoted)))
        .or_else(|| without_escape(text).map(|rest| (rest, ProblemKind::SecretEscaped)))
}
