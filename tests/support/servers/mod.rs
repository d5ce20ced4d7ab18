//! Real servers, started by the tests.
#![allow(dead_code, unreachable_pub, missing_docs)]

pub mod nginx;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
