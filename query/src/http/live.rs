//! `GET /v1/streams/{did}/live[?leads=]`: rows as they become durable, as server-sent events.
//!
//! ```text
//! tail ──frames after the last place──▶ whose, granted, not later than now ──▶ [ bounded ] ──▶ reader
//!   └─ bell                               ▲ grant looked at again each half second      ▲
//!                                         └──────────── ended: cut in front of what waits┘
//! ```
//!
//! The tail is taken first, then the catalogue, and what the catalogue covers is dropped: rows of the
//! buckets that are open when the reader comes, then everything new. A reader who takes the live answer
//! first and the window up to it afterwards misses nothing. `open` means what it says: rows that are
//! acknowledged, and not sealed, linked or anchored; the times of a frame that overtook the one before
//! it may differ from the sealed ones by its jitter.
//!
//! Events: `open`, `birth` (leads and rate of the frames that follow), `rows`, `hole`, `end`. The id of
//! `rows` is `boot.seq`: with it as `Last-Event-ID` a reader goes on behind that frame, or is told of
//! the hole. A record of the trail is synced before the first byte, another one before the last.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    http::{HeaderValue, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use chordae_base::{Failure, Outcome, Span, limits, wire::NO_VALUE};
use serde_json::{Value, json};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};

use super::{
    problem::Problem,
    service::{Caller, Service},
    signed::{DidPath, Signed, did_of, note_leads},
    window::INTEGRITY,
};
use crate::{
    core::{
        access::{Leads, Want},
        ports::{Bell, Tail, TailFrame, TailPage},
        tail::{self, FrameId},
    },
    metrics::LiveReader,
    trail::Deed,
};

/// Frames looked at in one go.
const FRAMES_AT_ONCE: usize = 8;
const RECHECK: Duration = Duration::from_nanos(limits::GRANT_RECHECK_NS);

pub(super) async fn live(signed: Signed, did: DidPath) -> Response {
    let mut deed = signed.deed("live");
    let begun = match parse(&signed, did, &mut deed) {
        Ok((want, from)) => begin(&signed, want, from, &deed).await,
        Err(failure) => Err(failure.into()),
    };
    let reader = match begun {
        Ok(reader) => reader,
        Err(problem) => return signed.settle(deed, Err(problem)).await,
    };
    // Synced before the first byte.
    if let Err(problem) = signed.service.note(deed).await {
        return problem.into_response();
    }
    let (events, queue) = mpsc::channel(limits::LIVE_EVENTS_QUEUE);
    let last = Arc::new(Mutex::new(None));
    let feed = Feed {
        queue,
        last: Arc::clone(&last),
        over: false,
    };
    // It ends with its reader, or its grant.
    tokio::spawn(reader.run(events, last));
    let beat = KeepAlive::new().interval(limits::LIVE_BEAT).text("beat");
    let mut response = Sse::new(feed).keep_alive(beat).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(INTEGRITY, HeaderValue::from_static("open"));
    response
}

fn parse(signed: &Signed, did: DidPath, deed: &mut Deed) -> Outcome<(Want, Option<FrameId>)> {
    let did = did_of(did)?;
    deed.did = Some(did);
    let leads = signed.params(&["leads"])?.leads()?;
    note_leads(deed, &leads);
    let last = signed.headers.get("last-event-id");
    let from = last.map(|v| FrameId::parse(v.to_str().unwrap_or_default()));
    // Of what the grant must allow: this instant. What else it allows bounds the rows.
    let now_ns = signed.service.now().wall_ns;
    let window = Span {
        from_ns: now_ns,
        until_ns: now_ns,
    };
    let want = Want {
        did,
        window,
        leads,
        clip: false,
    };
    Ok((want, from.transpose()?))
}

