//! Bodies that were compressed on the way.

use std::io::{self, Read};

use flate2::read::{DeflateDecoder, GzDecoder, ZlibDecoder};

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

    fn reader<'a>(self, body: &'a [u8]) -> Option<Box<dyn Read + 'a>> {
        match self {
            Self::Gzip => Some(Box::new(GzDecoder::new(body))),
            Self::Zlib => Some(Box::new(ZlibDecoder::new(body))),
            Self::Deflate => Some(Box::new(DeflateDecoder::new(body))),
            Self::Zstd => None,
        }
    }

    /// Unpacks within what is left to spend, and gives the pieces away. Whether it was sound to its end.
    fn unpack(self, body: &[u8], mut take: impl FnMut(&[u8]) -> bool) -> bool {
        let Some(mut reader) = self.reader(body) else { return false };
        let mut piece = vec![0; 16 * 1024];
        loop {
            match reader.read(&mut piece) {
                Ok(0) => return true,
                Ok(len) if take(&piece[..len]) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return false,
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
