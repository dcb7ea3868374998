//! `GET /v1/trail?did[&before]`: who asked for a patient's stream, and what became of it.
//!
//! Only the patient of the stream, for herself; to anybody else the stream does not exist. The newest
//! records, oldest first; `before` pages back.

use std::sync::Arc;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use chordae_base::{Did, Failure, limits};
use chordae_chain::keys::Role;
use serde_json::{Value, json};

use super::{problem::Problem, service::Service, signed::Signed};
use crate::trail::TrailRecord;

pub(super) async fn trail(signed: Signed) -> Response {
    let mut deed = signed.deed("trail");
    let asked = signed.params(&["did", "before"]).and_then(|params| {
        let did = params
            .get("did")
            .ok_or_else(|| Failure::bad_input("did is missing"))?;
        let did: Did = did.parse()?;
        deed.did = Some(did);
        Ok((did, params.number("before")?.unwrap_or(u64::MAX)))
    });
    let answer = match asked {
        Ok((did, before)) => page(&signed, did, before).await,
        Err(failure) => Err(failure.into()),
    };
    signed.settle(deed, answer).await
}

async fn page(signed: &Signed, did: Did, before: u64) -> Result<Response, Problem> {
    let service = &signed.service;
    let _place = service.place()?;
    let (of, caller) = (Arc::clone(service), signed.caller.clone());
    service
        .blocking(move || {
            let hers = of.parties.patient_of(&did) == Some(caller.kid);
            if !hers || caller.sid.is_some() || caller.identity.role != Role::Patient {
                return Err(Problem::hidden());
            }
            let page = of.trail.about(did, before, limits::LISTED_MAX)?;
            let records: Vec<Value> = page.records.iter().map(|r| shown(&of, r)).collect();
            Ok(Json(json!({ "did": did, "records": records, "more": page.more })).into_response())
        })
        .await
}

/// A record, with the name of who asked.
fn shown(service: &Service, record: &TrailRecord) -> Value {
    let mut shown = json!(record);
    let name = service
        .parties
        .party(&record.deed.kid)
        .map(|p| p.identity.name);
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("name".to_owned(), json!(name));
    }
    shown
}
