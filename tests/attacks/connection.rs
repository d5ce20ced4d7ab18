//! The genuine sender's HTTP/1.1 connection, with control over each write.

use std::io;

use http::Request;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};
use tower_klikit::testing::SignedDelivery;

use crate::shapes::Shape;

/// An open connection to the server.
pub(crate) struct Connection(TcpStream);

impl Connection {
    pub(crate) async fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Sends a delivery in the pieces of its shape, and returns the status.
    pub(crate) async fn send(&mut self, delivery: &SignedDelivery, shape: &Shape) -> io::Result<u16> {
        let mut pieces = delivery.body().chunks(shape.piece);
        let mut bytes = head(&delivery.request());
        bytes.extend_from_slice(pieces.next().unwrap_or_default());
        let mut written = self.0.write_all(&bytes).await;
        for piece in pieces {
            if written.is_err() {
                break;
            }
            sleep(shape.pause).await;
            written = self.0.write_all(piece).await;
        }
        // Ignore an error: the server may have responded and closed before the last piece, and that response counts.
        match (self.answer().await, written) {
            (Ok(status), _) => Ok(status),
            (_, Err(error)) | (Err(error), _) => Err(error),
        }
    }

    /// Reads a whole response and returns its status.
    async fn answer(&mut self) -> io::Result<u16> {
        let mut read = Vec::new();
        loop {
            if let Some((status, length)) = parse(&read)
                && read.len() >= length
            {
                return Ok(status);
            }
            if self.0.read_buf(&mut read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn head(request: &Request<bytes::Bytes>) -> Vec<u8> {
    let mut head = format!("POST {} HTTP/1.1\r\nhost: 127.0.0.1\r\n", request.uri()).into_bytes();
    for (name, value) in request.headers() {
        head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Returns the status of a response, and its length including the body.
fn parse(answer: &[u8]) -> Option<(u16, usize)> {
    let text = str::from_utf8(answer).ok()?;
    let (head, _) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    Some((status, head.len() + 4 + length.map_or(Some(0), |length| length.parse().ok())?))
}
