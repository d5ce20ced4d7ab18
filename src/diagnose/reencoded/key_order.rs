use std::borrow::Cow;

use crate::{
    diagnose::budget::SearchBudget,
    json::{JsonString, JsonTree, NodeKind},
};

/// In what order the original's keys were.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyOrder {
    /// As they came.
    Received,
    /// The envelope as klikit documents it, the rest as it came: what a sorted map, such as Rust's `serde_json::Value`, was made
    /// of when the orders were sorted already.
    Envelope,
    /// As in the deliveries that are known, where a sorted map has lost it: the envelope and some objects in an order of their
    /// own, the rest as it came.
    Seen,
    /// Documented fields first, in klikit's order, in envelope, orders and brands.
    Documented,
    /// As `Seen`, and the rest in alphabetical order.
    SeenAndSorted,
    /// In alphabetical order, everywhere.
    Sorted,
}

/// What an object is in klikit's deliveries, found by the keys on the way to it. Arrays pass theirs on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ObjectRole {
    Envelope,
    Order,
    Brand,
    DeliveryInfo,
    Rider,
    Group,
    GroupModifier,
    ModifierGroup,
    Modifier,
    Other,
}

impl ObjectRole {
    fn of_all(tree: &JsonTree<'_>) -> Vec<Self> {
        let mut roles: Vec<Self> = Vec::with_capacity(tree.nodes.len());
        for node in &tree.nodes {
            // The root is its own parent, and not there yet.
            let parent = roles.get(node.parent as usize).copied();
            roles.push(match (parent, tree.key(node)) {
                (None, _) => Self::Envelope,
                (Some(parent), None) => parent,
                (Some(parent), Some(key)) => parent.within(key.trim_matches('"')),
            });
        }
        roles
    }

    fn within(self, key: &str) -> Self {
        match (self, key) {
            (Self::Envelope, "orders") => Self::Order,
            (Self::Order, "brands") => Self::Brand,
            (Self::Order, "delivery_info") => Self::DeliveryInfo,
            (Self::Order, "fulfillment_rider") => Self::Rider,
            (_, "groups") => Self::Group,
            (Self::Group, "modifiers") => Self::GroupModifier,
            (_, "modifier_groups") => Self::ModifierGroup,
            (Self::ModifierGroup, "modifiers") => Self::Modifier,
            _ => Self::Other,
        }
    }

    /// In klikit's developer documentation.
    fn documented(self) -> &'static [&'static str] {
        match self {
            Self::Envelope => &["brand_id", "branch_id", "orders"],
            Self::Order => &[
                "id",
                "external_id",
                "business_id",
                "brands",
                "branch_id",
                "status",
                "cart",
                "payment_status",
                "payment_channel",
                "payment_method",
            ],
            Self::Brand => &["id", "title"],
            _ => &[],
        }
    }

    /// In the deliveries that this crate is tested with, made up in klikit's shape: nothing is documented of these objects. All
    /// others are in alphabetical order there, but for the envelope.
    fn seen(self) -> &'static [&'static str] {
        match self {
            Self::Envelope => self.documented(),
            Self::DeliveryInfo => &["email", "phone", "address", "keywords", "last_name", "first_name", "instruction"],
            Self::Rider => &["name", "email", "phone", "photo_url", "coordinates", "license_plate"],
            Self::Group => &["title", "modifiers"],
            Self::GroupModifier => &["id", "title", "quantity", "price"],
            Self::ModifierGroup => &["id", "name", "modifiers"],
            Self::Modifier => &["id", "name", "price", "quantity", "unit_price", "modifier_groups"],
            Self::Order | Self::Brand | Self::Other => &[],
        }
    }
}

impl KeyOrder {
    const ALL: [Self; 6] =
        [Self::Received, Self::Envelope, Self::Seen, Self::Documented, Self::SeenAndSorted, Self::Sorted];

    pub(super) fn describe(self) -> Option<&'static str> {
        match self {
            Self::Received => None,
            Self::Envelope => Some("with the envelope's keys in klikit's order"),
            Self::Documented => Some("with its keys in klikit's documented order"),
            Self::Seen => {
                Some("with the envelope's keys in klikit's order, and others in the order of this crate's samples")
            }
            Self::SeenAndSorted => Some(
                "with the envelope's keys in klikit's order, others in the order of this crate's samples, or else in alphabetical order",
            ),
            Self::Sorted => Some("with its keys in alphabetical order"),
        }
    }

    pub(super) fn unlikelihood(self) -> u8 {
        match self {
            Self::Received => 0,
            Self::Envelope | Self::Seen => 1,
            Self::Documented => 2,
            Self::SeenAndSorted | Self::Sorted => 3,
        }
    }

    /// The orders in which this text is not the same, with the children of all its values in each.
    pub(super) fn distinct(tree: &JsonTree<'_>, budget: &mut SearchBudget) -> Vec<(Self, Vec<u32>)> {
        let mut different: Vec<(Self, Vec<u32>)> = Vec::new();
        for order in Self::ALL {
            // To sort the keys takes as long as to write them.
            if !budget.try_spend(tree.text.len()) {
                break;
            }
            let children = order.children(tree);
            if different.iter().all(|(_, other)| *other != children) {
                different.push((order, children));
            }
        }
        different
    }

    /// The children of all values, in this order.
    pub(super) fn children(self, tree: &JsonTree<'_>) -> Vec<u32> {
        let mut children = tree.children.clone();
        if self == Self::Received {
            return children;
        }
        let key = |child: &u32| tree.key(tree.node(*child)).unwrap_or_default();
        for (node, role) in tree.nodes.iter().zip(ObjectRole::of_all(tree)) {
            if node.kind != NodeKind::Object {
                continue;
            }
            let own = &mut children[node.children()];
            if matches!(self, Self::Sorted | Self::SeenAndSorted) {
                // Stable, as a duplicate key's place among its like matters.
                own.sort_by_cached_key(|child| decoded(key(child)));
            }
            let known = match self {
                Self::Received | Self::Sorted => &[],
                Self::Envelope if role == ObjectRole::Envelope => role.documented(),
                Self::Envelope => &[],
                Self::Documented => role.documented(),
                Self::Seen | Self::SeenAndSorted => role.seen(),
            };
            if !known.is_empty() {
                let place = |child: &u32| {
                    let name = key(child).trim_matches('"');
                    known.iter().position(|field| *field == name).unwrap_or(known.len())
                };
                own.sort_by_key(place);
            }
        }
        children
    }
}

/// What is compared is the key, not how it is written.
fn decoded(key: &str) -> Cow<'_, [u8]> {
    let inner = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key);
    JsonString::new(inner.as_bytes()).to_bytes()
}