async fn begin(
    signed: &Signed,
    want: Want,
    from: Option<FrameId>,
    deed: &Deed,
) -> Result<Reader, Problem> {
    let service = &signed.service;
    let place = Arc::clone(&service.live).try_acquire_owned();
    let place = place.map_err(|_| Problem::busy("too many live readers: try again"))?;
    let (of, by, asked, now) = (
        Arc::clone(service),
        signed.caller.clone(),
        want.clone(),
        service.now(),
    );
    let bounds = service.blocking(move || Ok(of.decide(&by, &asked, now)?.bounds()));
    let bounds = bounds.await?;
    // Said after the grant, so that it tells nobody anything.
    let none = || Failure::busy("nothing new is taken here now: ask for a window");
    let tail = service.tail.clone().ok_or_else(none)?;
    let news = Arc::new(Notify::new());
    let rings = Arc::clone(&news);
    let bell: Arc<Bell> = Arc::new(move || rings.notify_one());
    tail.ring(&want.did, Arc::downgrade(&bell));
    Ok(Reader {
        service: Arc::clone(service),
        caller: signed.caller.clone(),
        tail,
        want,
        bounds,
        from,
        at: 0,
        boot: None,
        rows: 0,
        looked_ns: service.clock.mono_ns(),
        news,
        deed: deed.clone(),
        _bell: bell,
        _place: (place, service.metrics.live_reader()),
    })
}

/// One live answer.
struct Reader {
    service: Arc<Service>,
    caller: Caller,
    tail: Arc<dyn Tail>,
    want: Want,
    /// What the grant allows of the stream.
    bounds: Span,
    /// The frame behind which the reader goes on.
    from: Option<FrameId>,
    /// The place in the tail up to which everything was sent.
    at: u64,
    /// The boot whose birth was told last.
    boot: Option<u64>,
    rows: u64,
    looked_ns: u64,
    news: Arc<Notify>,
    deed: Deed,
    _bell: Arc<Bell>,
    _place: (OwnedSemaphorePermit, LiveReader),
}

/// Why a live answer ended: outcome in the trail, and what the reader is told.
struct End(&'static str, &'static str);

const GONE: End = End("cut", "the reader is gone");
const SLOW: End = End("slow", "the reader is too slow: ask for a window");
const REVOKED: End = End("revoked", "the grant has ended");
const STOPPED: End = End("stopped", "nothing new is taken here now");
const FAILED: End = End("failed", "the tail cannot be read");

type Events = mpsc::Sender<Event>;

impl Reader {
    async fn run(mut self, events: Events, last: Arc<Mutex<Option<Event>>>) {
        let End(outcome, detail) = match self.follow(&events).await {
            Err(end) => end,
            Ok(never) => match never {},
        };
        let now_ms = self.service.clock.wall_ns() / 1_000_000;
        self.deed.time_ms = u64::try_from(now_ms).unwrap_or(0);
        self.deed.outcome = outcome.to_owned();
        self.deed.rows = Some(self.rows);
        // What waits is not sent any more: the end comes before it, from the moment it is known.
        let end = event("end", &json!({ "code": outcome, "detail": detail }));
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
        if let Err(failure) = self.service.trail.write(self.deed).await {
            tracing::warn!(%failure, "a live answer has no closing record");
        }
        drop(events);
    }

    async fn follow(&mut self, events: &Events) -> Result<std::convert::Infallible, End> {
        let resumed = self.from.and_then(|id| self.find(id));
        let told = json!({
            "did": self.want.did, "integrity": "open", "resumed": resumed.is_some(),
            "from_ns": bound(self.bounds.from_ns), "until_ns": bound(self.bounds.until_ns),
        });
        self.offer(events, event("open", &told)).await?;
        // Until the tail has been read to its end once, what the catalogue covers is dropped.
        let mut caught_up = resumed.is_some();
        if let Some(at) = resumed {
            self.at = at;
        } else if self.from.is_some() {
            let why = "the frame to go on from is not here any more: ask for a window";
            self.hole(events, "not-here", why).await?;
        }
        loop {
            let page = self.page(!caught_up).await?;
            let (ended, idle) = (page.ended, page.frames.is_empty());
            if page.lost.is_some() {
                if caught_up {
                    // Behind by all that is kept of the stream.
                    return Err(SLOW);
                }
                let why = "older open rows are not in memory any more: they come with their chunks";
                self.hole(events, "older", why).await?;
            }
            caught_up |= idle;
            let ahead_ns = self.send(events, page).await?;
            if ended && idle {
                return Err(STOPPED);
            }
            if let Some(ns) = ahead_ns {
                let wait = Duration::from_nanos(ns.unsigned_abs());
                tokio::time::sleep(wait.min(RECHECK / 2)).await;
            } else if idle {
                tokio::select! {
                    () = self.news.notified() => {}
                    () = tokio::time::sleep(RECHECK / 2) => {}
                    () = events.closed() => return Err(GONE),
                }
            }
            self.look().await?;
        }
    }

