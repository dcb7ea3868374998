//! How it all starts, and how it stops: every part is made here and handed what it needs.
//!
//! ```text
//! links, chunks ─▶ catalogue      registry      ledger      trail
//!        └──────────┬────────────────┴────────────┴───────────┘
//!                 notary   exchange   WAL opened, folded ─▶ windower (replays) ─▶ ingest loop ─▶ doors ─▶ HTTP
//! ```
//!
//! Doors open last: until then nobody can be acknowledged. The stop is the reverse: doors, ingest (everything
//! offered is committed and told), exchange, windower (everything is sealed and linked), notary (everything is
//! anchored), ledger. A crash anywhere in a stop is an ordinary crash.

use std::{
    path::Path,
    sync::{Arc, OnceLock, mpsc::SyncSender, mpsc::sync_channel},
    thread::JoinHandle,
};

use bytes::Bytes;
use chordae_anchor::{
    Ledger, LedgerKeys, Notary, NotaryParts, NotarySettings, core::notary::Cadence,
};
use chordae_base::{
    Did, Failure, Outcome, StreamKey, StreamPlan, limits,
    record::WalRecord,
    seams::{Clock, Disk, Entropy},
};
use chordae_chain::{keys::Role, link::Link, trust::TrustFile};
use chordae_chunker::{self as chunker, Chunker, Input};
use chordae_ingest::{
    core::{admission::AdmissionLimits, ports::Downstream},
    exchange::{self, Exchange, ExchangeHandle},
    fanout::{Fanout, RouterFanout},
    mailbox::IngestHandle,
    metrics::Metrics as IngestMetrics,
    service::{self as ingest, Ingest},
    wal::{WalReader, WalSettings},
};
use chordae_query::{
    http::{self, Service},
    metrics::QueryMetrics,
    trail::Trail,
};
use chordae_storage::{Catalogue, Committer, directory::Directory, registry::Registry};

use crate::{
    adapters::{Chunks, Head, Known, Log, News, Records, Sink, Stored, Who},
    births::Births,
    folder::Folder,
    keyfile,
    observe::Readiness,
    settings::Settings,
};

/// The outside: real in the product, fakes in the simulated world.
#[derive(Clone)]
pub struct Seams {
    /// File system.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
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
    births: tokio::task::JoinHandle<()>,
    windower: JoinHandle<Outcome<()>>,
}

/// The way into the windower.
#[derive(Clone)]
pub struct Feed(SyncSender<Input>);

