//! Process tests of the server in `src/serve.rs`: its limits on peers, and the end of the process.
//!
//! If `KLIKIT_SERVE_PLAIN` is set, the tests use `axum::serve` instead, and almost every test fails.
#![cfg(unix)]

mod child;
mod examples;
mod http2;
mod limits;
mod memory;
mod peers;
mod proxy;
mod server;
mod stop;
