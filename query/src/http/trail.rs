//! `GET /v1/trail?did[&before]`: who asked for a patient's stream, and what became of it.
//!
//! Only the patient of the stream, for herself; to anybody else the stream does not exist. The newest
//! records, oldest first; `before` pages back.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, Method, Uri},
    response::{IntoResponse, Response},
};
use chordae_base::{Did, Failure, limits};
use chordae_chain::keys::Role;
use serde_json::{Value, json};

use super::{
    problem::Problem,
    service::{Caller, Service},
};
use crate::{core::ask::Params, trail::TrailRecord};

pub(super) async fn trail(
    State(service): State<Arc<Service>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let caller = match service.authenticate(&method, &uri, &headers) {
        Ok(caller) => caller,
        Err(problem) => return problem.into_response(),
    };
    let mut deed = service.deed(&caller, "trail");
    let asked = Params::parse(uri.query(), &["did", "before"]).and_then(|params| {
        let did = params
            .get("did")
            .ok_or_else(|| Failure::bad_input("did is missing"))?;
        let did: Did = did.parse()?;
        deed.did = Some(did);
        Ok((did, params.number("before")?.unwrap_or(u64::MAX)))
    });
    let answer = match asked {
        Ok((did, before)) => page(&service, caller, did, before).await,
        Err(failure) => Err(failure.into()),
    };
    service.settle(deed, answer).await
}

async fn page(
    service: &Arc<Service>,
    caller: Caller,
    did: Did,
    before: u64,
) -> Result<Response, Problem> {
    let _place = service.place()?;
    let of = Arc::clone(service);
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
