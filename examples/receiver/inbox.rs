//! A receiver with a durable inbox: it acknowledges at once, processes later, and loses nothing if the process crashes.

use std::{
    collections::VecDeque,
    error::Error,
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Extension, Router,
    body::Bytes,
    http::StatusCode,
    routing::{post, post_service},
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle, time::sleep};
use tower::Layer;
use tower_klikit::{
    Delivery, KlikitVerifyLayer,
    inbox::{Attempt, Inbox},
};
use tower_klikit_examples::serve::{Limits, Stop, serve};

use crate::{PATH, demo, store};

type BoxError = Box<dyn Error + Send + Sync>;

/// A running receiver: a server with the inbox's acceptor, and a worker.
struct Receiver {
    inbox: Inbox,
    close: oneshot::Sender<()>,
    close_worker: oneshot::Sender<()>,
    server: JoinHandle<usize>,
    worker: JoinHandle<()>,
}

impl Receiver {
    fn start(inbox: Inbox, verify: &KlikitVerifyLayer, listener: TcpListener, kitchen: &Kitchen) -> Self {
        let (close, closed) = oneshot::channel::<()>();
        let acceptor = post_service(verify.clone().layer(inbox.acceptor()));
        let app: Router = Router::new().route(PATH, acceptor);
        let server = tokio::spawn(serve(listener, app, Limits::default(), closed));

        let (close_worker, closed) = oneshot::channel::<()>();
        let handler: Router = Router::new().route(PATH, post(cook).layer(Extension(kitchen.clone())));
        // Short times for the demo. A service should use the defaults.
        let worker = inbox
            .worker(handler)
            .concurrency(1)
            .lease(Duration::from_secs(2))
            .backoff(Duration::from_millis(500), Duration::from_secs(2))
            .run_until(closed);
        Self { inbox, close, close_worker, server, worker: tokio::spawn(worker) }
    }

    /// Stops as in a crash: running work is aborted.
    async fn crash(self) {
        self.worker.abort();
        self.server.abort();
        let _ = tokio::join!(self.worker, self.server);
    }

    /// Stops gracefully: accepts nothing new, and finishes running work.
    async fn stop(self) -> Result<(), BoxError> {
        drop((self.close, self.close_worker));
        self.server.await?;
        self.worker.await?;
        Ok(())
    }
}

/// Handles a delivery that was acknowledged before. The worker calls this again after a failure or a crash.
async fn cook(
    Extension(kitchen): Extension<Kitchen>,
    Extension(delivery): Extension<Delivery>,
    Extension(attempt): Extension<Attempt>,
    body: Bytes,
) -> StatusCode {
    let id = delivery.event_id().map_or("-", |id| id.as_str());
    // Do not print the body, which contains customers' data.
    println!(" handling {id}, attempt {}, {} bytes", attempt.number(), body.len());
    kitchen.handle(id, attempt.number()).await
}

/// The state of the handler: mishaps that are still to happen, and a log of all attempts.
#[derive(Clone)]
struct Kitchen {
    mishaps: Arc<Mutex<VecDeque<Mishap>>>,
    log: Arc<Mutex<Vec<LoggedAttempt>>>,
}

/// A failure of the demo.
enum Mishap {
    /// The handler responds with 500.
    Fails,
    /// The process crashes while the handler runs.
    Hangs,
}

/// An attempt in the log.
struct LoggedAttempt {
    id: String,
    text: String,
}

impl Kitchen {
    fn new() -> Self {
        let mishaps = VecDeque::from([Mishap::Fails, Mishap::Hangs]);
        Self { mishaps: Arc::new(Mutex::new(mishaps)), log: Arc::default() }
    }

    async fn handle(&self, id: &str, attempt: u32) -> StatusCode {
        let mishap = self.mishaps.lock().expect("no holder of the lock panics").pop_front();
        let (text, status) = match mishap {
            Some(Mishap::Fails) => ("responded with 500", StatusCode::INTERNAL_SERVER_ERROR),
            Some(Mishap::Hangs) => ("the process crashed", StatusCode::OK),
            None => ("handled", StatusCode::OK),
        };
        let line = LoggedAttempt { id: id.to_owned(), text: format!("{attempt}: {text}") };
        self.log.lock().expect("no holder of the lock panics").push(line);
        if let Some(Mishap::Hangs) = mishap {
            pending::<()>().await;
        }
        status
    }

    /// Returns whether all mishaps have begun, so that the demo can crash the receiver.
    fn can_crash(&self) -> bool {
        self.mishaps.lock().expect("no holder of the lock panics").is_empty()
    }

    /// Returns the attempts of a delivery as text, and whether the delivery was handled exactly once.
    fn attempts(&self, id: &str) -> (String, bool) {
        let log = self.log.lock().expect("no holder of the lock panics");
        let lines: Vec<_> = log.iter().filter(|line| line.id == id).map(|line| line.text.as_str()).collect();
        let handled = lines.iter().filter(|line| line.ends_with("handled")).count();
        (lines.join(", "), handled == 1)
    }
}

/// Runs the demo, then serves until `stop`, if there is one. Returns whether all responses were as expected and each sample
/// was handled exactly once.
pub(crate) async fn run(
    stop: Option<Stop>,
    store: &str,
    verify: &KlikitVerifyLayer,
    listener: TcpListener,
    deliveries: &[demo::DemoDelivery],
) -> Result<bool, Box<dyn Error>> {
    let open = async || store::open_inbox(store).await;
    let address = listener.local_addr()?;
    let url = format!("http://{address}{PATH}");
    let kitchen = Kitchen::new();

    let receiver = Receiver::start(open().await?, verify, listener, &kitchen);
    let mut as_expected = demo::send_all(&url, deliveries).await;

    // Wait up to a minute, because nothing happens if no delivery was accepted.
    for _ in 0..6000 {
        if kitchen.can_crash() {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    println!(
        "\nklikit has all responses. Now the receiver crashes: one delivery has failed,\none is being handled, and all others are pending."
    );
    receiver.crash().await;
    let receiver = Receiver::start(open().await?, verify, bind(address).await?, &kitchen);
    println!("The receiver starts again on the same store.\n");

    while receiver.inbox.counts().await?.backlog() > 0 {
        sleep(Duration::from_millis(50)).await;
    }
    println!("\n{:<36} attempts", "delivery");
    for (name, id) in deliveries.iter().filter_map(demo::DemoDelivery::accepted) {
        let (attempts, is_handled_once) = kitchen.attempts(&id);
        println!("{name:<36} {attempts}{}", if is_handled_once { "" } else { "   NOT HANDLED EXACTLY ONCE" });
        as_expected &= is_handled_once;
    }
    let counts = receiver.inbox.counts().await?;
    println!("\nLeft in the inbox: {} ready, {} leased, {} dead.", counts.ready, counts.leased, counts.dead);

    if let Some(stop) = stop {
        println!("\nSend one yourself:\n\n{}\n\nServing until ctrl-c or SIGTERM.\n", deliveries[0].delivery.curl(&url));
        stop.requested().await;
    }
    receiver.stop().await.map_err(|error| error.to_string())?;
    Ok(as_expected)
}

/// Binds the address again. Retries, because the crashed receiver's listener may take a moment to close.
async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    for _ in 0..100 {
        if let Ok(listener) = TcpListener::bind(address).await {
            return Ok(listener);
        }
        sleep(Duration::from_millis(20)).await;
    }
    TcpListener::bind(address).await
}
