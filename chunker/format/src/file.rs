//! A chunk file as anybody may have made it: the footer, bounded, and the columns, bounded by it.
//!
//! ```text
//! PAR1 │ column chunks: pages ... │ offset indexes │ footer (thrift) │ u32 LE length │ PAR1
//! ```
//!
//! Order of belief: length of the file, length of the footer, the two footer keys, the metadata JSON
//! against the limits, then schema and counts of the footer against the metadata, then page headers
//! against the counts (see `pages`). Only then is a page unpacked.

use std::sync::Arc;

use bytes::Bytes;
use chordae_base::{Failure, Outcome, limits, wire::NO_VALUE};
use chordae_chain::meta::ChunkMeta;
use parquet::{
    basic::Compression,
    column::{page::PageReader, reader::ColumnReaderImpl},
    data_type::{DataType, Int32Type, Int64Type},
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader},
        page_index::offset_index::PageLocation,
        serialized_reader::SerializedPageReader,
    },
};

use crate::{
    layout::{self, CREATED_BY, KEY_META, KEY_SALT},
    pages,
};

const MAGIC: &[u8; 4] = b"PAR1";
/// Footer length and magic at the end.
const TAIL: usize = 8;
/// Bytes of a footer: the metadata JSON and, generously, everything else.
const FOOTER_BYTES_MAX: usize = limits::CHUNK_META_BYTES_MAX + 128 * 1024;

pub(crate) fn damaged(why: impl std::fmt::Display) -> Failure {
    Failure::damaged(format!("chunk: {why}"))
}

fn parquet(err: &ParquetError) -> Failure {
    damaged(err)
}

/// A file whose footer holds what a chunk's footer must hold.
pub(crate) struct File {
    bytes: Bytes,
    footer: ParquetMetaData,
    pub(crate) meta: ChunkMeta,
    pub(crate) meta_json: String,
    pub(crate) salt: [u8; 32],
}

impl File {
    /// Reads the footer and checks it; touches no page.
    pub(crate) fn open(bytes: Bytes) -> Outcome<Self> {
        let footer = footer_bytes(&bytes)?;
        let footer = ParquetMetaDataReader::decode_metadata(footer).map_err(|e| parquet(&e))?;
        let (meta_json, salt) = keys(&footer)?;
        let meta = ChunkMeta::parse(&meta_json)?;
        meta.check()?;
        let file = Self {
            bytes,
            footer,
            meta,
            meta_json,
            salt,
        };
        file.check_footer()?;
        Ok(file)
    }

    fn check_footer(&self) -> Outcome<()> {
        let rows = i64::from(self.meta.rows);
        let file = self.footer.file_metadata();
        if file.created_by() != Some(CREATED_BY) {
            return Err(damaged(format!("created_by is not {CREATED_BY:?}")));
        }
        if file.schema() != layout::schema(&self.meta.leads)?.as_ref() {
            return Err(damaged("columns differ from the leads of the metadata"));
        }
        let [group] = self.footer.row_groups() else {
            return Err(damaged("must have one row group"));
        };
        if file.num_rows() != rows || group.num_rows() != rows {
            return Err(damaged("row count differs from the metadata"));
        }
        if group.num_columns() != self.meta.leads.len() + 1 {
            return Err(damaged("column count differs from the leads"));
        }
        for column in group.columns() {
            let ours = matches!(column.compression(), Compression::ZSTD(_))
                && column.dictionary_page_offset().is_none()
                && column.bloom_filter_offset().is_none()
                && column.offset_index_offset().is_some()
                && column.num_values() == rows;
            if !ours {
                return Err(damaged("a column is not written as we write"));
            }
        }
        Ok(())
    }

    /// Where the pages of column `c` lie, checked.
    fn places(&self, c: usize) -> Outcome<(ColumnChunkMetaData, Vec<PageLocation>)> {
        let group = self.footer.row_groups().first();
        let column = group.and_then(|g| g.columns().get(c)).cloned();
        let column = column.ok_or_else(|| damaged("a column is missing"))?;
        let start = usize::try_from(column.data_page_offset()).ok();
        let len = usize::try_from(column.compressed_size()).ok();
        let range = start.zip(len).and_then(|(s, l)| Some(s..s.checked_add(l)?));
        let within = range.and_then(|r| self.bytes.get(r));
        let within = within.ok_or_else(|| damaged("a column lies outside the file"))?;
        let rows = i64::from(self.meta.rows);
        let places = pages::walk(within, column.data_page_offset(), rows)?;
        Ok((column, places))
    }

    /// A reader over the pages of column `c`.
    fn pages(&self, c: usize) -> Outcome<(ColumnChunkMetaData, Box<dyn PageReader>)> {
        let (column, places) = self.places(c)?;
        let count = self.rows();
        let file = Arc::new(self.bytes.clone());
        let reader = SerializedPageReader::new(file, &column, count, Some(places));
        Ok((column, Box::new(reader.map_err(|e| parquet(&e))?)))
    }

    fn column<T: DataType>(&self, c: usize) -> Outcome<ColumnReaderImpl<T>> {
        let (column, pages) = self.pages(c)?;
        if column.column_type() != T::get_physical_type() {
            return Err(damaged("a column has another type"));
        }
        Ok(ColumnReaderImpl::<T>::new(column.column_descr_ptr(), pages))
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        usize::try_from(self.meta.rows).unwrap_or(usize::MAX)
    }

