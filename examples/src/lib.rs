//! The server that all examples share, and the README's examples, which are tests.

pub mod serve;

/// The README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
