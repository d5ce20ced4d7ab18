//! What stands where nobody has put a secret.

use zeroize::Zeroizing;

use super::peel::is_plain;

/// What placeholders are made of.
const WORDS: &str = "your my our the this that some any here please klikit partner webhook webhooks hook secret secrets key keys \
    token password passwd pass passphrase value string text name api app changeme change changeit replace replaceme \
    insert paste put enter fill set add get copy goes me it in with from for by to be not is of and \
    test testing tests example sample demo dummy fake mock fixture fixtures placeholder todo fixme tbd xxx foo bar baz \
    none null nil undefined unset empty default dashboard portal console config settings generated provided signing shared \
    super top sandbox dev local staging prod production live redacted hidden qwerty";

/// Longer texts are made of no such words.
const LONGEST: usize = 96;

/// Of a number at the end of a placeholder. More may be a secret.
const MOST_DIGITS: usize = 8;

/// Of the characters that follow one another, or are the same, as they do in `abc` and `000`. Fewer do by chance.
const SHORTEST_RUN: usize = 3;

/// Of what is written over and over. A longer text may be a secret that was pasted twice.
const LONGEST_BLOCK: usize = 8;

/// What holds secrets, before the `:` of a reference to one there.
const STORES: [&str; 9] = ["arn", "env", "file", "op", "secretsmanager", "sm", "sops", "ssm", "vault"];

/// What holds settings, in the code that reads one.
const SETTINGS: [&str; 4] = ["env", "environ", "getenv", "secrets"];

/// Whether this is nobody's secret: a few characters over and over, a variable, a reference to where the secret is, or made of a
/// placeholder's words and of runs such as `123` alone, with a number at its end or not. A random text that has such a word in it is
/// none.
pub(super) fn is_placeholder(core: &[u8]) -> bool {
    if is_repeated(core) {
        return true;
    }
    if str::from_utf8(core).is_ok_and(|text| is_variable(text) || is_reference(text)) {
        return true;
    }
    if core.len() > LONGEST {
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
        || is_made_of_words(&letters)
        || (digits <= MOST_DIGITS && is_made_of_words(&letters[..letters.len() - digits]))
}

/// Whether a short block is written at least twice, and nothing else; or one character is all.
fn is_repeated(bytes: &[u8]) -> bool {
    let repeats = |block| bytes.len() >= 2 * block && bytes.iter().zip(&bytes[block..]).all(|(one, next)| one == next);
    bytes.len() == 1 || (1..=LONGEST_BLOCK).any(repeats)
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
            for len in SHORTEST_RUN..=run(&letters[start..]) {
                ends[start + len] = true;
            }
        }
    }
    ends[letters.len()]
}

/// How many letters at the start are a run, up or down, or the same.
fn run(letters: &[u8]) -> usize {
    let goes = |step: fn(u8) -> u8| letters.windows(2).take_while(|pair| step(pair[0]) == pair[1]).count() + 1;
    // Zero comes before one, and after nine.
    let up = |letter| if letter == b'9' { b'0' } else { letter + 1 };
    let down = |letter| if letter == b'0' { b'9' } else { letter - 1 };
    goes(up).max(goes(down)).max(goes(|letter| letter))
}

/// `<…>`, `[…]`, `%…%`, `{{…}}`, `${…}`, `#{…}`, `$(…)` or `$NAME`.
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

/// `scheme://…`, `vault:…`, `process.env.NAME` or the like.
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

/// As variables have in an environment.
fn is_name(text: &str) -> bool {
    text.len() > 2 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}
