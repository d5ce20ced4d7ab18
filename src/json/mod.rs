//! JSON as it is written.
//!
//! The parts of this module look at the text of a document and build no values, so numbers, escapes, repeated names and the
//! order of members stay as they were sent. None of them recurses: nesting costs memory, never stack.
#![cfg_attr(
    not(all(feature = "inbox", feature = "payload", feature = "diagnose")),
    allow(dead_code, unused_imports, reason = "each feature uses a part")
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
