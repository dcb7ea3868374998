//! Rows to bytes to the reader, chunk by chunk, in bounded memory.
//!
//! ```text
//! one blocking thread per answer                                     the reader's connection
//! merge ──fetch──▶ chunk file ──page by page──▶ piece ──format──▶ [ PIECES_QUEUE ] ──▶ body
//!   ▲                                            │
//!   └── grant looked at again every half second  └── a reader that stalls is cut off
//! ```
//!
//! An answer of few rows is made whole, and goes out in one piece after both its records are in the trail; what
//! follows is about the others.
//!
//! An answer ends well (`complete`) or its connection breaks: a reader cannot mistake a part for the
//! whole. The body ends well only after a piece that says so, so that a sender who gives up, for whatever
//! reason, breaks it by saying nothing. Either way a closing record with the rows that were handed over is in
//! the trail before the end is.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use chordae_base::{Did, Failure, FailureKind, Outcome, limits};
use chordae_chunk::{ChunkFile, ChunkRows};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{
    problem::Problem,
    service::{Caller, Service},
};
use crate::{
    core::{
        access::Want,
        merge::{Merge, Step},
        plan::{Column, Plan},
    },
    formats::{Encoding, Format, Heading, Overview, Surveyor, Writer},
    trail::Deed,
};

/// An answer that may be sent.
pub(super) struct Answer {
    pub(super) service: Arc<Service>,
    pub(super) caller: Caller,
    /// What was allowed, to be asked again while sending.
    pub(super) want: Want,
    pub(super) plan: Plan,
    pub(super) format: Format,
    /// Buckets instead of the rows.
    pub(super) overview: Option<Overview>,
    pub(super) encoding: Encoding,
    pub(super) deed: Deed,
    pub(super) begun_ns: u64,
    /// Its place and its memory, given back when it ends.
    pub(super) permits: [OwnedSemaphorePermit; 2],
}

/// Why sending ended before its end.
enum Stop {
    /// The reader went away or stalled.
    Reader,
    /// The grant no longer holds.
    Grant,
    /// We cannot go on.
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What the sender hands over.
enum Piece {
    Bytes(Bytes),
    /// Everything is there; nothing follows.
    End,
}

type Pieces = mpsc::Sender<Result<Piece, Failure>>;

/// An answer that is made whole before its first byte goes out: its bytes and rows.
pub(super) type Whole = (Bytes, u64);

/// Makes an answer of few rows in one piece; `None` if there turn out to be more than a few. Blocks.
///
/// # Errors
/// `Damaged` when a chunk is not the one that its link names.
pub(super) fn whole(
    service: &Service,
    did: Did,
    plan: &Plan,
    format: Format,
) -> Outcome<Option<Whole>> {
    let span = reading();
    let _reading = span.enter();
    let heading = Heading {
        did,
        rates: plan.rates.clone(),
        columns: plan.columns.clone(),
    };
    let mut writer = format.writer(heading, None)?;
    let mut source = Rows::new(service, plan);
    let mut body = BytesMut::from(writer.begin()?);
    let mut count = 0;
    while let Some(rows) = source.piece()? {
        count += rows.len() as u64;
        if count > WHOLE_ROWS_MAX {
            return Ok(None);
        }
        body.extend_from_slice(&writer.rows(rows)?);
    }
    body.extend_from_slice(&writer.end()?);
    span.record("rows", count);
    Ok(Some((body.freeze(), count)))
}

/// The span of rows that are read and put into their format.
fn reading() -> tracing::Span {
    tracing::debug_span!("read", rows = tracing::field::Empty)
}

/// Rows of an answer that is made whole.
pub(super) const WHOLE_ROWS_MAX: u64 = 2 * limits::PIECE_ROWS as u64;

impl Answer {
    /// Starts sending; the body, once the first piece is there.
    ///
    /// # Errors
    /// When not even the first piece could be made; the trail says so.
    pub(super) async fn body(self) -> Result<Body, Problem> {
        let (pieces, mut queue) = mpsc::channel(limits::PIECES_QUEUE);
        let service = Arc::clone(&self.service);
        // It ends with the reader, at the latest after a stall.
        service.apart(move || self.run(&pieces));
        let first = queue.recv().await.unwrap_or_else(|| Err(unsaid()))?;
        Ok(Body::from_stream(PieceStream {
            first: Some(first),
            queue,
            over: false,
        }))
    }

