//! A receiver of klikit's deliveries, which shows its responses to sample deliveries:
//!
//! ```text
//! cargo run --example receiver
//! ```
//!
//! This file contains the receiver. `demo.rs` sends the sample deliveries.

mod demo;
mod inbox;
mod store;

use std::{
    env,
    error::Error,
    io::{self, IsTerminal},
    process::ExitCode,
    time::Duration,
};

use axum::{Extension, Json, Router, body::Bytes, routing::post};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tower::ServiceBuilder;
use tower_klikit::{Delivery, ErrorChain, KlikitVerifyLayer, dedupe::KlikitDedupeLayer};
use tower_klikit_examples::{
    serve::{Limits, Stop, serve},
    setup::{self, Arguments},
};

const USAGE: &str = "\
Usage: cargo run --example receiver [-- [--once] [--store STORE | --inbox [STORE]]]

Receives klikit's deliveries on POST /webhooks/klikit. Sends itself sample deliveries,
prints the responses, and then serves until ctrl-c or SIGTERM.

Options:
  --once           Stop after the samples, with exit code 1 if a result is not as expected
  --store STORE    Handle each delivery once, with a store: memory, sqlite:PATH, redis://…
                   or postgres://…
  --inbox [STORE]  Acknowledge each delivery at once and handle it later, with a store:
                   sqlite:PATH or postgres://… [default: a file that is deleted at the
                   end]. Shows the attempts when the handler fails once and the process
                   crashes once
  --help           Print this help

Environment:
  KLIKIT_WEBHOOK_SECRET      The webhook secret [default: a demo secret]
  KLIKIT_WEBHOOK_SECRET_OLD  The secret before a rotation, which is accepted too
  PORT                       The port on 127.0.0.1 [default: 8080]";

const PATH: &str = "/webhooks/klikit";

/// Makes the receiver: the handler, the layer that rejects requests that klikit did not sign, and the layer that ignores
/// copies.
fn app(verify: KlikitVerifyLayer, dedupe: Option<KlikitDedupeLayer>) -> Router {
    let route = match dedupe {
        None => post(receive).layer(verify),
        Some(dedupe) => post(receive).layer(ServiceBuilder::new().layer(verify).layer(dedupe)),
    };
    Router::new().route(PATH, route)
}

/// Handles a verified delivery. The body consists of exactly the bytes that klikit signed.
async fn receive(Extension(delivery): Extension<Delivery>, body: Bytes) -> Json<Value> {
    let id = delivery.event_id().map_or("-", |id| id.as_str());
    let event_type = delivery.event_type().map_or("-", |event_type| event_type.as_str());
    // Do not print the body, which contains customers' data.
    println!(" received {id} {event_type} {} bytes", body.len());
    Json(json!({ "status": "received" }))
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = Arguments::read(USAGE);
    let once = arguments.flag("--once");
    let mode = match (arguments.value("--store", None), arguments.value("--inbox", Some(""))) {
        (None, None) => Mode::Inline,
        (Some(store), None) => Mode::Deduped(store),
        (None, Some(store)) => Mode::Inbox(store),
        (Some(_), Some(_)) => arguments.fail("use either --store or --inbox"),
    };
    arguments.finish();
    match run(once, mode).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", ErrorChain::new(&*error));
            ExitCode::FAILURE
        }
    }
}

/// The way in which verified deliveries reach the handler.
enum Mode {
    /// Directly.
    Inline,
    /// Each once, with this store.
    Deduped(String),
    /// Through an inbox in this store, or in a temporary file if the name is empty.
    Inbox(String),
}

/// Runs the demo and serves. Returns whether all results were as expected.
async fn run(once: bool, mode: Mode) -> Result<bool, Box<dyn Error>> {
    // The layer logs rejections with their reasons.
    tracing_subscriber::fmt().without_time().with_target(false).with_ansi(io::stdout().is_terminal()).init();

    let stop = Stop::on_signal(Duration::from_secs(25))?;
    let listener = setup::listen().await?;

    let samples = tower_klikit_test_support::deliveries::all().1;
    let verify = KlikitVerifyLayer::with_keyring(setup::keyring()?).explain_mismatches();
    let secret = setup::secret()?;
    let is_private = env::var_os("KLIKIT_WEBHOOK_SECRET").is_some();
    // A service should not start with such a secret.
    if let Err(problems) = verify.preflight()
        && is_private
    {
        println!("Caution: {problems}\n");
    }
    let dedupe = match &mode {
        Mode::Inline | Mode::Inbox(_) => None,
        Mode::Deduped(store) => Some(store::open(store).await?),
    };

    let url = format!("http://{}{PATH}", listener.local_addr()?);
    println!("Serving POST {url}\n\nSending sample deliveries. The handler's output and the logged rejections:\n");

    let copies = match mode {
        Mode::Inline => demo::Copies::Handled,
        Mode::Deduped(_) | Mode::Inbox(_) => demo::Copies::Ignored,
    };
    let deliveries = demo::deliveries(&secret, samples, copies);
    if let Mode::Inbox(store) = mode {
        let stop = (!once).then_some(stop);
        let folder = TempDir::new()?;
        let temporary = format!("sqlite:{}", folder.path().join("klikit.db").display());
        let store = if store.is_empty() { temporary } else { store };
        return inbox::run(stop, &store, &verify, listener, &deliveries).await;
    }
    let (close, closed) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, app(verify, dedupe), Limits::default(), closed));

    let as_expected = demo::send_all(&url, &deliveries).await;

    if !once {
        let caution = if is_private { " (it is signed with your secret, so keep it private)" } else { "" };
        println!(
            "\nSend one yourself{caution}:\n\n{}\n\nServing until ctrl-c or SIGTERM.\n",
            deliveries[0].delivery.curl(&url)
        );
        stop.requested().await;
    }
    drop(close);
    server.await?;
    Ok(as_expected)
}
