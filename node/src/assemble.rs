//! How it all starts, and how it stops: every part is made here and handed what it needs.
//!
//! ```text
//! archive: registry, links, chunks ─▶ catalogue, ledger, trail, directory ─┬─▶ whole: HTTP
//!   WAL opened, folded ─▶ notary, exchange ─▶ windower (replays) ─▶ ingest loop ─▶ doors ┘
//! ```
//!
//! What is stored is opened first; a folder that was set back, or a log that cannot be written, ends the start
//! there, and readers are served alone (`archive`). Doors open last: until then nobody can be acknowledged. The
//! stop is the reverse: doors, ingest (everything offered is committed and told), exchange, windower (everything
//! is sealed and linked), readers, notary (everything is anchored, the trail's head last), ledger. A crash
//! anywhere in a stop is an ordinary crash.

mod archive;

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use chordae_anchor::{Ledger, Notary, NotaryParts, NotarySettings, core::notary::Cadence};
use chordae_base::{
    Did, Failure, FailureKind, Outcome, StreamKey, StreamPlan, limits,
    record::WalRecord,
    seams::{Clock, Disk, Entropy, Mailbox, Thread, Threads},
};
use chordae_chain::trust::TrustFile;
use chordae_chunker::{self as chunker, Chunker, Input};
use chordae_ingest::{
    core::{admission::AdmissionLimits, ports::Downstream},
    exchange::{self, Exchange, ExchangeHandle},
    fanout::Fanout,
    mailbox::IngestHandle,
    metrics::Metrics as IngestMetrics,
    service::{self as ingest, Ingest},
    wal::{WalReader, WalSettings},
};
use chordae_query::http::Service;
use chordae_storage::{Catalogue, directory::Directory, registry::Registry};

use crate::{
    adapters::{Chunks, Head, Known, News, SetAside, Sink, Stored},
    births::Births,
    folder::Folder,
    keyring::Keyring,
    memory::Memory,
    observe::Readiness,
    settings::Settings,
    tail::{Tail, Tap},
};
use archive::Archive;

pub use archive::{Reading, Shut};

/// The outside: real in the product, fakes in the simulated world.
#[derive(Clone)]
pub struct Seams {
    /// File system.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Threads, mailboxes, waiting.
    pub threads: Threads,
    /// The way to bedside monitors.
    pub fanout: Arc<dyn Fanout>,
}

/// Everything that runs, without its sockets.
pub struct House {
    /// Devices, parties, streams.
    pub registry: Arc<Registry>,
    /// Sessions.
    pub directory: Arc<Directory>,
    /// Chunks.
    pub catalogue: Arc<Catalogue>,
    /// The log.
    pub ledger: Ledger,
    /// What gateways remember of it.
    pub memory: Arc<Memory>,
    /// Anchors.
    pub notary: Arc<Notary>,
    /// The query service.
    pub service: Arc<Service>,
    /// The way into the ingest loop.
    pub ingest: IngestHandle,
    /// Messages between clients: sessions, statuses, commands.
    pub exchange: ExchangeHandle,
    /// The way into the windower.
    pub feed: Feed,
    /// Live frames to monitors.
    pub fanout: Arc<dyn Fanout>,
    /// Ingest's metrics, for its doors.
    pub ingest_metrics: IngestMetrics,
    /// What readers should trust.
    pub trust: TrustFile,
    ingest_loop: Ingest,
    exchange_loop: Exchange,
    births: Thread<()>,
    windower: Thread<Outcome<()>>,
    threads: Threads,
}

/// The way into the windower.
#[derive(Clone)]
pub struct Feed {
    input: Mailbox<Input>,
    threads: Threads,
}

impl Feed {
    /// Sends; waits while the windower is behind.
    ///
    /// # Errors
    /// `Io` when it has ended.
    pub fn send(&self, input: Input) -> Outcome<()> {
        self.input
            .send(input)
            .map_err(|_| Failure::io("the windower has ended; see its first error"))
    }

