//! A body that is sent in pieces, with pauses.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// A body that is sent in pieces, with pauses.
pub(super) struct PacedBody {
    /// The pieces that are left, each with the time of its sending.
    pieces: VecDeque<(Instant, Bytes)>,
    /// The `Content-Length`. Without one, the body is sent in chunks.
    length: Option<u64>,
    /// The time at which the connection breaks instead of ending the body.
    breaks_at: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl PacedBody {
    /// Creates a body that consists of this number of pieces, with a pause between them.
    pub(super) fn new(bytes: &Bytes, pieces: usize, pause: Duration) -> Self {
        let now = Instant::now();
        let length = bytes.len().div_ceil(pieces).max(1);
        let piece = |start: usize| bytes.slice(start..bytes.len().min(start + length));
        let starts = (0..bytes.len()).step_by(length);
        let times = (0u32..).map(|n| now + n * pause);
        let pieces = times.zip(starts.map(piece)).collect();
        Self { pieces, length: None, breaks_at: None, timer: Box::pin(sleep_until(now)) }
    }

    /// Creates a body whose last byte is sent at `last`.
    pub(super) fn withholding_the_last_byte(bytes: &Bytes, last: Instant) -> Self {
        let now = Instant::now();
        let at = bytes.len().saturating_sub(1);
        let pieces = [(now, bytes.slice(..at)), (last, bytes.slice(at..))];
        let length = Some(bytes.len() as u64);
        Self { pieces: pieces.into(), length, breaks_at: None, timer: Box::pin(sleep_until(now)) }
    }

    /// Creates a body that announces its whole length and breaks the connection after its first half and a pause.
    pub(super) fn half(bytes: &Bytes, pause: Duration) -> Self {
        let now = Instant::now();
        let pieces = [(now, bytes.slice(..bytes.len() / 2))].into();
        let length = Some(bytes.len() as u64);
        Self { pieces, length, breaks_at: Some(now + pause), timer: Box::pin(sleep_until(now)) }
    }

    /// Announces the length by a `Content-Length`.
    pub(super) fn with_length(mut self) -> Self {
        self.length = Some(self.pieces.iter().map(|(_, piece)| piece.len() as u64).sum());
        self
    }

    fn poll_until(&mut self, time: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.timer.deadline() != time {
            self.timer.as_mut().reset(time);
        }
        self.timer.as_mut().poll(cx)
    }
}

impl Body for PacedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if let Some(&(time, _)) = this.pieces.front() {
            ready!(this.poll_until(time, cx));
            return Poll::Ready(this.pieces.pop_front().map(|(_, piece)| Ok(Frame::data(piece))));
        }
        let Some(time) = this.breaks_at else { return Poll::Ready(None) };
        ready!(this.poll_until(time, cx));
        Poll::Ready(Some(Err(io::Error::other("the sender hung up in the body, as the check wants"))))
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Reads a body to its end. Returns its frames, each with the time of its arrival in milliseconds.
    async fn read(mut body: PacedBody) -> Vec<(u128, Option<Bytes>)> {
        let started = Instant::now();
        let mut frames = Vec::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let data = frame.ok().map(|frame| frame.into_data().unwrap());
            let has_failed = data.is_none();
            frames.push((started.elapsed().as_millis(), data));
            if has_failed {
                break;
            }
        }
        frames
    }

    #[tokio::test(start_paused = true)]
    async fn pieces_arrive_with_pauses() {
        let bytes = Bytes::from_static(b"abcdefg");
        let body = PacedBody::new(&bytes, 3, Duration::from_millis(100));
        assert_eq!(body.size_hint().exact(), None);
        let piece = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        assert_eq!(read(body).await, [(0, piece("abc")), (100, piece("def")), (200, piece("g"))]);
        assert_eq!(PacedBody::new(&bytes, 3, Duration::ZERO).with_length().size_hint().exact(), Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn last_byte_is_withheld() {
        let last = Instant::now() + Duration::from_millis(250);
        let body = PacedBody::withholding_the_last_byte(&Bytes::from_static(b"abc"), last);
        assert_eq!(body.size_hint().exact(), Some(3));
        let frames = [(0, Some(Bytes::from_static(b"ab"))), (250, Some(Bytes::from_static(b"c")))];
        assert_eq!(read(body).await, frames);
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_a_body_breaks_off() {
        let body = PacedBody::half(&Bytes::from_static(b"abcd"), Duration::from_millis(300));
        assert_eq!(body.size_hint().exact(), Some(4));
        assert_eq!(read(body).await, [(0, Some(Bytes::from_static(b"ab"))), (300, None)]);
    }
}
