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
use tokio::{net::TcpListener, sync::oneshot};
use tower::ServiceBuilder;
use tower_klikit::{Delivery, KlikitVerifyLayer, SecretErrorKind, WebhookSecret, dedupe::KlikitDedupeLayer};
use tower_klikit_examples::serve::{Limits, Stop, serve};

const USAGE: &str = "\
Usage: cargo run --example receiver [-- [--once] [--store STORE | --inbox [STORE]]]

Receives klikit's deliveries on POST /webhooks/klikit. Sends itself sample deliveries,
prints the responses, and then serves until ctrl-c or SIGTERM.

Options:
  --once           Stop after the samples, with exit code 1 if a result is not as expected
  --store STORE    Handle each delivery once, with a store: memory, sqlite:PATH, redis://…
                   or postgres://…
  --inbox [STORE]  Acknowledge each delivery at once and handle it later, with a store:
                   sqlite:PATH or postgres://… [default: sqlite:klikit.db]. Shows the attempts
                   when the handler fails once and the process crashes once
  --help           Print this help

Environment:
  KLIKIT_WEBHOOK_SECRET  The webhook secret [default: a demo secret]
  PORT                   The port on 127.0.0.1 [default: 8080]";

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
    let arguments: Vec<String> = env::args_os().skip(1).map(|argument| argument.to_string_lossy().into()).collect();
    let (mut once, mut mode) = (false, Mode::Inline);
    let mut rest = arguments.iter().map(String::as_str).peekable();
    while let Some(argument) = rest.next() {
        match (argument, mode) {
            ("--once", _) => once = true,
            ("--store", Mode::Inline) => mode = Mode::Deduped(rest.next().unwrap_or_default()),
            ("--inbox", Mode::Inline) => {
                mode = Mode::Inbox(rest.next_if(|next| !next.starts_with("--")).unwrap_or("sqlite:klikit.db"));
            }
            ("--help" | "-h", _) => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    match run(once, mode).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The way in which verified deliveries reach the handler.
#[derive(Clone, Copy)]
enum Mode<'a> {
    /// Directly.
    Inline,
    /// Each once, with this store.
    Deduped(&'a str),
    /// Through an inbox in this store.
    Inbox(&'a str),
}

/// Runs the demo and serves. Returns whether all results were as expected.
async fn run(once: bool, mode: Mode<'_>) -> Result<bool, Box<dyn Error>> {
    // The layer logs rejections with their reasons.
    tracing_subscriber::fmt().without_time().with_target(false).with_ansi(io::stdout().is_terminal()).init();

    let stop = Stop::on_signal(Duration::from_secs(25))?;
    let port = port()?;
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(|error| format!("cannot listen on 127.0.0.1:{port}: {error}; set PORT to use another port"))?;

    let (demo_secret, samples) = tower_klikit_test_support::deliveries::all();
    let (secret, caution) = match WebhookSecret::from_env() {
        Ok(secret) => (secret, " (it is signed with your secret, so keep it private)"),
        // An empty secret is an error: use the demo secret only if none is set.
        Err(error) if error.kind() == SecretErrorKind::NotSet => {
            println!("KLIKIT_WEBHOOK_SECRET is not set: using the demo secret {demo_secret:?}, which is public.");
            (WebhookSecret::new(demo_secret)?, "")
        }
        Err(error) => return Err(error.into()),
    };
    let verify = KlikitVerifyLayer::with_keyring(secret.clone().into());
    let verify = verify.explain_mismatches();
    // A service should not start with such a secret. Print no caution for the demo secret, which is one.
    if let (Err(problems), false) = (verify.preflight(), caution.is_empty()) {
        println!("Caution: {problems}\n");
    }
    let dedupe = match mode {
        Mode::Inline | Mode::Inbox(_) => None,
        Mode::Deduped(store) => Some(store::open(store).await.map_err(|error| format!("--store {store}: {error}"))?),
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
        return inbox::run(stop, store, &verify, listener, &deliveries).await;
    }
    let (close, closed) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, app(verify, dedupe), Limits::default(), closed));

    let as_expected = demo::send_all(&url, &deliveries).await;

    if !once {
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

fn port() -> Result<u16, String> {
    match env::var_os("PORT") {
        None => Ok(8080),
        Some(port) => port
            .to_str()
            .and_then(|port| port.parse().ok())
            .ok_or_else(|| format!("PORT is {port:?}, which is not a port number")),
    }
}
