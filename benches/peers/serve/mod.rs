//! Windows over HTTP with TLS, beside services that prove nothing.
//!
//! ```text
//! fill ─▶ stop: sealed, linked, anchored ─▶ start ─▶ control ─▶ first touch ─▶ rounds ─▶ pulls ─▶ a crowd of streams
//!                                                                              │
//!            same client, same windows, same machine:  ours ─ DuckDB ─ AtriumDB, in turn
//! ```
//!
//! Ours answers signed requests only, each on a session that a patient granted, with its record synced in the
//! trail, out of chunks whose digest was compared with the chain; the others answer whoever asks. Every round's
//! sampled answers equal the samples that were sent; before the first, a request unsigned, repeated or beyond its
//! grant is refused and a changed code is found.

pub mod client;
mod foreign;
pub mod house;
mod report;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chordae_base::{Failure, Outcome};

use crate::{stages::ingest::Place, table::Rounds};
use client::{Ask, Round, Site, Wish, crowd};
use foreign::{Foreign, Other};
use house::{House, Source, fill};

/// Rounds, unless told otherwise.
pub const ROUNDS: usize = 3;
/// Streams and seconds of each; the others hold the first stream.
const STREAMS: usize = 8;
const SECONDS: i64 = 3600;
/// Length of a window and of a long one.
const WINDOW_S: i64 = 10;
const HOUR_S: i64 = 3600;
/// Slot of the product, in seconds.
const SLOT_S: i64 = 300;
/// Clients that ask windows, and that stream hours, at one time.
const CLIENTS: usize = 64;
const STREAMERS: usize = 100;
/// Sessions they ask on, in turn.
const SESSIONS: usize = 100;
/// Hours asked one after the other in a round, and verified pulls in all.
const HOURS: u64 = 3;
const PULLS: usize = 200;
/// Asked before anything counts, by each client.
const WARM: Duration = Duration::from_millis(500);
const EVER: Duration = Duration::from_secs(600);

/// What is told of one server.
#[derive(Default)]
struct Figures {
    alone_p50: Rounds,
    alone_p99: Rounds,
    rate: Rounds,
    p50: Rounds,
    p99: Rounds,
    server_ms: Rounds,
    hour_mb_s: Rounds,
}

/// What is told of ours alone.
#[derive(Default)]
struct Own {
    first: Option<Round>,
    wide: Rounds,
    fetch_ms: Rounds,
    verify_share: Rounds,
    verify_ms: Rounds,
    proof_share: Rounds,
    /// Bytes of memory while many stream, and before.
    memory: Vec<f64>,
    idle: f64,
    streamed: Option<Round>,
}

/// Measures, writes `peers-serve.md` and `.svg` into `results`, and reports. `about` says what machine this is.
///
/// # Errors
/// The first round that failed or whose answers were not what was sent.
pub fn run(
    place: &Place<'_>,
    rounds: usize,
    seconds: u64,
    results: &Path,
    about: &str,
) -> Outcome<String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::os("start threads", &e))?;
    let dir = place.dir.join("serve");
    std::fs::create_dir_all(&dir).map_err(|e| Failure::os("make a folder", &e))?;
    let source = Arc::new(Source::new(STREAMS, SECONDS)?);
    fill(place.program, &dir, &source)?;
    runtime.block_on(async {
        let house = House::open(place.program, &dir, &source, SESSIONS).await?;
        house.control(&source).await?;
        let mut stage = Stage {
            measure: Duration::from_secs(seconds),
            source: &source,
            house: &house,
            own: Own::default(),
        };
        stage.first_touch().await?;
        let (mut others, missing) = others(place, &dir, &house, &source)?;
        let mut ours = Figures::default();
        for _ in 0..rounds {
            stage.round(&house.site, &mut ours, true).await?;
            for (_, other, figures) in &mut others {
                stage.round(&other.site, figures, false).await?;
            }
        }
        let named: Vec<(&'static str, Figures)> = std::iter::once((report::OURS, ours))
            .chain(others.into_iter().map(|(name, _, figures)| (name, figures)))
            .collect();
        stage.pulls().await?;
        stage.streams().await?;
        let own = stage.own;
        report::write(results, about, rounds, seconds, &missing, &named, &own)
    })
}