impl Feed {
    /// Sends; waits while the windower is behind.
    ///
    /// # Errors
    /// `Io` when it has ended.
    pub fn send(&self, input: Input) -> Outcome<()> {
        self.0
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
        let (reply, answer) = sync_channel(1);
        self.send(Input::Replan {
            stream: stream.clone(),
            plan,
            from_ns,
            persist,
            reply,
        })?;
        answer
            .recv()
            .map_err(|_| Failure::io("the windower has ended"))?
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
        let (reply, answer) = sync_channel(1);
        self.send(Input::Claim {
            stream: stream.clone(),
            did,
            take,
            reply,
        })?;
        answer
            .recv()
            .map_err(|_| Failure::io("the windower has ended"))?
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
}

impl chunker::replay::Recovered for Replayed {
    fn scan(&self, visit: &mut dyn FnMut(u64, WalRecord) -> Outcome<()>) -> Outcome<()> {
        self.reader.replay_until(self.until, visit)
    }
}

/// Makes every part of a server over a data folder. Blocks on the disk; call it on a thread that may.
///
/// # Errors
/// `Damaged` when a log contradicts itself, naming the place; `Refused` for a key file that others can
/// read; `Io`.
pub fn build(
    home: &Folder,
    settings: &Settings,
    seams: &Seams,
    metrics: &prometheus::Registry,
    ready: &Readiness,
) -> Outcome<House> {
    let Seams {
        disk,
        clock,
        entropy,
    } = seams.clone();
    let provider = keyfile::read(&home.key("provider.pem"))?;
    let sequencer = keyfile::read(&home.key("sequencer.pem"))?;
    let log_keys = keyfile::read(&home.key("log.pem"))?;
    let trust = crate::commands::read_trust(&home.key("trust.json"))?;
    let registry = Registry::open(
        Arc::clone(&disk),
        &home.registry(),
        Arc::clone(&entropy),
        settings.slot_ns(),
    )?;
    let registry = Arc::new(registry);
    let own = [
        provider.public("provider", Role::Provider),
        sequencer.public("sequencer", Role::Sequencer),
    ];
    let who = Who {
        registry: Arc::clone(&registry),
        own: Arc::new(own),
    };

    let notary_slot: Arc<OnceLock<Arc<Notary>>> = Arc::default();
    let slot = Arc::clone(&notary_slot);
    let on_linked = Box::new(move |links: &[Link]| {
        // Links from before the notary runs are found by itself at its start.
        if let Some(Err(e)) = slot.get().map(|notary| notary.linked(links)) {
            tracing::warn!(error = %e, "the notary does not hear; the next start anchors these links");
        }
    });
    ready.set("chunks", Some("folding links and chunks".into()));
    let mut progress = |done: usize, all: usize| {
        if done.is_multiple_of(1000) || done == all {
            ready.set(
                "chunks",
                (done < all).then(|| format!("{done} of {all} chunks read")),
            );
        }
    };
    let (committer, catalogue) =
        Committer::open(Arc::clone(&disk), home.root(), &mut progress, on_linked)?;
    ready.set("chunks", None);

    let ledger = Ledger::open(
        Arc::clone(&disk),
        chordae_anchor::ledger::Settings {
            data_dir: home.root().to_owned(),
            origin: trust.origin.clone(),
        },
        LedgerKeys {
            log: log_keys,
            sequencer,
        },
        Arc::new(who.clone()),
        Arc::clone(&clock),
        metrics,
    )?;
    let (trail, recall) = Trail::open(Arc::clone(&disk), &home.trail())?;
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

    let directory = Arc::new(Directory::open(Arc::clone(&disk), &home.directory())?);
    let fanout: Arc<dyn Fanout> = Arc::new(RouterFanout::start()?);
    let ingest_metrics = IngestMetrics::register(metrics)?;
    let recovered = Ingest::open(ingest::Parts {
        disk: Arc::clone(&disk),
        clock: Arc::clone(&clock),
        wal: WalSettings::new(home.wal()),
        quarantine_dir: home.quarantine(),
        registry: Arc::new(Known(Arc::clone(&registry))),
        history: Arc::new(Stored {
            registry: Arc::clone(&registry),
            catalogue: Arc::clone(&catalogue),
        }),
        fanout: Arc::clone(&fanout),
        admission: admission(settings),
        past_ns_max: i64::from(settings.chunks.oldest_days)
            * 86_400
            * chordae_base::time::SECOND_NS,
        metrics: ingest_metrics.clone(),
    })?;
    let exchange_loop = Exchange::open(exchange::Parts {
        disk: Arc::clone(&disk),
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
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
            stored: Box::new(Chunks(Arc::clone(&catalogue))),
            recovered: Box::new(Replayed {
                reader: recovered.frame_source(),
                until: recovered.end(),
            }),
        },
        metrics,
    )?;
    let feed = Feed(input);
    // The windower answers once it has replayed: no door opens, and nobody is told "ready", before.
    ready.set("log", Some("replaying the write-ahead log".into()));
    let join = replayed(&feed, join)?;
    ready.set("log", None);
    let (downstream, births) = Births::new(feed.clone(), exchange.clone())?;
    let ingest_loop = recovered.run(Box::new(downstream))?;
    let ingest = ingest_loop.handle();
    news.reach(ingest.clone());

    let service = Service::new(http::Parts {
        chunks: Arc::new(Chunks(Arc::clone(&catalogue))),
        ledger: Arc::new(Log {
            ledger: ledger.clone(),
            catalogue: Arc::clone(&catalogue),
        }),
        sessions: Arc::new(Records {
            directory: Arc::clone(&directory),
            ledger: ledger.clone(),
        }),
        parties: Arc::new(who),
        provider,
        origin: trust.origin.clone(),
        clock,
        trail,
        recall,
        metrics: QueryMetrics::new(metrics)?,
        entries_public: settings.ledger.public_entries,
    })?;
    Ok(House {
        registry,
        directory,
        catalogue,
        ledger,
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
    })
}

/// Waits for the windower's replay; its own error if it failed.
fn replayed(feed: &Feed, join: JoinHandle<Outcome<()>>) -> Outcome<JoinHandle<Outcome<()>>> {
    let (reply, answer) = sync_channel(1);
    if feed.send(Input::Status { reply }).is_ok() && answer.recv().is_ok() {
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
    /// The orderly stop, after the doors are closed: everything that was acknowledged is sealed, linked and
    /// anchored when it returns.
    ///
    /// # Errors
    /// The first failure; what was acknowledged is in the log then, and sealed at the next start.
    pub async fn stop(self) -> Outcome<()> {
        // A loop that has failed already cannot be stopped; its own error is the one to report.
        let asked = self.ingest.stop().await;
        // The last births are announced before the exchange stops.
        self.births.await.ok();
        let hushed = self.exchange.stop().await;
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
        apart(move || {
            let hushed = exchange_loop.join().and(hushed);
            ingest_loop.join().and(asked)?;
            let (reply, stopped) = sync_channel(1);
            feed.send(Input::Stop { reply })?;
            let stopped = stopped
                .recv()
                .map_err(|_| Failure::io("the windower ended early"));
            drop(feed);
            windower
                .join()
                .map_err(|_| Failure::internal("the windower panicked"))??;
            let stopped = stopped?;
            if stopped.gaps > 0 {
                tracing::warn!(
                    gaps = stopped.gaps,
                    "buckets could not be sealed; the next start tries again"
                );
            }
            notary.settle()?;
            notary.stop();
            ledger.stop();
            hushed
        })
        .await
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
