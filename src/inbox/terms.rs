//! Search terms: the ids in a body by which operators find a delivery.

use std::{borrow::Cow, fmt, sync::Arc};

use super::ordering::{BRANCH_ID, DATA_BRANCH_ID, DATA_ORDER_IDS, ORDER_IDS, encode, id_of, id_of_text};
use crate::{
    dedupe::short_hash,
    event::Delivery,
    json::{PathStep, each_value},
    visible::Escaped,
};

/// A term by which operators find a delivery: the kind of an id and the id, such as `order:42` or `branch:7`.
///
/// Ids are compared as [`OrderBy`](super::OrderBy) compares them: the number 42 and the text "42" are one id. In the
/// id, control characters, `@`, `%` and bytes that are not UTF-8 are percent-encoded. A term of more than 200 bytes is
/// replaced with a hash.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SearchTerm(Arc<str>);

/// The kind of the id in a [`SearchTerm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a store that does not know a kind could not search for it")]
pub enum TermKind {
    /// The id of an order, of which a delivery has any number.
    Order,
    /// The id of a branch, of which a delivery has at most one.
    Branch,
}

/// The longest term, in bytes. Postgres limits an index entry.
const LONGEST_TERM: usize = 200;

const ORDER: &str = "order:";
const BRANCH: &str = "branch:";

impl SearchTerm {
    /// The maximum number of terms of one delivery: 64. A batch with more orders is found only by its first ones.
    pub const MAX: usize = 64;

    /// Creates the term of the order with this id, as a number or as the text that it has in the body.
    pub fn order(id: impl fmt::Display) -> Self {
        Self::of_text(ORDER, &id.to_string())
    }

    /// Creates the term of the branch with this id, as a number or as the text that it has in the body.
    pub fn branch(id: impl fmt::Display) -> Self {
        Self::of_text(BRANCH, &id.to_string())
    }

    /// Creates a term from its stored [text](Self::as_str).
    pub fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the kind, or `None` if the text is not one that this crate has made.
    pub fn kind(&self) -> Option<TermKind> {
        let kinds = [(ORDER, TermKind::Order), (BRANCH, TermKind::Branch)];
        kinds.into_iter().find(|(prefix, _)| self.0.starts_with(prefix)).map(|(_, kind)| kind)
    }

    /// Returns the id if this is the term of an order.
    pub(super) fn as_order(&self) -> Option<&str> {
        self.0.strip_prefix(ORDER)
    }

    /// Returns the id if this is the term of a branch.
    pub(super) fn as_branch(&self) -> Option<&str> {
        self.0.strip_prefix(BRANCH)
    }

    /// Returns the terms of a body, ascending. An id that cannot be read has no term. Of several branch ids, the first
    /// one counts.
    pub(super) fn of_body(delivery: &Delivery, body: &[u8]) -> Vec<Self> {
        // The last two are only in an envelope.
        const PATHS: [&[PathStep]; 4] = [BRANCH_ID, ORDER_IDS, DATA_BRANCH_ID, DATA_ORDER_IDS];
        let paths = if delivery.signed_at().is_some() { &PATHS[..] } else { &PATHS[..2] };
        let (mut branch, mut terms) = (None, Vec::new());
        each_value(body, paths, |position, value| {
            let is_branch = matches!(paths[position], BRANCH_ID | DATA_BRANCH_ID);
            if is_branch && branch.is_none() {
                branch = id_of(value).map(|id| Self::new(BRANCH, &id));
            } else if !is_branch && terms.len() < Self::MAX {
                terms.extend(id_of(value).map(|id| Self::new(ORDER, &id)));
            }
        });
        if let Some(branch) = branch {
            terms.truncate(Self::MAX - 1);
            terms.push(branch);
        }
        terms.sort_unstable();
        terms.dedup();
        terms
    }

    fn of_text(prefix: &str, id: &str) -> Self {
        Self::new(prefix, &id_of_text(Cow::Borrowed(id.as_bytes())))
    }

    fn new(prefix: &str, id: &[u8]) -> Self {
        let mut term = prefix.to_owned();
        encode(id, &mut term);
        if term.len() > LONGEST_TERM {
            // Cannot equal the term of a short id, in which "%" is always followed by a digit or a letter.
            term = format!("{prefix}%%{}", hex::encode(short_hash(&[id])));
        }
        Self(term.into())
    }
}

impl fmt::Display for SearchTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Escaped, because the sender chooses the id.
        write!(f, "{}", Escaped(&self.0))
    }
}

impl fmt::Debug for SearchTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
