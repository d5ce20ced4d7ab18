//! One webhook for many businesses, each with its own secret and path:
//!
//! ```text
//! cargo run --example tenants
//! ```

use std::{collections::HashMap, error::Error, time::Duration};

use axum::{Extension, Router, body::Bytes, routing::post};
use tower_klikit::{Delivery, EventId, Keyring, KlikitVerifyLayer};
use tower_klikit_examples::{
    serve::{Limits, Stop, serve},
    setup::{self, Arguments},
};

const USAGE: &str = "\
Usage: cargo run --example tenants [-- --help]

Receives the deliveries of several businesses on POST /webhooks/klikit/<tenant> until ctrl-c or SIGTERM.

Environment:
  KLIKIT_WEBHOOK_SECRET  The webhook secret [default: a demo secret]
  PORT                   The port on 127.0.0.1 [default: 8080]";

/// Handles deliveries that were verified with the secret of their tenant.
async fn order(delivery: Delivery, Extension(id): Extension<EventId>, body: Bytes) {
    println!("received {id} for {}: {} bytes", delivery.tenant(), body.len());
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    Arguments::read(USAGE).finish();

    // A service reads the tenants and their secrets from its configuration.
    let keyrings: HashMap<_, _> = ["bali-bites", "jakarta-grill"]
        .into_iter()
        .map(|tenant| Ok((tenant, Keyring::new(tenant, "default", setup::secret()?))))
        .collect::<Result<_, tower_klikit::SecretError>>()?;
    let known: Vec<Keyring> = keyrings.values().cloned().collect();
    let verify = KlikitVerifyLayer::with_resolver(move |head| {
        let tenant = head.uri.path().strip_prefix("/webhooks/klikit/")?;
        keyrings.get(tenant).cloned()
    });
    let verify = verify.known_keyrings(known);
    let app = Router::new().route("/webhooks/klikit/{tenant}", post(order).layer(verify));

    let listener = setup::listen().await?;
    let stop = Stop::on_signal(Duration::from_secs(25))?;
    println!("serving POST http://{}/webhooks/klikit", listener.local_addr()?);
    serve(listener, app, Limits::default(), stop.requested()).await;
    Ok(())
}
