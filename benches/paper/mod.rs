//! The published evaluation done again (MedChain, 2019: Table 2, Figures 8, 9 and 10, Table 4).
//!
//! ```text
//! signals ─▶ digests by scheme ─▶ schemes ─▶ reader ══HTTP══▶ [proxy, 50 ms] ══▶ house: the product's ledger
//!            (timed apart)        what to ask   counts                           every block synced
//! ops      the same house, operations counted        storage   ledger and directory as they grow and shrink
//! features the table of features, each mark with its tests
//! ```
//!
//! The paper's figures are pictures whose numbers we do not have: what is compared are schemes, done by one program, on
//! one ledger, through one door, with the same receipts verified for each. Nothing sleeps, save the proxy, which is the
//! distance. What a scheme found out is held against what was changed before its figures count.

pub mod features;
pub mod house;
pub mod ops;
mod proxy;
pub mod reader;
mod report;
pub mod schemes;
pub mod signals;
pub mod storage;

use std::{collections::BTreeSet, net::SocketAddr, path::Path, time::Duration};

use chordae_base::{Did, Failure, Outcome, seams::Clock};
use tokio::runtime::{Handle, Runtime};

use crate::{stages::ingest::Place, table::Rounds};
use house::House;

/// The `n`-th stream of a kind.
fn numbered(kind: u8, n: u64) -> Did {
    let kinds = u128::from_be_bytes([kind; 16]) >> 64 << 64;
    Did((kinds | u128::from(n)).to_be_bytes())
}
use ops::Counted;
use reader::{Cost, Reader};
use schemes::{Found, Scheme};
use signals::{Bad, Digests, Signals, draw};
use storage::{Arm, Grown};

/// The longest stream, unless told otherwise.
pub const LONGEST: u64 = 8640;
/// Lengths of streams, and how many of so many chunks are changed (0: none).
const LENGTHS: [u64; 6] = [1, 10, 50, 360, 1000, LONGEST];
const ONE_IN: [u64; 3] = [0, 1000, 100];
/// What the proxy adds to each round trip.
const DELAY: Duration = Duration::from_millis(50);
/// Up to this length a measurement is repeated, and its median told.
const SHORT: u64 = 50;
const REPEATS: usize = 5;
/// Figure 9: as many records as chunks, and a hundred of both in all.
const PAIRS: [u64; 3] = [10, 50, 360];
const HUNDRED: u64 = 100;
const CHUNKS_OF_HUNDRED: [u64; 5] = [0, 25, 50, 75, 100];
/// Sections of Table 2, and entries in each.
const SECTIONS: (u64, u64) = (3, 4);

/// A stream verified by one scheme.
pub struct Figures {
    /// How.
    pub scheme: Scheme,
    /// What was asked.
    pub cost: Cost,
    /// Milliseconds to compute the digests of what arrived.
    pub local_ms: f64,
    /// Milliseconds with ledger and directory, over loopback and over the proxy.
    pub ledger_ms: [f64; 2],
}

/// A stream verified by all of them.
pub struct Row {
    /// Its length.
    pub chunks: u64,
    /// One in so many chunks was changed by chance; 0: none.
    pub one_in: u64,
    /// How many that were.
    pub bad: usize,
    /// By scheme.
    pub figures: Vec<Figures>,
}

/// Records and a stream in one session (Figure 9).
pub struct Mixed {
    /// Independent records.
    pub records: u64,
    /// Chunks of the stream.
    pub chunks: u64,
    /// By scheme: records first, then the stream.
    pub figures: Vec<Figures>,
}

/// All that is told.
pub struct Told {
    /// Of what the chunks are made.
    pub signals: String,
    /// Entries of the ledger, and how many of them it took a second.
    pub entries: u64,
    /// See there.
    pub entered_s: f64,
    /// Figure 8.
    pub rows: Vec<Row>,
    /// Figure 9.
    pub mixed: Vec<Mixed>,
    /// Figure 10a and b, by arm.
    pub grown: [Vec<(Arm, Grown)>; 2],
    /// Table 2.
    pub counted: Vec<Counted>,
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// The longest stream.
    pub longest: u64,
    /// Bytes of a chunk.
    pub chunk_bytes: usize,
    /// What the proxy adds.
    pub delay: Duration,
    /// Measurements of a short stream.
    pub repeats: usize,
}

/// The expected ledger reads of the published chain for a stream of `n` chunks of which each is bad with probability
/// `p` (MedChain, 5.2.1, with `b` = 1).
pub fn published_reads(n: u64, p: f64) -> f64 {
    let power = |k: u64| (1.0 - p).powf(k as f64);
    let middle = (1..n).map(|i| power(n - i) * p * (i + 1) as f64);
    power(n) + middle.sum::<f64>() + p * n as f64
}

