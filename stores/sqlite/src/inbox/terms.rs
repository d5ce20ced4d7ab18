//! The stored form of search terms: the branch, and a JSON array of the orders.

use rusqlite::types::ValueRef;
use tower_klikit::inbox::{NewDelivery, SearchTerm, TermKind};

use crate::values::text;

/// The search terms of a delivery as they are stored.
pub(super) struct StoredTerms<'a> {
    pub(super) branch: Option<&'a str>,
    /// A JSON array of all terms except for the branch, or `None` if it would be empty.
    pub(super) orders: Option<String>,
}

impl<'a> StoredTerms<'a> {
    pub(super) fn new(new: &'a NewDelivery) -> Self {
        let (mut branch, mut orders) = (None, Vec::new());
        for term in new.terms() {
            if branch.is_none() && term.kind() == Some(TermKind::Branch) {
                branch = Some(term.as_str());
            } else {
                orders.push(term.as_str());
            }
        }
        Self { branch, orders: (!orders.is_empty()).then(|| serde_json::json!(orders).to_string()) }
    }
}

/// Returns the part of the stored orders that an order makes, with its quotation marks.
pub(super) fn element(order: &SearchTerm) -> String {
    serde_json::json!(order.as_str()).to_string()
}

/// Parses the stored orders. Returns no orders if the value is unreadable.
fn orders(value: ValueRef<'_>) -> Vec<String> {
    text(value, "orders").ok().and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

/// Returns the readable search terms, ascending.
pub(super) fn readable(branch: ValueRef<'_>, orders: ValueRef<'_>) -> Vec<SearchTerm> {
    let mut terms: Vec<_> = self::orders(orders).iter().map(|order| SearchTerm::from_text(order)).collect();
    terms.extend(text(branch, "branch").ok().map(SearchTerm::from_text));
    terms.sort_unstable();
    terms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_survive_a_round_trip() {
        let orders = ["order:\"\\ Phở", "order:42"];
        let json = serde_json::json!(orders).to_string();
        for order in orders {
            assert!(json.contains(&element(&SearchTerm::from_text(order))), "{json}");
        }
        for other in ["order:4", "order:421", "rder:42", "Phở"] {
            assert!(!json.contains(&element(&SearchTerm::from_text(other))), "{json}");
        }
        let terms = readable(ValueRef::Text(b"branch:7"), ValueRef::Text(json.as_bytes()));
        assert_eq!(terms.iter().map(SearchTerm::as_str).collect::<Vec<_>>(), ["branch:7", orders[0], orders[1]]);
    }

    #[test]
    fn unreadable_terms_are_left_out() {
        for orders in [ValueRef::Null, ValueRef::Integer(1), ValueRef::Text(b"order:42"), ValueRef::Text(b"[42]")] {
            assert_eq!(readable(ValueRef::Blob(b"branch:7"), orders), []);
        }
    }
}
