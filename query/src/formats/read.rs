//! Answers back to rows, for whoever verifies one. CSV is read by the checker, which trusts no writer.

use std::{
    io::Cursor,
    panic::{self, AssertUnwindSafe},
};

use arrow_array::{
    Array, RecordBatch,
    cast::AsArray,
    types::{Int32Type, TimestampNanosecondType},
};
use arrow_ipc::reader::StreamReader;
use arrow_schema::Schema;
use bytes::Bytes;
use chordae_base::{Failure, Outcome, limits, wire::NO_VALUE};
use chordae_chain::bundle::AnswerRows;

use super::{Format, edf_read, fhir_read, json, parquet, wfdb_read};

/// Reads the rows back out of an answer. The bytes are a claim: whether the rows are right is for their
/// proof to say.
///
/// # Errors
/// `Damaged` for anything that the format's writer does not write, and for an answer that was cut off;
/// `BadInput` for CSV, which the checker reads, and for an overview, which no proof is about.
pub fn read(format: Format, bytes: &Bytes) -> Outcome<AnswerRows> {
    // The libraries panic on some broken files; such a file is damage. The closure owns what it works on.
    let caught = panic::catch_unwind(AssertUnwindSafe(|| match format {
        Format::Arrow => read_arrow(bytes),
        Format::Parquet => parquet::read(bytes),
        Format::Csv => Err(Failure::bad_input("CSV is read by the checker")),
        Format::Json => json::read(bytes),
        Format::Fhir => fhir_read::read(bytes),
        Format::Wfdb => wfdb_read::read(bytes),
        Format::Edf => edf_read::read(bytes),
    }));
    let rows = caught.unwrap_or_else(|_| Err(Failure::damaged("the decoder gave up on it")))?;
    if rows.leads.iter().any(|name| name.contains('~')) {
        return Err(Failure::bad_input(
            "this is an overview (minimum and maximum per bucket): no proof is about it",
        ));
    }
    Ok(rows)
}

/// What an answer looks like, by its first bytes.
pub fn sniff(bytes: &[u8]) -> Option<Format> {
    let text = bytes.trim_ascii_start();
    if bytes.starts_with(&[0xff, 0xff, 0xff, 0xff]) {
        Some(Format::Arrow)
    } else if bytes.starts_with(b"PAR1") {
        Some(Format::Parquet)
    } else if bytes.starts_with(b"time_ns") {
        Some(Format::Csv)
    } else if text.starts_with(b"{\"v\":1,") {
        Some(Format::Json)
    } else if text.starts_with(b"{") {
        Some(Format::Fhir)
    } else if bytes.starts_with(b"PK\x03\x04") {
        Some(Format::Wfdb)
    } else if bytes.starts_with(b"0       ") {
        Some(Format::Edf)
    } else {
        None
    }
}

/// Reads an Arrow IPC stream as the window service writes it.
fn read_arrow(bytes: &[u8]) -> Outcome<AnswerRows> {
    let damaged = |e: &dyn std::fmt::Display| {
        Failure::damaged(format!("the answer is no whole Arrow stream: {e}"))
    };
    // A stream that ends without its end mark was cut: the reader takes it for an end, we do not.
    if !bytes.ends_with(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]) {
        return Err(damaged(&"its end is missing"));
    }
    let reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(|e| damaged(&e))?;
    let mut rows = empty(&reader.schema())?;
    for batch in reader {
        take(&batch.map_err(|e| damaged(&e))?, &mut rows)?;
    }
    Ok(rows)
}

/// No rows, of a schema's leads.
pub(super) fn empty(schema: &Schema) -> Outcome<AnswerRows> {
    let names: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
    match names.split_first() {
        Some((first, leads)) if first == "time" && leads.len() <= 2 * limits::LEADS_MAX => {
            Ok(AnswerRows {
                leads: leads.to_vec(),
                times: Vec::new(),
                codes: vec![Vec::new(); leads.len()],
            })
        }
        _ => Err(Failure::damaged("its columns are not `time` and leads")),
    }
}

/// Appends a batch.
pub(super) fn take(batch: &RecordBatch, rows: &mut AnswerRows) -> Outcome<()> {
    if rows.times.len() + batch.num_rows() > limits::ANSWER_ROWS_MAX as usize {
        return Err(Failure::damaged("more rows than an answer has"));
    }
    taken(batch, rows).ok_or_else(|| Failure::damaged("a column of the answer has another type"))
}

fn taken(batch: &RecordBatch, rows: &mut AnswerRows) -> Option<()> {
    let (time, leads) = batch.columns().split_first()?;
    let time = time
        .as_primitive_opt::<TimestampNanosecondType>()
        .filter(|t| t.null_count() == 0)?;
    rows.times.extend(time.values());
    for (column, into) in leads.iter().zip(&mut rows.codes) {
        let codes = column.as_primitive_opt::<Int32Type>()?;
        into.extend(codes.iter().map(|c| c.unwrap_or(NO_VALUE)));
    }
    Some(())
}