type Started = (&'static str, Foreign, Figures);

/// Those that can be started here, and why the others cannot.
fn others(
    place: &Place<'_>,
    dir: &Path,
    house: &House,
    source: &Source,
) -> Outcome<(Vec<Started>, Vec<String>)> {
    let python = match foreign::python(&python_home(place)) {
        Ok(python) => python,
        Err(failure) => return Ok((Vec::new(), vec![failure.why])),
    };
    let files = chunk_files(house)?;
    let (mut started, mut missing) = (Vec::new(), Vec::new());
    for (name, other) in [
        (report::DUCKDB, Other::DuckDb),
        (report::ATRIUMDB, Other::AtriumDb),
    ] {
        match Foreign::start(&python, other, dir, &files, source.start_ns) {
            Ok(foreign) => started.push((name, foreign, Figures::default())),
            Err(failure) => missing.push(format!("{name}: {failure}")),
        }
    }
    Ok((started, missing))
}

/// Beside the program, so that the next run finds it.
fn python_home(place: &Place<'_>) -> PathBuf {
    let beside = place.program.parent();
    beside.unwrap_or(Path::new(".")).join("peers-serve-python")
}

/// The files of the first stream.
fn chunk_files(house: &House) -> Outcome<Vec<PathBuf>> {
    let os = |e: std::io::Error| Failure::os("list the chunks", &e);
    let did = house
        .dids
        .first()
        .map(ToString::to_string)
        .unwrap_or_default();
    let mut files = Vec::new();
    for dir in std::fs::read_dir(house.data.join("chunks").join(did)).map_err(os)? {
        for file in std::fs::read_dir(dir.map_err(os)?.path()).map_err(os)? {
            files.push(file.map_err(os)?.path());
        }
    }
    files.sort();
    Ok(files)
}

struct Stage<'a> {
    measure: Duration,
    source: &'a Arc<Source>,
    house: &'a House,
    own: Own,
}

/// A number that looks random and is the same in every run.
fn draw(client: usize, count: u64) -> u64 {
    let mut x = (client as u64) << 32 ^ count;
    for _ in 0..2 {
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    }
    x ^ x >> 31
}

/// A window somewhere in the first `streams` streams, on whole pages.
fn somewhere(streams: usize, client: usize, count: u64) -> Ask {
    let number = draw(client, count);
    let pages = (SECONDS / WINDOW_S).unsigned_abs();
    Ask {
        stream: usize::try_from(number >> 40).unwrap_or(0) % streams,
        from_s: i64::try_from(number % pages).unwrap_or(0) * WINDOW_S,
        seconds: WINDOW_S,
    }
}

fn windows(streams: usize, salt: usize) -> Wish {
    Arc::new(move |client, count| Some(somewhere(streams, client + salt, count)))
}

/// One client, one window per slot and stream, so that each chunk is met for the first time.
fn one_of_each() -> Wish {
    let slots = (SECONDS / SLOT_S).unsigned_abs();
    Arc::new(move |_, count| {
        let stream = usize::try_from(count / slots).unwrap_or(STREAMS);
        let slot = i64::try_from(count * 7 % slots).unwrap_or(0);
        (stream < STREAMS).then_some(Ask {
            stream,
            from_s: slot * SLOT_S + 120,
            seconds: WINDOW_S,
        })
    })
}

