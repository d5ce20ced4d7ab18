//! A bounded HTTP server for any Tower service. Copy this file into your own service.
//!
//! `axum::serve` waits for heads indefinitely, even at shutdown. [`serve`] limits what peers can hold and how long a stop takes:
//!
//! - A connection is closed if the head of its next request is not complete after [`Limits::head_timeout`], or after twice that
//!   time if bytes arrived late. That bounds silent peers, slow heads, and the time between two requests.
//! - A connection is closed if its peer does not answer an HTTP/2 ping within [`Limits::ping`].
//! - A connection is closed if a response's body is not sent within one to two times [`Limits::head_timeout`] after its handler has
//!   returned. Do not serve long downloads or event streams with this server.
//! - At most [`Limits::connections`] are open. Further peers wait until one of them is closed.
//! - After ctrl-c or SIGTERM ([`Stop`]), the server accepts nothing new. Running requests may finish within [`Limits::drain`], and
//!   peers that have just connected have half a second for their first request. After the drain, open connections are cut off. A second
//!   signal ends the process at once.
//!
//! The server limits neither the time of a handler nor that of a request's body: `KlikitVerifyLayer` has a deadline for its bodies,
//! and `tower_http::timeout` has layers for other routes. The server speaks plain HTTP, for a proxy that terminates TLS, and supports
//! no upgrades such as WebSockets.

use std::{
    error::Error,
    future::Future,
    io, iter,
    pin::pin,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime, select,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tower::{Service, ServiceExt};

/// The time that a connection has for its first request after a stop. The peer has just connected, so the request is on its way.
const FIRST_REQUEST: Duration = Duration::from_millis(500);

/// The limits of a server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The number of connections that are open at once [default: 1,000].
    pub connections: usize,
    /// The time for a request's head, from the end of the previous response or from the connection's start [default: 10 s].
    ///
    /// A proxy that keeps connections open must close idle ones sooner, or it sends requests into connections that are being closed.
    pub head_timeout: Duration,
    /// The bytes of a request's head [default: 16 KiB]. Over HTTP/1.1, bodies are read in pieces of this size.
    ///
    /// hyper panics if this is less than 8 KiB.
    pub head_bytes: u32,
    /// The number of requests that one HTTP/2 connection may have open [default: 8]. Each can hold a head.
    pub streams: u32,
    /// The time between two HTTP/2 pings, and the time that a peer has to answer one [default: 10 s].
    pub ping: Duration,
    /// The time that open connections have to finish after a stop [default: 20 s].
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_000,
            head_timeout: Duration::from_secs(10),
            head_bytes: 16 * 1024,
            streams: 8,
            ping: Duration::from_secs(10),
            drain: Duration::from_secs(20),
        }
    }
}

/// Serves `app` over HTTP/1.1 and HTTP/2 until `stop` is ready, and then drains.
///
/// Returns how many connections were cut off at the end of the drain.
pub async fn serve<S, B>(listener: TcpListener, app: S, limits: Limits, stop: impl Future) -> usize
where
    S: Service<Request<Incoming>, Response = Response<B>, Future: Send, Error: Into<Box<dyn Error + Send + Sync>>>
        + Clone
        + Send
        + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let http = Arc::new(http(&limits));
    let (stopping, _) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let socket = select! {
            _ = &mut stop => break,
            Some(_) = connections.join_next() => continue,
            socket = accept(&listener), if connections.len() < limits.connections => socket,
        };
        connections.spawn(connection(http.clone(), socket, app.clone(), limits.head_timeout, stopping.subscribe()));
    }
    // Peers in the system's backlog may have sent requests already, which a reset would break. Without the listener, the system
    // rejects new peers, so that they try another instance.
    for socket in backlog(listener).take(limits.connections.saturating_sub(connections.len())) {
        connections.spawn(connection(http.clone(), socket, app.clone(), limits.head_timeout, stopping.subscribe()));
    }
    stopping.send_replace(());
    let _ = timeout(limits.drain, async { while connections.join_next().await.is_some() {} }).await;
    if !connections.is_empty() {
        eprintln!("cut off {} connections that were open {:?} after the stop", connections.len(), limits.drain);
    }
    connections.len()
}

