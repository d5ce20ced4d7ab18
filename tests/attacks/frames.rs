//! Frames of HTTP/2 (RFC 9113), written and read by hand, so that a request is as cheap as possible for the attacker.

/// Opens a connection: the preface and empty settings.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The largest frame that every peer accepts.
const MAX_FRAME: usize = 16 * 1024;

static SPACES: [u8; MAX_FRAME] = [b' '; MAX_FRAME];

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const CANCEL: u32 = 8;

/// The part of a frame from the server that matters to an attacker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// The server has answered on a stream.
    Answer(u32),
    Reset(u32),
    Settings,
    Ping([u8; 8]),
    GoAway,
    /// The server allows this many more bytes on the connection.
    Window(u32),
    Other,
}

/// The method and the scheme of each request, from the static table of RFC 7541.
const METHOD_AND_SCHEME: [u8; 2] = [0x83, 0x86];

/// Writes the head of a connection's first request, and enters its fields into the dynamic table (RFC 7541).
pub(crate) fn first_head(out: &mut Vec<u8>, stream: u32) {
    let mut block = METHOD_AND_SCHEME.to_vec();
    // Literals without Huffman coding: two with names of the static table, two with new names.
    block.push(0x44);
    literal(&mut block, "/webhooks/klikit");
    block.push(0x41);
    literal(&mut block, "a");
    for (name, value) in [("x-klikit-signature", &*"0".repeat(64)), ("x-klikit-event-id", "a")] {
        block.push(0x40);
        literal(&mut block, name);
        literal(&mut block, value);
    }
    frame(out, HEADERS, END_HEADERS, stream, &block);
}

/// Writes the head of a later request, with the fields that [`first_head`] entered into the dynamic table.
pub(crate) fn later_head(out: &mut Vec<u8>, stream: u32) {
    let indices = [65, 64, 63, 62].map(|index| 0x80 | index);
    frame(out, HEADERS, END_HEADERS, stream, &[&METHOD_AND_SCHEME[..], &indices].concat());
}

/// Writes this many bytes of a body.
pub(crate) fn data(out: &mut Vec<u8>, stream: u32, mut bytes: usize) {
    while bytes > 0 {
        let length = bytes.min(MAX_FRAME);
        frame(out, DATA, 0, stream, &SPACES[..length]);
        bytes -= length;
    }
}

pub(crate) fn reset(out: &mut Vec<u8>, stream: u32) {
    frame(out, RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
}

pub(crate) fn acknowledge_settings(out: &mut Vec<u8>) {
    frame(out, SETTINGS, ACK, 0, &[]);
}

pub(crate) fn pong(out: &mut Vec<u8>, payload: [u8; 8]) {
    frame(out, PING, ACK, 0, &payload);
}

/// Parses the first frame, if it is complete. Also returns its length.
pub(crate) fn parse(read: &[u8]) -> Option<(Received, usize)> {
    let (header, rest) = read.split_first_chunk::<9>()?;
    let &[a, b, c, kind, flags, stream @ ..] = header;
    let payload = rest.get(..u32::from_be_bytes([0, a, b, c]) as usize)?;
    let stream = u32::from_be_bytes(stream);
    let received = match kind {
        HEADERS => Received::Answer(stream),
        RST_STREAM => Received::Reset(stream),
        SETTINGS if flags & ACK == 0 => Received::Settings,
        PING if flags & ACK == 0 => payload.try_into().map_or(Received::Other, Received::Ping),
        GOAWAY => Received::GoAway,
        WINDOW_UPDATE if stream == 0 => {
            payload.try_into().map_or(Received::Other, |bytes| Received::Window(u32::from_be_bytes(bytes)))
        }
        _ => Received::Other,
    };
    Some((received, 9 + payload.len()))
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a frame is short");
    out.extend_from_slice(&length.to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

fn literal(block: &mut Vec<u8>, text: &str) {
    block.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short text"));
    block.extend_from_slice(text.as_bytes());
}
