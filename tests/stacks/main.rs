//! The layer in every stack that it is made for, over real sockets.

mod axum_app;
#[path = "../support/deliveries.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test that shares this file uses some of it")]
mod deliveries;
mod http1;
mod http2;
mod peers;
mod plain_hyper;
mod tonic_server;
mod tower_oneshot;

const PATH: &str = "/webhooks/klikit";