    /// Puts a new plan in force (see [`Input::Replan`]).
    ///
    /// # Errors
    /// `Refused` when rows from `from_ns` on are sealed already.
    pub fn replan(
        &self,
        stream: &StreamKey,
        plan: StreamPlan,
        from_ns: i64,
        persist: Box<dyn FnOnce() -> Outcome<()> + Send>,
    ) -> Outcome<()> {
        self.ask(|reply| Input::Replan {
            stream: stream.clone(),
            plan,
            from_ns,
            persist,
            reply,
        })?
    }

    /// Runs `take` if the did has no row yet; whether it did (see [`Input::Claim`]).
    ///
    /// # Errors
    /// Those of `take`.
    pub fn claim(
        &self,
        stream: &StreamKey,
        did: Did,
        take: Box<dyn FnOnce() -> Outcome<()> + Send>,
    ) -> Outcome<bool> {
        self.ask(|reply| Input::Claim {
            stream: stream.clone(),
            did,
            take,
            reply,
        })?
    }

    /// How the windower is; comes after all that was sent before.
    ///
    /// # Errors
    /// `Io` when it has ended.
    pub fn status(&self) -> Outcome<chunker::Status> {
        self.ask(|reply| Input::Status { reply })
    }

    fn ask<T>(&self, question: impl FnOnce(Mailbox<T>) -> Input) -> Outcome<T> {
        let (reply, answer) = self.threads.mailbox(1);
        self.send(question(reply))?;
        answer
            .recv()
            .map_err(|_| Failure::io("the windower has ended"))
    }
}

impl Downstream for Feed {
    fn record(&mut self, position: u64, record: WalRecord) -> Outcome<()> {
        self.send(Input::Record { position, record })
    }

    fn tick(&mut self, now_ns: i64) -> Outcome<()> {
        self.send(Input::Tick { now_ns })
    }
}

/// The log as the sealer reads it.
struct Source(WalReader);

impl chunker::FrameSource for Source {
    fn payload(&self, position: u64) -> Outcome<Bytes> {
        self.0.raw(position)
    }
}

/// What the log held when it was opened.
struct Replayed {
    reader: WalReader,
    until: u64,
    tail: Tail,
}

impl chunker::replay::Recovered for Replayed {
    fn scan(&self, visit: &mut dyn FnMut(u64, WalRecord) -> Outcome<()>) -> Outcome<()> {
        self.reader
            .replay_until(self.until, &mut |position, record| {
                self.tail.take(position, &record);
                visit(position, record)
            })
    }
}

/// Makes every part of a server over a data folder. Blocks on the disk; call it on a thread that may.
///
/// # Errors
/// `Damaged` when a log contradicts itself, naming the place; `Io`.
pub fn build(
    home: &Folder,
    keys: Keyring,
    settings: &Settings,
    seams: &Seams,
    metrics: &prometheus::Registry,
    ready: &Readiness,
) -> Outcome<House> {
    match start(home, keys, settings, seams, metrics, ready)? {
        Built::Whole(house) => Ok(*house),
        Built::Reading(reading) => Err(Failure::io(reading.shut.why())),
    }
}

/// What a start came to.
pub enum Built {
    /// Everything runs.
    Whole(Box<House>),
    /// What is stored is served, and nothing new is taken.
    Reading(Box<Reading>),
}

