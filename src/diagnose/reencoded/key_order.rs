use std::borrow::Cow;

use crate::{
    diagnose::budget::SearchBudget,
    json::{JsonString, JsonTree, NodeKind},
};

/// An order in which the original's keys may have been.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyOrder {
    /// All keys as received.
    Received,
    /// The envelope in klikit's documented order, all other keys as received. Restores a body whose envelope went through a sorted
    /// map, such as Rust's `serde_json::Value`, and whose orders were sorted already.
    Envelope,
    /// The envelope and some objects in the order of this crate's samples, all other keys as received.
    Samples,
    /// The documented fields of envelope, orders and brands first, in klikit's order.
    Documented,
    /// As `Samples`, with all other keys in alphabetical order.
    SamplesAndSorted,
    /// All keys in alphabetical order.
    Sorted,
}

/// The role of an object in klikit's deliveries. It follows from the keys on the path to the object; elements have the role of
/// their array.
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
    /// Returns the role of each node.
    fn of_all(tree: &JsonTree<'_>) -> Vec<Self> {
        let mut roles: Vec<Self> = Vec::with_capacity(tree.nodes.len());
        for node in &tree.nodes {
            // The root is its own parent, and its role is not known yet.
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

    /// Returns the keys in the order of klikit's developer documentation.
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

    /// Returns the keys in the order of this crate's samples, which are made-up deliveries in klikit's shape: klikit does not
    /// document these objects. The samples have the keys of all other objects in alphabetical order, except the envelope's.
    fn in_samples(self) -> &'static [&'static str] {
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
        [Self::Received, Self::Envelope, Self::Samples, Self::Documented, Self::SamplesAndSorted, Self::Sorted];

    pub(super) fn describe(self) -> Option<&'static str> {
        match self {
            Self::Received => None,
            Self::Envelope => Some("with the envelope's keys in klikit's order"),
            Self::Documented => Some("with its keys in klikit's documented order"),
            Self::Samples => {
                Some("with the envelope's keys in klikit's order, and some in the order of this crate's samples")
            }
            Self::SamplesAndSorted => Some(
                "with the envelope's keys in klikit's order, some in the order of this crate's samples, and the rest in alphabetical order",
            ),
            Self::Sorted => Some("with its keys in alphabetical order"),
        }
    }

    pub(super) fn unlikelihood(self) -> u8 {
        match self {
            Self::Received => 0,
            Self::Envelope | Self::Samples => 1,
            Self::Documented => 2,
            Self::SamplesAndSorted | Self::Sorted => 3,
        }
    }

    /// Returns the orders that give different texts, each with the children of all nodes in that order.
    pub(super) fn distinct(tree: &JsonTree<'_>, budget: &mut SearchBudget) -> Vec<(Self, Vec<u32>)> {
        let mut different: Vec<(Self, Vec<u32>)> = Vec::new();
        for order in Self::ALL {
            // Sorting the keys takes as long as writing them.
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

    /// Returns the children of all nodes, in this order.
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
            if matches!(self, Self::Sorted | Self::SamplesAndSorted) {
                // Stable, because the order of duplicate keys matters.
                own.sort_by_cached_key(|child| decoded(key(child)));
            }
            let known = match self {
                Self::Received | Self::Sorted => &[],
                Self::Envelope if role == ObjectRole::Envelope => role.documented(),
                Self::Envelope => &[],
                Self::Documented => role.documented(),
                Self::Samples | Self::SamplesAndSorted => role.in_samples(),
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

/// Returns the value of a key, without its quotes and escapes.
fn decoded(key: &str) -> Cow<'_, [u8]> {
    let inner = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key);
    JsonString::new(inner.as_bytes()).to_bytes()
}