    /// An answer that is whole: what was asked and what was given are written to the trail, both synced at once,
    /// and only then it goes out.
    ///
    /// # Errors
    /// Those of the trail.
    pub(super) async fn send_whole(self, deed: Deed, whole: Whole) -> Result<Body, Problem> {
        let (bytes, rows) = whole;
        let closing = Deed {
            outcome: "complete".to_owned(),
            rows: Some(rows),
            ..deed.clone()
        };
        self.service.trail.write_all(vec![deed, closing]).await?;
        let elapsed = self.service.clock.mono_ns().saturating_sub(self.begun_ns);
        self.service.metrics.answered(self.format.word(), elapsed);
        Ok(Body::from(bytes))
    }

    fn run(mut self, pieces: &Pieces) {
        let mut rows = 0;
        let span = reading();
        let sent = span.in_scope(|| self.send(pieces, &mut rows));
        span.record("rows", rows);
        drop(span);
        // A reader that stalled gets no last piece: saying nothing breaks its answer off.
        let (outcome, last) = match sent {
            Ok(()) => ("complete", Some(Ok(Piece::End))),
            Err(Stop::Reader) => ("cut", None),
            Err(Stop::Grant) => (
                "revoked",
                Some(Err(Failure::refused("the grant has ended"))),
            ),
            Err(Stop::Failed(failure)) => ("failed", Some(Err(failure))),
        };
        if let Some(Err(failure)) = &last {
            tracing::warn!(%failure, outcome, "an answer was broken off");
            if failure.kind == FailureKind::Damaged {
                self.service.metrics.verify_failed();
            }
        }
        let now_ms = self.service.clock.wall_ns() / 1_000_000;
        self.deed.time_ms = u64::try_from(now_ms).unwrap_or(0);
        self.deed.outcome = outcome.to_owned();
        self.deed.rows = Some(rows);
        let closed = self.service.trail.write_blocking(self.deed);
        // An end that the trail does not know is not given.
        let last = match (last, closed) {
            (Some(Ok(_)), Err(failure)) => Some(Err(failure)),
            (last, _) => last,
        };
        if let Some(last) = last {
            // Whoever does not take it is broken off all the same.
            let threads = &self.service.threads;
            drop(threads.wait_for(limits::READER_STALL, pieces.send(last)));
        }
        let elapsed = self.service.clock.mono_ns().saturating_sub(self.begun_ns);
        self.service.metrics.answered(self.format.word(), elapsed);
        drop(self.permits);
    }

    fn send(&self, pieces: &Pieces, sent: &mut u64) -> Result<(), Stop> {
        let mut encoder = self.encoding.encoder()?;
        let hand_over = |bytes: Bytes| {
            // A writer may hold rows back, to the end of a row group for example.
            if bytes.is_empty() {
                return Ok(());
            }
            let threads = &self.service.threads;
            match threads.wait_for(limits::READER_STALL, pieces.send(Ok(Piece::Bytes(bytes)))) {
                Some(Ok(())) => Ok(()),
                _ => Err(Stop::Reader),
            }
        };
        let mut looked_ns = self.begun_ns;
        let mut writer = self.writer(&mut looked_ns)?;
        let mut overview = self.overview.clone();
        let mut source = Rows::new(&self.service, &self.plan);
        // Nothing goes out before the first rows could be read.
        let mut next = source.piece()?;
        hand_over(encoder.push(writer.begin()?)?)?;
        while let Some(rows) = next {
            self.still_granted(&mut looked_ns)?;
            let rows = match &mut overview {
                Some(overview) => overview.rows(&rows),
                None => rows,
            };
            let count = rows.len() as u64;
            hand_over(encoder.push(writer.rows(rows)?)?)?;
            *sent += count;
            next = source.piece()?;
        }
        if let Some(rows) = overview
            .map(|mut o| o.end())
            .filter(|rows| !rows.is_empty())
        {
            let count = rows.len() as u64;
            hand_over(encoder.push(writer.rows(rows)?)?)?;
            *sent += count;
        }
        hand_over(encoder.push(writer.end()?)?)?;
        hand_over(encoder.end()?)
    }

