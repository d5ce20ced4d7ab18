//! JSON as it is written.
//!
//! The parts of this module look at the text of a document and build no values, so numbers, escapes, repeated names and the
//! order of members stay as they were sent. None of them recurses: nesting costs memory, never stack.
#![cfg_attr(
    not(all(feature = "inbox", feature = "payload", feature = "diagnose")),
    allow(dead_code, unused_imports, reason = "each feature uses a part")
)]

mod reader;
mod text;
mod tree;

pub(crate) use self::{
    reader::{Container, Reader, Token},
    text::{Text, Unit},
    tree::{Kind, Piece, Tree, pieces},
};
