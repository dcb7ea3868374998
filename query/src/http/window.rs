//! `GET /v1/streams/{did}/window`: rows, in the format asked for.
//!
//! ```text
//! authenticate ─▶ parse ─▶ place ─▶ decide ─▶ plan ─▶ room ─▶ trail ─▶ send
//!     401          400      429    403, 404    400     429
//! ```

use std::sync::Arc;

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use chordae_base::{Did, Failure, FailureKind, Outcome, Span, limits};

use super::{
    problem::Problem,
    send::{Answer, Whole, whole},
    service::{Caller, Service},
    signed::{DidPath, Signed, note_leads},
};
use crate::{
    core::{
        access::{Leads, Want},
        ask::leads_text,
        high_water::Now,
        plan::{Coverage, Gaps, Plan, plan},
    },
    formats::{Encoding, Format, Overview},
    trail::Deed,
};

const COVERAGE: HeaderName = HeaderName::from_static("chordae-coverage");
pub(super) const INTEGRITY: HeaderName = HeaderName::from_static("chordae-integrity");
const GAPS: HeaderName = HeaderName::from_static("chordae-gaps");
const OVERVIEW: HeaderName = HeaderName::from_static("chordae-overview");
const WINDOW: HeaderName = HeaderName::from_static("chordae-window");

/// What the window's query says.
struct Asked {
    want: Want,
    format: Format,
    encoding: Encoding,
    snap: bool,
    /// `max_points`.
    points: Option<u64>,
}

/// What is known before the first byte.
struct Ready {
    want: Want,
    plan: Plan,
    overview: Option<Overview>,
    headers: Vec<(HeaderName, String)>,
}

pub(super) async fn window(signed: Signed, did: DidPath) -> Response {
    let mut deed = signed.deed("window");
    let started = match parse(&signed, did, &mut deed) {
        Ok(asked) => start(&signed, asked, &mut deed).await,
        Err(failure) => Err(failure.into()),
    };
    let Started {
        answer,
        heads,
        whole,
    } = match started {
        Ok(started) => started,
        Err(problem) => return signed.settle(deed, Err(problem)).await,
    };
    let (media_type, encoding) = (answer.format.media_type(), answer.encoding);
    let sent = match whole {
        Some(whole) => answer.send_whole(deed, whole).await,
        None => {
            // Synced before the first byte; its closing record follows the last.
            if let Err(failure) = signed.service.trail.write(deed).await {
                return Problem::from(failure).into_response();
            }
            answer.body().await
        }
    };
    let mut response = match sent {
        Ok(body) => Response::new(body),
        Err(problem) => return problem.into_response(),
    };
    let into = response.headers_mut();
    into.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    into.insert(
        header::VARY,
        HeaderValue::from_static("accept, accept-encoding"),
    );
    if let Some(word) = encoding.word() {
        into.insert(header::CONTENT_ENCODING, HeaderValue::from_static(word));
    }
    for (name, value) in heads {
        // Numbers, dids and escaped names only, so it is always a header value.
        if let Ok(value) = HeaderValue::try_from(value) {
            into.insert(name, value);
        }
    }
    response
}

fn parse(signed: &Signed, did: DidPath, deed: &mut Deed) -> Outcome<Asked> {
    const KNOWN: &[&str] = &[
        "from",
        "until",
        "leads",
        "format",
        "clip",
        "snap",
        "max_points",
    ];
    let (want, params) = signed.want(did, KNOWN, deed)?;
    let snap = match params.get("snap") {
        None => false,
        Some("page") => true,
        Some(_) => return Err(Failure::bad_input("snap is page, or left out")),
    };
    let head = |name| signed.headers.get(name).and_then(|a| a.to_str().ok());
    let format = Format::choose(params.get("format"), head(header::ACCEPT))?;
    deed.format = format.word().to_owned();
    let points = params.number("max_points")?;
    if let Some(points) = points {
        let fits = (2..=limits::OVERVIEW_POINTS_MAX).contains(&points);
        if !fits || !format.overviews() {
            return Err(Failure::bad_input(format!(
                "max_points is 2 to {}, as arrow, csv or json",
                limits::OVERVIEW_POINTS_MAX
            )));
        }
        deed.format.push_str(" overview");
    }
    let encoding = match format.compressible() {
        true => Encoding::choose(head(header::ACCEPT_ENCODING)),
        false => Encoding::Identity,
    };
    Ok(Asked {
        want,
        format,
        encoding,
        snap,
        points,
    })
}

/// An answer that may be sent, its headers, and all of it if it is small.
struct Started {
    answer: Answer,
    heads: Vec<(HeaderName, String)>,
    whole: Option<Whole>,
}

