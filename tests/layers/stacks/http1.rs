//! Behaviour that is specific to HTTP/1.1: framing, and responses before the end of the request.
//!
//! The sender writes the whole request before it reads, as simple clients do.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream},
    time::sleep,
};
use tower_klikit::{
    KlikitVerifyLayer,
    header::{EVENT_ID, SIGNATURE},
    testing::SignedDelivery,
};

use crate::stacks::{
    peers::{Client, Handler, SOCKET_BUFFER, assert_body_without_length_completes, sample, secret, serve_axum, verify},
    plain_hyper,
};

const LIMIT: usize = 256 * 1024;

/// Serves the handler and the layer with axum's server and with hyper's.
fn serve(handler: &Handler, layer: &KlikitVerifyLayer) -> [SocketAddr; 2] {
    let axum = serve_axum(handler.router().layer(layer.clone()));
    [axum, plain_hyper::serve_http1(handler, layer)]
}

/// The sender's end of a connection.
struct Wire(BufReader<TcpStream>);

impl Wire {
    async fn connect(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(SOCKET_BUFFER).unwrap();
        let stream = socket.connect(address).await.unwrap();
        // Send each write as a separate segment.
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.expect("the server closed the connection");
    }

    /// Sends the head of a request, with the delivery's headers and these additional ones.
    async fn send_head(&mut self, delivery: &SignedDelivery, fields: &str) {
        let request = delivery.request_with(drop);
        let mut head = format!("POST {} HTTP/1.1\r\nhost: localhost\r\n", request.uri());
        for (name, value) in request.headers() {
            head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
        }
        self.send(format!("{head}{fields}\r\n")).await;
    }

    async fn send_chunk(&mut self, bytes: &[u8]) {
        self.send([format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()).await;
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.expect("there is no response");
        assert!(line.ends_with("\r\n"), "the response breaks off after {line:?}");
        line
    }

    /// Reads one response and returns its status.
    async fn status(&mut self) -> u16 {
        let line = self.line().await;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut length = 0;
        loop {
            match self.line().await.split_once(": ") {
                Some(("content-length", value)) => length = value.trim().parse().unwrap(),
                Some(_) => {}
                None => break,
            }
        }
        self.0.read_exact(&mut vec![0; length]).await.unwrap();
        status.unwrap_or_else(|| panic!("no status in {line:?}"))
    }
}

fn content_length(length: usize) -> String {
    format!("content-length: {length}\r\n")
}

const CHUNKED: &str = "transfer-encoding: chunked\r\n";
const EXPECT: &str = "expect: 100-continue\r\n";

#[tokio::test]
async fn accepts_chunked_delivery() {
    let handler = Handler::default();
    for address in serve(&handler, &verify()) {
        // Use one connection that stays open, so that only the last chunk marks the end of a body.
        let mut wire = Wire::connect(address).await;
        for end in ["0\r\n\r\n", "0\r\nx-klikit-event-id: in-a-trailer\r\n\r\n"] {
            for (delivery, status) in [(sample(), 200), (sample().altered(), 403)] {
                wire.send_head(&delivery, CHUNKED).await;
                for chunk in delivery.body().chunks(1000) {
                    wire.send_chunk(chunk).await;
                }
                wire.send(end).await;
                assert_eq!(wire.status().await, status);
                match status {
                    200 => handler.assert_received(&delivery),
                    _ => handler.assert_not_called(),
                }
            }
        }
    }
}

#[tokio::test]
async fn accepts_chunked_delivery_from_client() {
    let handler = Handler::default();
    for address in serve(&handler, &verify()) {
        let client = Client::http1(address);
        assert_body_without_length_completes(&client, &handler).await;
    }
}

#[tokio::test]
async fn sender_of_large_body_sees_the_status() {
    let handler = Handler::default();
    for address in serve(&handler, &verify().body_limit(LIMIT)) {
        let large = SignedDelivery::new(secret(), vec![b' '; LIMIT * 2 - 1]);

        let mut wire = Wire::connect(address).await;
        wire.send_head(&large, &content_length(large.body().len())).await;
        wire.send(large.body()).await;
        assert_eq!(wire.status().await, 413, "with a content-length");

        let mut wire = Wire::connect(address).await;
        wire.send_head(&large, CHUNKED).await;
        for chunk in large.body().chunks(8192) {
            wire.send_chunk(chunk).await;
        }
        wire.send("0\r\n\r\n").await;
        assert_eq!(wire.status().await, 413, "without a content-length");
        handler.assert_not_called();
    }
}

#[tokio::test]
async fn evicted_sender_sees_the_status() {
    let handler = Handler::default();
    for address in serve(&handler, &verify().body_limit(LIMIT).buffer_budget(LIMIT)) {
        let large = SignedDelivery::new(secret(), vec![b' '; LIMIT]);
        let (first, rest) = large.body().split_at(LIMIT * 3 / 4);
        let mut evicted = Wire::connect(address).await;
        evicted.send_head(&large, &content_length(LIMIT)).await;
        evicted.send(first).await;
        let mut newcomer = Wire::connect(address).await;
        newcomer.send_head(&large, &content_length(LIMIT)).await;
        newcomer.send(first).await;
        // Either of the two may be charged first, so either may be evicted.
        sleep(Duration::from_millis(100)).await;
        evicted.send(rest).await;
        newcomer.send(rest).await;
        let mut statuses = [evicted.status().await, newcomer.status().await];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 503]);
        handler.assert_received(&large);
    }
}

