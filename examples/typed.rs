//! A webhook whose handler takes typed events, in axum:
//!
//! ```text
//! cargo run --example typed
//! ```

use std::{error::Error, time::Duration};

use axum::{Router, routing::post};
use tower_klikit::{
    KlikitVerifyLayer,
    axum::KlikitEvent,
    payload::{OrderStatus, PayloadError},
};
use tower_klikit_examples::{
    serve::{Limits, Stop, serve},
    setup::{self, Arguments},
};

const USAGE: &str = "\
Usage: cargo run --example typed [-- --help]

Receives klikit's deliveries as typed events on POST /webhooks/klikit until ctrl-c or SIGTERM.

Environment:
  KLIKIT_WEBHOOK_SECRET      The webhook secret [default: a demo secret]
  KLIKIT_WEBHOOK_SECRET_OLD  The secret before a rotation, which is accepted too
  PORT                       The port on 127.0.0.1 [default: 8080]";

/// Handles verified events. If a required field is missing, the response is 422 and names the field.
async fn order(event: KlikitEvent) -> Result<(), PayloadError> {
    for order in &event.payload.orders {
        let (id, status) = (order.require_id()?, order.require_status()?);
        match status {
            OrderStatus::CANCELLED => println!("received {}: stop order {id}", event.id),
            // klikit may send statuses that this crate does not know.
            _ => println!("received {}: order {id} is {status}", event.id),
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    Arguments::read(USAGE).finish();

    // A service calls `KlikitVerifyLayer::from_env()`, which has no demo secret.
    let verify = KlikitVerifyLayer::with_keyring(setup::keyring()?);
    let app = Router::new().route("/webhooks/klikit", post(order).layer(verify));

    let listener = setup::listen().await?;
    let stop = Stop::on_signal(Duration::from_secs(25))?;
    println!("serving POST http://{}/webhooks/klikit", listener.local_addr()?);
    serve(listener, app, Limits::default(), stop.requested()).await;
    Ok(())
}
