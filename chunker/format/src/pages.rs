//! The data pages of a column, walked by our own eyes before the Parquet crate decodes any.
//!
//! A page header says how large the page is when unpacked, and a decoder believes it. So the walk
//! reads every header strictly, in the one spelling that the writer uses, and bounds both sizes by the
//! rows of the page; only the places found here are then handed to the decoder.
//!
//! ```text
//! thrift compact: 15 type  15 unpacked  15 packed  2c{ 15 values 15 encoding 15 def 15 rep 00 } 00
//! ```

use chordae_base::{Failure, Outcome, limits};
use parquet::file::page_index::offset_index::PageLocation;

const I32: u8 = 0x15;
const DATA_PAGE: i32 = 0;
const DELTA_BINARY_PACKED: i32 = 5;
const RLE: i32 = 3;

/// More than any page header of ours.
const HEADER_BYTES_MAX: usize = 64;

/// A cursor over the bytes of a header; running out is an error, never a panic.
struct Header<'a> {
    bytes: &'a [u8],
    at: usize,
}

fn broken(why: &str) -> Failure {
    Failure::damaged(format!("chunk: page header {why}"))
}

impl Header<'_> {
    fn byte(&mut self) -> Outcome<u8> {
        let byte = self
            .bytes
            .get(self.at)
            .copied()
            .ok_or_else(|| broken("cut short"))?;
        self.at += 1;
        Ok(byte)
    }

    fn expect(&mut self, want: u8) -> Outcome<()> {
        if self.byte()? == want {
            Ok(())
        } else {
            Err(broken("in a form we never write"))
        }
    }

    /// A field of type i32 whose id is one more than the field before.
    fn int(&mut self) -> Outcome<i32> {
        self.expect(I32)?;
        let mut raw: u32 = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            raw |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return i32::try_from(raw >> 1)
                    .map_err(|_| broken("number out of range"))
                    .and_then(|n| {
                        if raw & 1 == 0 {
                            Ok(n)
                        } else {
                            Err(broken("negative"))
                        }
                    });
            }
        }
        Err(broken("number too long"))
    }

    fn exactly(&mut self, want: i32) -> Outcome<()> {
        if self.int()? == want {
            Ok(())
        } else {
            Err(broken("of a kind we never write"))
        }
    }
}

/// Bytes that `values` values of at most eight bytes can need unpacked: ten each for the value, its
/// definition level and its share of block headers, and one block of padding.
fn unpacked_max(values: i32) -> i64 {
    i64::from(values) * 10 + 8192
}

/// Finds the pages that lie in `column` (the bytes of one column chunk, beginning at `start` of the
/// file) and hold `rows` rows in all.
///
/// # Errors
/// `Damaged` for any header that we would not write, and for sizes that do not fit.
pub(crate) fn walk(column: &[u8], start: i64, rows: i64) -> Outcome<Vec<PageLocation>> {
    let mut pages = Vec::new();
    let (mut at, mut first_row) = (0_usize, 0_i64);
    while at < column.len() {
        let rest = column.get(at..).unwrap_or_default();
        let head = rest.get(..HEADER_BYTES_MAX).unwrap_or(rest);
        let mut header = Header { bytes: head, at: 0 };
        header.exactly(DATA_PAGE)?;
        let (unpacked, packed) = (header.int()?, header.int()?);
        header.expect(0x2c)?;
        let values = header.int()?;
        header.exactly(DELTA_BINARY_PACKED)?;
        header.exactly(RLE)?;
        header.exactly(RLE)?;
        header.expect(0)?;
        header.expect(0)?;
        if values == 0 || i64::from(values) > rows - first_row {
            return Err(broken("counts more rows than the chunk has, or none"));
        }
        if i64::from(unpacked) > unpacked_max(values) {
            return Err(broken("claims more bytes than its rows can need"));
        }
        let size = header
            .at
            .saturating_add(usize::try_from(packed).unwrap_or(usize::MAX));
        if size > rest.len() || pages.len() >= limits::CHUNK_ROWS_HARD {
            return Err(broken("reaches past its column"));
        }
        pages.push(PageLocation {
            offset: start.saturating_add(i64::try_from(at).unwrap_or(i64::MAX)),
            compressed_page_size: i32::try_from(size).map_err(|_| broken("too long"))?,
            first_row_index: first_row,
        });
        first_row += i64::from(values);
        at += size;
    }
    if first_row == rows {
        return Ok(pages);
    }
    Err(broken("count differs from the chunk's rows"))
}