    /// The format's writer, after a first reading of the rows if it needs one.
    fn writer(&self, looked_ns: &mut u64) -> Result<Box<dyn Writer>, Stop> {
        let plan = &self.plan;
        let columns = match self.overview {
            Some(_) => Overview::columns(&plan.columns),
            None => plan.columns.clone(),
        };
        let heading = Heading {
            did: self.want.did,
            rates: plan.rates.clone(),
            columns,
        };
        let mut survey = None;
        if self.format.surveyed() {
            let mut surveyor = Surveyor::new(&plan.rates)?;
            let mut source = Rows::new(&self.service, plan);
            while let Some(rows) = source.piece()? {
                self.still_granted(looked_ns)?;
                surveyor.rows(&rows)?;
            }
            survey = Some(surveyor.end()?);
        }
        Ok(self.format.writer(heading, survey)?)
    }

    /// Looks at the grant again if the last look is old.
    fn still_granted(&self, looked_ns: &mut u64) -> Result<(), Stop> {
        let now_ns = self.service.clock.mono_ns();
        if now_ns.saturating_sub(*looked_ns) < limits::GRANT_RECHECK_NS {
            return Ok(());
        }
        *looked_ns = now_ns;
        let (service, caller) = (&self.service, &self.caller);
        let enabled = service
            .parties
            .party(&caller.kid)
            .is_some_and(|p| p.enabled);
        let allowed = service.decide(caller, &self.want, service.now());
        if enabled && allowed.is_ok() {
            Ok(())
        } else {
            Err(Stop::Grant)
        }
    }
}

/// The rows of a plan, in order, a piece at a time.
pub(super) struct Rows<'p> {
    service: &'p Service,
    plan: &'p Plan,
    merge: Merge,
    open: std::collections::BTreeMap<usize, OpenRows>,
}

/// The rows of one chunk that lie in the window: all their times, and the codes of one data page.
struct OpenRows {
    file: Arc<ChunkFile>,
    /// The row of the first time in its file.
    first: usize,
    times: Vec<i64>,
    /// For each column of the answer the place of its lead in the chunk, if the chunk has it.
    places: Vec<Option<usize>>,
    /// The codes that are unpacked, column by column, and of which of the times.
    page: Vec<Vec<i32>>,
    unpacked: std::ops::Range<usize>,
}

impl<'p> Rows<'p> {
    pub(super) fn new(service: &'p Service, plan: &'p Plan) -> Self {
        let merge = Merge::new(plan.keys());
        Self {
            service,
            plan,
            merge,
            open: std::collections::BTreeMap::new(),
        }
    }

    /// The next rows, `None` after the last.
    pub(super) fn piece(&mut self) -> Outcome<Option<ChunkRows>> {
        let columns = self.plan.columns.len();
        let mut piece = ChunkRows {
            times: Vec::new(),
            leads: vec![Vec::new(); columns],
        };
        while piece.len() < limits::PIECE_ROWS {
            match self.merge.step(limits::PIECE_ROWS - piece.len()) {
                Step::Done => break,
                Step::Fetch { chunk } => self.fetch(chunk)?,
                Step::Run {
                    chunk,
                    start,
                    count,
                    last,
                } => {
                    let open = self.open.get_mut(&chunk);
                    let open = open.ok_or_else(|| Failure::internal("a run of no chunk"))?;
                    open.append(&mut piece, start..start + count)?;
                    if last {
                        self.open.remove(&chunk);
                    }
                }
            }
        }
        Ok(Some(piece).filter(|p| !p.is_empty()))
    }

