//! `GET /v1/streams`: what this session, patient or operator may see.
//!
//! On a session: the streams it grants, while they are its signer's. A patient: her own. An operator:
//! all, with their device names, and no rows.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use chordae_base::{Did, limits};
use chordae_chain::keys::Role;
use serde_json::{Value, json};

use super::{
    problem::Problem,
    service::{Caller, Service},
    signed::Signed,
};
use crate::core::access::{Grant, Held, grants_of};

pub(super) async fn streams(signed: Signed) -> Response {
    let asked = signed.params(&[]).map(|_| list);
    signed.answer(signed.deed("streams"), asked).await
}

fn list(service: &Service, caller: &Caller) -> Result<Response, Problem> {
    let of = |kid| move |did: &Did| service.parties.patient_of(did) == Some(kid);
    let streams: Vec<Value> = if caller.sid.is_none() && caller.identity.role == Role::Operator {
        let dids = service.parties.dids();
        dids.iter()
            .take(limits::LISTED_MAX)
            .map(|d| named(service, d))
            .collect()
    } else {
        match grants_of(&service.asker(caller)?, service.now()) {
            Ok(Held::All(kid)) => {
                let dids = service.parties.dids().into_iter().filter(of(kid));
                dids.take(limits::LISTED_MAX)
                    .map(|d| named(service, &d))
                    .collect()
            }
            Ok(Held::These(signer, grants)) => {
                let mine = of(signer);
                granted(grants.into_iter().filter(|g| mine(&g.did)))
            }
            Err(denied) => return Err(denied.into()),
        }
    };
    Ok(Json(json!({ "streams": streams })).into_response())
}

/// A stream with its device's name, for those who know the device.
fn named(service: &Service, did: &Did) -> Value {
    let stream = service.parties.stream_name(did).map(|s| s.to_string());
    json!({ "did": did, "stream": stream, "newest": service.chunks.newest(did) })
}

/// The granted streams, each once, with what is allowed of it.
fn granted(grants: impl Iterator<Item = Grant>) -> Vec<Value> {
    let mut by_did: std::collections::BTreeMap<Did, Vec<Value>> = std::collections::BTreeMap::new();
    for g in grants {
        let part = json!({ "from_ns": g.from_ns, "until_ns": g.until_ns, "leads": g.leads });
        by_did.entry(g.did).or_default().push(part);
    }
    let stream = |(did, allowed)| json!({ "did": did, "allowed": Value::Array(allowed) });
    by_did.into_iter().map(stream).collect()
}
