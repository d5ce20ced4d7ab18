//! Guides to running a service that receives deliveries.

#[doc = include_str!("../docs/in-front-of-it.md")]
pub mod in_front_of_it {}
