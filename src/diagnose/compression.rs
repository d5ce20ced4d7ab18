//! Bodies that were compressed on the way.

use std::io::{self, Read};

use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};

use super::{
    budget::SearchBudget,
    matcher::{SignatureMatch, SignatureMatcher},
};

/// What a further member of a gzip file takes beside its text, in bytes that are hashed: a window is cleared for each.
const MEMBER: usize = 1024;

/// How a body is compressed, as far as its first bytes tell.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CompressionFormat {
    Gzip,
    Zlib,
    Deflate,
    Zstd,
}

/// How far a body was unpacked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UnpackResult {
    /// To its end, and all of it.
    Whole,
    /// As far as it may, without an error.
    Part,
    /// It is not compressed so, or something else is behind that.
    Unsound,
}

impl CompressionFormat {
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
    fn unpack(self, body: &[u8], times: usize, budget: &mut SearchBudget, mut take: impl FnMut(&[u8])) -> UnpackResult {
        let mut rest = body;
        let mut piece = vec![0; 16 * 1024];
        loop {
            let Some(mut reader) = self.reader(&mut rest) else { return UnpackResult::Unsound };
            loop {
                let room = piece.len().min(budget.remaining() / times);
                if room == 0 {
                    budget.mark_cut_short();
                    return UnpackResult::Part;
                }
                match reader.read(&mut piece[..room]) {
                    Ok(0) => break,
                    Ok(len) => {
                        budget.charge(times * len);
                        take(&piece[..len]);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return UnpackResult::Unsound,
                }
            }
            drop(reader);
            if rest.is_empty() {
                return UnpackResult::Whole;
            }
            // A gzip file may have several members (RFC 1952, section 2.2).
            if self != Self::Gzip {
                return UnpackResult::Unsound;
            }
            if !budget.try_spend(MEMBER) {
                return UnpackResult::Part;
            }
        }
    }

    /// Whether the body is compressed so, whole or as far as it may be looked at.
    pub(super) fn is_sound(self, body: &[u8], budget: &mut SearchBudget) -> bool {
        self.unpack(body, 1, budget, |_| {}) != UnpackResult::Unsound
    }
}

/// Whether what is inside the body is what was signed.
pub(super) fn inside(
    matcher: &SignatureMatcher<'_>,
    body: &[u8],
    budget: &mut SearchBudget,
) -> Option<(SignatureMatch, CompressionFormat)> {
    let format = match CompressionFormat::by_first_bytes(body) {
        Some(format) => format,
        None if str::from_utf8(body).is_ok() => return None,
        // Without a header it looks like nothing, but not like text.
        None => CompressionFormat::Deflate,
    };
    let mut stream = matcher.start_stream(budget)?;
    let unpacked = format.unpack(body, stream.hashes_per_byte() + 1, budget, |piece| stream.update(piece));
    if unpacked != UnpackResult::Whole {
        return None;
    }
    stream.finish().map(|hit| (hit, format))
}