    fn fetch(&mut self, chunk: usize) -> Outcome<()> {
        let planned = self.plan.chunks.get(chunk);
        let planned = planned.ok_or_else(|| Failure::internal("a chunk beyond the plan"))?;
        let file = self.service.chunk(&planned.link)?;
        if *file.meta() != *planned.meta {
            let index = planned.link.index;
            return Err(Failure::damaged(format!(
                "chunk {index} is not the one its link names"
            )));
        }
        let leads = &file.meta().leads;
        let place = |c: &Column| leads.iter().position(|l| l.name == c.name);
        let places = self.plan.columns.iter().map(place).collect();
        let (first, times) = file.times(self.plan.rows)?;
        self.merge.give(chunk, times.clone())?;
        if !times.is_empty() {
            let rows = OpenRows {
                file,
                first,
                times,
                places,
                page: Vec::new(),
                unpacked: 0..0,
            };
            self.open.insert(chunk, rows);
        }
        Ok(())
    }
}

impl OpenRows {
    fn append(&mut self, piece: &mut ChunkRows, run: std::ops::Range<usize>) -> Outcome<()> {
        let short = || Failure::damaged("a chunk has fewer rows than times");
        let times = self.times.get(run.clone()).ok_or_else(short)?;
        piece.times.extend_from_slice(times);
        let mut at = run.start;
        while at < run.end {
            if !self.unpacked.contains(&at) {
                self.unpack(at)?;
            }
            let until = run.end.min(self.unpacked.end);
            let from = at - self.unpacked.start;
            let part = from..from + (until - at);
            for (column, codes) in piece.leads.iter_mut().zip(&self.page) {
                if codes.is_empty() {
                    column.resize(column.len() + part.len(), chordae_base::wire::NO_VALUE);
                } else {
                    column.extend_from_slice(codes.get(part.clone()).ok_or_else(short)?);
                }
            }
            at = until;
        }
        Ok(())
    }

    /// Unpacks the codes from this of the times on, to the end of its data page or of the window.
    fn unpack(&mut self, at: usize) -> Outcome<()> {
        let row = self.first + at;
        let end = self.file.page_end(row).min(self.first + self.times.len());
        if end <= row {
            return Err(Failure::damaged("a chunk has fewer rows than times"));
        }
        let file = &self.file;
        let codes = self.places.iter().map(|place| match place {
            // A column that the chunk does not have.
            None => Ok(Vec::new()),
            Some(lead) => file.codes(*lead, row..end),
        });
        self.page = codes.collect::<Outcome<_>>()?;
        self.unpacked = at..at + (end - row);
        Ok(())
    }
}

/// The pieces as a body.
struct PieceStream {
    first: Option<Piece>,
    queue: mpsc::Receiver<Result<Piece, Failure>>,
    /// Its end or its failure was given.
    over: bool,
}

/// The sender left without a word: it gave a reader up that took nothing, or it crashed.
fn unsaid() -> Failure {
    Failure::internal("an answer was broken off")
}

impl futures_core::Stream for PieceStream {
    type Item = Result<Bytes, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        let next = match self.first.take() {
            Some(first) => Ok(first),
            None => std::task::ready!(self.queue.poll_recv(cx)).unwrap_or_else(|| Err(unsaid())),
        };
        self.over = !matches!(next, Ok(Piece::Bytes(_)));
        Poll::Ready(match next {
            Ok(Piece::Bytes(bytes)) => Some(Ok(bytes)),
            Ok(Piece::End) => None,
            Err(failure) => Some(Err(failure)),
        })
    }
}
