//! The layer in axum, tonic and hyper servers over real sockets, and without a server.

mod axum_app;
use tower_klikit_test_support::deliveries;
mod http1;
mod http2;
mod peers;
mod plain_hyper;
mod tonic_server;
mod tower_oneshot;

const PATH: &str = "/webhooks/klikit";
