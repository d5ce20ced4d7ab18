//! A TCP proxy in front of the server. It counts round trips, and can cut connections, drop their messages, or freeze them
//! within a transaction.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// A running proxy.
#[derive(Clone)]
pub(crate) struct Proxy {
    shared: Arc<ProxyState>,
    port: u16,
}

/// The state that a proxy's connections share.
struct ProxyState {
    server: u16,
    round_trips: AtomicU64,
    connections: AtomicU64,
    silent: AtomicBool,
    loses_everything: AtomicBool,
    freezing: AtomicBool,
    cut: watch::Sender<()>,
}

impl Proxy {
    pub(crate) async fn before(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(ProxyState {
            server,
            round_trips: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            silent: AtomicBool::new(false),
            loses_everything: AtomicBool::new(false),
            freezing: AtomicBool::new(false),
            cut: watch::Sender::new(()),
        });
        let proxy = Self { shared: Arc::clone(&shared), port };
        drop(tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let cut = shared.cut.subscribe();
                shared.connections.fetch_add(1, Ordering::SeqCst);
                drop(tokio::spawn(carry(client, Arc::clone(&shared), cut)));
            }
        }));
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://klikit@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// Returns the number of round trips on all connections: how often the client has sent first or after the server.
    pub(crate) fn round_trips(&self) -> u64 {
        self.shared.round_trips.load(Ordering::SeqCst)
    }

    /// Returns the number of connections so far.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        self.shared.cut.send_replace(());
    }

    /// Drops the server's messages, like a network that is broken in one direction.
    pub(crate) fn be_silent(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::SeqCst);
    }

    /// Drops the messages of both sides. A connection that has lost a message stays dead.
    pub(crate) fn lose_everything(&self, on: bool) {
        self.shared.loses_everything.store(on, Ordering::SeqCst);
    }

    /// Lets the next transactions begin, and then drops everything from the client, including the end of its connection.
    pub(crate) fn freeze_transactions(&self) {
        self.shared.freezing.store(true, Ordering::SeqCst);
    }
}

async fn carry(mut client: TcpStream, shared: Arc<ProxyState>, mut cut: watch::Receiver<()>) -> io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", shared.server)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut up, mut down) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let (mut client_spoke, mut dead) = (false, false);
    loop {
        tokio::select! {
            _ = cut.changed() => return Ok(()),
            read = client.read(&mut up) => match read? {
                0 => return Ok(()),
                n => {
                    if !client_spoke {
                        shared.round_trips.fetch_add(1, Ordering::SeqCst);
                    }
                    client_spoke = true;
                    dead |= shared.loses_everything.load(Ordering::SeqCst);
                    if dead {
                        continue;
                    }
                    if shared.freezing.load(Ordering::SeqCst)
                        && let Some(end) = beginning(&up[..n])
                    {
                        server.write_all(&up[..end]).await?;
                        // Keep the connection open until the server closes it.
                        while server.read(&mut down).await? > 0 {}
                        return Ok(());
                    }
                    server.write_all(&up[..n]).await?;
                }
            },
            read = server.read(&mut down) => match read? {
                0 => return Ok(()),
                n => {
                    client_spoke = false;
                    dead |= shared.loses_everything.load(Ordering::SeqCst);
                    if !dead && !shared.silent.load(Ordering::SeqCst) {
                        client.write_all(&down[..n]).await?;
                    }
                }
            },
        }
    }
}

/// Returns the end of the message that begins a transaction. A message consists of a letter, its length without the letter,
/// and the statement.
fn beginning(said: &[u8]) -> Option<usize> {
    let text = said.windows(5).position(|bytes| bytes == b"BEGIN")?;
    let length = said[..text].last_chunk::<4>()?;
    let end = text - 4 + usize::try_from(u32::from_be_bytes(*length)).ok()?;
    (end <= said.len()).then_some(end)
}
