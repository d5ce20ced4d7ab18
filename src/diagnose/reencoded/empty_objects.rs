use std::borrow::Cow;

use crate::json::{JsonPiece, pieces};

/// The text as it was before PHP read it by `json_decode($it, true)`, which makes an array of each object, and `[]` of one that is
/// empty. By their names alone: klikit calls its lists by plurals, but for the `cart`, and what is empty elsewhere was an object.
/// The same text if there is nothing such.
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