#[tokio::test]
async fn rejects_bad_head_before_reading_body() {
    let handler = Handler::default();
    let some_length = content_length(sample().body().len());
    let rejected = [
        (sample().without_header(&SIGNATURE), &*some_length, 403),
        (sample().header(SIGNATURE, "not a signature"), &some_length, 403),
        (sample().without_header(&EVENT_ID), &some_length, 400),
        (sample(), &content_length(LIMIT * 2 + 1), 413),
        // The largest length that hyper accepts.
        (sample(), "content-length: 18446744073709551613\r\n", 413),
        (sample().without_header(&SIGNATURE), CHUNKED, 403),
    ];
    for address in serve(&handler, &verify().body_limit(LIMIT)) {
        for (delivery, framing, status) in &rejected {
            let mut wire = Wire::connect(address).await;
            wire.send_head(delivery, framing).await;
            assert_eq!(wire.status().await, *status, "{framing}");

            // A sender that expects `100 Continue` does not get it, because the body is not read.
            let mut wire = Wire::connect(address).await;
            wire.send_head(delivery, &format!("{framing}{EXPECT}")).await;
            assert_eq!(wire.status().await, *status, "{framing}{EXPECT}");
        }
        handler.assert_not_called();
    }
}

#[tokio::test]
async fn sends_100_continue_when_body_is_wanted() {
    let handler = Handler::default();
    for address in serve(&handler, &verify()) {
        let mut wire = Wire::connect(address).await;
        let delivery = sample();
        wire.send_head(&delivery, &format!("{}{EXPECT}", content_length(delivery.body().len()))).await;
        assert_eq!(wire.status().await, 100);
        wire.send(delivery.body()).await;
        assert_eq!(wire.status().await, 200);
        handler.assert_received(&delivery);
    }
}

#[tokio::test]
async fn rejects_body_that_is_cut_off() {
    let handler = Handler::default();
    for address in serve(&handler, &verify()) {
        let delivery = sample();
        for framing in [content_length(delivery.body().len() + 1), CHUNKED.to_owned()] {
            let mut wire = Wire::connect(address).await;
            wire.send_head(&delivery, &framing).await;
            if framing == CHUNKED {
                wire.send_chunk(delivery.body()).await;
            } else {
                wire.send(delivery.body()).await;
            }
            wire.0.shutdown().await.unwrap();
            assert_eq!(wire.status().await, 400, "{framing}");
            handler.assert_not_called();
        }
    }
}
