//! What holds for every store: the suite, and a model with random calls.
#![cfg(feature = "dedupe")]

mod bounds;
mod broken;
mod model;
mod stores;
