//! The control socket (`DATA/control.sock`, mode 0600): an operator on this machine. JSON over HTTP; the same
//! routes as for readers, and `/v1/admin/...`.

use std::sync::{Arc, mpsc::sync_channel};

use axum::{
    Json, Router,
    extract::{Path, State, rejection::JsonRejection},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chordae_base::{
    DeviceId, Did, Failure, FailureKind, KeyId, Outcome, StreamKey, StreamName, StreamPlan, limits,
    plan::{SlotRule, Tenure},
    seams::Clock,
    time::SECOND_NS,
};
use chordae_chain::keys::{PublicIdentity, Role};
use chordae_chunker::Input;
use chordae_ingest::mailbox::IngestHandle;
use chordae_storage::{
    Catalogue,
    directory::Directory,
    registry::{Device, DeviceKind, Registry},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    assemble::Feed,
    authority::{self, Leaf, PemPair},
    commands::key,
    status::StatusSource,
};

/// What the admin routes work on.
pub struct Control {
    /// Devices, parties, streams.
    pub registry: Arc<Registry>,
    /// Sessions.
    pub directory: Arc<Directory>,
    /// Chunks.
    pub catalogue: Arc<Catalogue>,
    /// Frames on their way.
    pub ingest: IngestHandle,
    /// The windower, which knows which rows are sealed.
    pub feed: Feed,
    /// Signs device certificates.
    pub ca: PemPair,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// What `chordae status` shows.
    pub status: StatusSource,
}

/// A device's certificate, made when it was added.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeviceMade {
    /// Certificate, PEM.
    pub cert: String,
    /// Private key, PEM; it is kept nowhere else.
    pub key: String,
    /// Our authority, PEM.
    pub ca: String,
}

/// A stream as `chordae stream list` shows it: one line per did.
#[derive(Debug, Serialize, Deserialize)]
pub struct StreamLine {
    /// DEVICE/STREAM.
    pub stream: StreamKey,
    /// The data stream.
    pub did: Did,
    /// Whose it is.
    pub patient: Option<KeyId>,
    /// From which sample time on; absent for the first.
    pub from_ns: Option<i64>,
    /// Linked chunks.
    pub chunks: u64,
    /// End of the newest chunk.
    pub end_ns: Option<i64>,
    /// Slot length of new rows.
    pub slot_ns: i64,
}

type Shared = State<Arc<Control>>;

/// A failure as `application/problem+json` (RFC 9457).
struct Problem(Failure);

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl From<JsonRejection> for Problem {
    fn from(e: JsonRejection) -> Self {
        Self(Failure::bad_input(e.body_text()))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, title) = match self.0.kind {
            FailureKind::BadInput => (StatusCode::BAD_REQUEST, "bad input"),
            FailureKind::Refused => (StatusCode::FORBIDDEN, "refused"),
            FailureKind::NotFound => (StatusCode::NOT_FOUND, "not found"),
            FailureKind::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            FailureKind::Damaged => (StatusCode::INTERNAL_SERVER_ERROR, "damaged"),
            FailureKind::Io | FailureKind::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, "failed")
            }
        };
        let body = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": self.0.why});
        (
            status,
            [(CONTENT_TYPE, "application/problem+json")],
            body.to_string(),
        )
            .into_response()
    }
}

type Answer<T> = Result<Json<T>, Problem>;

/// The admin routes.
pub fn router(control: Arc<Control>) -> Router {
    Router::new()
        .route("/v1/admin/devices", get(devices).post(add_device))
        .route("/v1/admin/devices/{id}/disable", post(disable_device))
        .route("/v1/admin/parties", get(parties).post(add_party))
        .route("/v1/admin/parties/{id}/disable", post(disable_party))
        .route("/v1/admin/streams", get(streams))
        .route("/v1/admin/streams/assign", post(assign))
        .route("/v1/admin/streams/profile", post(profile))
        .route("/v1/admin/sessions", get(sessions))
        .route("/v1/admin/status", get(status))
        .with_state(control)
}

/// Runs what waits for the disk or the windower on a thread that may wait.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Outcome<T> + Send + 'static,
) -> Outcome<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Failure::internal("a request's thread panicked")))
}

