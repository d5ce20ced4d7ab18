//! Real servers that tests start.

use std::{
    collections::hash_map::RandomState,
    env,
    hash::BuildHasher,
    io::{self, Write},
    net::TcpListener,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
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

/// Returns a free port between 10,000 and 19,999, another one each time.
///
/// These ports, and those 10,000 above, where a node of a Redis cluster also listens, are below the range of ephemeral
/// ports. So no outgoing connection takes the port while its server is stopped. No port is returned twice, because another
/// test may not listen on its port yet.
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

/// Reports a skipped test on stderr directly, because libtest captures the output of `eprintln!`.
///
/// # Panics
///
/// If `KLIKIT_TEST_REQUIRE_SERVERS` is set.
#[must_use]
pub fn skipped<T>(why: &str) -> Option<T> {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    assert!(env::var_os("KLIKIT_TEST_REQUIRE_SERVERS").is_none(), "{test} must not be skipped: {why}");
    let mut stderr = io::stderr();
    writeln!(stderr, "\n!!! SKIPPED: {test}: {why}\n").unwrap();
    None
}
