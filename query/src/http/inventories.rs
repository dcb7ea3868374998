//! Inventories (formats.md 7): a patient's lists of her streams come in, are looked at, and go.
//!
//! ```text
//! PUT, DELETE   decoded ──▶ signed by a patient ──▶ follows the newest ──▶ directory synced ──▶ trail synced ──▶ 200
//! ```
//!
//! The bodies are records that the patient signed, each good in one place only: after the version that it
//! names. So they need no token, and an old one, sent again, is refused. **The ledger is not touched**;
//! who changed what is in the trail. Nothing here decides who may read a stream.

use std::sync::Arc;

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
use chordae_base::{Digest, Failure, KeyId, Outcome};
use chordae_chain::{
    inventory::{self, Entry, Reader, Record, SignedRecord},
    keys::Role,
};
use serde_json::{Value, json};

use super::{
    problem::Problem,
    service::{Caller, Service},
    sessions::{Change, plain_body},
    signed::Signed,
};
use crate::trail::Deed;

pub(super) async fn put(
    State(service): State<Arc<Service>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    changed(service, id, headers, body, false).await
}

pub(super) async fn remove(
    State(service): State<Arc<Service>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    changed(service, id, headers, body, true).await
}

async fn changed(
    service: Arc<Service>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
    removing: bool,
) -> Response {
    let begun = async {
        let id = id_of(id)?;
        let body = plain_body(&headers, body)?;
        let place = service.place()?;
        let of = Arc::clone(&service);
        let read = body.clone();
        let signed = service
            .blocking(move || signed(&of, &read, &id, removing))
            .await?;
        Ok((id, body, signed, place))
    };
    let (id, body, signed, _place) = match begun.await {
        Ok(begun) => begun,
        Err(problem) => return refused(&service, problem),
    };
    let deed = deed(&service, &signed, &body, removing);
    let of = Arc::clone(&service);
    let answer = service
        .blocking(move || store(&of, &id, &body, &signed))
        .await;
    service.settle(deed, answer).await
}

fn refused(service: &Service, problem: Problem) -> Response {
    service.metrics.denied(problem.code());
    problem.into_response()
}

/// A change has no token; its record is what names it in the trail.
fn deed(service: &Service, signed: &SignedRecord, body: &[u8], removing: bool) -> Deed {
    Deed {
        time_ms: u64::try_from(service.clock.wall_ns() / 1_000_000).unwrap_or(0),
        jti: format!("inventory-{}", inventory::digest(body)),
        sid: None,
        kid: signed.kid,
        did: None,
        from_ns: None,
        until_ns: None,
        leads: None,
        format: if removing {
            "inventory-remove"
        } else {
            "inventory-put"
        }
        .to_owned(),
        outcome: "answered".to_owned(),
        rows: None,
    }
}

fn id_of(path: Result<Path<String>, PathRejection>) -> Outcome<[u8; 32]> {
    let text = path.map_err(|_| Failure::bad_input("the path is not UTF-8"))?;
    let id: Outcome<Digest> = text.parse();
    id.map(|d| d.0)
        .map_err(|_| Failure::bad_input("the path has no inventory id (64 hex digits)"))
}

fn no_inventory() -> Problem {
    let why = "there is no such inventory, or none of this party";
    Problem::new(StatusCode::NOT_FOUND, "no-inventory", why)
}

/// A record for this id, signed by a patient who is known here. A disabled one may still remove.
fn signed(
    service: &Service,
    body: &[u8],
    id: &[u8; 32],
    removing: bool,
) -> Result<SignedRecord, Problem> {
    let unknown = || {
        let why = "the record is not signed by a patient who is known here";
        Problem::new(StatusCode::FORBIDDEN, "signer", why)
    };
    let signed = inventory::decode(body)?;
    let party = service.parties.party(&signed.kid);
    let party = party
        .filter(|p| p.enabled || removing)
        .ok_or_else(unknown)?;
    signed.verify(&party.identity.sign).map_err(|_| unknown())?;
    if party.identity.role != Role::Patient {
        return Err(unknown());
    }
    if signed.record.id != *id || signed.record.stored.is_none() != removing {
        let why = "the record is of another inventory, or of another kind than the request";
        return Err(Failure::bad_input(why).into());
    }
    if !removing {
        check(service, &party.identity.sign, &signed)?;
    }
    Ok(signed)
}

/// What can be checked of the content: that it opens, is this patient's, and lists streams of hers.
fn check(service: &Service, patient: &[u8; 32], signed: &SignedRecord) -> Result<(), Problem> {
    let entries = service
        .open_inventory(&signed.record, patient)
        .map_err(|e| Failure::bad_input(format!("not an inventory of the signer: {}", e.why)))?;
    // Unknown and another patient's alike.
    let hers = |e: &Entry| service.parties.patient_of(&e.did) == Some(signed.kid);
    if !entries.iter().all(hers) {
        let why = "the inventory lists a stream that is not the signer's";
        return Err(Problem::new(StatusCode::FORBIDDEN, "not-hers", why));
    }
    Ok(())
}

