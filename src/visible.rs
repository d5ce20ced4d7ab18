//! Escapes foreign text for logs and errors.
//!
//! A sender, a handler or a driver can put characters into a text that forge a second log line or hide a part of the
//! first one. All texts from outside of this crate are shown through this module.

use std::fmt::{self, Write};

/// The greatest length of the text that [`one_line`] returns, in characters.
const MAX_LEN: usize = 200;

/// A text that is shown with hidden characters escaped, as in `\u{202e}`. The alternate `Debug` format keeps line
/// feeds, because it indents with them.
pub(crate) struct Escaped<T>(pub(crate) T);

/// Returns the first 200 characters of a text, with hidden characters and line ends replaced by spaces.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().take(MAX_LEN).map(|char| if is_shown(char) { char } else { ' ' }).collect()
}

impl<T: fmt::Display> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escape { out: f, keeps_lines: false }, "{}", self.0)
    }
}

impl<T: fmt::Debug> fmt::Debug for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            write!(Escape { out: f, keeps_lines: true }, "{:#?}", self.0)
        } else {
            write!(Escape { out: f, keeps_lines: false }, "{:?}", self.0)
        }
    }
}

/// A writer that escapes hidden characters.
struct Escape<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    keeps_lines: bool,
}

impl Write for Escape<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let keeps = |char: char| is_shown(char) || (char == '\n' && self.keeps_lines);
        let mut rest = text;
        while let Some(index) = rest.find(|char| !keeps(char)) {
            let (shown, hidden) = rest.split_at(index);
            self.out.write_str(shown)?;
            let mut chars = hidden.chars();
            for char in chars.next().into_iter().flat_map(char::escape_default) {
                self.out.write_char(char)?;
            }
            rest = chars.as_str();
        }
        self.out.write_str(rest)
    }
}

/// Returns whether a character is visible: not a control character (Unicode category Cc), a line or paragraph separator
/// (Zl, Zp), or a format character (Cf).
fn is_shown(char: char) -> bool {
    !matches!(
        char,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ranges of the categories Cc, Cf, Zl and Zp in UnicodeData.txt of Unicode 16.0.0.
    const HIDDEN: [(u32, u32); 24] = [
        (0x0, 0x1f),
        (0x7f, 0x9f),
        (0xad, 0xad),
        (0x600, 0x605),
        (0x61c, 0x61c),
        (0x6dd, 0x6dd),
        (0x70f, 0x70f),
        (0x890, 0x891),
        (0x8e2, 0x8e2),
        (0x180e, 0x180e),
        (0x200b, 0x200f),
        (0x2028, 0x2029),
        (0x202a, 0x202e),
        (0x2060, 0x2064),
        (0x2066, 0x206f),
        (0xfeff, 0xfeff),
        (0xfff9, 0xfffb),
        (0x110bd, 0x110bd),
        (0x110cd, 0x110cd),
        (0x13430, 0x1343f),
        (0x1bca0, 0x1bca3),
        (0x1d173, 0x1d17a),
        (0xe0001, 0xe0001),
        (0xe0020, 0xe007f),
    ];

    /// Unassigned characters between format characters, which are hidden too.
    const RESERVED: [(u32, u32); 3] = [(0x2065, 0x2065), (0xe0000, 0xe0000), (0xe0002, 0xe001f)];

    fn is_in(ranges: &[(u32, u32)], char: char) -> bool {
        ranges.iter().any(|&(first, last)| (first..=last).contains(&u32::from(char)))
    }

    #[test]
    fn agrees_with_unicode_categories() {
        for char in '\0'..=char::MAX {
            let hidden = is_in(&HIDDEN, char) || is_in(&RESERVED, char);
            let text = format!("a{char}b");
            assert_eq!(Escaped(&text).to_string() != text, hidden, "{:?}", char.escape_unicode());
            assert_eq!(one_line(&text) != text, hidden, "{:?}", char.escape_unicode());
        }
    }

    /// Derived `Debug` implementations rely on the `Debug` of `str`.
    #[test]
    fn debug_of_str_escapes_hidden_characters() {
        for char in ('\0'..=char::MAX).filter(|&char| is_in(&HIDDEN, char)) {
            assert!(!format!("{:?}", format!("a{char}")).contains(char), "{:?}", char.escape_unicode());
        }
    }

    #[test]
    fn escapes_only_hidden_characters() {
        for (text, shown) in [
            ("", ""),
            ("größer — 価格 😀 \\ \"", "größer — 価格 😀 \\ \""),
            ("a\u{202e}b\r\n\u{feff}", r"a\u{202e}b\r\n\u{feff}"),
            ("\u{e0041}\u{1b}[31m", r"\u{e0041}\u{1b}[31m"),
        ] {
            assert_eq!(Escaped(text).to_string(), shown);
        }
        struct Raw;
        impl fmt::Debug for Raw {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\u{200b}\n")
            }
        }
        assert_eq!(format!("{:?}", Escaped(Raw)), r"\u{200b}\n");
        assert_eq!(format!("{:#?}", Escaped(Raw)), "\\u{200b}\n");
    }
}
