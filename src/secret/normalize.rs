//! Removes what a secret picks up when it is copied from a file, a shell or a web page: padding, names, quotes and
//! escapes.

use super::variable::Variable;

/// The quotes of shells, YAML and JSON.
const STRAIGHT_QUOTES: [char; 3] = ['"', '\'', '`'];

/// The quotes that word processors insert.
const TYPOGRAPHIC_QUOTES: [char; 12] = ['“', '”', '„', '‟', '‘', '’', '‚', '‛', '«', '»', '‹', '›'];

/// Removes white space and invisible characters at both ends. Returns `None` if nothing was removed.
pub(crate) fn without_padding(text: &str) -> Option<&str> {
    // Byte order marks, zero-width characters and soft hyphens come with files and web pages.
    let is_padding = |c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{ad}')
    };
    let rest = text.trim_matches(is_padding);
    (rest.len() < text.len()).then_some(rest)
}

/// Returns the value of `NAME=secret`, `name: secret`, `export NAME="secret"` or `"name": "secret",`. Returns `None`
/// unless the name contains "secret", because a secret itself may contain `=` or `:`.
pub(crate) fn without_name(line: &str) -> Option<&str> {
    let line_only = line.strip_prefix("export ").or_else(|| line.strip_prefix("$env:")).unwrap_or(line);
    let (name, value) = line_only.split_once(['=', ':'])?;
    let name = name.trim_start_matches([' ', '{', '"', '\'']).trim_end_matches([' ', '"', '\'']);
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let says = |window: &[u8]| window.eq_ignore_ascii_case(b"secret");
    let says_secret = name.len() <= 2 * Variable::Newest.name().len() && name.as_bytes().windows(6).any(says);
    // A base64 text may end in `==`, which is not a value.
    let value = value.trim_start_matches('=').trim().trim_end_matches(['}', ',', ';']);
    (is_word && says_secret && !value.is_empty()).then_some(value)
}

/// Removes quotes around the text, or a quote at one end. Returns `None` if nothing was removed.
pub(crate) fn without_quotes(text: &str) -> Option<&str> {
    let rest = text.trim_matches(TYPOGRAPHIC_QUOTES);
    if rest.len() < text.len() {
        return Some(rest);
    }
    for quote in STRAIGHT_QUOTES {
        match (text.strip_prefix(quote), text.strip_suffix(quote)) {
            (Some(rest), Some(_)) => return rest.strip_suffix(quote),
            // A random secret may end in a quote, but then it contains other punctuation too.
            (Some(rest), None) | (None, Some(rest)) if rest.bytes().all(is_plain) => return Some(rest),
            _ => {}
        }
    }
    None
}

/// Returns whether the byte occurs in hex, in base64 of either alphabet, in UUIDs or in names.
pub(super) fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=-_.".contains(&byte)
}

/// Removes an escape sequence `\n` or `\r\n` at the end, which was meant as a line end. Returns `None` if nothing was
/// removed.
pub(crate) fn without_escape(text: &str) -> Option<&str> {
    let rest = text.strip_suffix(r"\n")?;
    Some(rest.strip_suffix(r"\r").unwrap_or(rest))
}