fn store(
    service: &Service,
    id: &[u8; 32],
    body: &[u8],
    signed: &SignedRecord,
) -> Result<Response, Problem> {
    let new = &signed.record;
    let _change = Change::begin(service, *id)?;
    match service.inventories.get(id)? {
        Some((owner, _)) if owner != signed.kid => return Err(no_inventory()),
        // Sent again, because its answer was lost.
        Some((_, there)) if *there == *body => {}
        Some((_, there)) => follows(new, &there)?,
        None if new.version == 1 => {}
        None => return Err(no_inventory()),
    }
    let replaces = (new.version > 1).then_some(&new.prev);
    service.inventories.put(&signed.kid, id, body, replaces)?;
    let state = match new.stored {
        Some(_) => "live",
        None => "removed",
    };
    let shown = json!({ "id": Digest(*id), "version": new.version, "state": state });
    Ok(Json(shown).into_response())
}

/// Whether a record takes the place of the newest.
fn follows(new: &Record, there: &[u8]) -> Result<(), Problem> {
    let newest = newest(there)?;
    let conflict = |code, why: String| Err(Problem::new(StatusCode::CONFLICT, code, why));
    if newest.stored.is_none() {
        let why = "the inventory was removed and stays so: make a new one";
        return conflict("removed", why.to_owned());
    }
    let next = newest.version.checked_add(1) == Some(new.version);
    if !next || new.prev != inventory::digest(there).0 {
        let version = newest.version;
        let why = format!("version {version} is the newest: fetch it, and change that");
        return conflict("stale", why);
    }
    Ok(())
}

/// A record of the directory.
fn newest(there: &[u8]) -> Outcome<Record> {
    let signed = inventory::decode(there);
    let damaged = |e: Failure| Failure::damaged(format!("a stored inventory: {}", e.why));
    Ok(signed.map_err(damaged)?.record)
}

impl Service {
    /// Opens an inventory with the provider's key. Only content that was opened when it came in is
    /// stored: one that no longer opens was altered.
    ///
    /// # Errors
    /// Those of [`Record::open`].
    fn open_inventory(&self, record: &Record, patient: &[u8; 32]) -> Outcome<Vec<Entry>> {
        let seal = self.provider.seal.as_ref();
        let seal = seal.ok_or_else(|| Failure::internal("the provider has no sealing key"))?;
        record.open(patient, seal, Reader::Provider)
    }

    /// Version and entries of an inventory of this patient; `None` if she has none of this id. Blocks.
    ///
    /// # Errors
    /// `Damaged` for one that was altered; those of the disk.
    pub(super) fn inventory(
        &self,
        id: &[u8; 32],
        of: &KeyId,
    ) -> Outcome<Option<(u64, Vec<Entry>)>> {
        if self.inventories.owner(id) != Some(*of) {
            return Ok(None);
        }
        let Some((_, there)) = self.inventories.get(id)? else {
            return Ok(None);
        };
        let damaged = |e: Failure| Failure::damaged(format!("a stored inventory: {}", e.why));
        let signed = inventory::decode(&there).map_err(damaged)?;
        let Some(party) = self.parties.party(of) else {
            return Ok(None);
        };
        let sign = &party.identity.sign;
        signed.verify(sign).map_err(damaged)?;
        if signed.record.stored.is_none() {
            return Ok(None);
        }
        let entries = self.open_inventory(&signed.record, sign).map_err(damaged)?;
        Ok(Some((signed.record.version, entries)))
    }
}

/// The record as its owner signed it, for her and for the provider.
pub(super) async fn look(signed: Signed, id: Result<Path<String>, PathRejection>) -> Response {
    let asked = id_of(id).and_then(|i| signed.params(&[]).map(|_| i));
    let work = asked.map(|id| move |of: &Service, caller: &Caller| show(of, caller, &id));
    signed.answer(signed.deed("inventory"), work).await
}

fn show(service: &Service, caller: &Caller, id: &[u8; 32]) -> Result<Response, Problem> {
    // Decided before any disk: another's inventory and none at all take the same path.
    let owner = service.inventories.owner(id);
    let may = owner == Some(caller.kid) || caller.identity.role == Role::Provider;
    let found = match owner.filter(|_| may) {
        Some(_) => service.inventories.get(id)?,
        None => None,
    };
    let (_, record) = found.ok_or_else(no_inventory)?;
    if newest(&record)?.stored.is_none() {
        return Err(no_inventory());
    }
    let cbor = HeaderValue::from_static("application/cbor");
    Ok(([(header::CONTENT_TYPE, cbor)], record).into_response())
}

/// The inventories of the caller.
pub(super) async fn list(signed: Signed) -> Response {
    let work = signed
        .params(&[])
        .map(|_| own as fn(&Service, &Caller) -> _);
    signed.answer(signed.deed("inventories"), work).await
}

fn own(service: &Service, caller: &Caller) -> Result<Response, Problem> {
    let _place = service.place()?;
    let mut shown: Vec<Value> = Vec::new();
    for id in service.inventories.of(&caller.kid) {
        let found = service.inventories.get(&id);
        let line = match found.and_then(|f| f.map(|(_, r)| Ok((newest(&r)?, r.len()))).transpose())
        {
            Ok(Some((record, bytes))) if record.stored.is_some() => {
                json!({ "id": Digest(id), "version": record.version, "bytes": bytes })
            }
            Ok(_) => continue,
            // One that was damaged is named, and hides no other.
            Err(failure) => {
                tracing::error!(%failure, "an inventory cannot be read");
                json!({ "id": Digest(id), "damaged": true })
            }
        };
        shown.push(line);
    }
    Ok(Json(json!({ "inventories": shown })).into_response())
}
