//! What an answer says its codes mean, compared with what the proven metadata says.
//!
//! A proof is about codes and times; a reader looks at millivolts. A gain that was altered on the way would
//! alter every one of them, so whoever verifies an answer compares gain, baseline and unit as well.

use std::io::Cursor;

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow_ipc::reader::StreamReader;
use arrow_schema::Schema;
use bytes::Bytes;
use chordae_base::{Failure, Outcome, wire::Lead};

use super::{Format, edf, edf_read, fhir_read, json, wfdb_read};

/// Compares the scales in an answer that [`super::read`] could read with those of its chunks' leads. The
/// leads must have a scale each that does not change, as in any answer; CSV says none.
///
/// # Errors
/// `Damaged` naming the lead whose scale is another.
pub fn check_scales(format: Format, bytes: &Bytes, leads: &[Lead]) -> Outcome<()> {
    let damaged = |e: &dyn std::fmt::Display| Failure::damaged(format!("the answer's head: {e}"));
    match format {
        Format::Csv => Ok(()),
        Format::Arrow => {
            let reader = StreamReader::try_new(Cursor::new(bytes), None);
            fields(&reader.map_err(|e| damaged(&e))?.schema(), leads)
        }
        Format::Parquet => {
            let builder = ParquetRecordBatchReaderBuilder::try_new(bytes.clone());
            fields(builder.map_err(|e| damaged(&e))?.schema(), leads)
        }
        Format::Json => same(json::scales(bytes)?, leads),
        Format::Wfdb => same(wfdb_read::scales(bytes)?, leads),
        Format::Fhir => fhir_read::check_scales(bytes, leads),
        Format::Edf => {
            for (name, texts) in edf_read::scales(bytes)? {
                let lead = of(&name, leads)?;
                if edf::scale(lead).as_ref() != Some(&texts) {
                    return Err(other(&name));
                }
            }
            Ok(())
        }
    }
}

/// What is said of a lead with another scale.
pub(super) fn other(name: &str) -> Failure {
    Failure::damaged(format!(
        "the scale of lead {name} is not that of its chunks"
    ))
}

/// The lead of a column.
pub(super) fn of<'a>(name: &str, leads: &'a [Lead]) -> Outcome<&'a Lead> {
    leads
        .iter()
        .find(|l| l.name == name)
        .ok_or_else(|| other(name))
}

/// Equal but for the last digit, which a reader of decimal numbers may lose.
pub(super) fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 4.0 * f64::EPSILON * a.abs()
}

fn same(said: Vec<json::LeadJson>, leads: &[Lead]) -> Outcome<()> {
    for scale in said {
        let lead = of(&scale.name, leads)?;
        let equal = near(lead.gain, scale.gain)
            && lead.baseline == scale.baseline
            && lead.unit == scale.unit;
        if !equal {
            return Err(other(&scale.name));
        }
    }
    Ok(())
}

fn fields(schema: &Schema, leads: &[Lead]) -> Outcome<()> {
    for field in schema.fields().iter().skip(1) {
        let lead = of(field.name(), leads)?;
        let want = [
            ("chordae.gain", lead.gain.to_string()),
            ("chordae.baseline", lead.baseline.to_string()),
            ("chordae.unit", lead.unit.clone()),
        ];
        let said = field.metadata();
        if want.iter().any(|(key, value)| said.get(key) != Some(value)) {
            return Err(other(field.name()));
        }
    }
    Ok(())
}