impl Stage<'_> {
    fn check(&self, round: &Round) -> Outcome<()> {
        if round.took_ns.is_empty() {
            return Err(Failure::internal("a round without an answer"));
        }
        for (ask, body) in &round.samples {
            self.source.check(*ask, body)?;
        }
        Ok(())
    }

    async fn first_touch(&mut self) -> Outcome<()> {
        let round = crowd(&self.house.site, 1, EVER, one_of_each()).await?;
        self.check(&round)?;
        self.own.first = Some(round);
        Ok(())
    }

    async fn round(&mut self, site: &Site, figures: &mut Figures, ours: bool) -> Outcome<()> {
        crowd(site, 1, WARM, windows(1, 7000)).await?;
        let alone = crowd(site, 1, self.measure, windows(1, 0)).await?;
        self.check(&alone)?;
        figures.alone_p50.0.push(alone.ms(0.5));
        figures.alone_p99.0.push(alone.ms(0.99));
        crowd(site, CLIENTS, WARM, windows(1, 8000)).await?;
        let before = self.house.server.cpu()?;
        let many = crowd(site, CLIENTS, self.measure, windows(1, 1000)).await?;
        let used = self.house.server.cpu()?.saturating_sub(before);
        self.check(&many)?;
        figures.rate.0.push(many.rate());
        figures.p50.0.push(many.ms(0.5));
        figures.p99.0.push(many.ms(0.99));
        if ours {
            let each = used.as_secs_f64() * 1e3 / many.took_ns.len().max(1) as f64;
            figures.server_ms.0.push(each);
            let wide = crowd(site, CLIENTS, self.measure, windows(STREAMS, 2000)).await?;
            self.check(&wide)?;
            self.own.wide.0.push(wide.rate());
        }
        figures.hour_mb_s.0.push(self.hours(site).await?);
        Ok(())
    }

    /// Megabytes a second of an hour, asked by one client; afterwards one hour is looked at whole.
    async fn hours(&self, site: &Site) -> Outcome<f64> {
        let hour = Ask {
            stream: 0,
            from_s: 0,
            seconds: HOUR_S,
        };
        let wish: Wish = Arc::new(move |_, count| (count < HOURS).then_some(hour));
        let round = crowd(site, 1, EVER, wish).await?;
        if round.took_ns.len() != HOURS {
            return Err(Failure::io("an hour was not answered in time"));
        }
        let mut wire = site.connect().await?;
        let got = wire.window(site, hour, 0, true).await?;
        self.source.check(hour, &got.body)?;
        Ok(round.mb_s())
    }

    async fn pulls(&mut self) -> Outcome<()> {
        let mut wire = self.house.site.connect().await?;
        for n in 0..PULLS {
            let ask = somewhere(STREAMS, 9000, n as u64);
            let pulled = self.house.pull(&mut wire, self.source, ask, n).await?;
            let (fetch, verify) = (pulled.fetch_ns as f64 / 1e6, pulled.verify_ns as f64 / 1e6);
            self.own.fetch_ms.0.push(fetch);
            self.own.verify_ms.0.push(verify);
            self.own.verify_share.0.push(verify / (fetch + verify));
            let share = pulled.proof_bytes as f64 / pulled.answer_bytes as f64;
            self.own.proof_share.0.push(share);
        }
        Ok(())
    }

    /// Many clients stream an hour each; the memory of the server is looked at all the while.
    async fn streams(&mut self) -> Outcome<()> {
        self.own.idle = self.house.server.memory()? as f64;
        let (seen, done) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        let wish: Wish = Arc::new(|client, count| {
            (count == 0).then_some(Ask {
                stream: client % STREAMS,
                from_s: 0,
                seconds: HOUR_S,
            })
        });
        let looking = async {
            while !done.load(Ordering::Relaxed) {
                let memory = self.house.server.memory()? as f64;
                seen.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(memory);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok::<(), Failure>(())
        };
        let streaming = async {
            let streamed = crowd(&self.house.site, STREAMERS, EVER, wish).await;
            done.store(true, Ordering::Relaxed);
            streamed
        };
        let (streamed, looked) = tokio::join!(streaming, looking);
        looked?;
        let streamed = streamed?;
        if streamed.took_ns.len() != STREAMERS as u64 {
            return Err(Failure::io("not every hour was streamed"));
        }
        self.own.memory = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.own.streamed = Some(streamed);
        Ok(())
    }
}
