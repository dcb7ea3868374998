//! Posting and revoking a session; the order of things is in the module above.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError},
};

use axum::{
    Json,
    body::Bytes,
    extract::{
        Path, State,
        rejection::{BytesRejection, PathRejection},
    },
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chordae_base::{Digest, Failure, KeyId, limits};
use chordae_chain::{
    event::{self, Event, SignedEvent},
    keys::{self, Role},
    session::{Grant, NO_INVENTORY, SectionPlain, SessionRecord, decode_post},
};
use serde_json::json;

use super::{Problem, no_session, service::Service, sid_of};

pub(in crate::http) async fn create(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let made = async {
        let body = plain_body(&headers, body)?;
        let _place = service.place()?;
        let of = Arc::clone(&service);
        service.blocking(move || post(&of, &body)).await
    };
    let sid = match made.await {
        Ok(sid) => sid,
        Err(problem) => return refused(&service, problem),
    };
    let mut response = (StatusCode::CREATED, Json(json!({ "sid": Digest(sid) }))).into_response();
    if let Ok(value) = HeaderValue::try_from(format!("/v1/sessions/{}", Digest(sid))) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

pub(in crate::http) async fn revoke(
    State(service): State<Arc<Service>>,
    sid: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let done = async {
        let sid = sid_of(sid)?;
        let body = plain_body(&headers, body)?;
        let _place = service.place()?;
        let of = Arc::clone(&service);
        service.blocking(move || delete(&of, sid, &body)).await?;
        Ok(Json(json!({ "sid": Digest(sid), "state": "revoked" })).into_response())
    };
    match done.await {
        Ok(response) => response,
        Err(problem) => refused(&service, problem),
    }
}

fn refused(service: &Service, problem: Problem) -> Response {
    service.metrics.denied(problem.code());
    problem.into_response()
}

/// A body that is CBOR as it stands.
pub(in crate::http) fn plain_body(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Bytes, Problem> {
    let media = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let encoded = headers.contains_key(header::CONTENT_ENCODING);
    if encoded || media.is_some_and(|m| m != b"application/cbor") {
        let why = "the body is application/cbor, not encoded further";
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media-type",
            why,
        ));
    }
    body.map_err(|e| {
        let why = "the body is too long, or broke off";
        Problem::new(e.status(), "body", why)
    })
}

/// One change of a session, or of an inventory, at a time.
pub(in crate::http) struct Change<'s> {
    changing: &'s std::sync::Mutex<BTreeSet<[u8; 32]>>,
    sid: [u8; 32],
}

impl<'s> Change<'s> {
    pub(in crate::http) fn begin(service: &'s Service, sid: [u8; 32]) -> Result<Self, Problem> {
        let changing = &service.changing;
        if !changing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(sid)
        {
            return Err(Problem::busy(
                "it is being changed by another request: try again",
            ));
        }
        Ok(Self { changing, sid })
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.changing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.sid);
    }
}

/// An event whose signature holds under a registered key. `enabled`: it must still count here.
fn signed(service: &Service, entry: &[u8], enabled: bool) -> Result<SignedEvent, Problem> {
    let unknown = || {
        let why = "the event is not signed by a patient who is known here";
        Problem::new(StatusCode::FORBIDDEN, "signer", why)
    };
    let event = event::decode(entry)?;
    let party = service
        .parties
        .party(&event.kid)
        .filter(|p| p.enabled || !enabled);
    let party = party.ok_or_else(unknown)?;
    event.verify(&party.identity.sign).map_err(|_| unknown())?;
    if party.identity.role != Role::Patient {
        return Err(unknown());
    }
    Ok(event)
}

fn post(service: &Service, body: &[u8]) -> Result<[u8; 32], Problem> {
    let (entry, record) = decode_post(body)?;
    let event = signed(service, &entry, true)?;
    let Event::CreateSession { sections, .. } = event.event else {
        return Err(Failure::bad_input("the event is not a create-session").into());
    };
    let sid = event::leaf_hash(&entry);
    if record.sid.is_some_and(|claimed| claimed != sid) {
        return Err(Failure::bad_input("the record is of another session").into());
    }
    let _change = Change::begin(service, sid)?;
    if service.ledger.revoked(&sid)? {
        let why = "the session was revoked and stays so: grant a new one";
        return Err(Problem::new(StatusCode::CONFLICT, "revoked", why));
    }
    check(service, event.kid, sections, &record)?;
    let record = SessionRecord {
        sid: Some(sid),
        ..record
    }
    .encode()?;
    let before = service.sessions.get(&sid)?;
    if before.as_deref() != Some(record.as_slice()) {
        service.sessions.put(&sid, &record)?;
    }
    if before.is_none() {
        service.metrics.session_changed(1);
    }
    service.ledger.submit(entry.into())?;
    Ok(sid)
}

