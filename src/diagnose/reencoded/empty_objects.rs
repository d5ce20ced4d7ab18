use std::borrow::Cow;

use crate::json::{JsonPiece, pieces};

/// Replaces `[]` with `{}` where PHP's `json_decode($text, true)` probably turned an empty object into an empty array. Borrows the
/// text if there is nothing to replace.
///
/// The name of the member decides: klikit's lists have plural names, except `cart`, so other empty arrays were objects.
pub(super) fn restore_empty_objects(text: &str) -> Cow<'_, str> {
    let mut restored = Cow::Borrowed(text);
    let (mut at, mut key) = (0, "");
    for piece in pieces(text) {
        let piece = match piece {
            JsonPiece::String(string) => {
                key = string;
                string
            }
            JsonPiece::Between(between) => {
                let value = between.trim_ascii_start().strip_prefix(':').map_or("", str::trim_ascii_start);
                if value.starts_with("[]") && !key.ends_with("s\"") && key != "\"cart\"" {
                    let value = at + between.len() - value.len();
                    restored.to_mut().replace_range(value..value + 2, "{}");
                }
                between
            }
        };
        at += piece.len();
    }
    restored
}
