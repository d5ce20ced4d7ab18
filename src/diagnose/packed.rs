//! Bodies that were compressed on the way.

use std::io::{self, Read};

use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};

use super::{
    search::{Hit, Search},
    work::Work,
};

/// What a further member of a gzip file takes beside its text, in bytes that are hashed: a window is cleared for each.
const MEMBER: usize = 1024;

/// How a body is compressed, as far as its first bytes tell.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zlib,
    Deflate,
    Zstd,
}

/// How far a body was unpacked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unpacked {
    /// To its end, and all of it.
    Whole,
    /// As far as it may, without an error.
    Part,
    /// It is not compressed so, or something else is behind that.
    Unsound,
}

impl Packing {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zlib => "zlib (which HTTP calls deflate)",
            Self::Deflate => "deflate without a zlib header",
            Self::Zstd => "zstd",
        }
    }

    /// By the magic numbers of RFC 1952, RFC 1950 and RFC 8878. Those of zlib are weak: text can begin so.
    pub(super) fn by_first_bytes(body: &[u8]) -> Option<Self> {
        match body {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            [method, flags, ..] if method & 0x8f == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0 => {
                Some(Self::Zlib)
            }
            _ => None,
        }
    }

    /// Leaves in `rest` what is behind it.
    fn reader<'a>(self, rest: &'a mut &[u8]) -> Option<Box<dyn Read + 'a>> {
        match self {
            Self::Gzip => Some(Box::new(GzDecoder::new(rest))),
            Self::Zlib => Some(Box::new(ZlibDecoder::new(rest))),
            Self::Deflate => Some(Box::new(DeflateDecoder::new(rest))),
            Self::Zstd => None,
        }
    }

    /// Unpacks within what is left to spend, and gives the pieces away. Each is worked on so many `times`, unpacking and all.
    fn unpack(self, body: &[u8], times: usize, work: &mut Work, mut take: impl FnMut(&[u8])) -> Unpacked {
        let mut rest = body;
        let mut piece = vec![0; 16 * 1024];
        loop {
            let Some(mut reader) = self.reader(&mut rest) else { return Unpacked::Unsound };
            loop {
                let room = piece.len().min(work.left() / times);
                if room == 0 {
                    work.leave_out();
                    return Unpacked::Part;
                }
                match reader.read(&mut piece[..room]) {
                    Ok(0) => break,
                    Ok(len) => {
                        work.done(times * len);
                        take(&piece[..len]);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return Unpacked::Unsound,
                }
            }
            drop(reader);
            if rest.is_empty() {
                return Unpacked::Whole;
            }
            // A gzip file may have several members (RFC 1952, section 2.2).
            if self != Self::Gzip {
                return Unpacked::Unsound;
            }
            if !work.spend(MEMBER) {
                return Unpacked::Part;
            }
        }
    }

    /// Whether the body is compressed so, whole or as far as it may be looked at.
    pub(super) fn is_sound(self, body: &[u8], work: &mut Work) -> bool {
        self.unpack(body, 1, work, |_| {}) != Unpacked::Unsound
    }
}

/// Whether what is inside the body is what was signed.
pub(super) fn inside(search: &Search<'_>, body: &[u8], work: &mut Work) -> Option<(Hit, Packing)> {
    let packing = match Packing::by_first_bytes(body) {
        Some(packing) => packing,
        None if str::from_utf8(body).is_ok() => return None,
        // Without a header it looks like nothing, but not like text.
        None => Packing::Deflate,
    };
    let mut pieces = search.start(work)?;
    let unpacked = packing.unpack(body, pieces.times() + 1, work, |piece| pieces.update(piece));
    if unpacked != Unpacked::Whole {
        return None;
    }
    pieces.finish().map(|hit| (hit, packing))
}
