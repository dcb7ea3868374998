//! Answers compressed on the way (Content-Encoding), piece by piece, on the thread that makes them.
//!
//! What ends well has the encoder's end mark; an answer that is cut breaks its connection, compressed or
//! not.

use std::io::Write as _;

use bytes::Bytes;
use chordae_base::Outcome;
use flate2::{Compression, write::GzEncoder};
use zstd::stream::write::Encoder as Zstd;

use super::{broken, weight};

/// How an answer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Encoding {
    /// What an Accept-Encoding header likes best of what is there: zstd before gzip, identity unless it
    /// asks.
    pub fn choose(accept: Option<&str>) -> Self {
        let mut best = (0, Self::Identity);
        for range in accept.unwrap_or_default().split(',') {
            let (name, quality) = range.split_once(';').unwrap_or((range, ""));
            let (encoding, liking) = match name.trim().to_ascii_lowercase().as_str() {
                "zstd" => (Self::Zstd, 1),
                "gzip" | "x-gzip" => (Self::Gzip, 0),
                _ => continue,
            };
            let weight = 2 * weight(quality);
            if weight > 0 && weight + liking > best.0 {
                best = (weight + liking, encoding);
            }
        }
        best.1
    }

    /// Its word in Content-Encoding.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }

    /// An encoder for one answer.
    ///
    /// # Errors
    /// `Internal` when the library cannot begin.
    pub fn encoder(self) -> Outcome<Encoder> {
        Ok(match self {
            Self::Identity => Encoder::Identity,
            Self::Gzip => Encoder::Gzip(GzEncoder::new(Vec::new(), Compression::fast())),
            Self::Zstd => {
                let zstd = Zstd::new(Vec::new(), chordae_chunk::ZSTD_LEVEL);
                Encoder::Zstd(zstd.map_err(|e| broken("zstd", &e))?)
            }
        })
    }
}

/// See [`Encoding::encoder`].
pub enum Encoder {
    /// Gives back what it takes.
    Identity,
    /// Gzip.
    Gzip(GzEncoder<Vec<u8>>),
    /// Zstandard.
    Zstd(Zstd<'static, Vec<u8>>),
}

impl Encoder {
    /// Takes a piece; gives what may go out, which may be nothing.
    ///
    /// # Errors
    /// `Internal` when the library cannot go on.
    pub fn push(&mut self, bytes: Bytes) -> Outcome<Bytes> {
        let (written, out) = match self {
            Self::Identity => return Ok(bytes),
            Self::Gzip(gzip) => (gzip.write_all(&bytes), gzip.get_mut()),
            Self::Zstd(zstd) => (zstd.write_all(&bytes), zstd.get_mut()),
        };
        written.map_err(|e| broken("compressed bytes", &e))?;
        Ok(Bytes::from(std::mem::take(out)))
    }

    /// The end.
    ///
    /// # Errors
    /// As [`Encoder::push`].
    pub fn end(self) -> Outcome<Bytes> {
        let rest = match self {
            Self::Identity => return Ok(Bytes::new()),
            Self::Gzip(gzip) => gzip.finish(),
            Self::Zstd(zstd) => zstd.finish(),
        };
        rest.map(Bytes::from)
            .map_err(|e| broken("compressed bytes", &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_reader_likes_best() {
        for (accept, want) in [
            (None, Encoding::Identity),
            (Some("br, deflate"), Encoding::Identity),
            (Some("gzip, deflate, br, zstd"), Encoding::Zstd),
            (Some("gzip;q=1.0, zstd;q=0.5"), Encoding::Gzip),
            (Some("GZIP"), Encoding::Gzip),
            (Some("gzip;q=0, zstd;q=0"), Encoding::Identity),
        ] {
            assert_eq!(Encoding::choose(accept), want, "{accept:?}");
        }
    }
}
