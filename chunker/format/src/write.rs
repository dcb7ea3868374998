//! Rows to bytes. Knows nothing of rules: `seal` has checked them.

use std::sync::Arc;

use bytes::Bytes;
use chordae_base::{Outcome, wire::NO_VALUE};
use chordae_chain::meta::ChunkMeta;
use parquet::{
    data_type::{Int32Type, Int64Type},
    file::writer::SerializedFileWriter,
};

use crate::{
    ChunkRows,
    layout::{self, internal},
};

/// Writes one row group, each column in one call.
pub(crate) fn write(
    meta: &ChunkMeta,
    meta_json: String,
    salt: &[u8; 32],
    rows: &ChunkRows,
) -> Outcome<Bytes> {
    let fail = |e| internal(&e);
    let settings = layout::settings(layout::page_rows(meta), salt, meta_json)?;
    let schema = layout::schema(&meta.leads)?;
    let mut file =
        SerializedFileWriter::new(Vec::new(), schema, Arc::new(settings)).map_err(fail)?;
    let mut group = file.next_row_group().map_err(fail)?;
    if let Some(mut column) = group.next_column().map_err(fail)? {
        column
            .typed::<Int64Type>()
            .write_batch(&rows.times, None, None)
            .map_err(fail)?;
        column.close().map_err(fail)?;
    }
    for codes in &rows.leads {
        let levels: Vec<i16> = codes.iter().map(|c| i16::from(*c != NO_VALUE)).collect();
        let values: Vec<i32> = codes.iter().copied().filter(|c| *c != NO_VALUE).collect();
        if let Some(mut column) = group.next_column().map_err(fail)? {
            column
                .typed::<Int32Type>()
                .write_batch(&values, Some(&levels), None)
                .map_err(fail)?;
            column.close().map_err(fail)?;
        }
    }
    group.close().map_err(fail)?;
    Ok(Bytes::from(file.into_inner().map_err(fail)?))
}
