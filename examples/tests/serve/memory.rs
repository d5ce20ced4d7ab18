//! The memory that slow heads take.

use std::{fs, io::Read, net::Ipv4Addr, thread, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{io::AsyncWriteExt, net::TcpStream, runtime::Runtime, time::timeout};

use crate::{
    child::{Child, say},
    server::Settings,
};

/// Peers that send all of a head but its end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SlowHeads {
    port: u16,
    count: usize,
    bytes: usize,
}

impl SlowHeads {
    /// Connects the peers, and keeps their connections until the input ends.
    pub(crate) fn run(&self) {
        let start = "GET /ready HTTP/1.1\r\nhost: a\r\nx: ";
        let head = format!("{start}{}", "x".repeat(self.bytes - start.len()));
        let sockets = Runtime::new().expect("a runtime").block_on(async {
            let peers: Vec<_> = (0..self.count).map(|_| tokio::spawn(slow(self.port, head.clone()))).collect();
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

/// Returns the peer's socket, or `None` if the server has enough connections and its backlog is full.
async fn slow(port: u16, head: String) -> Option<TcpStream> {
    let connect = async {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("the server listens");
        socket.write_all(head.as_bytes()).await.expect("the server's system takes it");
        socket
    };
    timeout(Duration::from_secs(5), connect).await.ok()
}

/// Returns the resident memory of a process in kB, once it does not change any more.
fn resident(pid: u32) -> usize {
    let read = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
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

/// Each head is as large as the server lets it be.
fn measure(settings: &Settings) -> (usize, usize) {
    let server = Child::server(settings);
    server.get("/ready");
    let idle = resident(server.pid());
    let bytes = if settings.plain { 400_000 } else { 16 * 1024 - 1 };
    let peers = Child::slow_heads(SlowHeads { port: server.address().port(), count: 2_000, bytes });
    println!("{}", peers.wait_for("> open"));
    let full = resident(server.pid());
    (idle, full)
}

#[test]
fn slow_heads_take_little_memory() {
    for connections in [1_000, 2_000] {
        let settings = Settings { connections, ..Settings::default() };
        let (idle, full) = measure(&settings);
        println!("2,000 slow heads, {connections} connections: {idle} kB idle, {full} kB full");
        // Twice the bytes of a head for each connection.
        assert!(full - idle < connections * 32, "{idle} kB idle, {full} kB with {connections} connections");
    }
}
