//! Arrow IPC stream: `time` timestamp[ns, UTC] not null, each lead int32, null for no value.
//!
//! Schema metadata: `chordae.did`, `chordae.rate` ("num/den", several parted by a comma where the rate
//! changes inside the window). Field metadata of a lead: `chordae.gain` (codes per unit),
//! `chordae.baseline` (code of 0 units), `chordae.unit` (UCUM), `chordae.mdc`.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, RecordBatch, TimestampNanosecondArray};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use chordae_base::{Outcome, wire::NO_VALUE};
use chordae_chunk::ChunkRows;

use super::{Heading, Writer, broken};

/// See the module.
pub(super) struct ArrowStream {
    schema: SchemaRef,
    stream: StreamWriter<Vec<u8>>,
}

impl ArrowStream {
    pub(super) fn new(heading: &Heading) -> Outcome<Self> {
        let schema: SchemaRef = Arc::new(schema(heading));
        let stream = StreamWriter::try_new(Vec::new(), &schema);
        let stream = stream.map_err(|e| broken("an Arrow schema", &e))?;
        Ok(Self { schema, stream })
    }

    fn written(&mut self) -> Bytes {
        Bytes::from(std::mem::take(self.stream.get_mut()))
    }
}

/// The columns, with the scales beside them.
pub(super) fn schema(heading: &Heading) -> Schema {
    let utc = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let mut fields = vec![Field::new("time", utc, false)];
    for column in &heading.columns {
        let mut field = Field::new(&column.name, DataType::Int32, true);
        if let Some(lead) = &column.lead {
            let pairs = [
                ("chordae.gain", lead.gain.to_string()),
                ("chordae.baseline", lead.baseline.to_string()),
                ("chordae.unit", lead.unit.clone()),
                ("chordae.mdc", lead.mdc.to_string()),
            ];
            field = field.with_metadata(pairs);
        }
        fields.push(field);
    }
    let rates: Vec<String> = heading
        .rates
        .iter()
        .map(|r| format!("{}/{}", r.num(), r.den()))
        .collect();
    let pairs = [
        ("chordae.did", heading.did.to_string()),
        ("chordae.rate", rates.join(",")),
    ];
    Schema::new_with_metadata(fields, pairs)
}

/// Codes as an array, `NO_VALUE` as null.
pub(super) fn codes(codes: Vec<i32>) -> ArrayRef {
    if codes.contains(&NO_VALUE) {
        let optional = codes
            .into_iter()
            .map(|c| Some(c).filter(|c| *c != NO_VALUE));
        return Arc::new(optional.collect::<Int32Array>());
    }
    Arc::new(Int32Array::from(codes))
}

/// Rows as a batch of a schema that [`schema`] made.
pub(super) fn batch(schema: &SchemaRef, rows: ChunkRows) -> Outcome<RecordBatch> {
    let times = TimestampNanosecondArray::from(rows.times).with_timezone("UTC");
    let mut columns: Vec<ArrayRef> = vec![Arc::new(times)];
    columns.extend(rows.leads.into_iter().map(codes));
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|e| broken("rows", &e))
}

impl Writer for ArrowStream {
    fn begin(&mut self) -> Outcome<Bytes> {
        Ok(self.written())
    }

    fn rows(&mut self, rows: ChunkRows) -> Outcome<Bytes> {
        let batch = batch(&self.schema, rows)?;
        self.stream
            .write(&batch)
            .map_err(|e| broken("Arrow rows", &e))?;
        Ok(self.written())
    }

    fn end(&mut self) -> Outcome<Bytes> {
        self.stream
            .finish()
            .map_err(|e| broken("the end of an Arrow stream", &e))?;
        Ok(self.written())
    }
}