    fn find(&self, id: FrameId) -> Option<u64> {
        self.tail.find(&self.want.did, id.boot, id.seq)
    }

    /// The next frames; `uncovered` drops the rows that are in a chunk already.
    async fn page(&self, uncovered: bool) -> Result<TailPage, End> {
        let (service, tail) = (Arc::clone(&self.service), Arc::clone(&self.tail));
        let (did, at) = (self.want.did, self.at);
        let page = self.service.blocking(move || {
            let mut page = tail.after(&did, at, FRAMES_AT_ONCE)?;
            if uncovered {
                let spans = page.frames.iter().filter_map(span);
                let spans = spans.chain(page.lost.map(|(_, _, span)| span));
                let all = spans.reduce(|a, b| Span {
                    from_ns: a.from_ns.min(b.from_ns),
                    until_ns: a.until_ns.max(b.until_ns),
                });
                if let Some(all) = all {
                    tail::drop_covered(&mut page, &service.chunks.touching(&did, all)?);
                }
            }
            Ok(page)
        });
        page.await.map_err(|problem| {
            tracing::warn!(code = problem.code(), "a live answer was broken off");
            FAILED
        })
    }

    /// Sends the frames of a page. Stops at one whose last row is still to come, and says how long.
    async fn send(&mut self, events: &Events, page: TailPage) -> Result<Option<i64>, End> {
        for frame in page.frames {
            let wall_ns = self.service.now().wall_ns;
            let last = frame.rows.times.last().copied().unwrap_or(i64::MIN);
            let ahead_ns = last.saturating_sub(wall_ns);
            if ahead_ns > 0 && ahead_ns <= limits::LIVE_AHEAD_NS_MAX {
                return Ok(Some(ahead_ns));
            }
            let until_ns = self.bounds.until_ns.min(wall_ns.saturating_add(1));
            let shown = Span {
                from_ns: self.bounds.from_ns,
                until_ns,
            };
            let (told, rows) = rows(&frame, &self.want.leads, shown);
            if rows > 0 {
                if self.boot != Some(frame.boot) {
                    self.boot = Some(frame.boot);
                    let told = birth(&frame, &self.want.leads);
                    self.offer(events, event("birth", &told)).await?;
                }
                let id = FrameId {
                    boot: frame.boot,
                    seq: frame.seq,
                };
                let event = event("rows", &told).id(id.to_string());
                self.offer(events, event).await?;
                self.rows += rows;
            }
            if ahead_ns > 0 {
                let why = "rows later than now are left out: ask for a window in a while";
                self.hole(events, "later-than-now", why).await?;
            }
            self.at = frame.at;
        }
        self.at = self.at.max(page.next);
        Ok(None)
    }

    async fn hole(&mut self, events: &Events, code: &str, detail: &str) -> Result<(), End> {
        let told = json!({ "code": code, "detail": detail });
        self.offer(events, event("hole", &told)).await
    }

    /// Hands an event over; the grant is looked at while the reader lets us wait.
    async fn offer(&mut self, events: &Events, event: Event) -> Result<(), End> {
        self.look().await?;
        let begun = tokio::time::Instant::now();
        loop {
            tokio::select! {
                place = events.reserve() => {
                    place.map_err(|_| GONE)?.send(event);
                    return Ok(());
                }
                () = tokio::time::sleep(RECHECK) => self.look().await?,
            }
            if begun.elapsed() >= limits::LIVE_STALL {
                return Err(SLOW);
            }
        }
    }

