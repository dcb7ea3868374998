//! JSON: one object, a row a line.
//!
//! ```text
//! {"v":1,"did":"...","rates":[[360,1]],
//!  "leads":[{"name":"MLII","mdc":0,"gain":200.0,"baseline":1024,"unit":"mV","bits":11}],
//!  "columns":["time_ns","MLII"],
//!  "rows":[
//! [1700000000000000000,995],
//! [1700000000002777777,null]
//! ]}
//! ```
//!
//! Times are integer nanoseconds, which need 64 bits (a reader in JavaScript takes the Arrow answer, or a
//! parser that keeps integers); codes are integers, null for no value; value = (code - baseline) / gain.

use std::fmt::{self, Write as _};

use bytes::Bytes;
use chordae_base::{Failure, Outcome, limits, wire::NO_VALUE};
use chordae_chain::bundle::AnswerRows;
use chordae_chunk::ChunkRows;
use serde::{Deserialize, Serialize, de};

use super::{Heading, Writer, broken};
use crate::core::plan::Column;

/// A lead and its scale, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LeadJson {
    pub(super) name: String,
    pub(super) mdc: u32,
    pub(super) gain: f64,
    pub(super) baseline: i32,
    pub(super) unit: String,
    pub(super) bits: u32,
}

impl LeadJson {
    /// Of a column that some chunk has.
    pub(super) fn of(column: &Column) -> Option<Self> {
        let lead = column.lead.as_ref()?;
        Some(Self {
            name: column.name.clone(),
            mdc: lead.mdc,
            gain: lead.gain,
            baseline: lead.baseline,
            unit: lead.unit.clone(),
            bits: lead.bits,
        })
    }
}

#[derive(Serialize)]
struct Head<'a> {
    v: u32,
    did: String,
    rates: Vec<[u32; 2]>,
    leads: Vec<LeadJson>,
    columns: Vec<&'a str>,
}

/// See the module.
pub(super) struct Json {
    heading: Heading,
    any: bool,
}

impl Json {
    pub(super) fn new(heading: Heading) -> Self {
        Self {
            heading,
            any: false,
        }
    }

    fn row(
        &mut self,
        out: &mut String,
        time: i64,
        codes: impl Iterator<Item = i32>,
    ) -> fmt::Result {
        out.push_str(if self.any { ",\n[" } else { "\n[" });
        self.any = true;
        write!(out, "{time}")?;
        for code in codes {
            if code == NO_VALUE {
                out.push_str(",null");
            } else {
                write!(out, ",{code}")?;
            }
        }
        out.push(']');
        Ok(())
    }
}

impl Writer for Json {
    fn begin(&mut self) -> Outcome<Bytes> {
        let columns = &self.heading.columns;
        let names = columns.iter().map(|c| c.name.as_str());
        let rates = self.heading.rates.iter();
        let head = Head {
            v: 1,
            did: self.heading.did.to_string(),
            rates: rates.map(|r| [r.num(), r.den()]).collect(),
            leads: columns.iter().filter_map(LeadJson::of).collect(),
            columns: std::iter::once("time_ns").chain(names).collect(),
        };
        let mut text = serde_json::to_string(&head).map_err(|e| broken("JSON", &e))?;
        // The object goes on with its rows.
        text.pop();
        text.push_str(",\"rows\":[");
        Ok(Bytes::from(text))
    }

    fn rows(&mut self, rows: ChunkRows) -> Outcome<Bytes> {
        let mut text = String::new();
        for (k, time) in rows.times.iter().enumerate() {
            let codes = rows.leads.iter().filter_map(|lead| lead.get(k).copied());
            self.row(&mut text, *time, codes)
                .map_err(|e| broken("JSON", &e))?;
        }
        Ok(Bytes::from(text))
    }

    fn end(&mut self) -> Outcome<Bytes> {
        Ok(Bytes::from_static(b"\n]}\n"))
    }
}

#[derive(Deserialize)]
struct Whole {
    v: u32,
    columns: Vec<String>,
    rows: Columns,
}

/// The rows, turned into columns while they are read.
#[derive(Default)]
struct Columns {
    times: Vec<i64>,
    codes: Vec<Vec<i32>>,
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: de::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Rows;
        impl<'de> de::Visitor<'de> for Rows {
            type Value = Columns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("rows of a time and codes")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Columns, A::Error> {
                let mut columns = Columns::default();
                while let Some(row) = seq.next_element::<Vec<Option<i64>>>()? {
                    let wrong = || de::Error::custom("a row that is not a time and codes");
                    columns.push(&row).ok_or_else(wrong)?;
                }
                Ok(columns)
            }
        }
        from.deserialize_seq(Rows)
    }
}

impl Columns {
    fn push(&mut self, row: &[Option<i64>]) -> Option<()> {
        let (time, codes) = row.split_first()?;
        if self.times.is_empty() {
            self.codes.resize(codes.len(), Vec::new());
        }
        if codes.len() != self.codes.len() || self.times.len() as u64 >= limits::ANSWER_ROWS_MAX {
            return None;
        }
        self.times.push((*time)?);
        for (column, code) in self.codes.iter_mut().zip(codes) {
            let code = match code {
                None => NO_VALUE,
                Some(code) => i32::try_from(*code).ok().filter(|c| *c != NO_VALUE)?,
            };
            column.push(code);
        }
        Some(())
    }
}

/// Reads a JSON answer.
pub(super) fn read(bytes: &[u8]) -> Outcome<AnswerRows> {
    let whole: Whole = serde_json::from_slice(bytes)
        .map_err(|e| Failure::damaged(format!("the answer is no whole JSON answer: {e}")))?;
    let (first, leads) = match whole.columns.split_first() {
        Some((first, leads)) if whole.v == 1 => (first, leads),
        _ => return Err(Failure::damaged("no JSON answer of version 1")),
    };
    let mut codes = whole.rows.codes;
    if whole.rows.times.is_empty() {
        codes.resize(leads.len().min(2 * limits::LEADS_MAX), Vec::new());
    }
    if first != "time_ns" || codes.len() != leads.len() || leads.len() > 2 * limits::LEADS_MAX {
        return Err(Failure::damaged("its columns are not time_ns and leads"));
    }
    Ok(AnswerRows {
        leads: leads.to_vec(),
        times: whole.rows.times,
        codes,
    })
}

/// The scales that a JSON answer names.
pub(super) fn scales(bytes: &[u8]) -> Outcome<Vec<LeadJson>> {
    #[derive(Deserialize)]
    struct Head {
        leads: Vec<LeadJson>,
    }
    let head: Head = serde_json::from_slice(bytes)
        .map_err(|e| Failure::damaged(format!("the answer's leads: {e}")))?;
    Ok(head.leads)
}
