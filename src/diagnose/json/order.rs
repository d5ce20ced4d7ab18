use std::borrow::Cow;

use super::{
    strings::Strings,
    tree::{Kind, Tree},
};

/// In what order the original's keys were.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As they came.
    Received,
    /// The envelope as klikit documents it, the rest as it came: what a sorted map, such as Rust's `serde_json::Value`, was made
    /// of when the orders were sorted already.
    Envelope,
    /// As klikit's deliveries are seen to be, where a sorted map has lost it: the envelope as documented, what comes from JSON
    /// columns by length, the rest as it came.
    Seen,
    /// Documented fields first, in klikit's order, in envelope, orders and brands.
    Documented,
    /// As `Seen`, and the rest in alphabetical order.
    SeenAndSorted,
    /// In alphabetical order, everywhere.
    Sorted,
}

const ENVELOPE: [&str; 3] = ["brand_id", "branch_id", "orders"];

const ORDER: [&str; 10] = [
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
];

const BRAND: [&str; 2] = ["id", "title"];

/// Fields of an order whose keys come in the order in which PostgreSQL's `jsonb` keeps them: the shorter first ("JSON Types" in
/// its documentation leaves the order open; this is what it does).
const COLUMNS: [&str; 2] = ["\"delivery_info\"", "\"fulfillment_rider\""];

/// What a value is in klikit's documentation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Envelope,
    Orders,
    Order,
    Brands,
    Brand,
    /// In one of the columns, however deep.
    Column,
    Other,
}

impl Role {
    fn of_all(tree: &Tree<'_>) -> Vec<Self> {
        let mut roles: Vec<Self> = Vec::with_capacity(tree.nodes.len());
        for (at, node) in tree.nodes.iter().enumerate() {
            let parent = roles.get(node.parent as usize).copied().filter(|_| at > 0);
            let key = tree.key(node);
            roles.push(match (parent, node.kind) {
                (None, Kind::Object) => Self::Envelope,
                (Some(Self::Envelope), Kind::Array) if key == Some("\"orders\"") => Self::Orders,
                (Some(Self::Orders), Kind::Object) => Self::Order,
                (Some(Self::Order), Kind::Array) if key == Some("\"brands\"") => Self::Brands,
                (Some(Self::Brands), Kind::Object) => Self::Brand,
                (Some(Self::Order), _) if key.is_some_and(|key| COLUMNS.contains(&key)) => Self::Column,
                (Some(Self::Column), _) => Self::Column,
                _ => Self::Other,
            });
        }
        roles
    }

    fn documented(self) -> &'static [&'static str] {
        match self {
            Self::Envelope => &ENVELOPE,
            Self::Order => &ORDER,
            Self::Brand => &BRAND,
            _ => &[],
        }
    }
}

impl Order {
    const ALL: [Self; 6] =
        [Self::Received, Self::Envelope, Self::Seen, Self::Documented, Self::SeenAndSorted, Self::Sorted];

    pub(super) fn describe(self) -> Option<&'static str> {
        match self {
            Self::Received => None,
            Self::Envelope => Some("with the envelope's keys in klikit's order"),
            Self::Documented => Some("with its keys in klikit's documented order"),
            Self::Seen => Some("with its keys in klikit's order"),
            Self::SeenAndSorted => Some("with its keys in klikit's order, or else in alphabetical order"),
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
    pub(super) fn that_differ(tree: &Tree<'_>) -> Vec<(Self, Vec<u32>)> {
        let mut different: Vec<(Self, Vec<u32>)> = Vec::new();
        for order in Self::ALL {
            let children = order.children(tree);
            if different.iter().all(|(_, other)| *other != children) {
                different.push((order, children));
            }
        }
        different
    }

    /// The children of all values, in this order.
    pub(super) fn children(self, tree: &Tree<'_>) -> Vec<u32> {
        let mut children = tree.children.clone();
        if self == Self::Received {
            return children;
        }
        let key = |child: &u32| tree.key(tree.node(*child)).unwrap_or_default();
        for (node, role) in tree.nodes.iter().zip(Role::of_all(tree)) {
            if node.kind != Kind::Object {
                continue;
            }
            let own = &mut children[node.children()];
            if matches!(self, Self::Sorted | Self::SeenAndSorted) {
                // Stable, as a duplicate key's place among its like matters.
                own.sort_by_cached_key(|child| decoded(key(child)));
            }
            if role == Role::Column && matches!(self, Self::Seen | Self::SeenAndSorted) {
                own.sort_by_cached_key(|child| {
                    let key = decoded(key(child));
                    (key.len(), key)
                });
            }
            let documented = match (self, role) {
                (Self::Sorted, _) => &[],
                (Self::Documented, role) => role.documented(),
                (_, Role::Envelope) => role.documented(),
                _ => &[],
            };
            if !documented.is_empty() {
                let place = |child: &u32| {
                    let name = key(child).trim_matches('"');
                    documented.iter().position(|field| *field == name).unwrap_or(documented.len())
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
    if inner.contains('\\') {
        let mut bytes = Vec::new();
        Strings::decode(inner, |char| bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()));
        bytes.into()
    } else {
        inner.as_bytes().into()
    }
}
