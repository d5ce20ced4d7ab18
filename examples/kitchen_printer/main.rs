//! A kitchen printer: a whole service, which prints a ticket for each order, each change of its cart, and its cancellation.
//!
//! ```text
//! cargo run --example kitchen_printer              # serves
//! cargo run --example kitchen_printer -- --once    # sends itself some deliveries, then stops
//! ```
//!
//! No order is lost, printed twice, or printed empty:
//!
//! - The inbox acknowledges at once, ignores copies, keeps each order's deliveries in order, and retries while the printer fails. Its
//!   store is in the data folder, so the next start finishes what a stop or a crash has left.
//! - After a crash, the inbox cannot know whether a ticket was printed before. So the handler is idempotent: a ticket is a file named
//!   after its order, and the same ticket is not printed again.
//! - A cart with unknown fields or values is printed as JSON. An order without an id, a status or a cart becomes a dead letter, with the
//!   reason in the log and at the next start. The other orders of its delivery are printed.

mod demo;
mod ticket;

use std::{
    env, fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::{self, ExitCode},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    routing::{post, post_service},
};
use tokio::{
    sync::oneshot,
    task::{JoinHandle, spawn_blocking},
};
use tower::Layer;
use tower_klikit::{
    FailureReason, Keyring, KlikitVerifyLayer,
    axum::KlikitEvent,
    inbox::{Inbox, OrderBy},
    payload::OrderResult,
    testing::{
        SignedDelivery,
        orders::{FakeOrder, body},
    },
};
use tower_klikit_examples::{
    serve::{Limits, Stop, serve},
    setup::{self, Arguments},
};
use tower_klikit_sqlite::SqliteStore;

use crate::ticket::{Printer, Ticket};

const USAGE: &str = "\
Usage: cargo run --example kitchen_printer [-- --once]

Receives klikit's deliveries on POST /webhooks/klikit, and prints tickets for the kitchen
as files, until ctrl-c or SIGTERM.

Options:
  --once  Send some deliveries to itself, and stop with exit code 1 if a ticket is not as
          expected. Uses the demo secret and a temporary folder
  --help  Print this help

Environment:
  KITCHEN_FOLDER             The folder of the tickets and of the inbox [default: kitchen]
  KLIKIT_WEBHOOK_SECRET      The webhook secret [default: a demo secret]
  KLIKIT_WEBHOOK_SECRET_OLD  The secret before a rotation, which is accepted too
  PORT                       The port on 127.0.0.1 [default: 8080]";

const PATH: &str = "/webhooks/klikit";

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Prints the tickets of a delivery. The inbox's worker may call this handler more than once for a delivery.
///
/// A bad order does not hide the other orders of its delivery: the handler responds after all of them.
async fn print(
    State(printer): State<Printer>,
    event: KlikitEvent<OrderResult>,
) -> Result<(), (StatusCode, FailureReason)> {
    let (mut unreadable, mut unprinted) = (Vec::new(), Vec::new());
    for (n, OrderResult(order)) in event.payload.orders.into_iter().enumerate() {
        let ticket = match order.map_err(FailureReason::from).and_then(|order| Ticket::of(&order)) {
            Ok(Some(ticket)) => ticket,
            Ok(None) => continue,
            Err(reason) => {
                unreadable.push(format!("orders[{n}]: {reason}"));
                continue;
            }
        };
        // A printer may block its thread for long.
        let printer = printer.clone();
        let printed = spawn_blocking(move || printer.print(&ticket)).await;
        if let Err(error) = printed.unwrap_or_else(|panic| Err(panic.into())) {
            unprinted.push(format!("orders[{n}]: cannot print: {error}"));
        }
    }
    // The inbox retries after every status except 2xx, 400 and 422. The last two make a dead letter.
    match (unprinted.is_empty(), unreadable.is_empty()) {
        (false, _) => Err((StatusCode::SERVICE_UNAVAILABLE, FailureReason::new(unprinted.join("; ")))),
        (true, false) => Err((StatusCode::UNPROCESSABLE_ENTITY, FailureReason::new(unreadable.join("; ")))),
        (true, true) => Ok(()),
    }
}

/// The running service, without its server.
struct Kitchen {
    app: Router,
    inbox: Inbox,
    stop: oneshot::Sender<()>,
    worker: JoinHandle<()>,
}

impl Kitchen {
    fn start(folder: &Path, keyring: Keyring) -> Result<Self, BoxError> {
        let tickets = folder.join("tickets");
        fs::create_dir_all(&tickets)?;
        let inbox = Inbox::new(SqliteStore::builder().create().open(folder.join("klikit.db"))?);
        let inbox = inbox.order_by(OrderBy::order());
        let printer = Printer { drafts: folder.into(), tickets: tickets.into() };
        let handler: Router = Router::new().route(PATH, post(print)).with_state(printer);
        // After a crash, the deliveries that were being printed are due again at the end of their leases.
        let worker = inbox.worker(handler).lease(Duration::from_secs(10)).drain_deadline(Duration::from_secs(5));
        let (stop, stopped) = oneshot::channel::<()>();
        let worker = tokio::spawn(worker.run_until(stopped));
        let verify = KlikitVerifyLayer::with_keyring(keyring);
        let app = Router::new().route(PATH, post_service(verify.layer(inbox.acceptor())));
        Ok(Self { app, inbox, stop, worker })
    }

    async fn stop(self) -> Result<(), BoxError> {
        drop(self.stop);
        Ok(self.worker.await?)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = Arguments::read(USAGE);
    let once = arguments.flag("--once");
    arguments.finish();

    // The crates log rejections, failed attempts and dead letters with their reasons.
    tracing_subscriber::fmt().with_ansi(io::stdout().is_terminal()).init();
    match if once { demo::run().await } else { run().await } {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), BoxError> {
    let stop = Stop::on_signal(Duration::from_secs(28))?;
    let listener = setup::listen().await?;
    let (keyring, secret) = (setup::keyring()?, setup::secret()?);
    if let Err(problems) = keyring.preflight() {
        eprintln!("caution: {problems}");
    }
    let folder = env::var_os("KITCHEN_FOLDER").map_or_else(|| "kitchen".into(), PathBuf::from);
    let kitchen = Kitchen::start(&folder, keyring).map_err(|error| format!("{}: {error}", folder.display()))?;

    println!("Tickets and inbox are in {}.", fs::canonicalize(&folder)?.display());
    for entry in kitchen.inbox.dead(None, 100).await? {
        println!("Dead letter {}: {}", entry.id, entry.reason.unwrap_or_default());
    }
    let url = format!("http://{}{PATH}", listener.local_addr()?);
    let order = FakeOrder::new(process::id().into()).item("Nasi goreng", 2, 25_000);
    let delivery = SignedDelivery::signed_with(&secret, body(1, 2, [order])).event_id(format!("evt-{}", process::id()));
    println!("Send an order yourself:\n\n{}\n\nServing POST {url} until ctrl-c or SIGTERM.", delivery.curl(&url));
    serve(listener, kitchen.app.clone(), Limits::default(), stop.requested()).await;
    kitchen.stop().await
}