/// As [`build`], but where nothing new can be taken, what is stored is made ready to be read.
///
/// # Errors
/// Those of [`build`].
pub fn start(
    home: &Folder,
    keys: Keyring,
    settings: &Settings,
    seams: &Seams,
    metrics: &prometheus::Registry,
    ready: &Readiness,
) -> Outcome<Built> {
    let Seams {
        disk,
        clock,
        entropy,
        threads,
        fanout,
    } = seams.clone();
    let (archive, recall) = Archive::open(home, keys, settings, seams, metrics, ready)?;
    if let Some(shut) = archive.set_back()? {
        let reading = archive.read_only(shut, recall, settings, seams, metrics)?;
        return Ok(Built::Reading(Box::new(reading)));
    }
    let ingest_metrics = IngestMetrics::register(metrics)?;
    let opened = Ingest::open(ingest::Parts {
        disk: Arc::clone(&disk),
        clock: Arc::clone(&clock),
        threads: threads.clone(),
        wal: WalSettings {
            dir: home.wal(),
            segment_bytes: settings.wal.segment_bytes,
        },
        quarantine_dir: home.quarantine(),
        registry: Arc::new(Known(Arc::clone(&archive.registry))),
        history: Arc::new(Stored {
            registry: Arc::clone(&archive.registry),
            catalogue: Arc::clone(&archive.catalogue),
        }),
        fanout: Arc::clone(&fanout),
        admission: admission(settings),
        past_ns_max: i64::from(settings.chunks.oldest_days)
            * 86_400
            * chordae_base::time::SECOND_NS,
        metrics: ingest_metrics.clone(),
    });
    let recovered = match opened {
        // Damage is another thing: there the start stops, and nothing is served over it.
        Err(failure) if failure.kind == FailureKind::Io => {
            let shut = Shut::Log(failure.why);
            let reading = archive.read_only(shut, recall, settings, seams, metrics)?;
            return Ok(Built::Reading(Box::new(reading)));
        }
        opened => opened?,
    };
    archive.watched(ready);
    let tail = Tail::new(Arc::clone(&archive.registry));
    let aside = Arc::new(SetAside {
        quarantine: recovered.quarantined(),
        registry: Arc::clone(&archive.registry),
    });
    let newest = (Some(Arc::new(tail.clone()) as _), Some(aside as _));
    let service = archive.serving(recall, newest, settings, seams, metrics)?;
    let Archive {
        keys: Keyring {
            provider, trust, ..
        },
        who,
        registry,
        committer,
        catalogue,
        ledger,
        trail,
        directory,
        memory,
        notary: notary_slot,
        ..
    } = archive;
    let notary = Notary::start(
        NotaryParts {
            disk: Arc::clone(&disk),
            ledger: ledger.clone(),
            provider: provider.clone(),
            patients: Arc::new(who.clone()),
            links: Arc::new(Chunks(Arc::clone(&catalogue))),
            trail: Arc::new(Head(trail.clone())),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            threads: threads.clone(),
        },
        &NotarySettings {
            data_dir: home.root().to_owned(),
            cadence: cadence(settings),
        },
        metrics,
    )?;
    let notary = Arc::new(notary);
    // Nobody else sets it: the slot is ours.
    notary_slot.get_or_init(|| Arc::clone(&notary));

    let exchange_loop = Exchange::open(exchange::Parts {
        disk: Arc::clone(&disk),
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
        threads: threads.clone(),
        dir: home.mqtt(),
        metrics: metrics.clone(),
    })?;
    let exchange = exchange_loop.handle();
    let news = News::default();
    let chunker::Handle { input, join } = Chunker::start(
        chunker::Parts {
            source: Box::new(Source(recovered.frame_source())),
            sink: Box::new(Sink(committer)),
            progress: Box::new(news.clone()),
            plans: Box::new(Known(Arc::clone(&registry))),
            entropy,
            clock: Arc::clone(&clock),
            threads: threads.clone(),
            stored: Box::new(Chunks(Arc::clone(&catalogue))),
            recovered: Box::new(Replayed {
                reader: recovered.frame_source(),
                until: recovered.end(),
                tail: tail.clone(),
            }),
        },
        metrics,
    )?;
    let feed = Feed {
        input,
        threads: threads.clone(),
    };
    // The windower answers once it has replayed: no door opens, and nobody is told "ready", before.
    ready.set("log", Some("replaying the write-ahead log".into()));
    let join = replayed(&feed, join)?;
    ready.set("log", None);
    let (downstream, births) = Births::new(feed.clone(), exchange.clone(), &threads)?;
    let ingest_loop = recovered.run(Box::new(Tap::new(downstream, tail)))?;
    let ingest = ingest_loop.handle();
    news.reach(ingest.clone());

    Ok(Built::Whole(Box::new(House {
        registry,
        directory,
        catalogue,
        ledger,
        memory,
        notary,
        service,
        ingest,
        exchange,
        feed,
        fanout,
        ingest_metrics,
        trust,
        ingest_loop,
        exchange_loop,
        births,
        windower: join,
        threads,
    })))
}

