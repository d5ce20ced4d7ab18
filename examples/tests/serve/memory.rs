//! Tests of the memory that slow peers use.

use std::{fs, io::Read, net::Ipv4Addr, sync::Arc, thread, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{io::AsyncWriteExt, net::TcpStream, runtime::Runtime, time::timeout};

use crate::{
    child::{Child, tell_parent},
    http2::{self, Frame},
    server::{PATH, Settings},
};

/// Peers that send a part of a request, as large as the server holds, and never the rest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SlowPeers {
    port: u16,
    count: usize,
    request: PartialRequest,
}

/// The part of a request that a slow peer sends.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum PartialRequest {
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
        tell_parent(&format!("open: {}", sockets.len()));
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
    }
}

impl PartialRequest {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Http1(bytes) => {
                let start = "GET /ready HTTP/1.1\r\nhost: a\r\nx: ";
                format!("{start}{}", "x".repeat(bytes - start.len())).into_bytes()
            }
            Self::Http2(streams) => {
                let head = http2::delivery(PATH, &"x".repeat(15_600));
                let mut bytes = [http2::PREFACE, &http2::EMPTY_SETTINGS.encode()].concat();
                for stream in (0..streams).map(|n| 2 * n + 1) {
                    let payload = head.clone();
                    let head = Frame { kind: http2::HEADERS, flags: http2::END_HEADERS, stream, payload };
                    let data = Frame { kind: http2::DATA, flags: 0, stream, payload: b"x".to_vec() };
                    bytes.extend([head.encode(), data.encode()].concat());
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
fn resident_kb(pid: u32) -> usize {
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

/// The resident memory of the server, in kB.
#[derive(Debug)]
struct Memory {
    idle: usize,
    with_peers: usize,
}

impl Memory {
    fn growth_in_bytes(&self) -> usize {
        (self.with_peers - self.idle) * 1024
    }
}

/// Measures the server's memory with this number of slow peers.
fn measure(settings: &Settings, count: usize, request: PartialRequest) -> Memory {
    let server = Child::server(settings);
    server.get("/ready");
    let idle = resident_kb(server.pid());
    let peers = Child::slow_peers(SlowPeers { port: server.address().port(), count, request });
    let open = peers.wait_for("> open");
    let memory = Memory { idle, with_peers: resident_kb(server.pid()) };
    println!("{count} peers with {request:?}{open}, at most {} connections: {memory:?} in kB", settings.connections);
    memory
}

/// The most bytes that a head may have.
const MAX_HEAD: usize = 16 * 1024;

#[test]
fn slow_heads_take_little_memory() {
    for connections in [1_000, 2_000] {
        let settings = Settings { connections, ..Settings::default() };
        let bytes = if settings.use_axum_serve { 400_000 } else { MAX_HEAD - 1 };
        let memory = measure(&settings, 2_000, PartialRequest::Http1(bytes));
        assert!(memory.growth_in_bytes() < connections * 2 * MAX_HEAD, "{memory:?} in kB");
    }
}

#[test]
fn slow_http2_bodies_take_bounded_memory() {
    let (connections, streams) = (1_000, 8);
    let settings = Settings { connections, streams, ..Settings::default() };
    let memory = measure(&settings, connections, PartialRequest::Http2(streams));
    // 8,000 heads. hyper, h2 and the request each keep parts of a head at the same time.
    assert!(memory.growth_in_bytes() < 8_000 * 3 * MAX_HEAD, "{memory:?} in kB");
}
