//! `/v1/admin/streams`: whose a stream is, and how it is cut.
//!
//! Both changes go through the windower, which alone knows which rows are sealed: it either takes the
//! change before any row that the change is about, or refuses it.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{State, rejection::JsonRejection},
    routing::{get, post},
};
use chordae_base::{
    Did, Failure, KeyId, Outcome, StreamKey, StreamPlan, limits,
    plan::{SlotRule, Tenure},
    time::SECOND_NS,
    wire::ClockKind,
};
use chordae_chain::keys::Role;
use chordae_ingest::core::sight::Sight;
use chordae_storage::registry::Registry;
use serde::{Deserialize, Serialize};

use super::{About, Answer, Control, Problem, Shared, apart};
use crate::assemble::Feed;

pub(super) fn routes() -> Router<Arc<Control>> {
    Router::new()
        .route("/v1/admin/streams", get(streams))
        .route("/v1/admin/streams/assign", post(assign))
        .route("/v1/admin/streams/profile", post(profile))
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
    /// What comes in now; only where streams are listed, for the did that new rows go to.
    pub live: Option<Live>,
}

/// A stream as it comes in.
#[derive(Debug, Serialize, Deserialize)]
pub struct Live {
    /// When its newest frame or birth came.
    pub seen_ns: i64,
    /// End of its newest live sample, by our clock; absent if none came since the start.
    pub newest_ns: Option<i64>,
    /// What is added to the times that its device claims; absent while nothing tells.
    pub offset_ns: Option<i64>,
    /// What the device says of its clock, as long as `offset_ns` is known.
    pub clock: Option<ClockKind>,
    /// Frames of the device's newest boot that are missing between those in memory.
    pub missing_frames: u64,
}

/// A changed stream; the record of the change names it, so that its patient can read who changed it.
type Changed = Result<(Extension<About>, Json<StreamLine>), Problem>;

fn changed(line: StreamLine) -> Changed {
    Ok((Extension(About(line.did)), Json(line)))
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
        live: None,
    }
}

fn live(sight: &Sight) -> Live {
    Live {
        seen_ns: sight.recv_ns,
        newest_ns: sight.newest_ns,
        offset_ns: sight.clock.map(|setting| setting.offset_ns),
        clock: sight.clock.map(|setting| setting.clock),
        missing_frames: sight.missing,
    }
}

async fn streams(State(c): Shared) -> Answer<Vec<StreamLine>> {
    let sights = c.ingest.sights().await?;
    let mut lines = Vec::new();
    for (key, plan) in &c.registry.streams() {
        for did in plan.dids() {
            let sight = sights.get(key).filter(|_| did == plan.newest());
            let live = sight.map(live);
            lines.push(StreamLine {
                live,
                ..line(&c, key, plan, did)
            });
        }
    }
    Ok(Json(lines))
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
async fn assign(State(c): Shared, body: Result<Json<Assignment>, JsonRejection>) -> Changed {
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
        let from_ns = || match want.at_ns {
            Some(at) => Ok(at),
            None if skew.is_some_and(|s| s.unsigned_abs() > limits::ASSIGN_SKEW_NS_MAX.unsigned_abs()) => {
                Err(Failure::refused(
                    "the device's clock is more than 5 s off, so \"now\" is no sample time of it; name one with --at",
                ))
            }
            None => Ok(c.clock.wall_ns()),
        };
        let fresh = c.registry.fresh_did();
        let (plan, did) = give(&c.registry, &c.feed, &want.stream, want.patient, fresh, from_ns)?;
        Ok(line(&c, &want.stream, &plan, did))
    })
    .await?;
    changed(line)
}

/// Makes a stream a patient's, who is known: its newest did takes the patient if it has no row yet, else `fresh`
/// begins at `from_ns`, which is only asked then. The plan that holds now, and the patient's did.
///
/// # Errors
/// `Refused` when rows from then on are sealed; those of the registry, after which only its journal knows
/// whether it holds.
pub fn give(
    registry: &Arc<Registry>,
    feed: &Feed,
    stream: &StreamKey,
    patient: KeyId,
    fresh: Did,
    from_ns: impl FnOnce() -> Outcome<i64>,
) -> Outcome<(StreamPlan, Did)> {
    let mut plan = registry.open_stream(stream)?;
    let did = plan.newest();
    match registry.patient_of(&did) {
        Some(same) if same == patient => return Ok((plan, did)),
        Some(_) => {}
        None => {
            let of = Arc::clone(registry);
            let take = Box::new(move || of.set_patient(did, patient));
            if feed.claim(stream, did, take)? {
                return Ok((plan, did));
            }
        }
    }
    let from_ns = from_ns()?;
    plan.tenures.push(Tenure {
        from_ns,
        did: fresh,
    });
    let (of, key) = (Arc::clone(registry), stream.clone());
    let persist = move || of.add_tenure(&key, fresh, from_ns, Some(patient)).map(drop);
    feed.replan(stream, plan.clone(), from_ns, Box::new(persist))?;
    Ok((plan, fresh))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    stream: StreamKey,
    slot_ns: i64,
}

async fn profile(State(c): Shared, body: Result<Json<Profile>, JsonRejection>) -> Changed {
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
    changed(line)
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
