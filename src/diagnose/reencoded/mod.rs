//! Bodies that were parsed and encoded again: the texts that such a body may have been made of.

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

/// How the original was written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct JsonStyle {
    layout: Layout,
    order: KeyOrder,
    strings: StringStyle,
    restores_objects: bool,
}

impl JsonStyle {
    /// What it has that the body has not.
    pub(super) fn describe(self, newline: bool) -> String {
        let mut text = format!("the original was {}", self.layout.describe());
        let parts = [
            self.order.describe(),
            self.strings.describe(),
            self.restores_objects.then_some("with `{}` where PHP's json_decode(…, true) left `[]`"),
            newline.then_some("with a newline at its end"),
        ];
        for part in parts.into_iter().flatten() {
            text.push_str(", ");
            text.push_str(part);
        }
        text
    }

    fn is_plausible(self) -> bool {
        if self.restores_objects {
            // PHP keeps the order of keys, and what it was sent was compact.
            self.order == KeyOrder::Received && self.layout == Layout::Compact
        } else {
            // White space belongs to a place, not to a key.
            self.order == KeyOrder::Received || self.layout != Layout::Received
        }
    }

    /// The fewest changes first, and of those the commonest.
    fn all(orders: &[KeyOrder], strings: &[StringStyle], restores_objects: bool) -> Vec<Self> {
        let mut writings = Vec::new();
        for &order in orders {
            for &strings in strings {
                for layout in Layout::ALL {
                    let writing = Self { layout, order, strings, restores_objects };
                    if writing.is_plausible() {
                        writings.push(writing);
                    }
                }
            }
        }
        writings.sort_by_key(|writing| {
            writing.layout.unlikelihood() + writing.order.unlikelihood() + writing.strings.unlikelihood()
        });
        writings
    }
}

/// Whether the keys of each object are in alphabetical order.
pub(super) fn has_sorted_keys(tree: &JsonTree<'_>) -> bool {
    KeyOrder::Sorted.children(tree) == tree.children
}

/// Looks for the text that was signed among those that this body may have been made of.
pub(super) fn original(
    matcher: &SignatureMatcher<'_>,
    body: &[u8],
    budget: &mut SearchBudget,
) -> Option<(SignatureMatch, JsonStyle, bool)> {
    let mut found = None;
    let mut tried = HashSet::new();
    each_text(body, budget, |text, writing, budget| {
        if tried.insert(fingerprint(text)) {
            found = matcher.match_body_or_newline(text, budget).map(|(hit, newline)| (hit, writing, newline));
        }
        found.is_none()
    });
    found
}

/// Writes the body in each way, until there is nothing left to spend, or no wish for more.
fn each_text(
    body: &[u8],
    budget: &mut SearchBudget,
    mut take: impl FnMut(&[u8], JsonStyle, &mut SearchBudget) -> bool,
) {
    if !budget.try_spend(2 * body.len()) {
        return;
    }
    // First, since these are few, and the others may leave nothing to spend.
    if let Ok(text) = str::from_utf8(body)
        && let Cow::Owned(text) = restore_empty_objects(text)
        && !each_writing(text.as_bytes(), true, budget, &mut take)
    {
        return;
    }
    each_writing(body, false, budget, &mut take);
}

/// Returns whether there may be more.
fn each_writing(
    body: &[u8],
    restores_objects: bool,
    budget: &mut SearchBudget,
    take: &mut impl FnMut(&[u8], JsonStyle, &mut SearchBudget) -> bool,
) -> bool {
    // Both look at each byte a few times.
    if !budget.try_spend(4 * body.len()) {
        return false;
    }
    let Some(tree) = JsonTree::parse(body) else { return false };
    let strings = StringStyle::distinct(&tree, budget);
    let arrangements = KeyOrder::distinct(&tree, budget);
    let orders: Vec<KeyOrder> = arrangements.iter().map(|(order, _)| *order).collect();
    let longest = body.len().saturating_mul(4).saturating_add(1024);
    let mut text = Vec::new();
    for writing in JsonStyle::all(&orders, &strings, restores_objects) {
        let children =
            arrangements.iter().find(|(order, _)| *order == writing.order).map(|(_, children)| &children[..]);
        text.clear();
        let limit = longest.min(budget.remaining());
        let whole =
            layout::write(&tree, children.unwrap_or_default(), writing.layout, writing.strings, limit, &mut text);
        if !whole {
            budget.mark_cut_short();
        }
        if !budget.charge(text.len()) || (whole && !take(&text, writing, budget)) {
            return false;
        }
    }
    true
}

/// Two texts with one fingerprint would lose the second of them, no more.
fn fingerprint(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(text);
    hasher.finish()
}

#[cfg(test)]
mod tests;
