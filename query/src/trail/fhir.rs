//! The trail as FHIR: one R4 AuditEvent per request, after IHE BALP 1.1 `PatientRead`.
//!
//! ```text
//! agent   client (destination) · server (source) · user (information recipient)
//! entity  transaction: the token's id · data: the stream · patient · what was asked for
//! ```
//!
//! A streamed answer has two records in the trail and one event here: the closing record adds the rows.
//! The profile is for what succeeded; a refusal has the same shape, says so in `outcome`, and claims no
//! profile. The trail does not know a client's address, and says so (`data-absent-reason`). What was asked
//! for is no `data` entity, since the profile takes exactly one of those: its type is `Other`.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use chordae_base::{KeyId, time};
use serde_json::{Value, json};

use super::{Deed, Shown};

const PROFILE: &str =
    "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PatientRead";
const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const ENTITY_ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";
const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";
/// System of the identifiers that are our key ids.
const KEY_ID: &str = "urn:chordae:key-id";

/// A Bundle (collection) of what happened, in the order of the records.
pub fn bundle(records: &[Shown], patient: KeyId, origin: &str) -> Value {
    let mut events: Vec<(&Shown, Option<&Deed>)> = Vec::new();
    let mut open: BTreeMap<(KeyId, &str), usize> = BTreeMap::new();
    for shown in records {
        let deed = &shown.record.deed;
        let key = (deed.kid, deed.jti.as_str());
        match open.get(&key).and_then(|at| events.get_mut(*at)) {
            Some((_, closing)) => *closing = Some(deed),
            None => {
                open.insert(key, events.len());
                events.push((shown, None));
            }
        }
    }
    let entry = |(shown, closing): &(&Shown, Option<&Deed>)| json!({ "resource": event(shown, *closing, patient, origin) });
    json!({
        "resourceType": "Bundle",
        "type": "collection",
        "entry": events.iter().map(entry).collect::<Vec<_>>(),
    })
}

fn coding(system: &str, code: &str, display: &str) -> Value {
    json!({ "system": system, "code": code, "display": display })
}

fn concept(system: &str, code: &str, display: &str) -> Value {
    json!({ "coding": [coding(system, code, display)] })
}

/// FHIR outcome: 0 success, 4 minor failure (refused, or cut off), 8 serious (ours).
fn outcome(deed: &Deed, closing: Option<&Deed>) -> (&'static str, String) {
    let last = closing.unwrap_or(deed);
    let code = match last.outcome.as_str() {
        "answered" | "complete" => "0",
        "damaged" | "internal" | "unavailable" => "8",
        _ => "4",
    };
    (code, last.outcome.clone())
}

fn event(shown: &Shown, closing: Option<&Deed>, patient: KeyId, origin: &str) -> Value {
    let deed = &shown.record.deed;
    let recorded = i64::try_from(deed.time_ms).unwrap_or(i64::MAX);
    let (outcome, words) = outcome(deed, closing);
    let mut event = json!({
        "resourceType": "AuditEvent",
        "type": coding("http://terminology.hl7.org/CodeSystem/audit-event-type", "rest", "Restful Operation"),
        "subtype": [coding("http://hl7.org/fhir/restful-interaction", "read", "read")],
        "action": "R",
        "recorded": instant(recorded),
        "outcome": outcome,
        "outcomeDesc": words,
        "agent": agents(shown, origin),
        "source": {
            "observer": { "display": origin },
            "type": [coding("http://terminology.hl7.org/CodeSystem/security-source-type", "4", "Application Server")],
        },
        "entity": entities(shown, closing, patient),
    });
    if outcome == "0" {
        event["meta"] = json!({ "profile": [PROFILE] });
    }
    event
}

/// A FHIR instant, to the millisecond.
fn instant(ms: i64) -> String {
    let text = time::show(ms.saturating_mul(1_000_000));
    text.strip_suffix("000000Z")
        .map_or_else(|| text.clone(), |to_ms| format!("{to_ms}Z"))
}

fn agents(shown: &Shown, origin: &str) -> Value {
    let kid = shown.record.deed.kid.to_string();
    let who = json!({ "identifier": { "system": KEY_ID, "value": kid }, "display": shown.name.as_deref().unwrap_or(&kid) });
    let unknown = json!({
        "extension": [{
            "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason",
            "valueCode": "unknown",
        }]
    });
    let mut user = json!({
        "type": concept("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "IRCP", "information recipient"),
        "who": who,
        "requestor": true,
    });
    // An empty string is no FHIR string.
    if let Some(name) = shown.name.as_deref().filter(|n| !n.is_empty()) {
        user["name"] = json!(name);
    }
    if let Some(role) = &shown.role {
        user["role"] = json!([{ "text": role }]);
    }
    json!([
        {
            "type": concept(DICOM, "110152", "Destination Role ID"),
            "who": { "identifier": { "system": KEY_ID, "value": kid } },
            "requestor": false,
            "network": unknown,
        },
        {
            "type": concept(DICOM, "110153", "Source Role ID"),
            "who": { "display": origin },
            "requestor": false,
            "network": { "address": origin, "type": "5" },
        },
        user,
    ])
}

fn entities(shown: &Shown, closing: Option<&Deed>, patient: KeyId) -> Value {
    let deed = &shown.record.deed;
    let stream = deed.did.map(|did| format!("urn:uuid:{did}"));
    let detail = |name: &str, value: String| json!({ "type": name, "valueString": value });
    let mut details = vec![
        detail("trail-record", shown.record.n.to_string()),
        detail("trail-prev", shown.record.prev.to_string()),
    ];
    if let Some(sid) = deed.sid {
        details.push(detail("session", sid.to_string()));
    }
    if let Some(rows) = closing.unwrap_or(deed).rows {
        details.push(detail("rows", rows.to_string()));
    }
    json!([
        {
            "type": coding("https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType", "XrequestId", "X-Request-Id"),
            "what": { "identifier": { "value": deed.jti } },
        },
        {
            "type": coding(ENTITY_TYPE, "2", "System Object"),
            "role": coding(ENTITY_ROLE, "4", "Domain Resource"),
            "what": { "identifier": { "system": "urn:ietf:rfc:3986", "value": stream } },
        },
        {
            "type": coding(ENTITY_TYPE, "1", "Person"),
            "role": coding(ENTITY_ROLE, "1", "Patient"),
            "what": { "type": "Patient", "identifier": { "system": KEY_ID, "value": patient.to_string() } },
        },
        {
            "type": coding(ENTITY_TYPE, "4", "Other"),
            "role": coding(ENTITY_ROLE, "24", "Query"),
            "query": STANDARD.encode(asked(deed)),
            "detail": details,
        },
    ])
}

/// What was asked for, as the parameters of a query.
fn asked(deed: &Deed) -> String {
    let mut text = format!("format={}", deed.format);
    for (name, value) in [("from", deed.from_ns), ("until", deed.until_ns)] {
        if let Some(ns) = value {
            text.push_str(&format!("&{name}={ns}"));
        }
    }
    if let Some(leads) = &deed.leads {
        let leads = crate::core::ask::leads_text(leads);
        text.push_str(&format!("&leads={leads}"));
    }
    text
}
