//! `GET /v1/trail?did[&from][&until][&before]`: who asked for a patient's stream, and what became of it.
//!
//! Only the patient of the stream, for herself; to anybody else the stream does not exist. The newest
//! records, oldest first; `from` and `until` bound the time of asking, `before` (a record's number) pages back.

use std::sync::Arc;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use chordae_base::{Did, Failure, limits, time};
use chordae_chain::keys::Role;
use serde_json::json;

use super::{problem::Problem, service::Service, signed::Signed};
use crate::trail::{Looked, Shown, TrailRecord};

pub(super) async fn trail(signed: Signed) -> Response {
    let mut deed = signed.deed("trail");
    let known = &["did", "from", "until", "before"];
    let asked = signed.params(known).and_then(|params| {
        let did = params
            .get("did")
            .ok_or_else(|| Failure::bad_input("did is missing"))?;
        let did: Did = did.parse()?;
        deed.did = Some(did);
        let time = |name: &str, none: i64| params.get(name).map_or(Ok(none), time::parse);
        Ok(Looked {
            did,
            before: params.number("before")?.unwrap_or(u64::MAX),
            from_ns: time("from", i64::MIN)?,
            until_ns: time("until", i64::MAX)?,
        })
    });
    let answer = match asked {
        Ok(looked) => page(&signed, looked).await,
        Err(failure) => Err(failure.into()),
    };
    signed.settle(deed, answer).await
}

async fn page(signed: &Signed, looked: Looked) -> Result<Response, Problem> {
    let service = &signed.service;
    let _place = service.place()?;
    let (of, caller) = (Arc::clone(service), signed.caller.clone());
    service
        .blocking(move || {
            let hers = of.parties.patient_of(&looked.did) == Some(caller.kid);
            if !hers || caller.sid.is_some() || caller.identity.role != Role::Patient {
                return Err(Problem::hidden());
            }
            let page = of.trail.about(looked, limits::LISTED_MAX)?;
            let shown = page.records.into_iter().map(|r| shown(&of, r));
            let records: Vec<Shown> = shown.collect();
            let did = looked.did;
            Ok(Json(json!({ "did": did, "records": records, "more": page.more })).into_response())
        })
        .await
}

/// A record, with the name and role of who asked.
fn shown(service: &Service, record: TrailRecord) -> Shown {
    let party = service.parties.party(&record.deed.kid);
    let party = party.map(|p| p.identity);
    Shown {
        role: party.as_ref().map(|p| p.role.as_str().to_owned()),
        name: party.map(|p| p.name),
        record,
    }
}
