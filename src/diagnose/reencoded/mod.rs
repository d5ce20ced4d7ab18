//! Search for the original of a JSON body that was parsed and encoded again.

mod empty_objects;
mod key_order;
mod layout;
mod string_style;

use std::{
    borrow::Cow,
    collections::HashSet,
    hash::{DefaultHasher, Hasher},
};

use self::{empty_objects::restore_empty_objects, key_order::KeyOrder, layout::Layout, string_style::StringStyle};
use super::{
    budget::SearchBudget,
    matcher::{SignatureMatch, SignatureMatcher},
};
pub(super) use crate::json::JsonTree;

/// A style in which the original may have been written.
#[derive(Clone, Copy, PartialEq, Eq)]
struct JsonStyle {
    layout: Layout,
    order: KeyOrder,
    strings: StringStyle,
    objects: EmptyObjects,
}

/// Whether empty objects that PHP has turned into empty arrays are restored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EmptyObjects {
    AsReceived,
    Restored,
}

/// The text that was signed.
pub(super) struct Original {
    style: JsonStyle,
    ends_in_newline: bool,
}

impl Original {
    pub(super) fn describe(&self) -> String {
        let JsonStyle { layout, order, strings, objects } = self.style;
        let mut text = format!("the original was {}", layout.describe());
        let is_restored = objects == EmptyObjects::Restored;
        let parts = [
            order.describe(),
            strings.describe(),
            is_restored.then_some("with `{}` where PHP's json_decode(…, true) left `[]`"),
            self.ends_in_newline.then_some("with a newline at its end"),
        ];
        for part in parts.into_iter().flatten() {
            text.push_str(", ");
            text.push_str(part);
        }
        text
    }
}

impl JsonStyle {
    fn is_plausible(self) -> bool {
        if self.objects == EmptyObjects::Restored {
            // PHP keeps the order of keys, and klikit sends compact JSON.
            self.order == KeyOrder::Received && self.layout == Layout::Compact
        } else {
            // White space as received belongs to positions in the text, so it fits only keys in the order received.
            self.order == KeyOrder::Received || self.layout != Layout::Received
        }
    }

    /// Returns all plausible styles, the most likely first.
    fn all(orders: &[KeyOrder], strings: &[StringStyle], objects: EmptyObjects) -> Vec<Self> {
        let mut styles = Vec::new();
        for &order in orders {
            for &strings in strings {
                for layout in Layout::ALL {
                    let style = Self { layout, order, strings, objects };
                    if style.is_plausible() {
                        styles.push(style);
                    }
                }
            }
        }
        styles.sort_by_key(|style| {
            style.layout.unlikelihood() + style.order.unlikelihood() + style.strings.unlikelihood()
        });
        styles
    }
}

/// Returns whether the keys of each object are in alphabetical order.
pub(super) fn has_sorted_keys(tree: &JsonTree<'_>) -> bool {
    KeyOrder::Sorted.children(tree) == tree.children
}

/// Searches for the signed text among the possible originals of this body.
pub(super) fn original(
    matcher: &SignatureMatcher<'_>,
    body: &[u8],
    budget: &mut SearchBudget,
) -> Option<(SignatureMatch, Original)> {
    let mut found = None;
    let mut tried = HashSet::new();
    each_text(body, budget, |text, style, budget| {
        if tried.insert(fingerprint(text)) {
            let hit = matcher.match_body_or_newline(text, budget);
            found = hit.map(|(hit, ends_in_newline)| (hit, Original { style, ends_in_newline }));
        }
        found.is_none()
    });
    found
}

/// Writes the body in each style and passes the text to `take`, until the budget is exhausted or `take` returns `false`.
fn each_text(
    body: &[u8],
    budget: &mut SearchBudget,
    mut take: impl FnMut(&[u8], JsonStyle, &mut SearchBudget) -> bool,
) {
    if !budget.try_spend(2 * body.len()) {
        return;
    }
    // Try these first: they are few, and the other styles may exhaust the budget.
    if let Ok(text) = str::from_utf8(body)
        && let Cow::Owned(text) = restore_empty_objects(text)
        && !each_style(text.as_bytes(), EmptyObjects::Restored, budget, &mut take)
    {
        return;
    }
    each_style(body, EmptyObjects::AsReceived, budget, &mut take);
}

/// Writes the body in each style with these empty objects. Returns `false` if the search must stop.
fn each_style(
    body: &[u8],
    objects: EmptyObjects,
    budget: &mut SearchBudget,
    take: &mut impl FnMut(&[u8], JsonStyle, &mut SearchBudget) -> bool,
) -> bool {
    // The parser and the search for styles read each byte a few times.
    if !budget.try_spend(4 * body.len()) {
        return false;
    }
    let Some(tree) = JsonTree::parse(body) else { return false };
    let strings = StringStyle::distinct(&tree, budget);
    let key_orders = KeyOrder::distinct(&tree, budget);
    let orders: Vec<KeyOrder> = key_orders.iter().map(|(order, _)| *order).collect();
    let longest = body.len().saturating_mul(4).saturating_add(1024);
    let mut text = Vec::new();
    for style in JsonStyle::all(&orders, &strings, objects) {
        let children = key_orders.iter().find(|(order, _)| *order == style.order).map(|(_, children)| &children[..]);
        text.clear();
        let limit = longest.min(budget.remaining());
        let whole = layout::write(&tree, children.unwrap_or_default(), style.layout, style.strings, limit, &mut text);
        if !whole {
            budget.mark_cut_short();
        }
        if !budget.charge(text.len()) || (whole && !take(&text, style, budget)) {
            return false;
        }
    }
    true
}

/// Returns a hash of the text. If two texts collide, only the second one is skipped.
fn fingerprint(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(text);
    hasher.finish()
}

#[cfg(test)]
mod tests;
