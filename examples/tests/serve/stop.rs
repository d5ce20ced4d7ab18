//! Tests of the end of the process after a signal.

use std::io::Read;

use axum::body::Body;
use http_body_util::BodyExt;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::runtime::Runtime;

use crate::{
    child::{Child, send_signal},
    peers::{self, Peer},
    server::{SHORT, Settings},
};

/// Each signal, and the exit code of a process that its second occurrence ends.
const SIGNALS: [(&str, i32); 2] = [("TERM", 143), ("INT", 130)];

/// Checks that the process stops although this peer is open. The time limits for peers end long before the drain.
fn stops_with_open(peer: Peer) {
    for (signal, _) in SIGNALS {
        let server = Child::server(&Settings { peer_timeout: SHORT, ..Settings::default() });
        let _socket = peer.connect(&server);
        // Connections are accepted in order, so the server has the peer's.
        server.get("/ready");
        server.signal(signal);
        let (code, output) = server.end();
        assert_eq!(code, Some(0), "{signal}: {output}");
        assert!(!output.contains("cut off"), "{signal}: {output}");
    }
}

/// The system connects peers to a process that does not run. They wait in its backlog until it accepts them.
#[test]
fn peers_in_the_backlog_are_served() {
    let server = Child::server(&Settings::default());
    server.get("/ready");
    server.signal("STOP");
    let mut peers: Vec<_> = (0..30).map(|_| server.connect()).collect();
    for peer in &mut peers {
        peers::send(peer, b"GET /ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    }
    server.signal("TERM");
    server.signal("CONT");
    for peer in &mut peers {
        let mut response = String::new();
        peer.read_to_string(&mut response).expect("no peer is reset");
        assert!(response.starts_with("HTTP/1.1 200 "), "{response:?}");
    }
    let (code, output) = server.end();
    assert_eq!(code, Some(0), "{output}");
}

#[test]
fn stops_with_silent_peer() {
    stops_with_open(Peer::Silent);
}

#[test]
fn stops_with_half_a_head() {
    stops_with_open(Peer::HalfHead);
}

#[test]
fn stops_with_half_a_second_head() {
    stops_with_open(Peer::HalfSecondHead);
}

#[test]
fn stops_with_half_a_body() {
    stops_with_open(Peer::HalfBody);
}

#[test]
fn stops_with_half_an_http2_preface() {
    stops_with_open(Peer::HalfPreface);
}

#[test]
fn stops_with_silent_http2_peer() {
    stops_with_open(Peer::SilentHttp2);
}

#[test]
fn stops_with_half_an_http2_head() {
    stops_with_open(Peer::HalfHttp2Head);
}

/// No other time limit ends the process in this test.
#[test]
fn cuts_off_requests_after_the_drain() {
    for (signal, _) in SIGNALS {
        let server = Child::server(&Settings { drain: SHORT, ..Settings::default() });
        let _sockets = peers::ALL.map(|peer| peer.connect(&server));
        let mut hanging = server.connect();
        peers::send(&mut hanging, b"GET /hang HTTP/1.1\r\nhost: a\r\n\r\n");
        server.wait_for("> running");
        server.signal(signal);
        let (code, output) = server.end();
        assert_eq!(code, Some(0), "{signal}: {output}");
        // Three connections are missing: hyper closes those without a request, and the one with an incomplete second head.
        assert!(output.contains("cut off 5 connections"), "{signal}: {output}");
    }
}

#[test]
fn finishes_running_handler() {
    for (signal, _) in SIGNALS {
        let mut server = Child::server(&Settings::default());
        let mut socket = server.connect();
        peers::send(&mut socket, b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n");
        server.wait_for("> running");
        server.signal(signal);
        server.wait_for("stopping");
        server.finish_waiting_handlers();
        let mut response = String::new();
        socket.read_to_string(&mut response).expect("a response");
        assert!(response.starts_with("HTTP/1.1 200 ") && response.ends_with("\r\n\r\ndone"), "{response:?}");
        let (code, output) = server.end();
        assert_eq!(code, Some(0), "{signal}: {output}");
    }
}

#[test]
fn finishes_running_handler_over_http2() {
    let mut server = Child::server(&Settings::default());
    let runtime = Runtime::new().expect("a runtime");
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Body>();
    let url = format!("http://{}/wait", server.address()).parse().expect("a URL");
    let response = runtime.spawn(async move {
        let response = client.get(url).await.expect("a response");
        response.into_body().collect().await.expect("a whole body").to_bytes()
    });
    server.wait_for("> running");
    server.signal("TERM");
    server.wait_for("stopping");
    server.finish_waiting_handlers();
    assert_eq!(runtime.block_on(response).expect("no panic"), "done");
    let (code, output) = server.end();
    assert_eq!(code, Some(0), "{output}");
}

#[test]
fn second_signal_ends_at_once() {
    for path in ["/hang", "/block"] {
        for (signal, expected) in SIGNALS {
            let server = Child::server(&Settings::default());
            // One request for each thread of the runtime.
            let _sockets = [(); 2].map(|()| {
                let mut socket = server.connect();
                peers::send(&mut socket, format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
                server.wait_for("> running");
                socket
            });
            server.signal(signal);
            server.wait_for("stopping");
            server.signal(signal);
            let (code, output) = server.end();
            assert_eq!(code, Some(expected), "{path}: {signal}: {output}");
        }
    }
}

/// While all threads are blocked, no task runs, not even the one that ends the drain.
#[test]
fn ends_although_handlers_block_all_threads() {
    let server = Child::server(&Settings { drain: SHORT, exit_after: 2 * SHORT, ..Settings::default() });
    let _sockets = [(); 2].map(|()| {
        let mut socket = server.connect();
        peers::send(&mut socket, b"GET /block HTTP/1.1\r\nhost: a\r\n\r\n");
        server.wait_for("> running");
        socket
    });
    server.signal("TERM");
    let (code, output) = server.end();
    assert_eq!(code, Some(1), "{output}");
}

/// A process with PID 1 has no default action for SIGTERM.
#[test]
fn stops_as_pid_1() {
    const UNSHARE: [&str; 6] = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"];
    for (signal, expected) in [("TERM", 143), ("INT", 130)] {
        let server = Child::server_through(&UNSHARE, &Settings { peer_timeout: SHORT, ..Settings::default() });
        let pid = server.grandchild();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let inner = status.lines().find_map(|line| line.strip_prefix("NSpid:")).expect("Linux has namespaces");
        assert_eq!(inner.split_whitespace().next_back(), Some("1"), "{status}");
        let _socket = Peer::HalfHead.connect(&server);
        server.get("/ready");
        send_signal(signal, pid);
        let (code, output) = server.end();
        assert_eq!(code, Some(0), "{signal}: {output}");

        let server = Child::server_through(&UNSHARE, &Settings::default());
        let pid = server.grandchild();
        let mut hanging = server.connect();
        peers::send(&mut hanging, b"GET /hang HTTP/1.1\r\nhost: a\r\n\r\n");
        server.wait_for("> running");
        send_signal(signal, pid);
        server.wait_for("stopping");
        send_signal(signal, pid);
        let (code, output) = server.end();
        assert_eq!(code, Some(expected), "{signal}: {output}");
    }
}
