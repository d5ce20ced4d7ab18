//! Bodies that were parsed and encoded again: the texts that such a body may have been made of.

mod empties;
mod layout;
mod order;
mod strings;

use std::{
    borrow::Cow,
    collections::HashSet,
    hash::{DefaultHasher, Hasher},
};

use self::{empties::objects_restored, layout::Layout, order::Order, strings::Strings};
use super::{
    search::{Hit, Search},
    work::Work,
};
pub(super) use crate::json::Tree;

/// How the original was written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Writing {
    layout: Layout,
    order: Order,
    strings: Strings,
    objects_restored: bool,
}

impl Writing {
    /// What it has that the body has not.
    pub(super) fn describe(self, newline: bool) -> String {
        let mut text = format!("the original was {}", self.layout.describe());
        let parts = [
            self.order.describe(),
            self.strings.describe(),
            self.objects_restored.then_some("with `{}` where PHP's json_decode(…, true) left `[]`"),
            newline.then_some("with a newline at its end"),
        ];
        for part in parts.into_iter().flatten() {
            text.push_str(", ");
            text.push_str(part);
        }
        text
    }

    fn is_worth_a_try(self) -> bool {
        if self.objects_restored {
            // PHP keeps the order of keys, and what it was sent was compact.
            self.order == Order::Received && self.layout == Layout::Compact
        } else {
            // White space belongs to a place, not to a key.
            self.order == Order::Received || self.layout != Layout::Received
        }
    }

    /// The fewest changes first, and of those the commonest.
    fn all(orders: &[Order], strings: &[Strings], objects_restored: bool) -> Vec<Self> {
        let mut writings = Vec::new();
        for &order in orders {
            for &strings in strings {
                for layout in Layout::ALL {
                    let writing = Self { layout, order, strings, objects_restored };
                    if writing.is_worth_a_try() {
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
pub(super) fn has_sorted_keys(tree: &Tree<'_>) -> bool {
    Order::Sorted.children(tree) == tree.children
}

/// Looks for the text that was signed among those that this body may have been made of.
pub(super) fn original(search: &Search<'_>, body: &[u8], work: &mut Work) -> Option<(Hit, Writing, bool)> {
    let mut found = None;
    let mut tried = HashSet::new();
    each_text(body, work, |text, writing, work| {
        if tried.insert(fingerprint(text)) {
            found = search.with_any_or_newline(text, work).map(|(hit, newline)| (hit, writing, newline));
        }
        found.is_none()
    });
    found
}

/// Writes the body in each way, until there is nothing left to spend, or no wish for more.
fn each_text(body: &[u8], work: &mut Work, mut take: impl FnMut(&[u8], Writing, &mut Work) -> bool) {
    if !work.spend(2 * body.len()) {
        return;
    }
    // First, since these are few, and the others may leave nothing to spend.
    if let Ok(text) = str::from_utf8(body)
        && let Cow::Owned(text) = objects_restored(text)
        && !each_writing(text.as_bytes(), true, work, &mut take)
    {
        return;
    }
    each_writing(body, false, work, &mut take);
}

/// Returns whether there may be more.
fn each_writing(
    body: &[u8],
    objects_restored: bool,
    work: &mut Work,
    take: &mut impl FnMut(&[u8], Writing, &mut Work) -> bool,
) -> bool {
    // Both look at each byte a few times.
    if !work.spend(4 * body.len()) {
        return false;
    }
    let Some(tree) = Tree::parse(body) else { return false };
    let strings = Strings::that_differ(&tree, work);
    let arrangements = Order::that_differ(&tree, work);
    let orders: Vec<Order> = arrangements.iter().map(|(order, _)| *order).collect();
    let longest = body.len().saturating_mul(4).saturating_add(1024);
    let mut text = Vec::new();
    for writing in Writing::all(&orders, &strings, objects_restored) {
        let children =
            arrangements.iter().find(|(order, _)| *order == writing.order).map(|(_, children)| &children[..]);
        text.clear();
        let limit = longest.min(work.left());
        let whole =
            layout::write(&tree, children.unwrap_or_default(), writing.layout, writing.strings, limit, &mut text);
        if !whole {
            work.leave_out();
        }
        if !work.done(text.len()) || (whole && !take(&text, writing, work)) {
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