    /// All times.
    pub(crate) fn times(&self) -> Outcome<Vec<i64>> {
        self.times_of(0, self.rows())
    }

    /// Times of the rows `[skip, skip + take)`; pages before them are not unpacked.
    pub(crate) fn times_of(&self, skip: usize, take: usize) -> Outcome<Vec<i64>> {
        let mut times = Vec::with_capacity(take);
        let mut column = self.column::<Int64Type>(0)?;
        let skipped = column.skip_records(skip).map_err(|e| parquet(&e))?;
        let read = column
            .read_records(take, None, None, &mut times)
            .map_err(|e| parquet(&e))?;
        if skipped == skip && read.0 == take && times.len() == take {
            return Ok(times);
        }
        Err(damaged("the time column is short"))
    }

    /// The first row of each data page of the times.
    pub(crate) fn time_pages(&self) -> Outcome<Vec<usize>> {
        let places = self.places(0)?.1;
        let rows = places.iter().map(|p| usize::try_from(p.first_row_index));
        rows.collect::<Result<_, _>>()
            .map_err(|_| damaged("a page begins before the first row"))
    }

    /// Codes of lead `i` in the rows `[skip, skip + take)`; pages before them are not unpacked.
    pub(crate) fn lead(&self, i: usize, skip: usize, take: usize) -> Outcome<Vec<i32>> {
        let mut column = self.column::<Int32Type>(i.saturating_add(1))?;
        let skipped = column.skip_records(skip).map_err(|e| parquet(&e))?;
        let (mut levels, mut values) = (Vec::with_capacity(take), Vec::with_capacity(take));
        let read = column.read_records(take, Some(&mut levels), None, &mut values);
        let (records, _, _) = read.map_err(|e| parquet(&e))?;
        if skipped != skip || records != take || levels.len() != take {
            return Err(damaged("a lead is short"));
        }
        spread(&levels, values, take)
    }
}

/// Puts values back among the rows that have none.
fn spread(levels: &[i16], values: Vec<i32>, rows: usize) -> Outcome<Vec<i32>> {
    if values.len() == rows {
        // A stored "no value" code would be a second spelling of null.
        return if values.contains(&NO_VALUE) {
            Err(second_spelling())
        } else {
            Ok(values)
        };
    }
    let mut values = values.into_iter();
    let mut codes = Vec::with_capacity(rows);
    for level in levels {
        let code = if *level == 0 {
            Some(NO_VALUE)
        } else {
            values.next()
        };
        codes.push(code.ok_or_else(|| damaged("a lead has fewer values than it says"))?);
        if *level != 0 && codes.last() == Some(&NO_VALUE) {
            return Err(second_spelling());
        }
    }
    if values.next().is_some() {
        return Err(damaged("a lead has more values than it says"));
    }
    Ok(codes)
}

fn second_spelling() -> Failure {
    damaged("a lead spells \"no value\" as a code")
}

/// The footer's bytes, after its length has been held against the file's.
fn footer_bytes(bytes: &Bytes) -> Outcome<&[u8]> {
    let len = bytes.len();
    if len as u64 > limits::CHUNK_BYTES_MAX {
        return Err(damaged(format!(
            "{len} bytes is more than a chunk may have"
        )));
    }
    let tail = len.checked_sub(TAIL).and_then(|at| bytes.get(at..));
    let (length, magic) = tail
        .and_then(|t| t.split_first_chunk::<4>())
        .ok_or_else(no_parquet)?;
    if magic != MAGIC || !bytes.starts_with(MAGIC) {
        return Err(no_parquet());
    }
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > FOOTER_BYTES_MAX {
        return Err(damaged("the footer is too long"));
    }
    let end = len.saturating_sub(TAIL);
    let start = end
        .checked_sub(length)
        .filter(|start| *start >= MAGIC.len());
    let start = start.ok_or_else(|| damaged("the footer is longer than the file"))?;
    bytes.get(start..end).ok_or_else(no_parquet)
}

fn no_parquet() -> Failure {
    damaged("not a Parquet file")
}

/// The two footer keys, each once, and no other.
fn keys(footer: &ParquetMetaData) -> Outcome<(String, [u8; 32])> {
    let pairs = footer.file_metadata().key_value_metadata();
    let pairs = pairs.map(Vec::as_slice).unwrap_or_default();
    if pairs.len() != 2 {
        return Err(damaged("the footer must hold two keys"));
    }
    let find = |key: &str| {
        let pair = pairs.iter().find(|pair| pair.key == key);
        let value = pair.and_then(|pair| pair.value.clone());
        value.ok_or_else(|| damaged(format!("footer key {key:?} is missing")))
    };
    let json = find(KEY_META)?;
    if json.len() > limits::CHUNK_META_BYTES_MAX {
        return Err(damaged("the metadata is too long"));
    }
    let text = find(KEY_SALT)?;
    let mut salt = [0; 32];
    hex::decode_to_slice(&text, &mut salt)
        .ok()
        .filter(|()| !text.bytes().any(|b| b.is_ascii_uppercase()))
        .ok_or_else(|| damaged("the salt is not 64 lower-case hex digits"))?;
    Ok((json, salt))
}
