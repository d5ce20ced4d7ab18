//! For the tests of whoever receives deliveries: [`SignedDelivery`], [`FakeKlikit`] and, with the feature `payload`, `orders`. For
//! those of whoever writes a store: `ledger` and `inbox`.
//!
//! ```
//! use axum::{Router, body::Body, routing::post};
//! use tower::ServiceExt;
//! use tower_klikit::{KlikitVerifyLayer, testing::SignedDelivery};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let app = Router::new().route("/webhooks/klikit", post(|| async {})).layer(KlikitVerifyLayer::new("secret"));
//! let delivery = SignedDelivery::new("secret", r#"{"brand_id":1,"branch_id":2,"orders":[]}"#);
//!
//! let genuine = app.clone().oneshot(delivery.request::<Body>()).await.unwrap();
//! assert_eq!(genuine.status(), 200);
//!
//! let altered = app.oneshot(delivery.altered().request::<Body>()).await.unwrap();
//! assert_eq!(altered.status(), 403);
//! # }
//! ```

mod delivery;
#[cfg(feature = "inbox")]
pub mod inbox;
mod klikit;
#[cfg(feature = "dedupe")]
pub mod ledger;
#[cfg(feature = "payload")]
pub mod orders;

pub use self::{
    delivery::SignedDelivery,
    klikit::{Answer, Attempted, FakeKlikit, Report},
};