/// Measures, writes `paper.md` and its plots into `results`, and reports. `about` says what machine this is.
///
/// # Errors
/// The first verification that found something else than was changed.
pub fn run(place: &Place<'_>, longest: u64, results: &Path, about: &str) -> Outcome<String> {
    let extent = Extent {
        longest,
        chunk_bytes: signals::CHUNK_BYTES,
        delay: DELAY,
        repeats: REPEATS,
    };
    let told = measure(place.dir, &extent, place.clock)?;
    report::write(results, about, &extent, &told)
}

/// Does all of it.
///
/// # Errors
/// Those of [`run`].
pub fn measure(dir: &Path, extent: &Extent, clock: &dyn Clock) -> Outcome<Told> {
    let runtime = Runtime::new().map_err(|e| Failure::os("start threads", &e))?;
    let handle = runtime.handle();
    let signals = Signals::load(extent.chunk_bytes)?;
    let fits = |n: &u64| *n <= extent.longest;
    let mut lengths: BTreeSet<u64> = LENGTHS.into_iter().filter(fits).collect();
    lengths.insert(extent.longest);
    let pairs = PAIRS.into_iter().filter(fits).map(|n| (n, n));
    let parts = CHUNKS_OF_HUNDRED.into_iter().map(|n| (HUNDRED - n, n));
    let mixes: Vec<(u64, u64)> = pairs
        .chain(parts.filter(|_| extent.longest >= HUNDRED))
        .collect();
    let streams = mixes
        .iter()
        .flat_map(|(records, chunks)| [*records, *chunks]);
    let streams: BTreeSet<u64> = lengths
        .iter()
        .copied()
        .chain(streams)
        .filter(|n| *n > 0)
        .collect();

    let longest = streams.last().copied().unwrap_or(1);
    let digests = signals.digests(longest);
    let house = House::open(&dir.join("paper"), handle)?;
    let (entries, entered_s) = fill(&house, &streams, &digests, clock)?;
    let mut bench = Bench {
        clock,
        signals: &signals,
        digests: &digests,
        readers: readers(&house, handle, extent.delay)?,
        repeats: extent.repeats,
    };
    let mut rows = Vec::new();
    for chunks in &lengths {
        for one_in in ONE_IN {
            rows.push(bench.row(*chunks, one_in)?);
        }
    }
    let mixed = mixes
        .iter()
        .map(|(records, chunks)| bench.mixed(*records, *chunks));
    let mixed = mixed.collect::<Outcome<Vec<_>>>()?;
    let counted = ops::count(&house, &mut bench.readers[0], SECTIONS, clock)?;
    house.ledger().stop();
    for action in &counted {
        if action.done != action.expected {
            return Err(Failure::internal(format!(
                "{} {}: {:?}, its formula says {:?}",
                action.who, action.what, action.done, action.expected
            )));
        }
    }
    let grown = [grown(dir, handle, false)?, grown(dir, handle, true)?];
    Ok(Told {
        signals: signals.name,
        entries,
        entered_s,
        rows,
        mixed,
        grown,
        counted,
    })
}

/// One at the ledger, one behind the proxy.
fn readers(house: &House, handle: &Handle, delay: Duration) -> Outcome<[Reader; 2]> {
    let far: SocketAddr = handle.block_on(proxy::start(house.address, delay))?;
    Ok([
        Reader::connect(handle, house.address, &house.trust)?,
        Reader::connect(handle, far, &house.trust)?,
    ])
}

/// Anchors every stream; the entries are ready before the clock runs.
fn fill(
    house: &House,
    streams: &BTreeSet<u64>,
    digests: &Digests,
    clock: &dyn Clock,
) -> Outcome<(u64, f64)> {
    let mut entries = Vec::new();
    for chunks in streams {
        entries.extend(schemes::anchor(house, *chunks, digests)?);
    }
    let count = entries.len() as u64;
    let began = clock.mono_ns();
    house.enter(entries.into_iter())?;
    let took = clock.mono_ns().saturating_sub(began);
    Ok((count, took as f64 / 1e9))
}

/// Figure 10: sessions over records of their own, or more and more of them over the same.
fn grown(dir: &Path, handle: &Handle, shared: bool) -> Outcome<Vec<(Arm, Grown)>> {
    let mut all = Vec::new();
    for arm in Arm::ALL {
        for size in storage::SIZES {
            let (sessions, each) = match shared {
                true => (size, storage::FIXED),
                false => (storage::FIXED, size),
            };
            all.push((
                arm,
                storage::grow(arm, (sessions, each, shared), dir, handle)?,
            ));
        }
    }
    Ok(all)
}

struct Bench<'a> {
    clock: &'a dyn Clock,
    signals: &'a Signals,
    digests: &'a Digests,
    /// Over loopback, and over the proxy.
    readers: [Reader; 2],
    repeats: usize,
}

