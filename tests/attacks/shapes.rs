//! The shapes of genuine deliveries.

use std::{fmt, time::Duration};

use self::Transport::{Http1, Http2};

/// The size of a delivery's body, and the pieces in which its sender writes it.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) transport: Transport,
    pub(crate) bytes: usize,
    /// The size of each piece. The first one is written together with the head.
    pub(crate) piece: usize,
    /// The pause between two pieces.
    pub(crate) pause: Duration,
}

/// The version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Http1,
    Http2,
}

/// The pause of the slowest senders, whose bodies stay in memory the longest.
pub(crate) const LONG_PAUSE: Duration = Duration::from_millis(150);

/// The shapes that the genuine sender sends.
pub(crate) static SHAPES: [Shape; 11] = [
    whole(Http1, 4_000),
    whole(Http1, 20_000),
    whole(Http1, 160_000),
    whole(Http2, 20_000),
    pieces(4_000, 2_000, Duration::from_millis(2)),
    pieces(4_000, 2_000, Duration::from_millis(50)),
    pieces(4_000, 2_000, LONG_PAUSE),
    pieces(20_000, 4_000, Duration::from_millis(2)),
    pieces(20_000, 4_000, Duration::from_millis(50)),
    pieces(20_000, 4_000, LONG_PAUSE),
    pieces(160_000, 40_000, Duration::from_millis(50)),
];

/// Returns the shape of a body that is written in one piece.
const fn whole(transport: Transport, bytes: usize) -> Shape {
    Shape { transport, bytes, piece: bytes, pause: Duration::ZERO }
}

/// Returns the shape of a body that is written in pieces over HTTP/1.1.
const fn pieces(bytes: usize, piece: usize, pause: Duration) -> Shape {
    Shape { transport: Http1, bytes, piece, pause }
}

impl Shape {
    /// Returns the total duration of all pauses.
    pub(crate) fn pauses(&self) -> Duration {
        let pieces = u32::try_from(self.bytes.div_ceil(self.piece)).expect("few pieces");
        self.pause * (pieces - 1)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport, bytes, piece, pause } = self;
        let mut text = format!("{} kB", bytes / 1000);
        if piece < bytes {
            text += &format!(" in {} kB pieces, {} ms", piece / 1000, pause.as_millis());
        } else if *transport == Http2 {
            text += " over HTTP/2";
        }
        f.pad(&text)
    }
}
