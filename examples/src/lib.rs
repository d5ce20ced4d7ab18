//! The server and the command line that all examples share. Also runs the README's examples as doctests.

pub mod serve;
pub mod setup;

/// The README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
