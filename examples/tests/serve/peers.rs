//! Peers that hold a connection.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
};

use crate::{
    child::Child,
    http2::{self, Frame},
    server::PATH,
};

/// A peer that sends some bytes and then nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Silent,
    HalfHead,
    HalfSecondHead,
    HalfBody,
    HalfPreface,
    SilentHttp2,
    HalfHttp2Head,
}

pub(crate) const ALL: [Peer; 7] = [
    Peer::Silent,
    Peer::HalfHead,
    Peer::HalfSecondHead,
    Peer::HalfBody,
    Peer::HalfPreface,
    Peer::SilentHttp2,
    Peer::HalfHttp2Head,
];

impl Peer {
    /// Connects and sends this peer's bytes.
    pub(crate) fn connect(self, server: &Child) -> TcpStream {
        let mut socket = server.connect();
        match self {
            Self::Silent => {}
            Self::HalfHead => send(&mut socket, HALF_HEAD),
            Self::HalfSecondHead => {
                send(&mut socket, b"GET /ready HTTP/1.1\r\nhost: a\r\n\r\n");
                let mut response = Vec::new();
                while !response.ends_with(b"ready") {
                    let mut byte = [0];
                    socket.read_exact(&mut byte).expect("a response");
                    response.push(byte[0]);
                }
                send(&mut socket, HALF_HEAD);
            }
            Self::HalfBody => {
                let head = format!(
                    "POST {PATH} HTTP/1.1\r\nhost: a\r\nx-klikit-signature: {:064}\r\n\
                     x-klikit-event-id: evt-1\r\ncontent-length: 100\r\n\r\nhalf",
                    0
                );
                send(&mut socket, head.as_bytes());
            }
            Self::HalfPreface => send(&mut socket, &http2::PREFACE[..16]),
            // The server's first frame shows that it speaks HTTP/2 with this peer.
            Self::SilentHttp2 => drop(http2::open(&mut socket)),
            Self::HalfHttp2Head => {
                http2::open(&mut socket);
                let payload = http2::get("/ready")[..4].to_vec();
                Frame { kind: http2::HEADERS, flags: http2::END_STREAM, stream: 1, payload }.send(&mut socket);
            }
        }
        socket
    }
}

pub(crate) const HALF_HEAD: &[u8] = b"GET /ready HTTP/1.1\r\nhost: a\r\nx-half";

pub(crate) fn send(socket: &mut TcpStream, bytes: &[u8]) {
    socket.write_all(bytes).expect("the server's socket takes the bytes");
}

/// Waits until the server has closed the connection. Returns the bytes that it has sent.
#[track_caller]
pub(crate) fn wait_for_close(mut socket: TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    match socket.read_to_end(&mut received) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    received
}
