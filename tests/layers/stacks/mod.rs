//! The layer in every stack that it is made for, over real sockets.

mod axum_app;
use tower_klikit_test_support::deliveries;
mod http1;
mod http2;
mod peers;
mod plain_hyper;
mod tonic_server;
mod tower_oneshot;

const PATH: &str = "/webhooks/klikit";
