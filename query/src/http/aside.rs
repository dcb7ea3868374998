//! `GET /v1/streams/{did}/aside`: what was received of a stream and went into no chunk, by reason.
//!
//! Numbers alone: whoever may see that a window has rows may see how many frames contradicted them.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use chordae_base::Failure;
use serde_json::json;

use super::{
    problem::Problem,
    service::{Caller, Service},
    signed::{DidPath, Signed},
};
use crate::core::access::{Leads, Want};

pub(super) async fn aside(signed: Signed, did: DidPath) -> Response {
    let mut deed = signed.deed("aside");
    let want = signed.want(did, &["from", "until"], &mut deed);
    let asked = want.map(|(want, _)| {
        // No row is shown, so no lead has to be granted.
        deed.leads = Some(Vec::new());
        let leads = Leads::Named(Vec::new());
        move |service: &Service, caller: &Caller| counted(service, caller, &Want { leads, ..want })
    });
    signed.answer(deed, asked).await
}

fn counted(service: &Service, caller: &Caller, want: &Want) -> Result<Response, Problem> {
    let rows = service.decide(caller, want, service.now())?.rows();
    let Some(aside) = &service.aside else {
        let why = "quarantine is not open while nothing new is taken";
        return Err(Failure::not_found(why).into());
    };
    let counts = aside.counts(&want.did, rows)?;
    let (from_ns, until_ns) = (rows.from_ns, rows.until_ns);
    let answer =
        json!({ "did": want.did, "from_ns": from_ns, "until_ns": until_ns, "aside": counts });
    Ok(Json(answer).into_response())
}
