//! Detection and decompression of compressed bodies.

use std::io::{self, Read};

use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};

use super::{
    budget::SearchBudget,
    matcher::{SignatureMatch, SignatureMatcher},
};

/// The cost of each further member of a gzip file in addition to its text, in bytes: the decoder clears a window for it.
const MEMBER_COST: usize = 1024;

/// A compression format.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CompressionFormat {
    Gzip,
    Zlib,
    Deflate,
    Zstd,
}

/// The outcome of decompressing a body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UnpackResult {
    /// The body was decompressed to its end.
    Complete,
    /// The budget was exhausted before the end. There was no error until then.
    Partial,
    /// The body is not in this format, or other data follows.
    Invalid,
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

    /// Detects the format by the magic numbers of RFC 1952, RFC 1950 and RFC 8878. Text can begin with that of zlib.
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

    /// Returns a decoder that leaves in `rest` the data after the compressed part. `None` if this crate cannot decode the format.
    fn reader<'a>(self, rest: &'a mut &[u8]) -> Option<Box<dyn Read + 'a>> {
        match self {
            Self::Gzip => Some(Box::new(GzDecoder::new(rest))),
            Self::Zlib => Some(Box::new(ZlibDecoder::new(rest))),
            Self::Deflate => Some(Box::new(DeflateDecoder::new(rest))),
            Self::Zstd => None,
        }
    }

    /// Decompresses the body within the budget and passes each piece to `take`. Each byte costs `cost_per_byte`, which includes
    /// decompression.
    fn unpack(
        self,
        body: &[u8],
        cost_per_byte: usize,
        budget: &mut SearchBudget,
        mut take: impl FnMut(&[u8]),
    ) -> UnpackResult {
        let mut rest = body;
        let mut piece = vec![0; 16 * 1024];
        loop {
            let Some(mut reader) = self.reader(&mut rest) else { return UnpackResult::Invalid };
            loop {
                let room = piece.len().min(budget.remaining() / cost_per_byte);
                if room == 0 {
                    budget.mark_cut_short();
                    return UnpackResult::Partial;
                }
                match reader.read(&mut piece[..room]) {
                    Ok(0) => break,
                    Ok(len) => {
                        budget.charge(cost_per_byte * len);
                        take(&piece[..len]);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return UnpackResult::Invalid,
                }
            }
            drop(reader);
            if rest.is_empty() {
                return UnpackResult::Complete;
            }
            // A gzip file may have several members (RFC 1952, section 2.2).
            if self != Self::Gzip {
                return UnpackResult::Invalid;
            }
            if !budget.try_spend(MEMBER_COST) {
                return UnpackResult::Partial;
            }
        }
    }

    /// Returns whether the body is in this format, as far as the budget allows to check.
    pub(super) fn is_valid(self, body: &[u8], budget: &mut SearchBudget) -> bool {
        self.unpack(body, 1, budget, |_| {}) != UnpackResult::Invalid
    }
}

/// Decompresses the body and compares the result with the signature.
pub(super) fn match_decompressed(
    matcher: &SignatureMatcher<'_>,
    body: &[u8],
    budget: &mut SearchBudget,
) -> Option<(SignatureMatch, CompressionFormat)> {
    let format = match CompressionFormat::by_first_bytes(body) {
        Some(format) => format,
        None if str::from_utf8(body).is_ok() => return None,
        // Deflate has no magic number, but it does not look like text.
        None => CompressionFormat::Deflate,
    };
    let mut stream = matcher.start_stream(budget)?;
    let unpacked = format.unpack(body, stream.hashes_per_byte() + 1, budget, |piece| stream.update(piece));
    if unpacked != UnpackResult::Complete {
        return None;
    }
    stream.finish().map(|hit| (hit, format))
}
