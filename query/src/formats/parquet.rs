//! Parquet: the columns of the Arrow answer, a row group for each [`limits::PARQUET_GROUP_ROWS`] rows.
//!
//! Sent while it is written: what a row group needs is in memory, and the footer comes last. Times and
//! codes are DELTA_BINARY_PACKED and zstd, as in the chunks. `chordae.did` and `chordae.rate` are in the
//! key-value metadata; the scale of a lead is in the field's metadata (`ARROW:schema`).

use std::sync::Arc;

use ::parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::{Compression, Encoding, ZstdLevel},
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties},
    },
};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use chordae_base::{Failure, Outcome, limits};
use chordae_chain::bundle::AnswerRows;
use chordae_chunk::ChunkRows;

use super::{
    Heading, Writer,
    arrow::{batch, schema},
    broken,
    read::{empty, take},
};

/// See the module.
pub(super) struct ParquetFile {
    schema: SchemaRef,
    file: ArrowWriter<Vec<u8>>,
}

impl ParquetFile {
    pub(super) fn new(heading: &Heading) -> Outcome<Self> {
        let schema: SchemaRef = Arc::new(schema(heading));
        let pairs = schema.metadata().iter();
        let pairs = pairs.map(|(k, v)| KeyValue::new(k.clone(), v.clone()));
        let level = ZstdLevel::try_new(chordae_chunk::ZSTD_LEVEL);
        let level = level.map_err(|e| broken("a Parquet file", &e))?;
        let properties = WriterProperties::builder()
            .set_created_by(format!("chordae {}", env!("CARGO_PKG_VERSION")))
            .set_key_value_metadata(Some(pairs.collect()))
            .set_compression(Compression::ZSTD(level))
            .set_dictionary_enabled(false)
            .set_encoding(Encoding::DELTA_BINARY_PACKED)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_max_row_group_row_count(Some(limits::PARQUET_GROUP_ROWS))
            .build();
        let file = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties));
        let file = file.map_err(|e| broken("a Parquet file", &e))?;
        Ok(Self { schema, file })
    }

    fn written(&mut self) -> Bytes {
        Bytes::from(std::mem::take(self.file.inner_mut()))
    }
}

impl Writer for ParquetFile {
    fn begin(&mut self) -> Outcome<Bytes> {
        let synced = self.file.sync();
        synced.map_err(|e| broken("the head of a Parquet file", &e))?;
        Ok(self.written())
    }

    fn rows(&mut self, rows: ChunkRows) -> Outcome<Bytes> {
        let batch = batch(&self.schema, rows)?;
        let wrote = self.file.write(&batch);
        wrote.map_err(|e| broken("Parquet rows", &e))?;
        Ok(self.written())
    }

    fn end(&mut self) -> Outcome<Bytes> {
        let finished = self.file.finish();
        finished.map_err(|e| broken("the end of a Parquet file", &e))?;
        Ok(self.written())
    }
}

/// Reads a Parquet answer.
pub(super) fn read(bytes: &Bytes) -> Outcome<AnswerRows> {
    let damaged = |e: &dyn std::fmt::Display| {
        Failure::damaged(format!("the answer is no whole Parquet file: {e}"))
    };
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes.clone());
    let builder = builder.map_err(|e| damaged(&e))?;
    let claimed = builder.metadata().file_metadata().num_rows();
    if claimed > limits::ANSWER_ROWS_MAX as i64 {
        return Err(Failure::damaged("more rows than an answer has"));
    }
    let mut rows = empty(builder.schema())?;
    for batch in builder.build().map_err(|e| damaged(&e))? {
        take(&batch.map_err(|e| damaged(&e))?, &mut rows)?;
    }
    Ok(rows)
}
