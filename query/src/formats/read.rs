//! Arrow answers back to rows, for whoever verifies one.

use std::io::Cursor;

use arrow_array::{
    Array, RecordBatch,
    cast::AsArray,
    types::{Int32Type, TimestampNanosecondType},
};
use arrow_ipc::reader::StreamReader;
use chordae_base::{Failure, Outcome, limits, wire::NO_VALUE};
use chordae_chain::bundle::AnswerRows;

/// Reads an Arrow IPC stream as the window service writes it. The bytes are a claim: whether the rows are
/// right is for their proof to say.
///
/// # Errors
/// `Damaged` for anything else, and for a stream that was cut off.
pub fn read_arrow(bytes: &[u8]) -> Outcome<AnswerRows> {
    let damaged = |e: &dyn std::fmt::Display| {
        Failure::damaged(format!("the answer is no whole Arrow stream: {e}"))
    };
    // A stream that ends without its end mark was cut: the reader takes it for an end, we do not.
    if !bytes.ends_with(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]) {
        return Err(damaged(&"its end is missing"));
    }
    let reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(|e| damaged(&e))?;
    let names: Vec<String> = reader
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().clone())
        .collect();
    let (first, leads) = names
        .split_first()
        .ok_or_else(|| damaged(&"it has no columns"))?;
    if first != "time" || leads.len() > limits::LEADS_MAX {
        return Err(damaged(&"its columns are not `time` and leads"));
    }
    let mut rows = AnswerRows {
        leads: leads.to_vec(),
        times: Vec::new(),
        codes: vec![Vec::new(); leads.len()],
    };
    for batch in reader {
        let batch = batch.map_err(|e| damaged(&e))?;
        take(&batch, &mut rows).ok_or_else(|| damaged(&"a column has another type"))?;
    }
    Ok(rows)
}

fn take(batch: &RecordBatch, rows: &mut AnswerRows) -> Option<()> {
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
