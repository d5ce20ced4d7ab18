//! Tests of nginx in front of the server, as the guide "In front of it" describes.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
};

use axum::body::Body;
use tower_klikit::testing::SignedDelivery;
use tower_klikit_test_support::servers::nginx::Nginx;

use crate::{
    child::{Child, HANG_TIMEOUT},
    peers::{HALF_HEAD, send},
    server::{PATH, SECRET, Settings},
};

const GUIDE: &str = include_str!("../../../docs/in-front-of-it.md");

/// Starts nginx with the guide's configuration, without TLS.
fn nginx_of_the_guide(upstream: SocketAddr) -> Option<Nginx> {
    nginx_of_the_guide_with(upstream, None)
}

/// Starts nginx with the guide's configuration, without TLS, with a second node if there is one.
fn nginx_of_the_guide_with(upstream: SocketAddr, second: Option<SocketAddr>) -> Option<Nginx> {
    let (_, config) = GUIDE.split_once("```nginx\n").expect("the guide has a configuration");
    let (config, _) = config.split_once("```").expect("the configuration ends");
    for part in ["listen 443 ssl;", "127.0.0.1:8080", "ssl_certificate "] {
        assert!(config.contains(part), "the guide's configuration has {part:?}");
    }
    let lines = config.lines().filter(|line| !line.trim_start().starts_with("ssl_"));
    let plain: String = lines.map(|line| line.to_owned() + "\n").collect();
    let plain = plain.replace("127.0.0.1:8080", &upstream.to_string());
    let plain = match second {
        Some(second) => plain.replace("# server 127.0.0.1:8081", &format!("server {second}")),
        None => plain,
    };
    Nginx::with_http(|port| plain.replace("listen 443 ssl;", &format!("listen 127.0.0.1:{port};")))
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("it listens");
    socket.set_read_timeout(Some(HANG_TIMEOUT)).expect("a timeout");
    socket
}

