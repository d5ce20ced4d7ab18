//! Tests of the memory that slow peers use.

use std::{fs, io::Read, net::Ipv4Addr, sync::Arc, thread, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{io::AsyncWriteExt, net::TcpStream, runtime::Runtime, time::timeout};

use crate::{
    child::{Child, say},
    http2,
    server::{PATH, Settings},
};

/// Peers that send a part of a request, as large as the server holds, and never the rest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SlowPeers {
    port: u16,
    count: usize,
    request: Request,
}

/// The part of a request that a slow peer sends.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Request {
    /// A head of this many bytes, without its end.
    Http1(usize),
    /// This many complete heads, with incomplete bodies.
    Http2(u32),
}

impl SlowPeers {
    /// Connects the peers, and keeps their connections until the input ends.
    pub(crate) fn run(&self) {
        let request: Arc<[u8]> = self.request.bytes().into();
        let sockets = Runtime::new().expect("a runtime").block_on(async {
            let peers: Vec<_> = (0..self.count).map(|_| tokio::spawn(connect(self.port, request.clone()))).collect();
            let mut sockets = Vec::new();
            for peer in peers {
                sockets.extend(peer.await.expect("no panic"));
            }
            sockets
        });
        say(&format!("open: {}", sockets.len()));
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
    }
}

impl Request {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Http1(bytes) => {
                let start = "GET /ready HTTP/1.1\r\nhost: a\r\nx: ";
                format!("{start}{}", "x".repeat(bytes - start.len())).into_bytes()
            }
            Self::Http2(streams) => {
                let head = http2::delivery(PATH, &"x".repeat(15_600));
                let mut bytes = [http2::PREFACE, &http2::frame(http2::SETTINGS, 0, 0, &[])].concat();
                for stream in (0..streams).map(|n| 2 * n + 1) {
                    bytes.extend(http2::frame(http2::HEADERS, http2::END_HEADERS, stream, &head));
                    bytes.extend(http2::frame(http2::DATA, 0, stream, b"x"));
                }
                bytes
            }
        }
    }
}

/// Returns the peer's socket, or `None` if the server has enough connections and its backlog is full.
async fn connect(port: u16, request: Arc<[u8]>) -> Option<TcpStream> {
    let connect = async {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("the server listens");
        socket.write_all(&request).await.expect("the server takes it");
        socket
    };
    timeout(Duration::from_secs(5), connect).await.ok()
}

/// Waits until the resident memory of a process no longer changes. Returns its size in kB.
fn resident(pid: u32) -> usize {
    let read = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has resident memory");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number")
    };
    let (mut last, mut same) = (read(), 0);
    while same < 10 {
        thread::sleep(Duration::from_millis(50));
        let now = read();
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}

/// Returns the server's memory in kB, idle and with these peers.
fn measure(settings: &Settings, count: usize, request: Request) -> (usize, usize) {
    let server = Child::server(settings);
    server.get("/ready");
    let idle = resident(server.pid());
    let peers = Child::slow_peers(SlowPeers { port: server.address().port(), count, request });
    let open = peers.wait_for("> open");
    let full = resident(server.pid());
    println!(
        "{count} peers with {request:?}{open}, {} connections: {idle} kB idle, {full} kB full",
        settings.connections
    );
    (idle, full)
}

/// The most bytes that a head may have.
const HEAD: usize = 16 * 1024;

#[test]
fn slow_heads_take_little_memory() {
    for connections in [1_000, 2_000] {
        let settings = Settings { connections, ..Settings::default() };
        let bytes = if settings.plain { 400_000 } else { HEAD - 1 };
        let (idle, full) = measure(&settings, 2_000, Request::Http1(bytes));
        assert!((full - idle) * 1024 < connections * 2 * HEAD, "{idle} kB idle, {full} kB full");
    }
}

#[test]
fn slow_http2_bodies_take_bounded_memory() {
    let (connections, streams) = (1_000, 8);
    let settings = Settings { connections, streams, ..Settings::default() };
    let (idle, full) = measure(&settings, connections, Request::Http2(streams));
    // 8,000 heads. hyper, h2 and the request each keep parts of a head at the same time.
    assert!((full - idle) * 1024 < 8_000 * 3 * HEAD, "{idle} kB idle, {full} kB full");
}