async fn start(signed: &Signed, asked: Asked, deed: &mut Deed) -> Result<Started, Problem> {
    let (service, caller) = (&signed.service, &signed.caller);
    let place = service.place()?;
    let (of, by, now) = (Arc::clone(service), caller.clone(), service.now());
    let (format, encoding) = (asked.format, asked.encoding);
    let made = service.blocking(move || {
        let ready = prepare(&of, &by, asked, now)?;
        let columns = ready.plan.columns.len();
        let pieces = PIECES_ROWS.saturating_mul(8 + 4 * columns as u64);
        let encoder = match encoding {
            Encoding::Identity => 0,
            _ => limits::ENCODER_BYTES,
        };
        let held = (pieces + encoder).saturating_add(format.held_bytes(columns));
        let room = of.room(ready.plan.peak_bytes.saturating_add(held))?;
        let few = ready.plan.rows_about() <= limits::PIECE_ROWS as u64;
        let plain = encoding == Encoding::Identity && ready.overview.is_none();
        let whole = match few && plain && !format.surveyed() {
            true => whole(&of, ready.want.did, &ready.plan, format).inspect_err(|failure| {
                if failure.kind == FailureKind::Damaged {
                    of.metrics.verify_failed();
                }
            })?,
            false => None,
        };
        Ok((ready, room, whole))
    });
    let (ready, room, whole) = made.await?;
    // What was allowed, where that differs from what was asked for.
    (deed.from_ns, deed.until_ns) = (
        Some(ready.want.window.from_ns),
        Some(ready.want.window.until_ns),
    );
    note_leads(deed, &ready.want.leads);
    let answer = Answer {
        service: Arc::clone(service),
        caller: caller.clone(),
        want: ready.want,
        plan: ready.plan,
        format,
        overview: ready.overview,
        encoding,
        deed: deed.clone(),
        begun_ns: signed.begun_ns,
        permits: [place, room],
    };
    Ok(Started {
        answer,
        heads: ready.headers,
        whole,
    })
}

/// Rows of the pieces that wait for the reader, are made and are written.
const PIECES_ROWS: u64 = (limits::PIECES_QUEUE as u64 + 2) * limits::PIECE_ROWS as u64;

fn prepare(service: &Service, caller: &Caller, asked: Asked, now: Now) -> Result<Ready, Problem> {
    let span = tracing::debug_span!("plan", chunks = tracing::field::Empty);
    let _planning = span.enter();
    let (want, did) = (&asked.want, asked.want.did);
    let mut allowed = service.decide(caller, want, now)?;
    if asked.snap {
        allowed = allowed.snapped(limits::PAGE_NS);
    }
    let rows = allowed.rows();
    let touched = service.chunks.touching(&did, rows)?;
    let plan = plan(touched, rows, allowed.leads(), None)?;
    span.record("chunks", plan.chunks.len());
    let used = plan.chunks.iter().map(|t| t.link.index).max();
    let anchored = match used {
        Some(newest) => service.ledger.anchored(&did, newest)?,
        None => false,
    };
    let upto = used.or_else(|| service.chunks.newest(&did));
    let overview = asked
        .points
        .map(|points| Overview::new(plan.span(), points));
    let name = format!("{did}_{}_{}", rows.from_ns, rows.until_ns);
    let mut headers = vec![
        (COVERAGE, Coverage::of(&plan, rows).to_string()),
        (GAPS, Gaps::of(&plan, rows).to_string()),
        (
            header::CONTENT_DISPOSITION,
            format!(
                "attachment; filename=\"{name}.{}\"",
                asked.format.extension()
            ),
        ),
        (
            INTEGRITY,
            if anchored { "anchored" } else { "linked" }.to_owned(),
        ),
        (
            WINDOW,
            format!("from-ns={}, until-ns={}", rows.from_ns, rows.until_ns),
        ),
    ];
    match &overview {
        // What was left out cannot be proven.
        Some(overview) => {
            let (buckets, ns) = overview.size();
            headers.push((OVERVIEW, format!("buckets={buckets}, bucket-ns={ns}")));
        }
        None => headers.push((header::LINK, proof_link(did, rows, allowed.leads(), upto))),
    }
    let want = Want {
        did,
        window: allowed.window(),
        leads: allowed.leads().clone(),
        clip: false,
    };
    Ok(Ready {
        want,
        plan,
        overview,
        headers,
    })
}

/// Where the proof of exactly these rows is. Without `upto` the stream had no chunk at all.
fn proof_link(did: Did, rows: Span, leads: &Leads, upto: Option<u64>) -> String {
    let mut target = format!(
        "/v1/streams/{did}/proof?from={}&until={}",
        rows.from_ns, rows.until_ns
    );
    if let Leads::Named(names) = leads {
        target.push_str(&format!("&leads={}", leads_text(names)));
    }
    if let Some(upto) = upto {
        target.push_str(&format!("&upto={upto}"));
    }
    format!("<{target}>; rel=\"proof\"")
}
