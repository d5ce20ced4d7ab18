//! What holds for every store: the suite, and a model with random calls.
#![cfg(feature = "dedupe")]

mod bounds;
mod broken;
mod memory;
mod model;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(any(feature = "postgres", feature = "redis"))]
#[path = "../support/servers/mod.rs"]
mod servers;
