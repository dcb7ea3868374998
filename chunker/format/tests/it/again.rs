//! The golden rows written again by another writer: equal rows, equal metadata, other bytes (S05).
//!
//! A digest over the file tells them apart, a digest over the rows does not: that is why there are two.

use std::sync::Arc;

use bytes::Bytes;
use chordae_base::{FailureKind, wire::NO_VALUE};
use chordae_chunk::{ChunkRows, open, open_verified};
use parquet::{
    basic::{Compression, Encoding, ZstdLevel},
    column::reader::get_typed_column_reader,
    data_type::{Int32Type, Int64Type},
    file::{
        properties::{EnabledStatistics, WriterProperties, WriterVersion},
        reader::{FileReader, SerializedFileReader},
        writer::SerializedFileWriter,
    },
};

const GOLDEN: &[u8] = include_bytes!("../golden/small.parquet");
const LEVEL: &[u8] = include_bytes!("../golden/again-level-9.parquet");
const GROUPS: &[u8] = include_bytes!("../golden/again-3-groups.parquet");

/// Writes the golden chunk again, with another compression level and so many rows in a group.
fn again(level: i32, group_rows: usize) -> Vec<u8> {
    let golden = Bytes::from_static(GOLDEN);
    let chunk = open(golden.clone()).unwrap();
    let reader = SerializedFileReader::new(golden).unwrap();
    let meta = reader.metadata().file_metadata();
    let settings = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(meta.created_by().unwrap().to_owned())
        .set_key_value_metadata(meta.key_value_metadata().cloned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(level).unwrap()))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_encoding(Encoding::DELTA_BINARY_PACKED)
        .build();
    let schema = meta.schema_descr().root_schema_ptr();
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(settings)).unwrap();
    let rows = chunk.rows();
    for from in (0..rows.times.len()).step_by(group_rows) {
        let part = from..rows.times.len().min(from + group_rows);
        let mut group = file.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let times = column.typed::<Int64Type>();
        times
            .write_batch(&rows.times[part.clone()], None, None)
            .unwrap();
        column.close().unwrap();
        for codes in &rows.leads {
            let codes = &codes[part.clone()];
            let levels: Vec<i16> = codes.iter().map(|c| i16::from(*c != NO_VALUE)).collect();
            let values: Vec<i32> = codes.iter().copied().filter(|c| *c != NO_VALUE).collect();
            let mut column = group.next_column().unwrap().unwrap();
            let lead = column.typed::<Int32Type>();
            lead.write_batch(&values, Some(&levels), None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    file.into_inner().unwrap()
}

/// What a reader that knows nothing of chunks finds in a file.
fn read(bytes: &'static [u8]) -> ChunkRows {
    let reader = SerializedFileReader::new(Bytes::from_static(bytes)).unwrap();
    let leads = reader
        .metadata()
        .file_metadata()
        .schema_descr()
        .num_columns()
        - 1;
    let mut rows = ChunkRows {
        times: Vec::new(),
        leads: vec![Vec::new(); leads],
    };
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).unwrap();
        let count = usize::try_from(group.metadata().num_rows()).unwrap();
        let times = group.get_column_reader(0).unwrap();
        let mut times = get_typed_column_reader::<Int64Type>(times);
        times
            .read_records(count, None, None, &mut rows.times)
            .unwrap();
        for (i, codes) in rows.leads.iter_mut().enumerate() {
            let (mut levels, mut values) = (Vec::new(), Vec::new());
            let lead = group.get_column_reader(i + 1).unwrap();
            let mut lead = get_typed_column_reader::<Int32Type>(lead);
            lead.read_records(count, Some(&mut levels), None, &mut values)
                .unwrap();
            let mut values = values.into_iter();
            let code = |level: &i16| {
                if *level == 0 {
                    NO_VALUE
                } else {
                    values.next().unwrap()
                }
            };
            codes.extend(levels.iter().map(code));
        }
    }
    rows
}

#[test]
fn s05_equal_rows_in_other_bytes_are_another_file() {
    let sealed = open(Bytes::from_static(GOLDEN)).unwrap();
    let link = sealed.link().unwrap();
    if std::env::var_os("CHORDAE_WRITE_GOLDEN").is_some() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
        std::fs::write(format!("{dir}/again-level-9.parquet"), again(9, 10_000)).unwrap();
        std::fs::write(format!("{dir}/again-3-groups.parquet"), again(3, 1500)).unwrap();
    }
    open_verified(Bytes::from_static(GOLDEN), &link).expect("the control");
    for bytes in [LEVEL, GROUPS] {
        assert!(bytes != GOLDEN, "other bytes");
        assert_eq!(read(bytes), read(GOLDEN), "any reader finds the same rows");
        let refused = open_verified(Bytes::from_static(bytes), &link).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Damaged);
        assert!(refused.why.contains("file digest"), "{refused}");
    }
    // The page digests are those of the rows, whoever wrote them.
    let level = open(Bytes::from_static(LEVEL)).unwrap();
    assert_eq!(level.pages_root().unwrap(), link.pages_root);
    assert_ne!(level.file_root, link.file_root);
    // Our reader does not even take several row groups.
    let refused = open(Bytes::from_static(GROUPS)).unwrap_err();
    assert!(refused.why.contains("row group"), "{refused}");
}