async fn devices(State(c): Shared) -> Answer<Value> {
    Ok(Json(json!(c.registry.devices())))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewDevice {
    id: DeviceId,
    kind: DeviceKind,
    #[serde(default)]
    streams: Vec<StreamName>,
    #[serde(default)]
    watches: Vec<DeviceId>,
}

async fn add_device(
    State(c): Shared,
    body: Result<Json<NewDevice>, JsonRejection>,
) -> Answer<DeviceMade> {
    let Json(new) = body?;
    let kind = match new.kind {
        DeviceKind::Device => "device",
        DeviceKind::Gateway => "gateway",
        DeviceKind::Monitor => "monitor",
    };
    let urn = format!("urn:chordae:{kind}:{}", new.id);
    let pair = authority::sign(&c.ca, &Leaf::Client(&urn), c.clock.wall_ns())?;
    let made = DeviceMade {
        cert: pair.cert,
        key: pair.key,
        ca: c.ca.cert.clone(),
    };
    apart(move || {
        let mut device = Device::new(new.id, new.kind);
        device.streams = new.streams;
        device.watches = new.watches;
        c.registry.add_device(device)
    })
    .await?;
    Ok(Json(made))
}

async fn disable_device(State(c): Shared, Path(id): Path<String>) -> Answer<Value> {
    let id: DeviceId = id.parse()?;
    apart(move || c.registry.enable_device(&id, false)).await?;
    Ok(Json(Value::Null))
}

async fn parties(State(c): Shared) -> Answer<Value> {
    let lines = c.registry.parties().into_iter().map(|p| {
        json!({"id": p.identity.key_id(), "name": p.identity.name, "role": p.identity.role.as_str(), "enabled": p.enabled})
    });
    Ok(Json(lines.collect()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewParty {
    identity: PublicIdentity,
    role: String,
}

async fn add_party(State(c): Shared, body: Result<Json<NewParty>, JsonRejection>) -> Answer<Value> {
    let Json(new) = body?;
    let identity = PublicIdentity {
        role: key::role(&new.role)?,
        ..new.identity
    };
    let id = apart(move || c.registry.add_party(identity)).await?;
    Ok(Json(json!({"id": id})))
}

async fn disable_party(State(c): Shared, Path(id): Path<String>) -> Answer<Value> {
    let id: KeyId = id.parse()?;
    apart(move || c.registry.enable_party(&id, false)).await?;
    Ok(Json(Value::Null))
}

fn line(c: &Control, stream: &StreamKey, plan: &StreamPlan, did: Did) -> StreamLine {
    let newest = c.catalogue.head(&did);
    StreamLine {
        stream: stream.clone(),
        did,
        patient: c.registry.patient_of(&did),
        from_ns: plan
            .tenures
            .iter()
            .find(|t| t.did == did)
            .map(|t| t.from_ns),
        chunks: newest.as_ref().map_or(0, |l| l.index + 1),
        end_ns: newest.map(|l| l.end_ns),
        slot_ns: plan.slot_len_at(c.clock.wall_ns()),
    }
}

async fn streams(State(c): Shared) -> Answer<Vec<StreamLine>> {
    let all = c.registry.streams();
    let lines = all
        .iter()
        .flat_map(|(key, plan)| plan.dids().map(|did| line(&c, key, plan, did)));
    Ok(Json(lines.collect()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Assignment {
    stream: StreamKey,
    patient: KeyId,
    at_ns: Option<i64>,
}

/// Whose a stream is (formats.md 1, did). The windower serialises it with the rows: either the did has none
/// and takes the patient itself, or a new did begins at a time after every sealed row.
async fn assign(
    State(c): Shared,
    body: Result<Json<Assignment>, JsonRejection>,
) -> Answer<StreamLine> {
    let Json(want) = body?;
    let known = c.registry.party(&want.patient);
    if !known.is_some_and(|p| p.enabled && p.identity.role == Role::Patient) {
        let why = format!(
            "{} is no known patient; run: chordae party add FILE.pub --role patient",
            want.patient
        );
        return Err(Failure::not_found(why).into());
    }
    let newest = c.ingest.newest(want.stream.clone()).await?;
    let skew = newest.map(|n| n.mapped_end_ns.saturating_sub(n.recv_ns));
    let line = apart(move || {
        let plan = c.registry.open_stream(&want.stream)?;
        let did = plan.newest();
        match c.registry.patient_of(&did) {
            Some(same) if same == want.patient => return Ok(line(&c, &want.stream, &plan, did)),
            Some(_) => {}
            None => {
                let (registry, patient) = (Arc::clone(&c.registry), want.patient);
                let take = Box::new(move || registry.set_patient(did, patient));
                if c.feed.claim(&want.stream, did, take)? {
                    return Ok(line(&c, &want.stream, &plan, did));
                }
            }
        }
        let from_ns = match want.at_ns {
            Some(at) => at,
            None if skew.is_some_and(|s| s.unsigned_abs() > limits::ASSIGN_SKEW_NS_MAX.unsigned_abs()) => {
                return Err(Failure::refused(
                    "the device's clock is more than 5 s off, so \"now\" is no sample time of it; name one with --at",
                ));
            }
            None => c.clock.wall_ns(),
        };
        let fresh = c.registry.fresh_did();
        let mut next = plan;
        next.tenures.push(Tenure { from_ns, did: fresh });
        let (registry, stream) = (Arc::clone(&c.registry), want.stream.clone());
        let persist = move || registry.add_tenure(&stream, fresh, from_ns, Some(want.patient)).map(drop);
        c.feed.replan(&want.stream, next.clone(), from_ns, Box::new(persist))?;
        Ok(line(&c, &want.stream, &next, fresh))
    })
    .await?;
    Ok(Json(line))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    stream: StreamKey,
    slot_ns: i64,
}

async fn profile(
    State(c): Shared,
    body: Result<Json<Profile>, JsonRejection>,
) -> Answer<StreamLine> {
    let Json(want) = body?;
    let newest = c.ingest.newest(want.stream.clone()).await?;
    let line = apart(move || {
        let plan = c.registry.open_stream(&want.stream)?;
        let did = plan.newest();
        let stored = c.catalogue.head(&did).map(|l| l.end_ns);
        let seen = stored
            .into_iter()
            .chain(newest.map(|n| n.mapped_end_ns))
            .max();
        // A stream without rows changes from the beginning of time, one with rows after the newest of them.
        let after = seen.map_or(0, |end| end.max(c.clock.wall_ns()));
        let after = plan
            .slots
            .last()
            .map_or(after, |r| after.max(r.from_ns.saturating_add(1)));
        let old = plan.slot_len_at(after);
        if want.slot_ns == old && plan.slots.last().is_some_and(|r| r.len_ns == old) {
            return Ok(line(&c, &want.stream, &plan, did));
        }
        let from_ns = next_multiple(after, old, want.slot_ns)?;
        let rule = SlotRule {
            from_ns,
            len_ns: want.slot_ns,
        };
        let mut next = plan;
        next.slots.push(rule);
        let (registry, stream) = (Arc::clone(&c.registry), want.stream.clone());
        let persist = move || registry.add_slot_rule(&stream, rule).map(drop);
        c.feed
            .replan(&want.stream, next.clone(), from_ns, Box::new(persist))?;
        Ok(line(&c, &want.stream, &next, did))
    })
    .await?;
    Ok(Json(line))
}

/// The first common multiple of two slot lengths at or after a time.
fn next_multiple(after_ns: i64, old: i64, new: i64) -> Outcome<i64> {
    if new < limits::PAGE_NS || new % limits::PAGE_NS != 0 || new > limits::SLOT_NS_MAX {
        return Err(Failure::bad_input(
            "a slot is a multiple of 10 s, at most 1 h",
        ));
    }
    let (mut a, mut b) = (old / SECOND_NS, new / SECOND_NS);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    let both = old / SECOND_NS / a.max(1) * new;
    let down = after_ns.div_euclid(both).saturating_mul(both);
    Ok(if down < after_ns {
        down.saturating_add(both)
    } else {
        down
    })
}

async fn sessions(State(c): Shared) -> Answer<Value> {
    Ok(Json(c.directory.list().iter().map(hex::encode).collect()))
}

async fn status(State(c): Shared) -> Answer<Value> {
    let (reply, answer) = sync_channel(1);
    let feed = c.feed.clone();
    let chunker = apart(move || {
        feed.send(Input::Status { reply })?;
        answer
            .recv()
            .map_err(|_| Failure::io("the chunker has ended"))
    })
    .await?;
    Ok(Json(c.status.show(&c, &chunker)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_changes_fall_on_a_multiple_of_both() {
        let s = SECOND_NS;
        assert_eq!(next_multiple(0, 300 * s, 60 * s).unwrap(), 0);
        assert_eq!(next_multiple(1, 300 * s, 60 * s).unwrap(), 300 * s);
        assert_eq!(next_multiple(1, 20 * s, 30 * s).unwrap(), 60 * s);
        assert_eq!(next_multiple(-1, 20 * s, 30 * s).unwrap(), 0);
        assert!(next_multiple(0, 20 * s, 15 * s).is_err());
    }
}
