//! The server that all examples share. Also runs the README's examples as doctests.

pub mod serve;

/// The README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
