//! Looking at sessions: the patient sees all of hers, a requester what is made out to her.

use axum::{
    Json,
    extract::{Path, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use chordae_base::{Digest, Failure, Outcome};
use chordae_chain::{
    inventory::Entry,
    keys,
    session::{Grant, NO_INVENTORY, SectionPlain, SessionRecord},
};
use serde_json::{Value, json};

use super::{
    Problem, no_session,
    service::{Caller, Service},
    sid_of,
    signed::Signed,
};
use crate::core::access::Session;

/// Records looked at for one page of the list.
const LOOKED_AT: usize = 1000;

pub(in crate::http) async fn look(
    signed: Signed,
    sid: Result<Path<String>, PathRejection>,
) -> Response {
    let asked = sid_of(sid).and_then(|s| signed.params(&[]).map(|_| s));
    let work = asked.map(|sid| {
        move |of: &Service, caller: &Caller| {
            let shown = show(of, caller, &sid)?.ok_or_else(no_session)?;
            Ok(Json(shown).into_response())
        }
    });
    signed.answer(signed.deed("session"), work).await
}

pub(in crate::http) async fn list(signed: Signed) -> Response {
    let from = signed
        .params(&["from"])
        .and_then(|p| p.get("from").map_or(Ok(Digest([0; 32])), str::parse));
    let work =
        from.map(|from: Digest| move |of: &Service, caller: &Caller| page(of, caller, &from.0));
    signed.answer(signed.deed("sessions"), work).await
}

fn page(service: &Service, caller: &Caller, from: &[u8; 32]) -> Result<Response, Problem> {
    let mut sids = service.sessions.list(from, LOOKED_AT + 1)?;
    let next = (sids.len() > LOOKED_AT)
        .then(|| sids.pop())
        .flatten()
        .map(Digest);
    let shown = sids
        .iter()
        .filter_map(|sid| show(service, caller, sid).transpose());
    let sessions: Vec<Value> = shown.collect::<Outcome<_>>()?;
    Ok(Json(json!({ "sessions": sessions, "next": next })).into_response())
}

/// What a caller may see of a session: the patient all of it, a requester what is made out to her.
fn show(service: &Service, caller: &Caller, sid: &[u8; 32]) -> Outcome<Option<Value>> {
    let Some((session, plains)) = service.session(sid)? else {
        return without_record(service, caller, sid);
    };
    let signer = session.signer == Some(caller.kid);
    let visible =
        |(_, p): &([u8; 32], &SectionPlain)| signer || keys::key_id(&p.requester) == caller.kid;
    let of = inventories(service, sid)?;
    let mut visible = of.into_iter().zip(&plains).filter(visible).peekable();
    if visible.peek().is_none() {
        return Ok(None);
    }
    let state = state(service, &session);
    let now = |(id, plain): ([u8; 32], &SectionPlain)| {
        // What has changed since is for those who may still read.
        let kept = (state == "live" && id != NO_INVENTORY).then_some(id);
        let listed = kept.map(|id| service.inventory(&id, &keys::key_id(&plain.patient)));
        let listed = listed.transpose()?.flatten();
        let requester = service.parties.party(&keys::key_id(&plain.requester));
        let mut shown = section(id, plain, listed.as_ref());
        // As the trail does it: a key id tells a patient nothing.
        shown["requester_name"] = json!(requester.map(|party| party.identity.name));
        Ok(shown)
    };
    let sections: Vec<Value> = visible.map(now).collect::<Outcome<_>>()?;
    Ok(Some(
        json!({ "sid": Digest(*sid), "state": state, "sections": sections }),
    ))
}

/// Its record is gone: revoked, swept long after it expired, or lost. That is for its signer to know,
/// with the event, in which she finds what she granted.
fn without_record(service: &Service, caller: &Caller, sid: &[u8; 32]) -> Outcome<Option<Value>> {
    let signer = service.created(sid)?.map(|(signer, _)| signer);
    if signer != Some(caller.kid) {
        return Ok(None);
    }
    if service.ledger.revoked(sid)? {
        return Ok(Some(json!({ "sid": Digest(*sid), "state": "revoked" })));
    }
    let entry = service.ledger.session(sid)?.map(hex::encode);
    Ok(Some(
        json!({ "sid": Digest(*sid), "state": "no-record", "entry": entry }),
    ))
}

/// The inventory ids of a stored session's sections.
fn inventories(service: &Service, sid: &[u8; 32]) -> Outcome<Vec<[u8; 32]>> {
    let record = service.sessions.get(sid)?.unwrap_or_default();
    let record = SessionRecord::decode(&record)
        .map_err(|e| Failure::damaged(format!("a stored session record: {}", e.why)))?;
    Ok(record.sections.iter().map(|s| s.inventory_id).collect())
}

fn state(service: &Service, session: &Session) -> &'static str {
    let now_ns = service.now().high_ns;
    let expired = |e: Option<i64>| e.is_some_and(|e| e <= now_ns);
    match session {
        Session { revoked: true, .. } => "revoked",
        Session { signer: None, .. } => "not-in-the-log",
        Session { matches: false, .. } => "altered",
        s if s.terms.iter().all(|t| expired(t.expires_ns)) => "expired",
        _ => "live",
    }
}

fn section(inventory: [u8; 32], plain: &SectionPlain, listed: Option<&(u64, Vec<Entry>)>) -> Value {
    let now = |g: &Grant| {
        let (version, entries) = listed?;
        let at = entries.binary_search_by_key(&g.did, |e| e.did).ok()?;
        let entry = entries.get(at)?;
        Some(json!({ "version": version, "metadata": entry.metadata, "url": entry.url }))
    };
    let grant = |g: &Grant| {
        json!({
            "did": g.did, "metadata": g.metadata, "url": g.url,
            "from_ns": g.st_ns, "until_ns": g.et_ns, "leads": g.leads, "now": now(g),
        })
    };
    json!({
        "inventory": (inventory != NO_INVENTORY).then_some(Digest(inventory)),
        "patient": keys::key_id(&plain.patient),
        "requester": keys::key_id(&plain.requester),
        "expires_ns": plain.expires_ns,
        "purpose": plain.purpose,
        "grants": plain.grants.iter().map(grant).collect::<Vec<_>>(),
    })
}
