//! Receives with a durable inbox: acknowledges at once, handles later, and loses nothing when the process dies in the middle.

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

/// A receiver that runs: it accepts, and it works on what it has accepted.
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
        // Short times, so that there is something to see. Leave them out: the defaults are for a kitchen.
        let worker = inbox
            .worker(handler)
            .concurrency(1)
            .lease(Duration::from_secs(2))
            .backoff(Duration::from_millis(500), Duration::from_secs(2))
            .run_until(closed);
        Self { inbox, close, close_worker, server, worker: tokio::spawn(worker) }
    }

    /// Ends as a process does that is killed: what it was doing is left where it was.
    async fn die(self) {
        self.worker.abort();
        self.server.abort();
        let _ = tokio::join!(self.worker, self.server);
    }

    /// Ends as a process should: it takes nothing new, and ends what it has begun.
    async fn end(self) -> Result<(), BoxError> {
        drop((self.close, self.close_worker));
        self.server.await?;
        self.worker.await?;
        Ok(())
    }
}

/// The handler, once klikit has its answer. It may be called more than once for one delivery, if it fails or dies.
async fn cook(
    Extension(kitchen): Extension<Kitchen>,
    Extension(delivery): Extension<Delivery>,
    Extension(attempt): Extension<Attempt>,
    body: Bytes,
) -> StatusCode {
    let id = delivery.event_id().map_or("-", |id| id.as_str());
    // Never the body: it holds customers' data.
    println!(" handling {id}, attempt {}, {} bytes", attempt.number(), body.len());
    kitchen.handle(id, attempt.number()).await
}

/// What was handled, for the table; and what goes wrong, once each.
#[derive(Clone)]
struct Kitchen {
    mishaps: Arc<Mutex<VecDeque<Mishap>>>,
    log: Arc<Mutex<Vec<Line>>>,
}

enum Mishap {
    /// The printer is out of paper.
    Fails,
    /// The process dies before this one is done.
    Hangs,
}

struct Line {
    id: String,
    text: String,
}

impl Kitchen {
    fn new() -> Self {
        let mishaps = VecDeque::from([Mishap::Fails, Mishap::Hangs]);
        Self { mishaps: Arc::new(Mutex::new(mishaps)), log: Arc::default() }
    }

    async fn handle(&self, id: &str, attempt: u32) -> StatusCode {
        let mishap = self.mishaps.lock().expect("nobody panics").pop_front();
        let (text, status) = match mishap {
            Some(Mishap::Fails) => ("answered 500", StatusCode::INTERNAL_SERVER_ERROR),
            Some(Mishap::Hangs) => ("the process died", StatusCode::OK),
            None => ("handled", StatusCode::OK),
        };
        let line = Line { id: id.to_owned(), text: format!("{attempt}: {text}") };
        self.log.lock().expect("nobody panics").push(line);
        if let Some(Mishap::Hangs) = mishap {
            pending::<()>().await;
        }
        status
    }

    /// Whether the process is to die now.
    fn hangs(&self) -> bool {
        self.mishaps.lock().expect("nobody panics").is_empty()
    }

    /// What happened to a delivery, and whether it was handled once.
    fn story(&self, id: &str) -> (String, bool) {
        let log = self.log.lock().expect("nobody panics");
        let lines: Vec<_> = log.iter().filter(|line| line.id == id).map(|line| line.text.as_str()).collect();
        let handled = lines.iter().filter(|line| line.ends_with("handled")).count();
        (lines.join(", "), handled == 1)
    }
}

/// Whether every sample was answered as expected, and handled once. Serves on until `stop`, if there is one.
pub(crate) async fn run(
    stop: Option<Stop>,
    store: &str,
    verify: &KlikitVerifyLayer,
    listener: TcpListener,
    attempts: &[demo::Attempt],
) -> Result<bool, Box<dyn Error>> {
    let open = async || store::open_inbox(store).await.map_err(|error| format!("--inbox {store}: {error}"));
    let address = listener.local_addr()?;
    let url = format!("http://{address}{PATH}");
    let kitchen = Kitchen::new();

    let receiver = Receiver::start(open().await?, verify, listener, &kitchen);
    let mut as_expected = demo::send_all(&url, attempts).await;

    // Not for ever: if nothing was accepted, there is nothing to wait for.
    for _ in 0..6000 {
        if kitchen.hangs() {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    println!(
        "\nklikit has its answers. Now the receiver dies: one delivery has failed,\none is being handled, and all others wait."
    );
    receiver.die().await;
    let receiver = Receiver::start(open().await?, verify, bind(address).await?, &kitchen);
    println!("It starts again on the same store, and knows nothing else.\n");

    while receiver.inbox.counts().await?.backlog() > 0 {
        sleep(Duration::from_millis(50)).await;
    }
    println!("\n{:<36} what happened to it, by attempt", "delivery");
    for (what, id) in attempts.iter().filter_map(demo::Attempt::accepted) {
        let (story, good) = kitchen.story(&id);
        println!("{what:<36} {story}{}", if good { "" } else { "   NOT HANDLED ONCE" });
        as_expected &= good;
    }
    let counts = receiver.inbox.counts().await?;
    println!("\nLeft in the inbox: {} ready, {} leased, {} dead.", counts.ready, counts.leased, counts.dead);

    if let Some(stop) = stop {
        println!("\nTry one yourself:\n\n{}\n\nServing until ctrl-c or SIGTERM.\n", attempts[0].delivery.curl(&url));
        stop.requested().await;
    }
    receiver.end().await.map_err(|error| error.to_string())?;
    Ok(as_expected)
}

/// The listener of the receiver that died may take a moment to close.
async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    for _ in 0..100 {
        if let Ok(listener) = TcpListener::bind(address).await {
            return Ok(listener);
        }
        sleep(Duration::from_millis(20)).await;
    }
    TcpListener::bind(address).await
}
