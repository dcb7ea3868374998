//! CSV: `time_ns,<lead>,...`, integer nanoseconds, integer codes, empty for no value, lines end in \n.
//!
//! A lead name that begins with `= + - @` gets an apostrophe in front, so that no spreadsheet runs it.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch};
use arrow_csv::WriterBuilder;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use chordae_base::Outcome;
use chordae_chunk::ChunkRows;

use super::{Heading, Writer, arrow::codes, broken};

/// See the module.
pub(super) struct Csv {
    schema: SchemaRef,
}

impl Csv {
    pub(super) fn new(heading: &Heading) -> Self {
        let mut fields = vec![Field::new("time_ns", DataType::Int64, false)];
        for column in &heading.columns {
            fields.push(Field::new(plain(&column.name), DataType::Int32, true));
        }
        Self {
            schema: Arc::new(Schema::new(fields)),
        }
    }

    fn write(&self, columns: Vec<ArrayRef>, header: bool) -> Outcome<Bytes> {
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns);
        let batch = batch.map_err(|e| broken("CSV rows", &e))?;
        let mut text = Vec::new();
        let mut writer = WriterBuilder::new().with_header(header).build(&mut text);
        writer.write(&batch).map_err(|e| broken("CSV rows", &e))?;
        drop(writer);
        Ok(Bytes::from(text))
    }
}

/// A name that no spreadsheet takes for a formula.
fn plain(name: &str) -> String {
    let formula = name.starts_with(['=', '+', '-', '@']);
    if formula {
        format!("'{name}")
    } else {
        name.to_owned()
    }
}

impl Writer for Csv {
    fn begin(&mut self) -> Outcome<Bytes> {
        let leads = self.schema.fields().len().saturating_sub(1);
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(Vec::<i64>::new()))];
        for _ in 0..leads {
            columns.push(Arc::new(Int32Array::from(Vec::<i32>::new())));
        }
        self.write(columns, true)
    }

    fn rows(&mut self, rows: ChunkRows) -> Outcome<Bytes> {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(rows.times))];
        columns.extend(rows.leads.into_iter().map(codes));
        self.write(columns, false)
    }

    fn end(&mut self) -> Outcome<Bytes> {
        Ok(Bytes::new())
    }
}

#[cfg(test)]
mod tests {
    use chordae_base::{Did, wire::NO_VALUE};

    use super::*;
    use crate::core::plan::Column;

    #[test]
    fn integers_empties_and_harmless_names() {
        let column = |name: &str| Column {
            name: name.to_owned(),
            lead: None,
        };
        let columns = ["I", "=cmd()", "a,\"b\"", "-x"].map(column).into();
        let heading = Heading {
            did: Did([0; 16]),
            rates: Vec::new(),
            columns,
        };
        let mut csv = Csv::new(&heading);
        let rows = ChunkRows {
            times: vec![-1, 1_700_000_000_000_000_001],
            leads: vec![
                vec![5, NO_VALUE],
                vec![0, -7],
                vec![i32::MAX, 1],
                vec![NO_VALUE, 2],
            ],
        };
        let text = [csv.begin(), csv.rows(rows), csv.end()]
            .map(Result::unwrap)
            .concat();
        let want = "time_ns,I,'=cmd(),\"a,\"\"b\"\"\",'-x\n\
                    -1,5,0,2147483647,\n\
                    1700000000000000001,,-7,1,2\n";
        assert_eq!(String::from_utf8(text).unwrap(), want);
    }

    #[test]
    fn no_rows_are_a_header() {
        let heading = Heading {
            did: Did([0; 16]),
            rates: Vec::new(),
            columns: Vec::new(),
        };
        assert_eq!(Csv::new(&heading).begin().unwrap(), "time_ns\n");
    }
}
