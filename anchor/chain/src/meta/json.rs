//! The text of [`ChunkMeta`]: written field by field, read by serde and then held against what would
//! be written. The text is kept as the pieces around the gains, because only gains may be spelled
//! freely.

use std::fmt::Write as _;

use chordae_base::{Failure, Outcome, limits, wire::ClockKind, wire::Lead};
use serde::{Deserialize, Deserializer};

use super::ChunkMeta;

/// A lead as in the JSON, so that unknown keys are refused here whatever the wire type allows.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LeadText {
    baseline: i32,
    bits: u32,
    gain: f64,
    mdc: u32,
    name: String,
    unit: String,
}

pub(super) fn leads<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Lead>, D::Error> {
    let texts = Vec::<LeadText>::deserialize(from)?;
    let lead = |LeadText {
                    baseline,
                    bits,
                    gain,
                    mdc,
                    name,
                    unit,
                }| Lead {
        name,
        mdc,
        gain,
        baseline,
        unit,
        bits,
    };
    Ok(texts.into_iter().map(lead).collect())
}

pub(super) fn write(meta: &ChunkMeta) -> String {
    let mut out = String::new();
    let mut gains = meta
        .leads
        .iter()
        .map(|lead| serde_json::Value::from(lead.gain).to_string());
    for piece in pieces(meta) {
        out.push_str(&piece);
        out.push_str(&gains.next().unwrap_or_default());
    }
    out
}

pub(super) fn read(text: &str) -> Outcome<ChunkMeta> {
    if text.len() > limits::CHUNK_META_BYTES_MAX {
        return Err(Failure::bad_input(format!(
            "{} bytes are too many",
            text.len()
        )));
    }
    let mut meta: ChunkMeta =
        serde_json::from_str(text).map_err(|e| Failure::bad_input(e.to_string()))?;
    let pieces = pieces(&meta);
    let mut rest = text;
    let mut gains = Vec::with_capacity(meta.leads.len());
    for (i, piece) in pieces.iter().enumerate() {
        rest = rest.strip_prefix(piece.as_str()).ok_or_else(|| {
            let at = text.len() - rest.len();
            Failure::bad_input(format!(
                "the text from byte {at} on is not how these values are written (keys sorted and \
                 unique, no spaces, plain integers)"
            ))
        })?;
        if i + 1 < pieces.len() {
            let end = rest.find([',', '}']).unwrap_or(rest.len());
            let (token, after) = rest.split_at(end);
            // serde_json has accepted the token as a number; std reads it to the nearest double.
            let gain = token
                .parse::<f64>()
                .ok()
                .filter(|_| !token.contains(char::is_whitespace));
            gains.push(gain.ok_or_else(|| Failure::bad_input(format!("gain {token:?}")))?);
            rest = after;
        }
    }
    if !rest.is_empty() {
        return Err(Failure::bad_input("something follows the metadata"));
    }
    for (lead, gain) in meta.leads.iter_mut().zip(gains) {
        lead.gain = gain;
    }
    Ok(meta)
}

/// The text with the gains cut out: one piece more than there are leads.
fn pieces(meta: &ChunkMeta) -> Vec<String> {
    let mut pieces = Vec::with_capacity(meta.leads.len() + 1);
    let mut text = format!(
        "{{\"boot\":{},\"clock\":{{\"offset_ns\":{},\"quality\":\"{}\"}},\"did\":\"{}\",\
         \"end_ns\":{},\"first_ns\":{},\"index\":{},\"jitter_ns\":[{},{}],\"lane\":\"{}\",\"leads\":[",
        meta.boot,
        meta.clock.offset_ns,
        quality(meta.clock.quality),
        meta.did,
        meta.end_ns,
        meta.first_ns,
        meta.index,
        meta.jitter_ns.0,
        meta.jitter_ns.1,
        meta.lane.as_str(),
    );
    for (i, lead) in meta.leads.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        add(
            &mut text,
            format_args!(
                "{comma}{{\"baseline\":{},\"bits\":{},\"gain\":",
                lead.baseline, lead.bits
            ),
        );
        pieces.push(std::mem::take(&mut text));
        add(
            &mut text,
            format_args!(
                ",\"mdc\":{},\"name\":{},\"unit\":{}}}",
                lead.mdc,
                serde_json::Value::from(lead.name.as_str()),
                serde_json::Value::from(lead.unit.as_str()),
            ),
        );
    }
    text.push_str("],\"missing\":[");
    for (i, (a, b)) in meta.missing.iter().enumerate() {
        add(
            &mut text,
            format_args!("{}[{a},{b}]", if i == 0 { "" } else { "," }),
        );
    }
    add(
        &mut text,
        format_args!(
            "],\"page_ns\":{},\"prev\":\"{}\",\"profile\":\"{}\",\"rate\":[{},{}],\
             \"received\":[{},{}],\"rows\":{},\"seq\":[{},{}],\"slot_len_ns\":{},\
             \"slot_start_ns\":{},\"v\":{}}}",
            meta.page_ns,
            meta.prev,
            meta.profile.as_str(),
            meta.rate.num(),
            meta.rate.den(),
            meta.received.0,
            meta.received.1,
            meta.rows,
            meta.seq.0,
            meta.seq.1,
            meta.slot_len_ns,
            meta.slot_start_ns,
            meta.v,
        ),
    );
    pieces.push(text);
    pieces
}

fn add(text: &mut String, more: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    text.write_fmt(more).unwrap_or_default();
}

fn quality(clock: ClockKind) -> &'static str {
    match clock {
        ClockKind::Unknown => "unknown",
        ClockKind::Synced => "synced",
        ClockKind::FreeRunning => "free-running",
    }
}