    /// Looks at the grant again if the last look is old.
    async fn look(&mut self) -> Result<(), End> {
        let now_ns = self.service.clock.mono_ns();
        if now_ns.saturating_sub(self.looked_ns) < limits::GRANT_RECHECK_NS {
            return Ok(());
        }
        self.looked_ns = now_ns;
        let (service, caller) = (Arc::clone(&self.service), self.caller.clone());
        let now = service.now();
        let mut want = self.want.clone();
        want.window = Span {
            from_ns: now.wall_ns,
            until_ns: now.wall_ns,
        };
        let looked = self.service.blocking(move || {
            let party = service.parties.party(&caller.kid);
            if !party.is_some_and(|p| p.enabled) {
                return Err(Problem::unknown_caller());
            }
            Ok(service.decide(&caller, &want, now)?.bounds())
        });
        self.bounds = looked.await.map_err(|_| REVOKED)?;
        Ok(())
    }
}

fn span(frame: &TailFrame) -> Option<Span> {
    let times = &frame.rows.times;
    Some(Span {
        from_ns: *times.first()?,
        until_ns: times.last()?.saturating_add(1),
    })
}

/// A bound, or null for none.
fn bound(ns: i64) -> Option<i64> {
    (ns != i64::MIN && ns != i64::MAX).then_some(ns)
}

fn event(name: &str, told: &Value) -> Event {
    // JSON text has no line ends, so one data line holds it.
    Event::default().event(name).data(told.to_string())
}

/// Leads and rate of the frames of a boot, as far as they are shown.
fn birth(frame: &TailFrame, leads: &Leads) -> Value {
    let shown = frame.birth.leads.iter().filter(|l| named(leads, &l.name));
    let lead = |l: &chordae_base::wire::Lead| {
        json!({
            "name": l.name, "mdc": l.mdc, "gain": l.gain, "baseline": l.baseline, "unit": l.unit,
            "bits": l.bits,
        })
    };
    json!({
        "boot": frame.boot,
        "rate": [frame.birth.rate.num(), frame.birth.rate.den()],
        "leads": shown.map(lead).collect::<Vec<_>>(),
    })
}

fn named(leads: &Leads, name: &str) -> bool {
    match leads {
        Leads::All => true,
        Leads::Named(names) => names.iter().any(|n| n == name),
    }
}

/// The rows of a frame inside a span, and how many they are. The time of row k is `first_ns +
/// after_ns[k]`: the differences are numbers that every JSON reader holds exactly.
fn rows(frame: &TailFrame, leads: &Leads, shown: Span) -> (Value, u64) {
    let within = frame.rows.within(shown);
    let times = frame.rows.times.get(within.clone()).unwrap_or_default();
    let first_ns = times.first().copied().unwrap_or(0);
    let after: Vec<i64> = times.iter().map(|t| t.saturating_sub(first_ns)).collect();
    let code = |c: &i32| (*c != NO_VALUE).then_some(*c);
    let mut codes: BTreeMap<&str, Vec<Option<i32>>> = BTreeMap::new();
    for (lead, column) in frame.birth.leads.iter().zip(&frame.rows.leads) {
        if named(leads, &lead.name) {
            let column = column.get(within.clone()).unwrap_or_default();
            codes.insert(&lead.name, column.iter().map(code).collect());
        }
    }
    let told = json!({
        "integrity": "open", "boot": frame.boot, "seq": frame.seq,
        "lane": if frame.late { "late" } else { "live" },
        "first_ns": first_ns, "after_ns": after, "leads": codes,
    });
    (told, times.len() as u64)
}

/// The events as a body. The end of the answer overtakes what waits.
struct Feed {
    queue: mpsc::Receiver<Event>,
    last: Arc<Mutex<Option<Event>>>,
    over: bool,
}

impl futures_core::Stream for Feed {
    type Item = Result<Event, std::convert::Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        use std::task::Poll;
        if self.over {
            return Poll::Ready(None);
        }
        let next = self.queue.poll_recv(cx);
        let end = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            last.take()
        };
        match (end, next) {
            (Some(end), _) => {
                self.over = true;
                Poll::Ready(Some(Ok(end)))
            }
            (None, Poll::Ready(Some(event))) => Poll::Ready(Some(Ok(event))),
            (None, Poll::Ready(None)) => Poll::Ready(None),
            (None, Poll::Pending) => Poll::Pending,
        }
    }
}
