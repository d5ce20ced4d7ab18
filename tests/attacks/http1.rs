//! An attacker over HTTP/1.1 with uploads that are never completed.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::Interest,
    net::TcpStream,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::attackers::SharedTally;

/// The most bytes in one write.
const MAX_WRITE: usize = 256 * 1024;

/// Connections that each send a head and the beginning of a body, wait, close, and connect again.
///
/// Every other connection reads while it writes. The others read only after they have written everything, like simple clients.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Uploads {
    pub(crate) connections: usize,
    /// The number of bytes that are sent of each body.
    pub(crate) bytes: usize,
    pub(crate) framing: Framing,
    /// The time for which an upload is held after its last byte.
    pub(crate) hold: Duration,
    /// The most uploads per second, over all connections.
    pub(crate) max_rate: u32,
}

/// The framing of an upload's body.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Framing {
    /// `Content-Length`, of this many bytes.
    Length(usize),
    /// `Transfer-Encoding: chunked`, with a single chunk.
    Chunked,
}

/// When a sender reads the response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    WhileWriting,
    AfterWriting,
}

/// The outcome of an upload for its sender.
enum Outcome {
    Answered(u16),
    /// A write failed, and a response could be read after that.
    Broken,
    /// The connection ended without an answer.
    CutOff,
    /// The sender closed the connection after the hold.
    Held,
}

/// Spaces uploads evenly.
struct Pace {
    next: Mutex<Instant>,
    interval: Duration,
}

impl Pace {
    async fn wait(&self) {
        let start = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let start = Instant::now().max(*next);
            *next = start + self.interval;
            start
        };
        sleep_until(start).await;
    }
}

impl Uploads {
    /// Starts a task for each connection.
    pub(crate) fn start(&self, port: u16, tally: &SharedTally) {
        let request: Arc<[u8]> = self.request().into();
        let pace = Pace { next: Mutex::new(Instant::now()), interval: Duration::from_secs(1) / self.max_rate };
        let pace = Arc::new(pace);
        for n in 0..self.connections {
            let (request, pace, tally, hold) = (Arc::clone(&request), Arc::clone(&pace), tally.clone(), self.hold);
            let reading = if n % 2 == 0 { Reading::WhileWriting } else { Reading::AfterWriting };
            tokio::spawn(async move {
                loop {
                    pace.wait().await;
                    if upload(port, &request, reading, hold, &tally).await.is_err() {
                        tally.lock().lost += 1;
                        sleep(Duration::from_millis(10)).await;
                    }
                }
            });
        }
    }

    fn request(&self) -> Vec<u8> {
        let framing = match self.framing {
            Framing::Length(length) => format!("content-length: {length}\r\n\r\n"),
            Framing::Chunked => format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n", self.bytes + 1),
        };
        let signature = "0".repeat(64);
        let head = format!(
            "POST /webhooks/klikit HTTP/1.1\r\nhost: a\r\nx-klikit-signature: {signature}\r\nx-klikit-event-id: a\r\n{framing}"
        );
        [head.into_bytes(), vec![b' '; self.bytes]].concat()
    }
}

/// Makes one upload. Returns an error if connecting failed.
async fn upload(port: u16, request: &[u8], reading: Reading, hold: Duration, tally: &SharedTally) -> io::Result<()> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    // Close with a reset, because connections that are closed normally use up the ports.
    stream.set_zero_linger()?;
    stream.set_nodelay(true)?;
    tally.lock().begun += 1;
    let mut sent = 0;
    let outcome = match write(&stream, request, reading, &mut sent).await {
        Ok(Some(outcome)) => outcome,
        Ok(None) => read_answer(&stream, hold).await.unwrap_or(Outcome::Held),
        // A response may have come before the reset.
        Err(_) => match read_answer(&stream, Duration::from_secs(1)).await {
            Some(Outcome::Answered(_)) => Outcome::Broken,
            _ => Outcome::CutOff,
        },
    };
    let mut tally = tally.lock();
    tally.bytes += sent as u64;
    match outcome {
        Outcome::Answered(status) => {
            tally.answered += 1;
            tally.overloaded += u64::from(status == 503);
        }
        Outcome::Broken => tally.broken += 1,
        Outcome::CutOff => tally.cut_off += 1,
        Outcome::Held => {}
    }
    Ok(())
}

/// Writes the request. Returns the outcome if the upload ends before everything is written.
async fn write(stream: &TcpStream, request: &[u8], reading: Reading, sent: &mut usize) -> io::Result<Option<Outcome>> {
    let interest = match reading {
        Reading::WhileWriting => Interest::READABLE | Interest::WRITABLE,
        Reading::AfterWriting => Interest::WRITABLE,
    };
    while *sent < request.len() {
        let ready = stream.ready(interest).await?;
        if ready.is_readable()
            && let Some(outcome) = try_read_answer(stream)
        {
            return Ok(Some(outcome));
        }
        match stream.try_write(&request[*sent..request.len().min(*sent + MAX_WRITE)]) {
            Ok(written) => *sent += written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Waits for a response. Returns `None` if none has come within this time.
async fn read_answer(stream: &TcpStream, wait: Duration) -> Option<Outcome> {
    let read = async {
        loop {
            if stream.readable().await.is_err() {
                return Outcome::CutOff;
            }
            if let Some(outcome) = try_read_answer(stream) {
                return outcome;
            }
        }
    };
    timeout(wait, read).await.ok()
}

/// Reads a status line. Returns `None` if there is nothing to read yet.
fn try_read_answer(stream: &TcpStream) -> Option<Outcome> {
    let mut buffer = [0; 512];
    match stream.try_read(&mut buffer) {
        Ok(read) => Some(status(&buffer[..read]).map_or(Outcome::CutOff, Outcome::Answered)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(_) => Some(Outcome::CutOff),
    }
}

fn status(answer: &[u8]) -> Option<u16> {
    str::from_utf8(answer.strip_prefix(b"HTTP/1.1 ")?.get(..3)?).ok()?.parse().ok()
}