fn http(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    // Without a timer, hyper has no timeouts.
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes as usize);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.ping)
        .keep_alive_timeout(limits.ping)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.head_bytes);
    http
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => return socket,
            // The peer has closed the connection before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            // Usually too many open files. Retrying at once would keep a processor busy.
            Err(error) => {
                eprintln!("cannot accept connections: {error}");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Returns the connections that the system has made and the server has not accepted. Closes the listener.
fn backlog(listener: TcpListener) -> impl Iterator<Item = TcpStream> {
    let listener = listener.into_std();
    iter::from_fn(move || {
        let (socket, _) = listener.as_ref().ok()?.accept().ok()?;
        socket.set_nonblocking(true).ok()?;
        TcpStream::from_std(socket).ok()
    })
}

/// Serves one connection until it ends, or has been idle for too long.
async fn connection<S, B>(
    http: Arc<auto::Builder<TokioExecutor>>,
    socket: TcpStream,
    app: S,
    head_timeout: Duration,
    mut stop: watch::Receiver<()>,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Future: Send, Error: Into<Box<dyn Error + Send + Sync>>>
        + Clone
        + Send
        + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    // Whether a request came since the last check. Every running request holds a clone.
    let active = &Arc::new(AtomicBool::new(false));
    let was_used = &AtomicBool::new(false);
    let service = service_fn(move |request| {
        active.store(true, Ordering::Relaxed);
        was_used.store(true, Ordering::Relaxed);
        let (response, running) = (app.clone().oneshot(request), active.clone());
        async move {
            let response = response.await;
            drop(running);
            response
        }
    });
    // Frames of HTTP/2 must not wait for acknowledgements of earlier ones.
    let _ = socket.set_nodelay(true);
    let mut connection = pin!(http.serve_connection(TokioIo::new(socket), service));
    let (mut stopped, mut closing, mut close_at) = (false, false, None);
    loop {
        select! {
            // Ignore errors, which the peer causes: a reset, a timeout, or a protocol other than HTTP.
            _ = connection.as_mut() => return,
            _ = stop.changed(), if !stopped => {
                stopped = true;
                let patience = if was_used.load(Ordering::Relaxed) { Duration::ZERO } else { FIRST_REQUEST };
                close_at = Some(Instant::now() + patience);
            }
            () = sleep_until(close_at.unwrap_or_else(Instant::now)), if close_at.is_some() => {
                close_at = None;
                connection.as_mut().graceful_shutdown();
            }
            // hyper's timeout for heads starts only after it knows the version, and does not apply to HTTP/2.
            () = sleep(head_timeout) => {
                if active.swap(false, Ordering::Relaxed) || Arc::strong_count(active) > 1 {
                    continue;
                }
                if closing {
                    return;
                }
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// A request to stop the process: ctrl-c, or SIGTERM on Unix.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Listens for signals from now on. Call this before the service says that it is ready.
    ///
    /// The first signal makes [`requested`](Self::requested) ready. A second signal ends the process at once, with the exit
    /// code 130 (ctrl-c) or 143 (SIGTERM). If the process still runs after `at_most`, it ends with the exit code 1. Choose a time
    /// longer than [`Limits::drain`] and shorter than the time after which the system kills the process: by default, 30 s on
    /// Kubernetes and 10 s for `docker stop`.
    ///
    /// # Errors
    ///
    /// If the system provides no thread or no signal handler.
    pub fn on_signal(at_most: Duration) -> io::Result<Self> {
        let (request, requested) = watch::channel(false);
        // Use a separate thread and runtime, so that signals work even if handlers block all threads of the service.
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let mut signals = {
            let _context = runtime.enter();
            Signals::new()?
        };
        let wait = async move {
            signals.next().await;
            eprintln!("stopping; a second signal ends the process at once");
            request.send_replace(true);
            let code = timeout(at_most, signals.next()).await;
            process::exit(code.unwrap_or(1));
        };
        thread::Builder::new().name("signals".into()).spawn(move || runtime.block_on(wait))?;
        Ok(Self(requested))
    }

    /// Returns a future that is ready once a stop is requested.
    pub fn requested(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut requested = self.0.clone();
        async move {
            let _ = requested.wait_for(|requested| *requested).await;
        }
    }
}

/// The signals that stop the process.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Installs the handlers. A process with PID 1 ignores every signal that it has no handler for.
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next signal. Returns the exit code of a process that this signal ends.
    async fn next(&mut self) -> i32 {
        select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) -> i32 {
        let _ = tokio::signal::ctrl_c().await;
        130
    }
}
