//! What does not belong to a secret, and comes with it from files, shells and web pages.

use super::ENV;

/// Quotes that do not stand for themselves: straight ones, which shells, YAML and JSON take, and those that word processors make.
const STRAIGHT: [char; 3] = ['"', '\'', '`'];
const TYPOGRAPHIC: [char; 12] = ['“', '”', '„', '‟', '‘', '’', '‚', '‛', '«', '»', '‹', '›'];

/// Without white space and what shows nothing, at both ends.
pub(crate) fn without_padding(text: &str) -> Option<&str> {
    // Beside Unicode's white space: what comes with files and web pages.
    let is_padding = |c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{ad}')
    };
    let rest = text.trim_matches(is_padding);
    (rest.len() < text.len()).then_some(rest)
}

/// Of `NAME=secret`, `name: secret`, `export NAME="secret"` or `"name": "secret",`, what comes after the name: if that name is
/// of a secret, since `=` and `:` are in others.
pub(crate) fn without_name(line: &str) -> Option<&str> {
    let line_only = line.strip_prefix("export ").or_else(|| line.strip_prefix("$env:")).unwrap_or(line);
    let (name, value) = line_only.split_once(['=', ':'])?;
    let name = name.trim_start_matches([' ', '{', '"', '\'']).trim_end_matches([' ', '"', '\'']);
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let says = |window: &[u8]| window.eq_ignore_ascii_case(b"secret");
    let says_secret = name.len() <= 2 * ENV.len() && name.as_bytes().windows(6).any(says);
    // The padding of a base64 text is no value.
    let value = value.trim_start_matches('=').trim().trim_end_matches(['}', ',', ';']);
    (is_word && says_secret && !value.is_empty()).then_some(value)
}

/// Without quotes around it, or at one end.
pub(crate) fn without_quotes(text: &str) -> Option<&str> {
    let rest = text.trim_matches(TYPOGRAPHIC);
    if rest.len() < text.len() {
        return Some(rest);
    }
    for quote in STRAIGHT {
        match (text.strip_prefix(quote), text.strip_suffix(quote)) {
            (Some(rest), Some(_)) => return rest.strip_suffix(quote),
            // A random text of all signs may well have one at an end, and then it has other signs too.
            (Some(rest), None) | (None, Some(rest)) if rest.bytes().all(is_plain) => return Some(rest),
            _ => {}
        }
    }
    None
}

/// Of hex, base64 in both alphabets, UUIDs and names.
pub(super) fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=-_.".contains(&byte)
}

/// Without a line feed, or CRLF, that nobody has turned into one.
pub(crate) fn without_escape(text: &str) -> Option<&str> {
    let rest = text.strip_suffix(r"\n")?;
    Some(rest.strip_suffix(r"\r").unwrap_or(rest))
}
