//! FHIR R5: an Observation with a SampledData component for each lead, or a Bundle of them.
//!
//! An Observation holds at most [`limits::FHIR_SLOTS_MAX`] samples a lead; a longer window, or one with
//! gaps longer than [`limits::GAP_FILL_NS`], is a Bundle (`collection`) of as many as it takes, which is
//! known from the first reading. `data` holds the stored codes, so that value = origin + factor * data;
//! `E` stands for "no value" and for samples that are not there. What FHIR cannot say (the times to the
//! nanosecond) is in the extension [`EXTENSION`]. Codes: LOINC 11524-6 (EKG study), MDC 131328
//! (MDC_ECG_ELEC_POTL) and one of its leads for each component; `urn:iso:std:iso:11073:10101` throughout.

use bytes::Bytes;
use chordae_base::{
    Outcome, limits, time,
    wire::{Lead, NO_VALUE},
};
use chordae_chunk::ChunkRows;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Heading, Writer, broken,
    grid::{Run, Slots, Stretch, Survey},
};
use crate::core::plan::Column;

/// Where the times are: `valueString` is the JSON of [`Side`].
pub(super) const EXTENSION: &str = "urn:chordae:v1:rows";
const MDC: &str = "urn:iso:std:iso:11073:10101";
/// The MDC codes of the leads by their usual names: 131328 and the lead's own number.
const LEADS: [(&str, u32); 12] = [
    ("I", 131_329),
    ("II", 131_330),
    ("III", 131_389),
    ("aVR", 131_390),
    ("aVL", 131_391),
    ("aVF", 131_392),
    ("V1", 131_331),
    ("V2", 131_332),
    ("V3", 131_333),
    ("V4", 131_334),
    ("V5", 131_335),
    ("V6", 131_336),
];

/// What the extension says of an Observation's samples.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Side {
    pub(super) v: u32,
    pub(super) did: String,
    /// Samples per second, num and den.
    pub(super) rate: (u32, u32),
    pub(super) samples: u64,
    pub(super) runs: Vec<Run>,
}

/// See the module.
pub(super) struct Fhir {
    heading: Heading,
    survey: Survey,
    slots: Slots,
    stretches: std::vec::IntoIter<Stretch>,
    bundle: bool,
    open: Option<Open>,
    any: bool,
}

/// The Observation whose samples are being gathered.
struct Open {
    stretch: Stretch,
    codes: Vec<Vec<i32>>,
}

impl Fhir {
    pub(super) fn new(heading: Heading, survey: Survey) -> Outcome<Self> {
        let stretches = survey.layout(heading.columns.len(), 0, limits::FHIR_SLOTS_MAX)?;
        Ok(Self {
            heading,
            slots: survey.slots(),
            bundle: stretches.len() > 1,
            stretches: stretches.into_iter(),
            survey,
            open: None,
            any: false,
        })
    }

    /// The Observation that a slot lies in, filled up to it.
    fn reach(&mut self, slot: u64, out: &mut Vec<u8>) -> Outcome<&mut Open> {
        let ended = |open: &Open| slot >= open.stretch.slot + open.stretch.slots;
        if self.open.as_ref().is_some_and(ended) {
            self.close(out)?;
        }
        let more = || broken("FHIR", &"more rows than were counted");
        if self.open.is_none() {
            let stretch = self.stretches.next().ok_or_else(more)?;
            self.open = Some(Open {
                stretch,
                codes: vec![Vec::new(); self.heading.columns.len()],
            });
        }
        let open = self.open.as_mut().ok_or_else(more)?;
        let filled = usize::try_from(slot.saturating_sub(open.stretch.slot)).unwrap_or(0);
        for column in &mut open.codes {
            column.resize(filled, NO_VALUE);
        }
        Ok(open)
    }

