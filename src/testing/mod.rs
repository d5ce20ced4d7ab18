//! Test utilities for services that receive deliveries: [`SignedDelivery`], [`FakeKlikit`] and, with the feature
//! `payload`, [`orders`].
//!
//! The guide [Testing your handler](crate::guides::testing) shows how to use them.
//!
//! To test a store, see the crate `tower-klikit-store-tests`.
//!
//! ```
//! use axum::{Router, body::Body, routing::post};
//! use tower::ServiceExt;
//! use tower_klikit::{KlikitVerifyLayer, testing::SignedDelivery};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let verify = KlikitVerifyLayer::new("secret");
//! let app: Router = Router::new().route("/webhooks/klikit", post(|| async {}).layer(verify));
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
mod klikit;
#[cfg(feature = "payload")]
pub mod orders;

pub use self::{
    delivery::SignedDelivery,
    klikit::{Answer, Attempted, FakeKlikit, Report},
};
