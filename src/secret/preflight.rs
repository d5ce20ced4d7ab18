//! What is wrong with a secret by its looks.

use zeroize::Zeroizing;

use super::{
    WebhookSecret,
    peel::{is_plain, without_escape, without_name, without_padding, without_quotes},
};
use crate::preflight::ProblemKind;

/// In bytes. What is shorter can be guessed by whoever has seen one body and its signature, and can try as fast as it hashes.
const SHORTEST: usize = 16;

/// What placeholders are made of.
const WORDS: &str = "your my our the this that some any here klikit partner webhook webhooks hook secret secrets key keys token \
    password passwd pass passphrase value string text name api app changeme change changeit replace replaceme \
    insert paste put enter fill set add me it in with from to be not is of and test testing tests example sample \
    demo dummy fake mock placeholder todo fixme tbd xxx foo bar baz none null nil undefined unset empty default \
    super top sandbox dev local redacted hidden qwerty";

/// Longer texts are made of no such words.
const LONGEST_PLACEHOLDER: usize = 96;

/// Of a number at the end of a placeholder. More may be a secret.
const MOST_DIGITS: usize = 8;

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

/// Whether this is nobody's secret: one character over and over, a variable, or made of a placeholder's words alone, with a number
/// at its end or not. A random text that has such a word in it is none.
fn is_placeholder(core: &[u8]) -> bool {
    if is_repeated(core) || is_variable(core) {
        return true;
    }
    if core.len() > LONGEST_PLACEHOLDER {
        return false;
    }
    // With room for all, so that it leaves no copy behind as it grows.
    let mut letters = Zeroizing::new(Vec::with_capacity(core.len()));
    letters.extend(core.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase));
    if letters.is_empty() || 2 * letters.len() < core.len() {
        // There is more between the words than separates them.
        return false;
    }
    let digits = letters.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    is_repeated(&letters)
        || b"12345678901234567890".starts_with(&letters)
        || (digits <= MOST_DIGITS && is_made_of_words(&letters[..letters.len() - digits]))
}

fn is_repeated(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| bytes.iter().all(|byte| byte == first))
}

fn is_made_of_words(letters: &[u8]) -> bool {
    if letters.is_empty() {
        return false;
    }
    // Whether words can end before each letter.
    let mut ends = vec![false; letters.len() + 1];
    ends[0] = true;
    for start in 0..letters.len() {
        if ends[start] {
            for word in WORDS.split(' ').filter(|word| letters[start..].starts_with(word.as_bytes())) {
                ends[start + word.len()] = true;
            }
        }
    }
    ends[letters.len()]
}

/// `<…>`, `[…]`, `%…%`, `{{…}}`, `${…}`, `$(…)` or `$NAME`.
fn is_variable(core: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(core) else { return false };
    let between = |open, close| text.strip_prefix(open).and_then(|rest: &str| rest.strip_suffix(close));
    let is_phrase = |text: &str| text.bytes().all(|byte| is_plain(byte) || byte == b' ');
    let is_name = |text: &str| text.len() > 2 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    between("${", "}").is_some()
        || between("$(", ")").is_some()
        || between("{{", "}}").is_some()
        || [("<", ">"), ("[", "]"), ("%", "%")]
            .into_iter()
            .any(|(open, close)| between(open, close).is_some_and(is_phrase))
        || text.strip_prefix('$').is_some_and(is_name)
}
