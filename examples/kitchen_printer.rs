//! A kitchen printer: one ticket for each order and each state that the kitchen has to know of, however often klikit sends it.
//!
//! ```text
//! cargo run --example kitchen_printer              # serves, and sends itself some deliveries
//! cargo run --example kitchen_printer -- --once    # stops after those
//! ```
//!
//! The inbox acknowledges at once, ignores copies, keeps each order's deliveries in order, and tries again when the printer fails.
//! What it cannot know is whether a ticket came out before the process died. So the handler is idempotent: a ticket is a file named
//! after its order and its state, which can be made once.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::StatusCode,
    routing::{post, post_service},
};
use tokio::{net::TcpListener, sync::oneshot, time::sleep};
use tower::Layer;
use tower_klikit::{
    EventType, KlikitVerifyLayer,
    axum::KlikitEvent,
    inbox::{Inbox, OrderBy},
    payload::{Order, OrderStatus},
    testing::{
        FakeKlikit, SignedDelivery,
        orders::{FakeOrder, body},
    },
};
use tower_klikit_examples::serve::{Limits, Stop, serve};
use tower_klikit_sqlite::SqliteStore;

const PATH: &str = "/webhooks/klikit";
const DEMO_SECRET: &str = "klikit-demo-secret";

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The handler. It may be called more than once for a delivery, and more than one delivery may tell of the same state.
async fn print(State(printer): State<Printer>, event: KlikitEvent) -> StatusCode {
    for order in &event.payload.orders {
        let Some(ticket) = Ticket::of(order) else { continue };
        match printer.print(&ticket) {
            Ok(true) => println!(" printed  {}", ticket.name),
            Ok(false) => println!(" known    {}", ticket.name),
            Err(error) => {
                // Anything but 2xx, 400 and 422: the inbox tries again.
                println!(" failed   {}: {error}", ticket.name);
                return StatusCode::SERVICE_UNAVAILABLE;
            }
        }
    }
    StatusCode::OK
}

/// What the kitchen reads: no names, no addresses.
struct Ticket {
    /// The order and its state, by which it is known.
    name: String,
    text: String,
}

impl Ticket {
    /// `None` when there is nothing for the kitchen to do. Decided by the body, which is signed, and not by the event's type.
    fn of(order: &Order) -> Option<Self> {
        let (id, status) = (order.id()?, order.status()?);
        let headline = match status {
            OrderStatus::PLACED | OrderStatus::ACCEPTED => "COOK",
            OrderStatus::CANCELLED => "STOP",
            // Codes that nobody knows of yet are for others.
            _ => return None,
        };
        let mut text = format!("{headline} {}\n", order.external_id().unwrap_or_default());
        for item in order.read::<Vec<Item>>("cart").ok().flatten().unwrap_or_default() {
            text.push_str(&format!("{:>3} x {}\n", item.quantity, item.name));
        }
        Some(Self { name: format!("order-{id}-{status}"), text })
    }
}

#[derive(serde::Deserialize)]
struct Item {
    name: String,
    quantity: u32,
}

/// A folder that a printer watches.
#[derive(Clone)]
struct Printer {
    folder: Arc<Path>,
    /// For the demo: it fails once.
    has_paper: Arc<AtomicBool>,
}

impl Printer {
    /// Whether the ticket is new. Whole or not at all: a name is given to a file that is complete, and never twice.
    fn print(&self, ticket: &Ticket) -> io::Result<bool> {
        static DRAFTS: AtomicU64 = AtomicU64::new(0);
        if !self.has_paper.swap(true, Ordering::SeqCst) {
            return Err(io::Error::other("out of paper"));
        }
        let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
        let draft = self.folder.join(format!("draft-{}-{number}", process::id()));
        fs::write(&draft, &ticket.text)?;
        fs::File::open(&draft)?.sync_all()?;
        let named = fs::hard_link(&draft, self.folder.join(format!("{}.txt", ticket.name)));
        fs::remove_file(&draft)?;
        match named {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let once = env::args().any(|argument| argument == "--once");
    let folder: PathBuf = env::temp_dir().join(format!("klikit-kitchen-{}", process::id()));
    fs::create_dir_all(&folder)?;
    let printer = Printer { folder: folder.as_path().into(), has_paper: Arc::default() };

    let inbox = Inbox::new(SqliteStore::builder().create().open(folder.join("klikit.db"))?).order_by(OrderBy::order());
    let handler: Router = Router::new().route(PATH, post(print)).with_state(printer);
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = inbox.worker(handler).backoff(Duration::from_millis(500), Duration::from_secs(60));
    let worker = tokio::spawn(worker.run_until(stopped));

    let secret = env::var("KLIKIT_WEBHOOK_SECRET").unwrap_or_else(|_| DEMO_SECRET.into());
    let verify = KlikitVerifyLayer::try_new(&secret)?;
    let app: Router = Router::new().route(PATH, post_service(verify.layer(inbox.acceptor())));

    demo(&app, &inbox, &secret).await?;
    let tickets = tickets(&folder)?;
    println!("\nTickets in {}:", folder.display());
    tickets.iter().for_each(|ticket| println!(" {ticket}"));

    if once {
        fs::remove_dir_all(&folder)?;
        let expected = ["order-41-PLACED.txt", "order-42-CANCELLED.txt", "order-42-PLACED.txt"];
        if tickets != expected {
            return Err(format!("expected {expected:?}").into());
        }
    } else {
        let port = env::var("PORT").map_or(Ok(8080), |port| port.parse())?;
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let stop = Stop::on_signal(Duration::from_secs(25))?;
        println!("\nServing POST http://{}{PATH} until ctrl-c or SIGTERM.", listener.local_addr()?);
        serve(listener, app, Limits::default(), stop.requested()).await;
    }
    drop(stop);
    worker.await?;
    Ok(())
}

/// klikit sends two orders, one of them twice, cancels one, and tells of states that are not for the kitchen.
async fn demo(app: &Router, inbox: &Inbox, secret: &str) -> Result<(), BoxError> {
    let order = |id| FakeOrder::new(id).item("Nasi goreng", 2, 25_000).item("Es teh", 1, 8_000);
    let event = |id: &str, order: FakeOrder, event_type| {
        SignedDelivery::new(secret, body(1, 2, [order])).event_id(id).event_type(event_type)
    };
    let deliveries = [
        event("evt-1", order(41), EventType::OrderCreated),
        event("evt-2", order(42), EventType::OrderCreated),
        event("evt-2", order(42), EventType::OrderCreated),
        // The same state under another id, as after a change of the customer's address.
        event("evt-3", order(42), EventType::OrderStatusUpdated),
        event("evt-4", order(42).status(OrderStatus::CANCELLED), EventType::OrderStatusUpdated),
        event("evt-5", order(41).status(OrderStatus(99)), EventType::OrderStatusUpdated),
    ];
    let klikit = FakeKlikit::new();
    for delivery in &deliveries {
        let report = klikit.deliver::<Body>(app, delivery).await;
        println!("klikit was answered {:?}", report.statuses());
    }
    while inbox.counts().await?.backlog() > 0 {
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn tickets(folder: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut tickets: Vec<_> = names.filter(|name| name.starts_with("order-")).collect();
    tickets.sort();
    Ok(tickets)
}
