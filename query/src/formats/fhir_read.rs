//! FHIR answers back to rows: the codes from the `data` of each component, the times from the extension.

use chordae_base::{
    Failure, Outcome, limits,
    wire::{Lead, NO_VALUE},
};
use chordae_chain::bundle::AnswerRows;
use serde::Deserialize;

use super::{
    fhir::{EXTENSION, Side, scale},
    grid::{Placed, times},
    scales,
};

fn damaged(why: &str) -> Failure {
    Failure::damaged(format!("the answer is no whole FHIR answer: {why}"))
}

#[derive(Deserialize)]
#[serde(tag = "resourceType")]
enum Resource {
    Bundle { entry: Vec<Entry> },
    Observation(Observation),
}

#[derive(Deserialize)]
struct Entry {
    resource: Resource,
}

#[derive(Deserialize)]
struct Observation {
    extension: Vec<Extension>,
    component: Vec<Component>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Extension {
    url: String,
    value_string: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Component {
    code: Code,
    value_sampled_data: SampledData,
}

#[derive(Deserialize)]
struct Code {
    text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SampledData {
    origin: Quantity,
    interval_unit: String,
    factor: f64,
    dimensions: u32,
    data: String,
}

#[derive(Deserialize)]
struct Quantity {
    value: f64,
    unit: String,
    code: String,
}

/// Reads a FHIR answer.
pub(super) fn read(bytes: &[u8]) -> Outcome<AnswerRows> {
    let resource: Resource = serde_json::from_slice(bytes).map_err(|e| damaged(&e.to_string()))?;
    let mut all = AnswerRows::default();
    match resource {
        Resource::Observation(observation) => append(&mut all, observation, true)?,
        Resource::Bundle { entry } => {
            for (k, entry) in entry.into_iter().enumerate() {
                match entry.resource {
                    Resource::Observation(observation) => append(&mut all, observation, k == 0)?,
                    Resource::Bundle { .. } => return Err(damaged("a Bundle in a Bundle")),
                }
            }
        }
    }
    Ok(all)
}

/// Compares what the data mean with the leads of the chunks.
pub(super) fn check_scales(bytes: &[u8], leads: &[Lead]) -> Outcome<()> {
    let resource: Resource = serde_json::from_slice(bytes).map_err(|e| damaged(&e.to_string()))?;
    let entries = match resource {
        Resource::Bundle { entry } => entry,
        resource => vec![Entry { resource }],
    };
    for entry in entries {
        let Resource::Observation(observation) = entry.resource else {
            return Err(damaged("a Bundle in a Bundle"));
        };
        for component in observation.component {
            let (name, data) = (component.code.text, component.value_sampled_data);
            let lead = scales::of(&name, leads)?;
            let (origin, factor) = scale(lead);
            let same = scales::near(origin, data.origin.value)
                && scales::near(factor, data.factor)
                && data.dimensions == 1;
            let units = (data.origin.unit, data.origin.code, data.interval_unit);
            let want = (lead.unit.clone(), lead.unit.clone(), "ms".to_owned());
            if !same || units != want {
                return Err(scales::other(&name));
            }
        }
    }
    Ok(())
}

fn append(all: &mut AnswerRows, observation: Observation, first: bool) -> Outcome<()> {
    let mut told = observation.extension.iter().filter(|e| e.url == EXTENSION);
    let side = match (
        told.next().and_then(|e| e.value_string.as_deref()),
        told.next(),
    ) {
        (Some(side), None) => side,
        _ => return Err(damaged("an Observation does not say its times, once")),
    };
    let side: Side = serde_json::from_str(side).map_err(|e| damaged(&e.to_string()))?;
    let names = observation.component.iter().map(|c| c.code.text.clone());
    let names: Vec<String> = names.collect();
    if first {
        all.codes = vec![Vec::new(); names.len()];
        all.leads = names.clone();
    }
    let placed = times(&side.runs).filter(|_| side.v == 1 && names == all.leads);
    let placed =
        placed.ok_or_else(|| damaged("an Observation has other leads, or its runs are none"))?;
    if all.times.len().saturating_add(placed.len()) as u64 > limits::ANSWER_ROWS_MAX
        || names.len() > limits::LEADS_MAX
    {
        return Err(damaged("more rows or leads than an answer has"));
    }
    let columns: Option<Vec<Vec<i32>>> = observation
        .component
        .iter()
        .map(|c| codes(&c.value_sampled_data.data))
        .collect();
    let columns = columns.filter(|c| c.iter().all(|codes| codes.len() as u64 == side.samples));
    let columns = columns.ok_or_else(|| damaged("data that are not codes, or not as many"))?;
    let mut rows = Placed::new(names.into_iter(), placed);
    for (k, slot) in (0..side.samples).enumerate() {
        let codes = columns.iter().filter_map(|c| c.get(k).copied());
        rows.put(slot, codes)
            .ok_or_else(|| damaged("a sample where there is no row"))?;
    }
    let mut rows = rows.end().ok_or_else(|| damaged("a row without samples"))?;
    all.times.append(&mut rows.times);
    for (into, codes) in all.codes.iter_mut().zip(&mut rows.codes) {
        into.append(codes);
    }
    Ok(())
}

/// `E` or an integer in its one spelling, parted by one space.
fn codes(data: &str) -> Option<Vec<i32>> {
    let code = |word: &str| match word {
        "E" => Some(NO_VALUE),
        word => {
            let code = word.parse::<i32>().ok().filter(|c| *c != NO_VALUE)?;
            Some(code).filter(|c| c.to_string() == word)
        }
    };
    data.split(' ').map(code).collect()
}