/// Waits for the windower's replay; its own error if it failed.
fn replayed(feed: &Feed, join: Thread<Outcome<()>>) -> Outcome<Thread<Outcome<()>>> {
    if feed.status().is_ok() {
        return Ok(join);
    }
    match join.join() {
        Ok(Err(failure)) => Err(failure.during("replaying the write-ahead log")),
        Ok(Ok(())) | Err(_) => Err(Failure::internal(
            "the windower ended while replaying the log",
        )),
    }
}

fn cadence(settings: &Settings) -> Cadence {
    Cadence {
        anchor_every_ns: settings.anchor_ns().unsigned_abs(),
        audit_every_ns: limits::AUDIT_EVERY_NS.unsigned_abs(),
        alone_streams: settings.ledger.heads_alone,
    }
}

fn admission(settings: &Settings) -> AdmissionLimits {
    let mut limits = AdmissionLimits::for_wal(settings.wal.max_bytes);
    limits.free_min = settings
        .wal
        .min_free_bytes
        .max(settings.wal.max_bytes / 4 * 3);
    limits
}

impl House {
    /// The orderly stop, after all doors are closed, those of the readers too. Blocks.
    ///
    /// # Errors
    /// The first failure; what was acknowledged is in the log then, and sealed at the next start.
    pub fn stop(self) -> Outcome<()> {
        self.seal()?.close()
    }

    /// The orderly stop, after the doors for devices are closed: everything that was acknowledged is sealed,
    /// linked and anchored when it returns. Readers may still ask. Blocks.
    ///
    /// # Errors
    /// The first failure; what was acknowledged is in the log then, and sealed at the next start.
    pub fn seal(self) -> Outcome<Sealed> {
        // A loop that has failed already cannot be stopped; its own error is the one to report.
        let asked = self.threads.wait(self.ingest.stop());
        // The last births are announced before the exchange stops.
        let announced = self.births.join();
        let hushed = self.threads.wait(self.exchange.stop());
        let Self {
            ingest_loop,
            exchange_loop,
            exchange,
            ingest,
            windower,
            feed,
            notary,
            ledger,
            ..
        } = self;
        drop((ingest, exchange));
        let hushed = exchange_loop.join().and(hushed).and(announced);
        ingest_loop.join().and(asked)?;
        let stopped = feed.ask(|reply| Input::Stop { reply });
        drop(feed);
        windower
            .join()
            .map_err(|panicked| panicked.during("the windower"))??;
        let stopped = stopped?;
        if stopped.gaps > 0 {
            tracing::warn!(
                gaps = stopped.gaps,
                "buckets could not be sealed; the next start tries again"
            );
        }
        notary.settle()?;
        Ok(Sealed {
            notary,
            ledger,
            hushed,
        })
    }
}

/// A house in which nothing is open any more, whose ledger still takes events.
#[must_use = "the head of the trail is not anchored yet"]
pub struct Sealed {
    notary: Arc<Notary>,
    ledger: Ledger,
    hushed: Outcome<()>,
}

impl Sealed {
    /// Anchors the head of the trail, after the last reader has gone, and closes the ledger. Blocks.
    ///
    /// # Errors
    /// What went wrong while the exchange stopped.
    pub fn close(self) -> Outcome<()> {
        self.notary.stop();
        self.ledger.stop();
        self.hushed
    }
}

/// Runs what blocks on a thread that may.
///
/// # Errors
/// Those of the work.
pub async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Outcome<T> + Send + 'static,
) -> Outcome<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Failure::internal("a thread panicked")))
}

/// Where the settings of a folder are, unless others are named.
pub fn settings_of(home: &Folder, config: Option<&Path>) -> Outcome<Settings> {
    let env: Vec<(String, String)> = std::env::vars().collect();
    let path = config.map_or_else(|| home.settings(), Path::to_owned);
    Settings::read(&path, &env)
}
