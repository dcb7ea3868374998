//! One record of the trail (formats.md 9): who asked for what, and what became of it.
//!
//! ```text
//! map: n · time_ms · jti · sid|null · kid · did|null · from_ns|null · until_ns|null · leads|null ·
//!      format · outcome · rows|null · prev
//! ```
//!
//! Deterministic CBOR with text keys; ids and digests are byte strings (sid, kid, prev 32, did 16),
//! `leads` null means all. `prev` is the SHA-256 of the record before, 32 zero bytes for the first.
//! `did` and window are null where a request is about no stream, or could not be read. A streamed
//! answer has two records with one `jti`: `answered` before its first byte, `rows` null, and a closing
//! one (`complete` or `cut`) with the rows that were sent.

use chordae_base::{Did, Digest, Failure, KeyId, Outcome, limits};
use chordae_chain::cbor;
use ciborium::Value;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What is known of an answer before it has its place in the trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deed {
    /// When, ms since 1970.
    pub time_ms: u64,
    /// Id of the request's token.
    pub jti: String,
    /// The session, if any.
    pub sid: Option<Digest>,
    /// Who asked.
    pub kid: KeyId,
    /// The stream.
    pub did: Option<Did>,
    /// Start of the window asked for.
    pub from_ns: Option<i64>,
    /// End of the window asked for.
    pub until_ns: Option<i64>,
    /// Leads asked for, `None` for all.
    pub leads: Option<Vec<String>>,
    /// What was asked for: `arrow`, `csv`, `proof`, `links`, `chunk`, ...; by an operator: method, path
    /// and whom it is about.
    pub format: String,
    /// What became of it.
    pub outcome: String,
    /// Rows sent, once known.
    pub rows: Option<u64>,
}

/// A deed in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrailRecord {
    /// Counts from 0.
    pub n: u64,
    /// What happened.
    #[serde(flatten)]
    pub deed: Deed,
    /// SHA-256 of the record before.
    pub prev: Digest,
}

/// A record as it is shown to the patient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The record.
    #[serde(flatten)]
    pub record: TrailRecord,
    /// Name of who asked, as the registry has it now.
    pub name: Option<String>,
    /// Her role.
    pub role: Option<String>,
}

/// `prev` of the first record, and the head of an empty trail.
pub const NOTHING: Digest = Digest([0; 32]);

/// SHA-256 of a record.
pub fn digest(record: &[u8]) -> Digest {
    Digest(Sha256::digest(record).into())
}

impl TrailRecord {
    /// The record as CBOR.
    ///
    /// # Errors
    /// `Internal` when the library cannot write it.
    pub fn encode(&self) -> Outcome<Vec<u8>> {
        let bytes = |b: &[u8]| Value::Bytes(b.to_vec());
        let deed = &self.deed;
        let leads = deed
            .leads
            .as_ref()
            .map(|names| Value::Array(names.iter().map(|n| Value::from(n.as_str())).collect()));
        let pairs: [(&str, Value); 13] = [
            ("n", self.n.into()),
            ("time_ms", deed.time_ms.into()),
            ("jti", deed.jti.as_str().into()),
            ("sid", or_null(deed.sid.map(|s| bytes(&s.0)))),
            ("kid", bytes(&deed.kid.0)),
            ("did", or_null(deed.did.map(|d| bytes(&d.0)))),
            ("from_ns", or_null(deed.from_ns.map(Value::from))),
            ("until_ns", or_null(deed.until_ns.map(Value::from))),
            ("leads", or_null(leads)),
            ("format", deed.format.as_str().into()),
            ("outcome", deed.outcome.as_str().into()),
            ("rows", or_null(deed.rows.map(Value::from))),
            ("prev", bytes(&self.prev.0)),
        ];
        let map = pairs
            .into_iter()
            .map(|(key, value)| (Value::from(key), value))
            .collect();
        cbor::encode(&Value::Map(map))
    }

    /// Reads a record, strictly.
    ///
    /// # Errors
    /// `BadInput` for anything that [`TrailRecord::encode`] would not have written.
    pub fn decode(record: &[u8]) -> Outcome<Self> {
        let bad = || Failure::bad_input("trail record: not one of version 1");
        let mut fields = Fields(cbor::decode(record)?.into_map().map_err(|_| bad())?);
        let read = Self {
            n: fields.int("n")?,
            deed: Deed {
                time_ms: fields.int("time_ms")?,
                jti: fields.text("jti", limits::JTI_BYTES_MAX)?,
                sid: fields.optional("sid", Fields::fixed)?.map(Digest),
                kid: KeyId(fields.fixed("kid")?),
                did: fields.optional("did", Fields::fixed)?.map(Did),
                from_ns: fields.optional("from_ns", Fields::int)?,
                until_ns: fields.optional("until_ns", Fields::int)?,
                leads: fields.optional("leads", Fields::names)?,
                format: fields.text("format", limits::TRAIL_FORMAT_BYTES_MAX)?,
                outcome: fields.text("outcome", limits::NAME_BYTES_MAX)?,
                rows: fields.optional("rows", Fields::int)?,
            },
            prev: Digest(fields.fixed("prev")?),
        };
        if fields.0.is_empty() {
            Ok(read)
        } else {
            Err(bad())
        }
    }
}

