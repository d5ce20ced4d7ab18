//! Process tests of the server in `src/serve.rs`: what peers can hold, and how the process ends.
//!
//! With `KLIKIT_SERVE_PLAIN` set, `axum::serve` takes the server's place, and almost every test fails.
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
