//! Detection of placeholders: example texts, variables and references in place of a secret.

use zeroize::Zeroizing;

use super::normalize::is_plain;

/// The words that placeholders consist of.
const WORDS: &str = "your my our the this that some any here please klikit partner webhook webhooks hook secret secrets key keys \
    token password passwd pass passphrase value string text name api app changeme change changeit replace replaceme \
    insert paste put enter fill set add get copy goes me it in with from for by to be not is of and \
    test testing tests example sample demo dummy fake mock fixture fixtures placeholder todo fixme tbd xxx foo bar baz \
    none null nil undefined unset empty default dashboard portal console config settings generated provided signing shared \
    super top sandbox dev local staging prod production live redacted hidden qwerty";

/// The greatest length of a placeholder of such words, in bytes.
const MAX_LEN: usize = 96;

/// The most digits of a number at the end of a placeholder. A longer number may be a secret.
const MAX_DIGITS: usize = 8;

/// The least length of a run, such as `abc` or `000`. Shorter runs occur by chance.
const MIN_RUN: usize = 3;

/// The greatest length of a block that is repeated. A longer block may be a secret that was pasted twice.
const MAX_BLOCK: usize = 8;

/// The names of secret stores, as they stand before the `:` of a reference.
const STORES: [&str; 9] = ["arn", "env", "file", "op", "secretsmanager", "sm", "sops", "ssm", "vault"];

/// The names of objects and functions that hold settings, in code that reads one.
const SETTINGS: [&str; 4] = ["env", "environ", "getenv", "secrets"];

/// Returns whether the text is a placeholder, which is one of these:
///
/// - a block of a few characters that is repeated;
/// - a variable, or a reference to the place of the secret;
/// - words of placeholders and runs such as `123` only, optionally followed by a number. A random text that contains
///   such a word is not a placeholder.
pub(super) fn is_placeholder(core: &[u8]) -> bool {
    if is_repeated(core) {
        return true;
    }
    if str::from_utf8(core).is_ok_and(|text| is_variable(text) || is_reference(text)) {
        return true;
    }
    if core.len() > MAX_LEN {
        return false;
    }
    // Reserve the whole length: a reallocation would leave a copy that is not wiped.
    let mut letters = Zeroizing::new(Vec::with_capacity(core.len()));
    letters.extend(core.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase));
    if letters.is_empty() || 2 * letters.len() < core.len() {
        // Too much punctuation for separators between words.
        return false;
    }
    let digits = letters.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    is_repeated(&letters)
        || is_made_of_words(&letters)
        || (digits <= MAX_DIGITS && is_made_of_words(&letters[..letters.len() - digits]))
}

/// Returns whether the text is a single character, or a short block that is repeated at least once.
fn is_repeated(bytes: &[u8]) -> bool {
    let repeats = |block| bytes.len() >= 2 * block && bytes.iter().zip(&bytes[block..]).all(|(one, next)| one == next);
    bytes.len() == 1 || (1..=MAX_BLOCK).any(repeats)
}

/// Returns whether the letters can be split into words of placeholders and runs.
fn is_made_of_words(letters: &[u8]) -> bool {
    if letters.is_empty() {
        return false;
    }
    // For each position, whether the letters before it can be split.
    let mut ends = vec![false; letters.len() + 1];
    ends[0] = true;
    for start in 0..letters.len() {
        if ends[start] {
            for word in WORDS.split(' ').filter(|word| letters[start..].starts_with(word.as_bytes())) {
                ends[start + word.len()] = true;
            }
            for len in MIN_RUN..=run(&letters[start..]) {
                ends[start + len] = true;
            }
        }
    }
    ends[letters.len()]
}

/// Returns the length of the run at the start: characters that ascend, descend or repeat.
fn run(letters: &[u8]) -> usize {
    let length = |step: fn(u8) -> u8| letters.windows(2).take_while(|pair| step(pair[0]) == pair[1]).count() + 1;
    // 9 is followed by 0, as on a keyboard.
    let up = |letter| if letter == b'9' { b'0' } else { letter + 1 };
    let down = |letter| if letter == b'0' { b'9' } else { letter - 1 };
    length(up).max(length(down)).max(length(|letter| letter))
}

/// Returns whether the text is `<…>`, `[…]`, `%…%`, `{{…}}`, `${…}`, `#{…}`, `$(…)` or `$NAME`.
fn is_variable(text: &str) -> bool {
    let between = |open, close| text.strip_prefix(open).and_then(|rest: &str| rest.strip_suffix(close));
    let is_phrase = |text: &str| text.bytes().all(|byte| is_plain(byte) || byte == b' ');
    [("${", "}"), ("#{", "}"), ("$(", ")"), ("{{", "}}")]
        .into_iter()
        .any(|(open, close)| between(open, close).is_some())
        || [("<", ">"), ("[", "]"), ("%", "%")]
            .into_iter()
            .any(|(open, close)| between(open, close).is_some_and(is_phrase))
        || text.strip_prefix('$').is_some_and(is_name)
}

/// Returns whether the text is a reference such as `scheme://…`, `vault:…` or `process.env.NAME`.
fn is_reference(text: &str) -> bool {
    let is_path = |text: &str| text.bytes().all(|byte| is_plain(byte) || b":#?&@ ".contains(&byte));
    let is_scheme = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if text.split_once("://").is_some_and(|(scheme, path)| is_scheme(scheme) && is_path(path)) {
        return true;
    }
    if text.split_once(':').is_some_and(|(store, path)| STORES.contains(&store) && is_path(path)) {
        return true;
    }
    let mut words =
        text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_').filter(|word| !word.is_empty());
    words.next_back().is_some_and(is_name)
        && words.any(|word| SETTINGS.iter().any(|settings| word.eq_ignore_ascii_case(settings)))
}

/// Returns whether the text has the form of an environment variable's name.
fn is_name(text: &str) -> bool {
    text.len() > 2 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}