/// Digests of what arrived, as a scheme computes them.
enum Arrived {
    Sha256(Vec<[u8; 32]>),
    Blake3(Vec<chordae_base::Digest>),
}

impl Bench<'_> {
    fn row(&mut self, chunks: u64, one_in: u64) -> Outcome<Row> {
        let bad = draw(chunks, one_in);
        let schemes = Scheme::ALL.into_iter();
        let figures = schemes.map(|scheme| self.figures(scheme, 0, chunks, &bad));
        Ok(Row {
            chunks,
            one_in,
            bad: bad.len(),
            figures: figures.collect::<Outcome<_>>()?,
        })
    }

    fn mixed(&mut self, records: u64, chunks: u64) -> Outcome<Mixed> {
        let schemes = Scheme::ALL.into_iter();
        let figures = schemes.map(|scheme| self.figures(scheme, records, chunks, &Bad::new()));
        Ok(Mixed {
            records,
            chunks,
            figures: figures.collect::<Outcome<_>>()?,
        })
    }

    fn figures(
        &mut self,
        scheme: Scheme,
        records: u64,
        chunks: u64,
        bad: &Bad,
    ) -> Outcome<Figures> {
        let repeats = if chunks <= SHORT { self.repeats } else { 1 };
        let (mut local, mut ledger) = (Rounds::default(), [Rounds::default(), Rounds::default()]);
        let mut cost = None;
        for _ in 0..repeats {
            let began = self.clock.mono_ns();
            let lone = self.signals.records(records, &Bad::new());
            let arrived = self.arrived(scheme, chunks, bad);
            local
                .0
                .push(self.clock.mono_ns().saturating_sub(began) as f64 / 1e6);
            for (reader, took) in self.readers.iter_mut().zip(&mut ledger) {
                let began = self.clock.mono_ns();
                if records > 0 {
                    schemes::by_records(reader, &lone)?.check(records, &Bad::new())?;
                }
                if chunks > 0 {
                    verify(scheme, reader, &arrived, self.digests)?.check(chunks, bad)?;
                }
                took.0
                    .push(self.clock.mono_ns().saturating_sub(began) as f64 / 1e6);
                let asked = reader.take();
                let same = |cost: &Cost| (cost.ledger, cost.directory);
                if cost
                    .as_ref()
                    .is_some_and(|before| same(before) != same(&asked))
                {
                    return Err(Failure::internal("the same work asked for something else"));
                }
                cost = Some(asked);
            }
        }
        Ok(Figures {
            scheme,
            cost: cost.unwrap_or_default(),
            local_ms: local.median(),
            ledger_ms: ledger.map(|took| took.median()),
        })
    }

    fn arrived(&self, scheme: Scheme, chunks: u64, bad: &Bad) -> Arrived {
        match scheme {
            Scheme::Records => Arrived::Sha256(self.signals.records(chunks, bad)),
            Scheme::Chain => Arrived::Sha256(self.signals.chain(chunks, bad)),
            Scheme::Files | Scheme::Links => Arrived::Blake3(self.signals.files(chunks, bad)),
        }
    }
}

fn verify(
    scheme: Scheme,
    reader: &mut Reader,
    arrived: &Arrived,
    digests: &Digests,
) -> Outcome<Found> {
    match (scheme, arrived) {
        (Scheme::Records, Arrived::Sha256(found)) => schemes::by_records(reader, found),
        (Scheme::Chain, Arrived::Sha256(found)) => schemes::by_chain(reader, found),
        (Scheme::Files, Arrived::Blake3(found)) => {
            let untouched = digests.files.get(..found.len()).unwrap_or_default();
            let did = schemes::did(scheme, found.len() as u64);
            // A changed chunk says the same of its place as before; only its own digest is another.
            schemes::by_files(reader, &schemes::links(did, untouched), found)
        }
        (Scheme::Links, Arrived::Blake3(found)) => schemes::by_links(reader, found),
        _ => Err(Failure::internal("digests of another scheme")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_expectation_is_what_its_formula_says() {
        let near = |n, p, want: f64| {
            let reads = published_reads(n, p);
            assert!((reads / want - 1.0).abs() < 0.02, "{n} {p}: {reads}");
        };
        near(50, 1e-3, 2.25);
        near(360, 1e-3, 58.9);
        near(1000, 1e-3, 369.0);
        near(8640, 1e-3, 7642.0);
        // Of two chunks: both good, the second bad and the first good, the first bad.
        near(2, 0.1, 0.81 + 2.0 * 0.09 + 2.0 * 0.1);
        assert_eq!(published_reads(8640, 0.0), 1.0);
        assert_eq!(published_reads(1, 0.0), 1.0);
    }
}
