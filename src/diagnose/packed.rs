//! Bodies that were compressed on the way.

use std::io::{self, Read};

use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};

use super::search::{Hit, Search, Work};

/// How a body is compressed, as far as its first bytes tell.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zlib,
    Deflate,
    Zstd,
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

    /// Unpacks within what is left to spend, and gives the pieces away. Whether it was sound, and all of the body.
    fn unpack(self, body: &[u8], mut take: impl FnMut(&[u8]) -> bool) -> bool {
        let mut rest = body;
        let mut piece = vec![0; 16 * 1024];
        loop {
            let Some(mut reader) = self.reader(&mut rest) else { return false };
            loop {
                match reader.read(&mut piece) {
                    Ok(0) => break,
                    Ok(len) if take(&piece[..len]) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(_) | Err(_) => return false,
                }
            }
            drop(reader);
            if rest.is_empty() {
                return true;
            }
            // A gzip file may have several members (RFC 1952, section 2.2).
            if self != Self::Gzip {
                return false;
            }
        }
    }

    /// Whether the whole body is compressed so.
    pub(super) fn is_sound(self, body: &[u8], work: &mut Work) -> bool {
        self.unpack(body, |piece| work.spend(piece.len()))
    }
}

/// Whether what is inside the body is what was signed.
pub(super) fn inside(search: &mut Search<'_>, body: &[u8]) -> Option<(Hit, Packing)> {
    let packing = match Packing::by_first_bytes(body) {
        Some(packing) => packing,
        None if str::from_utf8(body).is_ok() => return None,
        // Without a header it looks like nothing, but not like text.
        None => Packing::Deflate,
    };
    let mut pieces = search.start();
    let work = &mut search.work;
    let sound = packing.unpack(body, |piece| pieces.update(piece, work));
    if !sound {
        return None;
    }
    pieces.finish().map(|hit| (hit, packing))
}
