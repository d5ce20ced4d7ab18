//! The parts of HTTP/2 (RFC 9113) that a misbehaving peer needs.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// The client's settings, which change no default.
pub(crate) const EMPTY_SETTINGS: Frame = Frame { kind: SETTINGS, flags: 0, stream: 0, payload: Vec::new() };

impl Frame {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("a small frame").to_be_bytes();
        let head = [&length[1..], &[self.kind, self.flags], &self.stream.to_be_bytes()].concat();
        [&head, &self.payload[..]].concat()
    }

    pub(crate) fn send(&self, socket: &mut TcpStream) {
        socket.write_all(&self.encode()).expect("the server reads");
    }
}

/// Opens a connection, and returns the server's settings.
pub(crate) fn open(socket: &mut TcpStream) -> Frame {
    socket.write_all(PREFACE).expect("the server reads");
    EMPTY_SETTINGS.send(socket);
    let settings = receive(socket).expect("the server's settings");
    assert_eq!(settings.kind, SETTINGS, "{settings:?}");
    settings
}

/// Sends a complete request without a body.
pub(crate) fn send_get(socket: &mut TcpStream, stream: u32, path: &str) {
    Frame { kind: HEADERS, flags: END_STREAM | END_HEADERS, stream, payload: get(path) }.send(socket);
}

/// Answers a frame if it is a ping.
pub(crate) fn answer_ping(socket: &mut TcpStream, frame: &Frame) {
    if frame.kind == PING && frame.flags & ACK == 0 {
        Frame { kind: PING, flags: ACK, stream: 0, payload: frame.payload.clone() }.send(socket);
    }
}

/// Returns the next frame, or `None` if the server has closed the connection.
#[track_caller]
pub(crate) fn receive(socket: &mut TcpStream) -> Option<Frame> {
    let head: [u8; 9] = read(socket, 9)?.try_into().expect("nine bytes");
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let payload = read(socket, length as usize)?;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Some(Frame { kind: head[3], flags: head[4], stream, payload })
}

#[track_caller]
fn read(socket: &mut TcpStream, count: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; count];
    match socket.read_exact(&mut bytes) {
        Ok(()) => Some(bytes),
        Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => None,
        Err(error) => panic!("the connection is still open: {error}"),
    }
}

/// Returns the header block of a request: `:method: GET`, `:scheme: http`, `:path` and `:authority: a`.
pub(crate) fn get(path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).expect("a short path");
    [&[0x82, 0x86, 0x44, length], path.as_bytes(), &[0x41, 1, b'a']].concat()
}

/// Returns the header block of a delivery with an invalid signature and the header `x: {padding}`.
pub(crate) fn delivery(path: &str, padding: &str) -> Vec<u8> {
    let signature = "0".repeat(64);
    let headers = [
        (":path", path),
        (":authority", "a"),
        ("x-klikit-signature", &signature),
        ("x-klikit-event-id", "evt-1"),
        ("content-length", "100"),
        ("x", padding),
    ];
    let mut block = vec![0x83, 0x86];
    for (name, value) in headers {
        block.push(0);
        for text in [name, value] {
            block.extend(length(text.len()));
            block.extend(text.as_bytes());
        }
    }
    block
}

/// Encodes a length (RFC 7541, section 5.1, with a prefix of 7 bits).
fn length(length: usize) -> Vec<u8> {
    let byte = |value: usize| u8::try_from(value).expect("a byte");
    if length < 127 {
        return vec![byte(length)];
    }
    let (mut rest, mut bytes) = (length - 127, vec![127]);
    while rest >= 128 {
        bytes.push(byte(rest % 128 + 128));
        rest /= 128;
    }
    bytes.push(byte(rest));
    bytes
}
