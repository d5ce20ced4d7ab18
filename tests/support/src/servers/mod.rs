//! Real servers, started by the tests.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    net::TcpListener,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

#[cfg(feature = "postgres")]
pub mod backends;
pub mod nginx;
#[cfg(feature = "postgres")]
pub mod pgbouncer;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "postgres")]
mod processes;
#[cfg(feature = "redis")]
pub mod redis;

/// Below the ports that connections are given, which would take it while a server is stopped; and so is the one 10,000 above,
/// where a node of a Redis cluster listens too. This process is given none twice: another test may not listen on its own yet.
pub fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(0)));
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % 10_000;
        let port = 10_000 + u16::try_from(step).expect("it is below 10,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
