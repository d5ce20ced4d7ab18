//! Tests of the limits on peers while the server runs.

use std::{
    io::{ErrorKind, Read},
    time::Duration,
};

use crate::{
    child::{Child, HANG_TIMEOUT},
    http2::{self, DATA, RST_STREAM},
    peers::{self, Peer, wait_for_close},
    server::{LARGE_RESPONSE, SHORT, Settings},
};

fn server_with_short_timeouts() -> Child {
    Child::server(&Settings { peer_timeout: SHORT, ..Settings::default() })
}

#[test]
fn closes_slow_connections_while_serving_others() {
    let server = server_with_short_timeouts();
    for peer in peers::ALL {
        let socket = peer.connect(&server);
        server.get("/ready");
        wait_for_close(socket);
    }
    server.get("/ready");
}

/// A byte now and then does not extend the time for a head.
#[test]
fn closes_trickling_head() {
    let server = server_with_short_timeouts();
    let mut socket = server.connect();
    let step = Duration::from_millis(50);
    socket.set_read_timeout(Some(step)).expect("a timeout");
    peers::send(&mut socket, b"GET /ready HTTP/1.1\r\nx: ");
    for _ in 0..HANG_TIMEOUT.as_millis() / step.as_millis() {
        match socket.read(&mut [0; 64]) {
            Ok(0) => return,
            Err(error) if error.kind() == ErrorKind::WouldBlock => peers::send(&mut socket, b"x"),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            other => panic!("{other:?}"),
        }
    }
    panic!("the connection is still open");
}

/// A peer that only answers pings cannot keep a connection.
#[test]
fn closes_idle_http2_connection() {
    let server = server_with_short_timeouts();
    let mut socket = server.connect();
    http2::open(&mut socket);
    while let Some(frame) = http2::receive(&mut socket) {
        http2::answer_ping(&mut socket, &frame);
    }
}

/// While a handler runs, only a ping detects that the peer is gone.
#[test]
fn closes_silent_http2_peer_with_running_handler() {
    let server = server_with_short_timeouts();
    let mut socket = server.connect();
    http2::open(&mut socket);
    http2::send_get(&mut socket, 1, "/hang");
    server.wait_for("> running");
    wait_for_close(socket);
}

/// A peer that does not read a response cannot keep the connection.
#[test]
fn closes_connection_that_reads_no_response() {
    let server = server_with_short_timeouts();
    let mut socket = server.connect();
    peers::send(&mut socket, b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n");
    // Each silent peer keeps its connection for at least one timeout.
    for _ in 0..6 {
        wait_for_close(Peer::Silent.connect(&server));
    }
    assert!(wait_for_close(socket).len() < LARGE_RESPONSE);
}

/// The time limit for a head does not apply to a handler, neither over HTTP/1.1 nor over HTTP/2.
#[test]
fn keeps_connection_while_handler_runs() {
    let mut server = server_with_short_timeouts();
    let mut over_http1 = server.connect();
    peers::send(&mut over_http1, b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n");
    server.wait_for("> running");
    let mut over_http2 = server.connect();
    http2::open(&mut over_http2);
    http2::send_get(&mut over_http2, 1, "/wait");
    server.wait_for("> running");

    let http2_body = std::thread::spawn(move || {
        let mut body = Vec::new();
        while let Some(frame) = http2::receive(&mut over_http2) {
            http2::answer_ping(&mut over_http2, &frame);
            if frame.stream == 1 && frame.kind == DATA {
                body.extend(frame.payload);
            }
        }
        body
    });
    for _ in 0..6 {
        wait_for_close(Peer::Silent.connect(&server));
    }
    server.finish_waiting_handlers();
    let response = wait_for_close(over_http1);
    assert!(response.ends_with(b"\r\n\r\ndone"), "{:?}", String::from_utf8_lossy(&response));
    assert_eq!(http2_body.join().expect("no panic"), b"done");
}

#[test]
fn further_peers_wait_for_a_free_connection() {
    let mut server = Child::server(&Settings { connections: 2, ..Settings::default() });
    let mut held = [(); 2].map(|()| {
        let mut socket = server.connect();
        peers::send(&mut socket, b"GET /wait HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        server.wait_for("> running");
        socket
    });
    let mut further = server.connect();
    peers::send(&mut further, b"GET /ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    further.set_read_timeout(Some(SHORT)).expect("a timeout");
    let error = further.read(&mut [0; 64]).expect_err("the server has not accepted this connection");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);

    server.finish_waiting_handlers();
    for socket in &mut held {
        let mut response = String::new();
        socket.read_to_string(&mut response).expect("a response");
        assert!(response.ends_with("done"), "{response:?}");
    }
    further.set_read_timeout(None).expect("no timeout");
    assert!(wait_for_close(further).ends_with(b"ready"));
}

#[test]
fn slow_peers_do_not_starve_others() {
    let server = Child::server(&Settings { connections: 4, peer_timeout: SHORT, ..Settings::default() });
    let slow: Vec<_> = (0..20).map(|n| peers::ALL[n % peers::ALL.len()]).collect();
    let sockets: Vec<_> = slow
        .iter()
        // Leave out the three peers whose connect() waits for the server's first bytes: the server may accept them only after it has
        // closed other connections.
        .filter(|peer| !matches!(peer, Peer::HalfSecondHead | Peer::SilentHttp2 | Peer::HalfHttp2Head))
        .map(|peer| peer.connect(&server))
        .collect();
    server.get("/ready");
    drop(sockets);
}

#[test]
fn limits_http2_streams() {
    const STREAMS: u32 = 3;
    let server = Child::server(&Settings { streams: STREAMS, ..Settings::default() });
    let mut socket = server.connect();
    let settings = http2::open(&mut socket);
    let announced = settings.payload.chunks_exact(6).find_map(|setting| {
        let (id, value) = setting.split_at(2);
        (id == [0, 3]).then(|| u32::from_be_bytes(value.try_into().expect("four bytes")))
    });
    assert_eq!(announced, Some(STREAMS));

    let last = 2 * STREAMS + 1;
    for stream in (1..=last).step_by(2) {
        http2::send_get(&mut socket, stream, "/hang");
    }
    let reset = loop {
        let frame = http2::receive(&mut socket).expect("the connection stays open");
        if frame.kind == RST_STREAM {
            break frame;
        }
    };
    const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
    assert_eq!((reset.stream, &reset.payload[..]), (last, &REFUSED_STREAM[..]));
}

#[test]
fn rejects_large_heads() {
    let server = Child::server(&Settings::default());
    let mut socket = server.connect();
    let head = format!("GET /ready HTTP/1.1\r\nhost: a\r\nx: {}", "x".repeat(16 * 1024));
    peers::send(&mut socket, head.as_bytes());
    let response = wait_for_close(socket);
    assert!(response.starts_with(b"HTTP/1.1 431 "), "{:?}", String::from_utf8_lossy(&response));
}

#[test]
fn survives_too_many_open_files() {
    const FEW_FILES: [&str; 3] = ["sh", "-c", r#"ulimit -n 32; exec "$0" "$@""#];
    let server = Child::server_through(&FEW_FILES, &Settings::default());
    let peers: Vec<_> = (0..64).map(|_| server.connect()).collect();
    server.wait_for("cannot accept connections");
    drop(peers);
    server.get("/ready");
}
