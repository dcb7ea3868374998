//! The JSON twins, for people and test tools: the protobuf field names, as protobuf's JSON has them.
//!
//! What is 0, false or empty may be left out. 64-bit integers may be strings of digits, because many
//! JSON tools cannot hold them as numbers. `clock` may be the enum's name, the word of the chunk
//! metadata or its number: `"SYNCED"`, `"synced"`, `1`. We write numbers and `"SYNCED"`. A frame has
//! `"leads":[[..],[..]]` with null for no value in place of `deltas`; its `samples` may be left out.

use std::{fmt, marker::PhantomData};

use prost::Message;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Birth, ClockKind, Frame, Malformed, NO_VALUE, check_payload, frame, proto, reason};
use crate::limits;

#[derive(Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct BirthTwin {
    #[serde(deserialize_with = "wide")]
    boot: u64,
    rate_num: u32,
    rate_den: u32,
    leads: Vec<Object<LeadTwin>>,
    model: String,
    firmware: String,
    clock: ClockTwin,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct LeadTwin {
    name: String,
    mdc: u32,
    gain: f64,
    baseline: i32,
    unit: String,
    bits: u32,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct FrameTwin {
    #[serde(deserialize_with = "wide")]
    boot: u64,
    #[serde(deserialize_with = "wide")]
    seq: u64,
    #[serde(deserialize_with = "wide")]
    t0_ns: i64,
    samples: Option<u32>,
    leads: Vec<Vec<Option<i32>>>,
    historical: bool,
    clock: ClockTwin,
}

/// A value that must be a JSON object: a derived reader would take a list of the fields' values as well.
#[derive(Default)]
struct Object<T>(T);

impl<T: Serialize> Serialize for Object<T> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(out)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Fields(PhantomData))
    }
}

struct Fields<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Fields<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Object)
    }
}

/// A clock by name or number.
#[derive(Default)]
struct ClockTwin(i32);

impl Serialize for ClockTwin {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(match self.0 {
            1 => "SYNCED",
            2 => "FREE_RUNNING",
            _ => "UNKNOWN",
        })
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NameOrNumber<N> {
    Number(N),
    Name(String),
}

impl<'de> Deserialize<'de> for ClockTwin {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match NameOrNumber::deserialize(from)? {
            NameOrNumber::Number(n) => Ok(Self(n)),
            NameOrNumber::Name(name) => match name.as_str() {
                "UNKNOWN" | "unknown" => Ok(Self(proto::clock_number(ClockKind::Unknown))),
                "SYNCED" | "synced" => Ok(Self(proto::clock_number(ClockKind::Synced))),
                "FREE_RUNNING" | "free-running" => {
                    Ok(Self(proto::clock_number(ClockKind::FreeRunning)))
                }
                // No clock has this number: refused as a clock, like an unknown number.
                _ => Ok(Self(-1)),
            },
        }
    }
}

/// A 64-bit integer as a number or as a string of digits.
fn wide<'de, D, N>(from: D) -> Result<N, D::Error>
where
    D: Deserializer<'de>,
    N: Deserialize<'de> + std::str::FromStr,
{
    match NameOrNumber::<N>::deserialize(from)? {
        NameOrNumber::Number(n) => Ok(n),
        NameOrNumber::Name(text) => text
            .parse()
            .map_err(|_| de::Error::custom("not a 64-bit integer")),
    }
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Malformed> {
    check_payload(bytes)?;
    let object: Object<T> = serde_json::from_slice(bytes)
        .map_err(|err| Malformed::new(reason::JSON, err.to_string()))?;
    Ok(object.0)
}

/// Numbers, texts and lists always have a JSON form, so this does not fail for our twins.
fn write<T: Serialize>(twin: &T) -> String {
    serde_json::to_string(twin).unwrap_or_default()
}

impl Birth {
    /// Reads the JSON twin and checks every rule.
    ///
    /// # Errors
    /// [`Malformed`] naming the first broken rule.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Malformed> {
        let twin: BirthTwin = parse(bytes)?;
        let leads = twin.leads.into_iter().map(|Object(l)| proto::Lead {
            name: l.name,
            mdc: l.mdc,
            gain: l.gain,
            baseline: l.baseline,
            unit: l.unit,
            bits: l.bits,
        });
        Self::checked(proto::Birth {
            boot: twin.boot,
            rate_num: twin.rate_num,
            rate_den: twin.rate_den,
            leads: leads.collect(),
            model: twin.model,
            firmware: twin.firmware,
            clock: twin.clock.0,
        })
    }

    /// The JSON twin.
    pub fn to_json(&self) -> String {
        let leads = self.leads.iter().map(|l| {
            Object(LeadTwin {
                name: l.name.clone(),
                mdc: l.mdc,
                gain: l.gain,
                baseline: l.baseline,
                unit: l.unit.clone(),
                bits: l.bits,
            })
        });
        write(&BirthTwin {
            boot: self.boot,
            rate_num: self.rate.num(),
            rate_den: self.rate.den(),
            leads: leads.collect(),
            model: self.model.clone(),
            firmware: self.firmware.clone(),
            clock: ClockTwin(proto::clock_number(self.clock)),
        })
    }
}

impl Frame {
    /// Reads the JSON twin and checks every rule that needs no birth.
    ///
    /// # Errors
    /// [`Malformed`] naming the first broken rule; also when the frame as protobuf, which is what is
    /// stored, would be longer than a payload may be.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Malformed> {
        let twin: FrameTwin = parse(bytes)?;
        let Some(first) = twin.leads.first() else {
            return Err(Malformed::new(reason::CODES_MISSING, "no leads"));
        };
        let length = u32::try_from(first.len()).unwrap_or(u32::MAX);
        let samples = twin.samples.unwrap_or(length);
        let per_lead = frame::check_samples(samples)?;
        if let Some(lead) = twin.leads.iter().find(|lead| lead.len() != per_lead) {
            let why = format!(
                "a lead of {} codes in a frame of {per_lead} samples",
                lead.len()
            );
            return Err(Malformed::new(reason::CODES_LENGTH, why));
        }
        let codes: Vec<i32> = twin
            .leads
            .iter()
            .flatten()
            .map(|code| code.unwrap_or(NO_VALUE))
            .collect();
        frame::check_shape(per_lead, codes.len())?;
        let clock = proto::clock_from(twin.clock.0)?;
        let (boot, seq, t0_ns) = (twin.boot, twin.seq, twin.t0_ns);
        let frame = Self {
            boot,
            seq,
            t0_ns,
            samples,
            codes,
            historical: twin.historical,
            clock,
        };
        let stored = frame.with_deltas().encoded_len();
        if stored > limits::PAYLOAD_BYTES_MAX {
            return Err(Malformed::new(
                reason::PAYLOAD_SIZE,
                format!("{stored} bytes as protobuf"),
            ));
        }
        Ok(frame)
    }

    /// The JSON twin.
    pub fn to_json(&self) -> String {
        let value = |code: &i32| (*code != NO_VALUE).then_some(*code);
        let leads = (0..self.leads()).map(|i| self.lead(i).iter().map(value).collect());
        write(&FrameTwin {
            boot: self.boot,
            seq: self.seq,
            t0_ns: self.t0_ns,
            samples: Some(self.samples),
            leads: leads.collect(),
            historical: self.historical,
            clock: ClockTwin(proto::clock_number(self.clock)),
        })
    }
}