fn or_null(value: Option<Value>) -> Value {
    value.unwrap_or(Value::Null)
}

/// The fields that have not been taken yet.
struct Fields(Vec<(Value, Value)>);

impl Fields {
    fn take(&mut self, name: &str) -> Outcome<Value> {
        let at = self
            .0
            .iter()
            .position(|(key, _)| key.as_text() == Some(name));
        let missing = || Failure::bad_input(format!("trail record: no {name}"));
        Ok(self.0.swap_remove(at.ok_or_else(missing)?).1)
    }

    fn wrong<T>(name: &str) -> Outcome<T> {
        Err(Failure::bad_input(format!(
            "trail record: {name} is of the wrong kind"
        )))
    }

    fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Self, &str) -> Outcome<T>,
    ) -> Outcome<Option<T>> {
        let at = self
            .0
            .iter()
            .position(|(key, _)| key.as_text() == Some(name));
        match at.and_then(|at| self.0.get(at)) {
            Some((_, Value::Null)) => self.take(name).map(|_| None),
            _ => read(self, name).map(Some),
        }
    }

    fn int<T: TryFrom<i128>>(&mut self, name: &str) -> Outcome<T> {
        let wide = self.take(name)?.into_integer().map(i128::from);
        match wide.ok().and_then(|w| T::try_from(w).ok()) {
            Some(int) => Ok(int),
            None => Self::wrong(name),
        }
    }

    fn fixed<const N: usize>(&mut self, name: &str) -> Outcome<[u8; N]> {
        let bytes = self
            .take(name)?
            .into_bytes()
            .ok()
            .and_then(|b| b.try_into().ok());
        bytes.map_or_else(|| Self::wrong(name), Ok)
    }

    fn text(&mut self, name: &str, most: usize) -> Outcome<String> {
        let text = self
            .take(name)?
            .into_text()
            .ok()
            .filter(|t| t.len() <= most);
        text.map_or_else(|| Self::wrong(name), Ok)
    }

    fn names(&mut self, name: &str) -> Outcome<Vec<String>> {
        let items = self
            .take(name)?
            .into_array()
            .ok()
            .filter(|a| a.len() <= limits::LEADS_MAX);
        let texts = items.and_then(|i| i.into_iter().map(|v| v.into_text().ok()).collect());
        texts.map_or_else(|| Self::wrong(name), Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> TrailRecord {
        TrailRecord {
            n: 3,
            deed: Deed {
                time_ms: 1_700_000_000_000,
                jti: "j".to_owned(),
                sid: Some(Digest([1; 32])),
                kid: KeyId([2; 32]),
                did: Some(Did([3; 16])),
                from_ns: Some(-5),
                until_ns: Some(i64::MAX),
                leads: Some(vec!["I".to_owned(), "II".to_owned()]),
                format: "arrow".to_owned(),
                outcome: "answered".to_owned(),
                rows: None,
            },
            prev: Digest([4; 32]),
        }
    }

    #[test]
    fn comes_back_and_nothing_else_is_taken() {
        let full = record();
        let mut bare = record();
        bare.deed = Deed {
            sid: None,
            did: None,
            from_ns: None,
            leads: None,
            ..bare.deed
        };
        bare.deed.rows = Some(u64::MAX);
        for record in [full, bare] {
            let bytes = record.encode().unwrap();
            assert_eq!(TrailRecord::decode(&bytes), Ok(record));
            for cut in 0..bytes.len() {
                assert!(TrailRecord::decode(&bytes[..cut]).is_err());
            }
            for at in 0..bytes.len() {
                let mut other = bytes.clone();
                other[at] ^= 1;
                let read = TrailRecord::decode(&other);
                assert!(
                    read.is_err() || read != TrailRecord::decode(&bytes),
                    "bit at {at}"
                );
            }
        }
    }

    #[test]
    fn a_further_field_is_refused() {
        let mut map = cbor::decode(&record().encode().unwrap())
            .unwrap()
            .into_map()
            .unwrap();
        map.push((Value::from("extra"), Value::Null));
        let bytes = cbor::encode(&Value::Map(map)).unwrap();
        assert!(TrailRecord::decode(&bytes).is_err());
    }
}
