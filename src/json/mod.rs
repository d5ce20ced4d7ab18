//! Readers of JSON text that keep numbers, escapes, repeated names and the order of members as written.
//!
//! They work on the text of a document and build no values. No function recurses, so nesting takes memory but no stack.
#![cfg_attr(
    not(all(feature = "inbox", feature = "payload", feature = "diagnose")),
    allow(dead_code, unused_imports, reason = "each feature uses only some of the items")
)]

mod canonical;
mod decimal;
mod reader;
mod string;
mod tree;
mod walk;

pub(crate) use self::{
    canonical::{canonical_digest, is_same},
    decimal::Decimal,
    reader::{Container, JsonReader, JsonToken},
    string::{JsonString, StringUnit},
    tree::{JsonPiece, JsonTree, NodeKind, pieces},
    walk::{PathStep, each_value},
};
