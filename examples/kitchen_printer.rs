//! A kitchen printer that prints one ticket for each order and state, no matter how often klikit sends them.
//!
//! ```text
//! cargo run --example kitchen_printer              # sends itself some deliveries, then serves
//! cargo run --example kitchen_printer -- --once    # stops after those deliveries
//! ```
//!
//! The inbox acknowledges at once, ignores copies, keeps each order's deliveries in order, and retries when the printer fails.
//! After a crash, the inbox cannot know whether the ticket was printed before. So the handler is idempotent: a ticket is a file
//! named after its order and state, and such a file can be created only once.

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

/// Prints the tickets of a delivery.
///
/// The worker may call this handler more than once for a delivery, and several deliveries may contain the same state.
async fn print(State(printer): State<Printer>, event: KlikitEvent) -> StatusCode {
    for order in &event.payload.orders {
        let Some(ticket) = Ticket::of(order) else { continue };
        match printer.print(&ticket) {
            Ok(true) => println!(" printed  {}", ticket.name),
            Ok(false) => println!(" known    {}", ticket.name),
            Err(error) => {
                // The inbox retries after every status except 2xx, 400 and 422.
                println!(" failed   {}: {error}", ticket.name);
                return StatusCode::SERVICE_UNAVAILABLE;
            }
        }
    }
    StatusCode::OK
}

/// A ticket for the kitchen, without customers' names and addresses.
struct Ticket {
    /// The name of the ticket's file: the order and its state.
    name: String,
    text: String,
}

impl Ticket {
    /// Makes the ticket of an order. Returns `None` if the kitchen has nothing to do. Uses only the body, because klikit's
    /// signature covers the body, and not the event type.
    fn of(order: &Order) -> Option<Self> {
        let (id, status) = (order.id()?, order.status()?);
        let headline = match status {
            OrderStatus::PLACED | OrderStatus::ACCEPTED => "COOK",
            OrderStatus::CANCELLED => "STOP",
            // The kitchen ignores other codes, including future ones.
            _ => return None,
        };
        let mut text = format!("{headline} {}\n", order.external_id().unwrap_or_default());
        for item in order.read::<Vec<Item>>("cart").ok().flatten().unwrap_or_default() {
            text.push_str(&format!("{:>3} x {}\n", item.quantity, item.name));
        }
        Some(Self { name: format!("order-{id}-{status}"), text })
    }
}

/// An item in an order's cart.
#[derive(serde::Deserialize)]
struct Item {
    name: String,
    quantity: u32,
}

/// A folder that a printer watches.
#[derive(Clone)]
struct Printer {
    folder: Arc<Path>,
    /// Whether printing succeeds. For the demo, the first ticket fails.
    has_paper: Arc<AtomicBool>,
}

impl Printer {
    /// Prints a ticket. Returns whether the ticket is new.
    ///
    /// Writes a draft first and then links it to the ticket's name. Linking fails if the name exists, and no incomplete file
    /// ever has the name.
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

/// Sends deliveries as klikit does: two orders, a copy, a cancellation, and states that the kitchen ignores.
async fn demo(app: &Router, inbox: &Inbox, secret: &str) -> Result<(), BoxError> {
    let order = |id| FakeOrder::new(id).item("Nasi goreng", 2, 25_000).item("Es teh", 1, 8_000);
    let event = |id: &str, order: FakeOrder, event_type| {
        SignedDelivery::new(secret, body(1, 2, [order])).event_id(id).event_type(event_type)
    };
    let deliveries = [
        event("evt-1", order(41), EventType::OrderCreated),
        event("evt-2", order(42), EventType::OrderCreated),
        event("evt-2", order(42), EventType::OrderCreated),
        // The same state under another event id, for example after a change of the customer's address.
        event("evt-3", order(42), EventType::OrderStatusUpdated),
        event("evt-4", order(42).status(OrderStatus::CANCELLED), EventType::OrderStatusUpdated),
        event("evt-5", order(41).status(OrderStatus(99)), EventType::OrderStatusUpdated),
    ];
    let klikit = FakeKlikit::new();
    for delivery in &deliveries {
        let report = klikit.deliver::<Body>(app, delivery).await;
        println!("responded to klikit with {:?}", report.statuses());
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
