//! `GET /v1/streams/{did}/proof`: the bundle that proves an answer (formats.md 6).
//!
//! The link in the answer's header says exactly which: the rows' span, the leads and `upto`, the newest
//! chunk that was used. It is decided, planned and merged again from the same values, so it shows the
//! same rows in the same order, whatever has been linked since. With `pages=none` it shows links, metadata
//! and leaves, and neither pages nor rows: what a report needs, and no lead has to be granted for it.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::Response,
};
use chordae_base::{Did, Failure, FailureKind, Outcome, limits};
use chordae_chain::bundle::{BundleAnchor, BundleChunk, LinkHex, ProofBundle};

use super::{
    problem::Problem,
    service::Service,
    signed::{DidPath, Signed},
};
use crate::core::{
    access::{Leads, Want},
    merge::{Merge, Step},
    plan::{Plan, plan},
    proof,
};

/// Bytes of a bundle per column of a page, and per link, as JSON and before.
const COLUMN_BYTES: u64 = 200;
const LINK_BYTES: u64 = 700;

pub(super) async fn proof(signed: Signed, did: DidPath) -> Response {
    const KNOWN: &[&str] = &["from", "until", "leads", "upto", "pages"];
    let mut deed = signed.deed("proof");
    let asked = signed.want(did, KNOWN, &mut deed);
    let asked = asked.and_then(|(want, params)| {
        let want = match params.get("pages") {
            None => want,
            Some("none") if want.leads == Leads::All => {
                deed.leads = Some(Vec::new());
                Want {
                    leads: Leads::Named(Vec::new()),
                    ..want
                }
            }
            Some("none") => return Err(Failure::bad_input("without pages there are no leads")),
            Some(_) => return Err(Failure::bad_input("pages is none, or left out")),
        };
        Ok((want, params.number("upto")?))
    });
    let made = match asked {
        Ok((want, upto)) => make(&signed, want, upto).await,
        Err(failure) => Err(failure.into()),
    };
    let answer = made.map(|(text, rows)| {
        deed.rows = Some(rows);
        let mut response = Response::new(Body::from(text));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    });
    let response = signed.settle(deed, answer).await;
    if response.status().is_success() {
        let service = &signed.service;
        let elapsed = service.clock.mono_ns().saturating_sub(signed.begun_ns);
        service.metrics.answered("proof", elapsed);
    }
    response
}

/// A proof before any chunk was opened.
struct Planned {
    did: Did,
    plan: Plan,
    links: Vec<LinkHex>,
    anchor: Option<BundleAnchor>,
    bytes: u64,
}

/// The bundle's text and the rows it proves.
async fn make(signed: &Signed, want: Want, upto: Option<u64>) -> Result<(String, u64), Problem> {
    let service = &signed.service;
    signed.hold(service.place()?);
    let (of, by, now) = (Arc::clone(service), signed.caller.clone(), service.now());
    // Only a request without pages asks for no lead at all.
    let bare = want.leads == Leads::Named(Vec::new());
    let planned = service.blocking(move || {
        let span = tracing::debug_span!("plan", chunks = tracing::field::Empty);
        let _planning = span.enter();
        let allowed = of.decide(&by, &want, now)?;
        let touched = of.chunks.touching(&want.did, allowed.rows())?;
        let plan = plan(touched, allowed.rows(), allowed.leads(), upto)?;
        span.record("chunks", plan.chunks.len());
        Ok(with_links(&of, want.did, plan)?)
    });
    let planned = planned.await?;
    signed.hold(service.room(planned.bytes)?);
    let of = Arc::clone(service);
    service
        .blocking(move || {
            let span = tracing::debug_span!("prove", rows = tracing::field::Empty);
            let _proving = span.enter();
            let Planned {
                did,
                plan,
                links,
                anchor,
                ..
            } = planned;
            let (mut chunks, mut runs) = show(&of, &plan).inspect_err(|failure| {
                if failure.kind == FailureKind::Damaged {
                    of.metrics.verify_failed();
                }
            })?;
            if bare {
                runs.clear();
                chunks.iter_mut().for_each(|c| c.pages.clear());
            }
            let rows = runs.iter().map(|(_, count)| count).sum();
            span.record("rows", rows);
            let (from_ns, until_ns) = (plan.rows.from_ns, plan.rows.until_ns);
            let bundle = ProofBundle {
                v: 1,
                did,
                from_ns,
                until_ns,
                links,
                chunks,
                rows: runs,
                anchor,
            };
            Ok((bundle.to_json()?, rows))
        })
        .await
}

/// The links from the first touched chunk to the earliest anchored one at or after the last.
fn with_links(service: &Service, did: Did, plan: Plan) -> Outcome<Planned> {
    let indexes = || plan.chunks.iter().map(|t| t.link.index);
    let (mut links, mut anchored) = (Vec::new(), None);
    if let (Some(first), Some(last)) = (indexes().min(), indexes().max()) {
        anchored = service.ledger.anchor(&did, last)?;
        let end = anchored.as_ref().map_or(last, |a| a.index);
        let count = end.checked_sub(first).and_then(|n| usize::try_from(n).ok());
        let count = count
            .and_then(|n| n.checked_add(1))
            .filter(|n| *n <= limits::LINKS_MAX);
        let why = "too many links lie between the window and its anchor: ask for a shorter one";
        let count = count.ok_or_else(|| Failure::bad_input(why))?;
        links = service.chunks.links(&did, first, count)?;
        if links.len() != count {
            return Err(Failure::damaged(
                "the ledger anchors a link that is not there",
            ));
        }
    }
    let largest = plan
        .chunks
        .iter()
        // The others keep their digests: no row of them is unpacked but the times in the window.
        .filter(|t| !service.is_hashed(&t.link))
        .map(|t| u64::from(t.link.rows).saturating_mul(16 + 8 * t.meta.leads.len() as u64));
    let bytes = largest
        .max()
        .unwrap_or(0)
        .saturating_add(plan.peak_bytes)
        .saturating_add(proof::columns(&plan)?.saturating_mul(COLUMN_BYTES))
        .saturating_add((links.len() as u64).saturating_mul(LINK_BYTES));
    let links = links.into_iter().map(LinkHex).collect();
    let anchor = anchored.map(|a| BundleAnchor {
        entry: a.entry.to_vec(),
        proof: a.proof,
        head: a.way,
    });
    Ok(Planned {
        did,
        plan,
        links,
        anchor,
        bytes,
    })
}

type Shown = (Vec<BundleChunk>, Vec<(u64, u64)>);

/// What is shown of each chunk, by index, and the runs of rows in the order of the answer. One chunk
/// is open at a time; of the others only the times are held.
fn show(service: &Service, plan: &Plan) -> Outcome<Shown> {
    let mut shown = BTreeMap::new();
    let mut runs = Vec::new();
    let mut merge = Merge::new(plan.keys());
    loop {
        let planned = |chunk: usize| {
            plan.chunks
                .get(chunk)
                .ok_or_else(|| Failure::internal("a chunk beyond the plan"))
        };
        match merge.step(usize::MAX) {
            Step::Done => break,
            Step::Fetch { chunk } => {
                let link = &planned(chunk)?.link;
                let file = service.chunk(link)?;
                shown.insert(link.index, proof::show(&file, link, plan)?);
                merge.give(chunk, file.times(plan.rows)?.1)?;
            }
            Step::Run { chunk, count, .. } => {
                proof::add_run(&mut runs, planned(chunk)?.link.index, count as u64);
            }
        }
    }
    Ok((shown.into_values().collect(), runs))
}