/// Returns the bytes of a signed delivery over HTTP/1.1.
fn delivery(body: &str) -> Vec<u8> {
    let request = SignedDelivery::new(SECRET, body.to_owned()).request::<Body>();
    let mut head = format!("POST {PATH} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n");
    for (name, value) in request.headers().iter().filter(|(name, _)| *name != http::header::CONTENT_LENGTH) {
        head += &format!("{name}: {}\r\n", value.to_str().expect("it is text"));
    }
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Sends a request, and returns the status of the response.
#[track_caller]
fn status(address: SocketAddr, request: &[u8]) -> String {
    let mut socket = connect(address);
    socket.write_all(request).expect("nginx reads");
    let mut response = Vec::new();
    // nginx resets a connection whose body it does not read.
    let _ = socket.read_to_end(&mut response);
    let response = String::from_utf8_lossy(&response);
    response.split(' ').nth(1).unwrap_or_else(|| panic!("no response: {response:?}")).to_owned()
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").into_bytes()
}

#[test]
fn guide_configuration_passes_deliveries() {
    let server = Child::server(&Settings::default());
    let Some(nginx) = nginx_of_the_guide(server.address()) else { return };
    // More requests than nginx keeps connections open.
    for _ in 0..50 {
        assert_eq!(status(nginx.address(), &delivery(r#"{"brand_id":1,"branch_id":2,"orders":[]}"#)), "200");
    }
    assert_eq!(status(nginx.address(), &delivery(&"x".repeat(1_100_000))), "413");
}

/// The number of deliveries after a restart until the next one. By then nginx has dropped its connections to the old process.
const BETWEEN_RESTARTS: usize = 100;

/// Restarts both nodes, one after the other, while deliveries are sent without a pause.
#[test]
fn rolling_restart_fails_no_delivery() {
    let mut nodes = [(); 2].map(|()| Some(Child::server(&Settings::default())));
    let [first, second] = nodes.each_ref().map(|node| node.as_ref().expect("it runs").address());
    let Some(nginx) = nginx_of_the_guide_with(first, Some(second)) else { return };
    let address = nginx.address();
    thread::scope(|scope| {
        // Dropped at the end of the scope, which ends the senders.
        let received = {
            let (statuses, received) = mpsc::channel();
            for _ in 0..4 {
                let statuses = statuses.clone();
                let request = delivery(r#"{"brand_id":1,"branch_id":2,"orders":[]}"#);
                scope.spawn(move || while statuses.send(status(address, &request)).is_ok() {});
            }
            received
        };
        for _ in 0..3 {
            for node in &mut nodes {
                let running = node.take().expect("it runs");
                let settings = Settings { port: running.address().port(), ..Settings::default() };
                running.signal("TERM");
                let (code, output) = running.end();
                assert_eq!(code, Some(0), "{output}");
                *node = Some(Child::server(&settings));
                let during: Vec<_> = received.try_iter().collect();
                let after: Vec<_> = received.iter().take(BETWEEN_RESTARTS).collect();
                assert_eq!(after.len(), BETWEEN_RESTARTS, "no sender is left");
                for status in during.iter().chain(&after) {
                    assert_eq!(status, "200");
                }
            }
        }
    });
}

#[test]
fn guide_configuration_limits_connections() {
    let server = Child::server(&Settings::default());
    let Some(nginx) = nginx_of_the_guide(server.address()) else { return };
    let request = delivery(r#"{"brand_id":1,"branch_id":2,"orders":[]}"#);
    let unfinished = &request[..request.len() - 1];
    let held: Vec<_> = (0..100)
        .map(|_| {
            let mut socket = connect(nginx.address());
            send(&mut socket, unfinished);
            socket
        })
        .collect();
    assert_eq!(status(nginx.address(), &request), "503");
    drop(held);
}

/// nginx has a single process in this test, and handles its connections in order.
#[test]
fn nginx_keeps_slow_peers_to_itself() {
    let upstream = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let Some(nginx) = Nginx::in_front_of(upstream.local_addr().expect("it listens"), &[]) else { return };
    let request = delivery("two halves");
    let mut half_head = connect(nginx.address());
    send(&mut half_head, HALF_HEAD);
    let mut half_body = connect(nginx.address());
    send(&mut half_body, &request[..request.len() - 1]);

    let mut whole = connect(nginx.address());
    send(&mut whole, &get("/whole"));
    let (mut first, _) = upstream.accept().expect("nginx connects");
    let mut start = [0; 10];
    first.read_exact(&mut start).expect("nginx sends a request");
    assert_eq!(&start, b"GET /whole");
    upstream.set_nonblocking(true).expect("a socket");
    assert_eq!(upstream.accept().expect_err("no other connection").kind(), ErrorKind::WouldBlock);
}

#[test]
fn unbuffered_nginx_passes_half_a_body() {
    let upstream = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let directives = ["proxy_request_buffering off"];
    let Some(nginx) = Nginx::in_front_of(upstream.local_addr().expect("it listens"), &directives) else { return };
    let request = delivery("two halves");
    let mut half_body = connect(nginx.address());
    send(&mut half_body, &request[..request.len() - 1]);
    let (mut first, _) = upstream.accept().expect("nginx connects");
    let mut start = [0; 4];
    first.read_exact(&mut start).expect("nginx sends a request");
    assert_eq!(&start, b"POST");
}

#[test]
fn nginx_answers_502_and_504() {
    let server = Child::server(&Settings::default());
    let Some(nginx) = Nginx::in_front_of(server.address(), &["proxy_read_timeout 1s"]) else { return };
    assert_eq!(status(nginx.address(), &get("/hang")), "504");
    drop(server);
    assert_eq!(status(nginx.address(), &get("/ready")), "502");
}

#[test]
fn nginx_drops_handler_of_lost_client() {
    let server = Child::server(&Settings::default());
    let Some(nginx) = Nginx::in_front_of(server.address(), &[]) else { return };
    let mut client = connect(nginx.address());
    send(&mut client, &get("/hang"));
    server.wait_for("> running");
    drop(client);
    server.wait_for("> dropped");
}