    fn close(&mut self, out: &mut Vec<u8>) -> Outcome<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let observation = self.observation(&open)?;
        let whole = match self.bundle {
            true => json!({ "resource": observation }),
            false => observation,
        };
        if self.any {
            out.push(b',');
        }
        self.any = true;
        serde_json::to_writer(out, &whole).map_err(|e| broken("FHIR", &e))
    }

    fn observation(&self, open: &Open) -> Outcome<Value> {
        let rate = self.survey.rate;
        let side = Side {
            v: 1,
            did: self.heading.did.to_string(),
            rate: (rate.num(), rate.den()),
            samples: open.stretch.slots,
            runs: self.survey.runs_in(open.stretch).collect(),
        };
        let side = serde_json::to_string(&side).map_err(|e| broken("FHIR", &e))?;
        let interval = 1000.0 * f64::from(rate.den()) / f64::from(rate.num());
        let columns = self.heading.columns.iter().zip(&open.codes);
        let components: Vec<Value> = columns
            .filter_map(|(column, codes)| component(column, codes, interval))
            .collect();
        Ok(json!({
            "resourceType": "Observation",
            "extension": [{ "url": EXTENSION, "valueString": side }],
            "status": "final",
            "category": [{ "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                "code": "procedure",
            }] }],
            "code": { "coding": [
                { "system": "http://loinc.org", "code": "11524-6", "display": "EKG study" },
                { "system": MDC, "code": "131328", "display": "MDC_ECG_ELEC_POTL" },
            ] },
            "effectivePeriod": {
                "start": time::show(open.stretch.first_ns),
                "end": time::show(open.stretch.last_ns),
            },
            "device": { "type": "Device", "identifier": {
                "system": "urn:ietf:rfc:3986",
                "value": format!("urn:uuid:{}", self.heading.did),
            } },
            "component": components,
        }))
    }
}

fn component(column: &Column, codes: &[i32], interval: f64) -> Option<Value> {
    let lead = column.lead.as_ref()?;
    let known = LEADS.iter().find(|(name, _)| *name == column.name);
    let mdc = Some(lead.mdc)
        .filter(|mdc| *mdc != 0)
        .or(known.map(|(_, mdc)| *mdc));
    let mut code = json!({ "text": column.name });
    if let (Some(mdc), Some(code)) = (mdc, code.as_object_mut()) {
        code.insert(
            "coding".into(),
            json!([{ "system": MDC, "code": mdc.to_string() }]),
        );
    }
    let mut data = String::with_capacity(codes.len() * 6);
    for code in codes {
        if !data.is_empty() {
            data.push(' ');
        }
        match *code {
            NO_VALUE => data.push('E'),
            code => data.push_str(&code.to_string()),
        }
    }
    let (origin, factor) = scale(lead);
    Some(json!({
        "code": code,
        "valueSampledData": {
            "origin": {
                "value": origin,
                "unit": lead.unit,
                "system": "http://unitsofmeasure.org",
                "code": lead.unit,
            },
            "interval": interval,
            "intervalUnit": "ms",
            "factor": factor,
            "dimensions": 1,
            "data": data,
        },
    }))
}

/// Origin and factor of a lead.
pub(super) fn scale(lead: &Lead) -> (f64, f64) {
    // Not -0.
    let origin = match lead.baseline {
        0 => 0.0,
        baseline => -f64::from(baseline) / lead.gain,
    };
    (origin, 1.0 / lead.gain)
}

impl Writer for Fhir {
    fn begin(&mut self) -> Outcome<Bytes> {
        Ok(match self.bundle {
            true => {
                Bytes::from_static(br#"{"resourceType":"Bundle","type":"collection","entry":["#)
            }
            false => Bytes::new(),
        })
    }

    fn rows(&mut self, rows: ChunkRows) -> Outcome<Bytes> {
        let mut out = Vec::new();
        for k in 0..rows.len() {
            let slot = self.slots.next();
            let slot = slot.ok_or_else(|| broken("FHIR", &"more rows than were counted"))?;
            let open = self.reach(slot, &mut out)?;
            for (column, lead) in open.codes.iter_mut().zip(&rows.leads) {
                column.extend(lead.get(k));
            }
        }
        Ok(Bytes::from(out))
    }

    fn end(&mut self) -> Outcome<Bytes> {
        let mut out = Vec::new();
        self.close(&mut out)?;
        if self.bundle {
            out.extend(b"]}");
        }
        out.push(b'\n');
        Ok(Bytes::from(out))
    }
}
