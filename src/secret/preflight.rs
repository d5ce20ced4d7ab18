//! What is wrong with a secret by its looks.

use super::{
    WebhookSecret, is_binary,
    peel::{without_escape, without_name, without_padding, without_quotes},
    placeholder::is_placeholder,
};
use crate::preflight::ProblemKind;

/// In bytes. What is shorter can be guessed by whoever has seen one body and its signature, and can try as fast as it hashes.
const SHORTEST: usize = 16;

impl WebhookSecret {
    /// What it looks wrong by, in the order of [`ProblemKind`].
    pub(crate) fn problems(&self) -> Vec<ProblemKind> {
        let Peeled { core, mut problems } = Peeled::of(&self.bytes);
        let is_text = str::from_utf8(core).is_ok_and(|text| !text.contains(char::is_control));
        if !is_text {
            problems.push(ProblemKind::SecretNotText);
        } else if is_placeholder(core) {
            problems.push(ProblemKind::SecretPlaceholder);
        } else if core.len() < SHORTEST {
            problems.push(ProblemKind::SecretTooShort);
        }
        problems.sort_unstable_by_key(|&kind| kind as u8);
        problems
    }

    /// Whether the two are one, but for what does not belong to a secret.
    pub(crate) fn is_nearly(&self, other: &Self) -> bool {
        Peeled::of(&self.bytes).core == Peeled::of(&other.bytes).core
    }
}

/// A secret without what does not belong to it.
struct Peeled<'a> {
    core: &'a [u8],
    /// What was taken off.
    problems: Vec<ProblemKind>,
}

impl<'a> Peeled<'a> {
    fn of(secret: &'a [u8]) -> Self {
        let mut peeled = Self { core: secret, problems: Vec::new() };
        let Ok(mut core) = str::from_utf8(secret) else { return peeled };
        while let Some((rest, kind)) = peel(core) {
            core = rest;
            // What is around the value of a line belongs to that line.
            let is_of_line = peeled.problems.contains(&ProblemKind::SecretLine);
            if !is_of_line && !peeled.problems.contains(&kind) {
                peeled.problems.push(kind);
            }
        }
        if core.is_empty() && is_binary(secret) {
            // Control bytes are white space to text, and here they are the key.
            return Self { core: secret, problems: Vec::new() };
        }
        peeled.core = core.as_bytes();
        peeled
    }
}

/// Takes the outermost of what does not belong to a secret off it. What is left is shorter, and may be empty.
fn peel(text: &str) -> Option<(&str, ProblemKind)> {
    let padded = without_padding(text).map(|rest| (rest, ProblemKind::SecretWhiteSpace));
    padded
        .or_else(|| without_name(text).map(|rest| (rest, ProblemKind::SecretLine)))
        .or_else(|| without_quotes(text).map(|rest| (rest, ProblemKind::SecretQuoted)))
        .or_else(|| without_escape(text).map(|rest| (rest, ProblemKind::SecretEscaped)))
}
