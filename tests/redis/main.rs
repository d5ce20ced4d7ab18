//! `RedisStore` on real servers.
#![cfg(all(feature = "redis", feature = "testing"))]

mod claims;
mod faults;
mod forgetting;
mod layer;
mod loading;
mod proxy;
mod startup;
mod support;
mod tls;

#[path = "../support/log.rs"]
mod log;
#[path = "../support/servers/mod.rs"]
mod servers;