/// The rules of a session that can be checked when it comes in.
fn check(
    service: &Service,
    signer: KeyId,
    sections: [u8; 32],
    record: &SessionRecord,
) -> Result<(), Problem> {
    let bad = |why: &str| Problem::from(Failure::bad_input(format!("the session: {why}")));
    if record.digest()? != sections {
        return Err(bad(
            "the record's sections are not the ones that the event signs",
        ));
    }
    if !(1..=limits::SECTIONS_MAX).contains(&record.sections.len()) {
        return Err(bad("1 to 64 sections"));
    }
    let now_ns = service.now().high_ns;
    for section in &record.sections {
        let plain = service
            .open(section)
            .map_err(|_| bad("a section is not sealed to this provider"))?;
        if keys::key_id(&plain.patient) != signer {
            return Err(bad("a section names another patient than the signer"));
        }
        if plain.expires_ns.is_some_and(|expires| expires <= now_ns) {
            return Err(bad("a section has expired already"));
        }
        let requester = service.parties.party(&keys::key_id(&plain.requester));
        if !requester.is_some_and(|p| p.enabled && p.identity.role == Role::Requester) {
            return Err(bad(
                "a section is made out to a requester who is not known here: an operator makes her known \
                 (chordae party add FILE.pub --role requester)",
            ));
        }
        grants(service, signer, &plain)?;
        listed(service, signer, section.inventory_id, &plain)?;
    }
    Ok(())
}

fn grants(service: &Service, signer: KeyId, plain: &SectionPlain) -> Result<(), Problem> {
    let bad = |why: &str| Problem::from(Failure::bad_input(format!("the session: {why}")));
    if !(1..=limits::GRANTS_MAX).contains(&plain.grants.len()) {
        return Err(bad("1 to 1024 grants in a section"));
    }
    for grant in &plain.grants {
        // Unknown and another patient's alike.
        if service.parties.patient_of(&grant.did) != Some(signer) {
            let why = "a grant names a stream that is not the signer's";
            return Err(Problem::new(StatusCode::FORBIDDEN, "not-hers", why));
        }
        if grant
            .st_ns
            .zip(grant.et_ns)
            .is_some_and(|(st, et)| st >= et)
        {
            return Err(bad("a grant ends before it begins"));
        }
        if grant.leads.as_ref().is_some_and(Vec::is_empty) {
            return Err(bad(
                "a grant names no lead: leave the leads out to grant all",
            ));
        }
    }
    Ok(())
}

/// A section of an inventory grants streams that the inventory lists.
fn listed(
    service: &Service,
    signer: KeyId,
    inventory: [u8; 32],
    plain: &SectionPlain,
) -> Result<(), Problem> {
    if inventory == NO_INVENTORY {
        return Ok(());
    }
    let entries = service.inventory(&inventory, &signer)?;
    let entries = entries.map(|(_, entries)| entries).unwrap_or_default();
    let listed = |g: &Grant| entries.binary_search_by_key(&g.did, |e| e.did).is_ok();
    if plain.grants.iter().all(listed) {
        return Ok(());
    }
    // Unknown, removed and another patient's alike.
    let why = "a section names no inventory of the signer, or a stream that it does not list";
    Err(Problem::new(StatusCode::FORBIDDEN, "not-hers", why))
}

fn delete(service: &Service, sid: [u8; 32], body: &[u8]) -> Result<(), Problem> {
    let event = signed(service, body, false)?;
    match event.event {
        Event::RevokeSession { sid: revoked, .. } if revoked == sid => {}
        _ => return Err(Failure::bad_input("the body does not revoke this session").into()),
    }
    let _change = Change::begin(service, sid)?;
    let signer = service.created(&sid)?.map(|(signer, _)| signer);
    if signer != Some(event.kid) {
        return Err(no_session());
    }
    if service.sessions.get(&sid)?.is_some() {
        service.sessions.remove(&sid)?;
        service.metrics.session_changed(-1);
    }
    if !service.ledger.revoked(&sid)? {
        service.ledger.submit(body.to_vec().into())?;
    }
    Ok(())
}
