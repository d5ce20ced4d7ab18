//! A proxy that can be redirected to another server, or stop answering.

use std::sync::{Arc, Mutex};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// A TCP proxy in front of a server.
pub(crate) struct Proxy {
    port: u16,
    upstream: Arc<Mutex<u16>>,
    /// The number of silences. Connections from before the last silence are never answered.
    silenced: watch::Sender<u64>,
    /// Whether new connections are answered.
    is_open: watch::Sender<bool>,
}

impl Proxy {
    /// Starts a proxy to this port. The proxy ends with the runtime.
    pub(crate) async fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let upstream = Arc::new(Mutex::new(upstream));
        let (silenced, silence) = watch::channel(0);
        let (is_open, opened) = watch::channel(true);
        let target = upstream.clone();
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let (target, mut silence, mut opened) = (target.clone(), silence.clone(), opened.clone());
                let age = *silence.borrow_and_update();
                tokio::spawn(async move {
                    if opened.wait_for(|is_open| *is_open).await.is_err() {
                        return;
                    }
                    let port = *target.lock().unwrap();
                    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    let silenced = async { silence.wait_for(|now| *now > age).await.is_ok() };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => return,
                        _ = silenced => {}
                    }
                    // Keep the connection open without answering.
                    std::future::pending::<()>().await;
                });
            }
        });
        Self { port, upstream, silenced, is_open }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Redirects new connections to this port. Open connections stay.
    pub(crate) fn redirect_to(&self, port: u16) {
        *self.upstream.lock().unwrap() = port;
    }

    /// Stops answering on open connections. New connections work.
    pub(crate) fn silence(&self) {
        self.silenced.send_modify(|age| *age += 1);
    }

    /// Stops answering on open connections, and on new ones until [`open`](Self::open) is called.
    pub(crate) fn close(&self) {
        self.is_open.send_replace(false);
        self.silence();
    }

    /// Answers new connections again.
    pub(crate) fn open(&self) {
        self.is_open.send_replace(true);
    }
}
