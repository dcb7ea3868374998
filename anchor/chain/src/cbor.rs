//! Deterministic CBOR (RFC 8949 4.2.1), the only CBOR of the house.
//!
//! Shortest integers and lengths, no indefinite lengths, map keys in bytewise order of their
//! encodings. A reader decodes, encodes again and compares: **what does not equal its deterministic
//! re-encoding is refused**, so every value has exactly one byte string, and a digest of it means
//! something.

use std::collections::BTreeMap;

use chordae_base::{Failure, Outcome};
use ciborium::Value;

/// Depth of nesting that a reader follows; our deepest record needs 6.
const DEPTH_MAX: usize = 16;

/// Encodes a value deterministically (maps are put in order).
///
/// # Errors
/// `Internal` when the library cannot write it; `BadInput` for a map with a key twice.
pub fn encode(value: &Value) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    ciborium::into_writer(&ordered(value)?, &mut bytes)
        .map_err(|e| Failure::internal(format!("cannot write CBOR: {e}")))?;
    Ok(bytes)
}

/// Decodes one value that fills `bytes` and is deterministic.
///
/// # Errors
/// `BadInput` otherwise.
pub fn decode(bytes: &[u8]) -> Outcome<Value> {
    let bad = |why: &str| Failure::bad_input(format!("CBOR: {why}"));
    let value: Value = ciborium::de::from_reader_with_recursion_limit(bytes, DEPTH_MAX)
        .map_err(|_| bad("malformed or too deep"))?;
    // Also catches trailing bytes: the re-encoding would be shorter.
    if encode(&value)? != bytes {
        return Err(bad(
            "not deterministic (RFC 8949 4.2.1), or bytes follow it",
        ));
    }
    Ok(value)
}

/// A map of texts.
pub(crate) fn text_map(map: &BTreeMap<String, String>) -> Value {
    let pair = |(key, item): (&String, &String)| (key.as_str().into(), item.as_str().into());
    Value::Map(map.iter().map(pair).collect())
}

fn ordered(value: &Value) -> Outcome<Value> {
    Ok(match value {
        Value::Array(items) => Value::Array(items.iter().map(ordered).collect::<Outcome<_>>()?),
        Value::Tag(tag, inner) => Value::Tag(*tag, Box::new(ordered(inner)?)),
        Value::Map(pairs) => {
            let mut keyed = Vec::with_capacity(pairs.len());
            for (key, item) in pairs {
                // Keys that hold maps would double the work at every level of nesting.
                if !matches!(key, Value::Text(_) | Value::Integer(_) | Value::Bytes(_)) {
                    return Err(Failure::bad_input(
                        "CBOR: a map key must be text, bytes or a number",
                    ));
                }
                keyed.push((encode(key)?, key.clone(), ordered(item)?));
            }
            keyed.sort_by(|a, b| a.0.cmp(&b.0));
            if keyed
                .windows(2)
                .any(|pair| matches!(pair, [a, b] if a.0 == b.0))
            {
                return Err(Failure::bad_input("CBOR: a map has a key twice"));
            }
            Value::Map(
                keyed
                    .into_iter()
                    .map(|(_, key, item)| (key, item))
                    .collect(),
            )
        }
        other => other.clone(),
    })
}

/// The fields of a map with text keys, each to be taken once; none may remain.
pub(crate) struct Fields {
    of: &'static str,
    left: Vec<(Value, Value)>,
}

impl Fields {
    pub(crate) fn open(payload: &[u8], of: &'static str) -> Outcome<Self> {
        let value = decode(payload).map_err(|e| e.during(format_args!("{of} payload")))?;
        let left = value
            .into_map()
            .map_err(|_| Failure::bad_input(format!("{of} payload is no map")))?;
        Ok(Self { of, left })
    }

    pub(crate) fn take(&mut self, name: &str) -> Outcome<Value> {
        let at = self
            .left
            .iter()
            .position(|(key, _)| key.as_text() == Some(name));
        at.map(|i| self.left.swap_remove(i).1)
            .ok_or_else(|| Failure::bad_input(format!("{} has no field {name}", self.of)))
    }

    pub(crate) fn finish(self) -> Outcome<()> {
        match self.left.first() {
            None => Ok(()),
            Some((key, _)) => Err(Failure::bad_input(format!(
                "{} has an unknown field {key:?}",
                self.of
            ))),
        }
    }
}

/// Takes values of known types out of decoded CBOR; every failure names the field.
pub(crate) mod take {
    use super::*;

    fn wrong(field: &str, want: &str) -> Failure {
        Failure::bad_input(format!("CBOR: {field} must be {want}"))
    }

    pub(crate) fn bytes(value: Value, field: &str) -> Outcome<Vec<u8>> {
        value
            .into_bytes()
            .map_err(|_| wrong(field, "a byte string"))
    }

    pub(crate) fn fixed<const N: usize>(value: Value, field: &str) -> Outcome<[u8; N]> {
        let bytes = bytes(value, field)?;
        bytes
            .try_into()
            .map_err(|_| wrong(field, &format!("{N} bytes")))
    }

    pub(crate) fn text(value: Value, field: &str) -> Outcome<String> {
        value.into_text().map_err(|_| wrong(field, "a text"))
    }

    pub(crate) fn int<T: TryFrom<i128>>(value: Value, field: &str) -> Outcome<T> {
        let wide = value
            .into_integer()
            .map(i128::from)
            .map_err(|_| wrong(field, "an integer"))?;
        T::try_from(wide).map_err(|_| wrong(field, "an integer in range"))
    }

    pub(crate) fn array(value: Value, field: &str, max: usize) -> Outcome<Vec<Value>> {
        let items = value.into_array().map_err(|_| wrong(field, "an array"))?;
        if items.len() > max {
            return Err(wrong(field, &format!("an array of at most {max}")));
        }
        Ok(items)
    }

    pub(crate) fn tuple<const N: usize>(value: Value, field: &str) -> Outcome<[Value; N]> {
        let items = array(value, field, N)?;
        items
            .try_into()
            .map_err(|_| wrong(field, &format!("an array of {N}")))
    }

    pub(crate) fn text_map(
        value: Value,
        field: &str,
        max: usize,
    ) -> Outcome<BTreeMap<String, String>> {
        let pairs = value.into_map().map_err(|_| wrong(field, "a map"))?;
        if pairs.len() > max {
            return Err(wrong(field, &format!("a map of at most {max}")));
        }
        let pair = |(key, item)| Ok((text(key, field)?, text(item, field)?));
        pairs.into_iter().map(pair).collect()
    }

    pub(crate) fn optional<T>(
        value: Value,
        take: impl FnOnce(Value) -> Outcome<T>,
    ) -> Outcome<Option<T>> {
        match value {
            Value::Null => Ok(None),
            other => take(other).map(Some),
        }
    }
}
