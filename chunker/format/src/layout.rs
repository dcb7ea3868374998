//! How a chunk lies in Parquet: schema, settings, footer keys. Whatever changes here changes the bytes
//! of every later chunk: the golden test leads.
//!
//! No `ARROW:schema` key is written (outside readers see plain Parquet), no statistics and no
//! dictionary (they leak and cost more than they save), the offset index is.

use std::sync::Arc;

use chordae_base::{Failure, Outcome, wire::Lead};
use chordae_chain::meta::ChunkMeta;
use parquet::{
    basic::{
        Compression, Encoding, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel,
    },
    errors::ParquetError,
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties, WriterVersion},
    },
    schema::types::{ColumnPath, Type},
};

/// Value of `created_by` in every chunk.
pub const CREATED_BY: &str = "chordae format 1";
/// Seconds of samples in a data page.
///
/// Measured with `examples/measure.rs`: the first 30 min of MIT-BIH record 100 (2 leads, 360 Hz) in
/// chunks of 300 s, everything counted; a 10 s read is best of 40 with compiler optimisation 2 for this
/// crate and 1 for Parquet, so only the ratios mean anything.
///
/// | page, zstd | bits per sample | seal | whole chunk | 10 s, both leads |
/// |---|---|---|---|---|
/// | 10 s, 3 | 5.95 | 7.2 ms | 0.88 ms | 0.26 ms |
/// | **30 s, 3** | **5.57** | 6.7 ms | 0.87 ms | 0.27 ms |
/// | 60 s, 3 | 5.48 | 6.5 ms | 0.85 ms | 0.27 ms |
/// | 300 s, 3 | 5.41 | 6.5 ms | 0.82 ms | 0.42 ms |
/// | 10 s, 1 | 5.98 | 6.7 ms | 0.89 ms | 0.27 ms |
/// | 10 s, 9 | 5.90 | 9.0 ms | 0.90 ms | 0.27 ms |
///
/// The step from 10 to 30 s takes 6.5 %, from 30 to 60 s only 1.6 % more, while a short window of many
/// leads unpacks twice as much. Blocks of 256 and 512 in the delta encoding take 21 and 24 % *more* than
/// the default of 128.
pub const DATA_PAGE_S: u64 = 30;
/// Compression level: 9 gains 0.8 % and costs a third more time, 1 loses 0.6 % (table above).
pub const ZSTD_LEVEL: i32 = 3;

/// Footer key of the metadata JSON.
pub(crate) const KEY_META: &str = "chordae";
/// Footer key of the salt in hex.
pub(crate) const KEY_SALT: &str = "chordae-salt";
/// Name of the time column.
pub(crate) const TIME: &str = "time";
/// Name of the schema's root; no reader looks at it.
const ROOT: &str = "chunk";

pub(crate) fn internal(err: &ParquetError) -> Failure {
    Failure::internal(format!("writing a chunk: {err}"))
}

/// The schema: `time` INT64 TIMESTAMP(NANOS, UTC) required, then an optional INT32 per lead.
pub(crate) fn schema(leads: &[Lead]) -> Outcome<Arc<Type>> {
    let time = Type::primitive_type_builder(TIME, Physical::INT64)
        .with_repetition(Repetition::REQUIRED)
        .with_logical_type(Some(LogicalType::timestamp(true, TimeUnit::NANOS)))
        .build()
        .map_err(|e| internal(&e))?;
    let mut fields = vec![Arc::new(time)];
    for lead in leads {
        let column = Type::primitive_type_builder(&lead.name, Physical::INT32)
            .with_repetition(Repetition::OPTIONAL)
            .build()
            .map_err(|e| internal(&e))?;
        fields.push(Arc::new(column));
    }
    let root = Type::group_type_builder(ROOT).with_fields(fields).build();
    Ok(Arc::new(root.map_err(|e| internal(&e))?))
}

/// Rows of a data page: [`DATA_PAGE_S`] at the rate of the stream, rounded up.
pub(crate) fn page_rows(meta: &ChunkMeta) -> usize {
    let (num, den) = (u64::from(meta.rate.num()), u64::from(meta.rate.den()));
    usize::try_from((num * DATA_PAGE_S).div_ceil(den))
        .unwrap_or(usize::MAX)
        .max(1)
}

/// The writer's settings; `page_rows` is also the write batch, as the limit is looked at once a batch.
pub(crate) fn settings(
    page_rows: usize,
    salt: &[u8; 32],
    meta_json: String,
) -> Outcome<WriterProperties> {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).map_err(|e| internal(&e))?;
    let footer = vec![
        KeyValue::new(KEY_SALT.to_owned(), hex::encode(salt)),
        KeyValue::new(KEY_META.to_owned(), meta_json),
    ];
    let settings = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(CREATED_BY.to_owned())
        .set_key_value_metadata(Some(footer))
        .set_compression(Compression::ZSTD(level))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(false)
        .set_data_page_row_count_limit(page_rows)
        .set_write_batch_size(page_rows)
        // Rows decide where a page ends; a byte limit would make pages depend on their content.
        .set_data_page_size_limit(usize::MAX)
        .set_max_row_group_row_count(None)
        .set_encoding(Encoding::DELTA_BINARY_PACKED)
        .set_column_encoding(ColumnPath::from(TIME), Encoding::DELTA_BINARY_PACKED)
        .build();
    Ok(settings)
}
