//! Copies that are broken on purpose while the demo runs, each behind a server that lies: it shows the copy's rows,
//! and the proof of the real ones.
//!
//! ```text
//! real folder ─▶ copy ─▶ checked: sound ─▶ broken (chordae tamper) ─▶ checked again: what the checker names
//!                                              └▶ a second query service, with its own check of files taken out
//! browser ──the same signed request──▶ that service ─▶ what the browser's own check finds
//! ```
//!
//! The real service would refuse all of this: it compares each file with its link before a row leaves. A reader's
//! check is there for the day on which a server does not, so here is one that does not.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::Router;
use chordae_anchor::{Ledger, LedgerKeys, ledger};
use chordae_base::{
    Did, Digest, Failure, Outcome, limits,
    seams::{Disk, Threads, real},
};
use chordae_chain::link;
use chordae_checker::{
    Report, Verdict,
    tamper::{self, How},
};
use chordae_query::{
    core::ports::{ChunkSource, Sessions},
    http::{self, Service},
    metrics::QueryMetrics,
    trail::Trail,
};
use chordae_storage::{Catalogue, directory::Directory, registry::Registry};
use serde::{Deserialize, Serialize};

use super::{
    copy::{copy_folder, copy_parts},
    forged::{self, Widened},
};
use crate::{
    adapters::{Chunks, Lists, Log, Records, Who},
    assemble::House,
    commands::check_folder,
    folder::Folder,
    keyring::{self, Keyring},
    settings::Settings,
};

/// Findings of the checker that are told.
const FINDINGS_TOLD: usize = 5;

/// What somebody does to the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Deed {
    /// Nothing: the control.
    Nothing,
    /// The lowest bit of one sample.
    FlipBit,
    /// The values of two chunks.
    SwapChunks,
    /// The ledger as it was a while ago, put back.
    RollBackLedger,
    /// The record of the session, for one that grants everything.
    WidenGrant,
}

/// What was done and what the checker says of it, for the page.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    /// Names the copy in requests that are meant for it.
    copy: u64,
    /// What was done to it.
    said: String,
    /// Where to look, ms since 1970.
    at_ms: i64,
    checker: Checked,
}

#[derive(Debug, Serialize)]
struct Checked {
    verdict: Verdict,
    findings: Vec<chordae_chain::finding::Finding>,
}

/// Whom the page connects as.
pub(super) struct Clinician {
    pub(super) sid: Digest,
    /// Of the patient who granted, and of the clinician.
    pub(super) keys: [PathBuf; 2],
    /// The stream whose ledger is kept to go back to.
    pub(super) did: Did,
}

/// What copies are made from.
struct Real {
    home: Folder,
    work: PathBuf,
    keys: Keyring,
    settings: Settings,
    catalogue: Arc<Catalogue>,
    registry: Arc<Registry>,
    directory: Arc<Directory>,
    ledger: Ledger,
}

/// A copy and the server over it.
struct Broken {
    id: u64,
    deed: Deed,
    router: Router,
    /// Of its own, where the copy has another ledger.
    ledger: Option<Ledger>,
}

impl Drop for Broken {
    fn drop(&mut self) {
        if let Some(ledger) = &self.ledger {
            ledger.stop();
        }
    }
}

/// See the module. There is one copy at a time; the next one takes its place.
#[derive(Default)]
pub(super) struct Workshop {
    real: OnceLock<Real>,
    clinician: OnceLock<Clinician>,
    kept: OnceLock<u64>,
    now: Mutex<Option<Arc<Broken>>>,
    made: AtomicU64,
}

impl Workshop {
    /// Once the server runs.
    pub(super) fn open(&self, home: &Folder, settings: Settings, house: &House) -> Outcome<()> {
        let real = Real {
            home: home.clone(),
            work: home.root().join("demo"),
            keys: keyring::open(home)?,
            settings,
            catalogue: Arc::clone(&house.catalogue),
            registry: Arc::clone(&house.registry),
            directory: Arc::clone(&house.directory),
            ledger: house.ledger.clone(),
        };
        // A second opening would change nothing.
        self.real.get_or_init(|| real);
        Ok(())
    }

    /// Once the patient has granted. From here on the ledger's first state with some of the stream in it is kept.
    pub(super) fn granted(self: &Arc<Self>, clinician: Clinician) {
        self.clinician.get_or_init(|| clinician);
        if let Some(real) = self.real.get() {
            let workshop = Arc::clone(self);
            real.ledger.watch(Box::new(move |_| workshop.keep_older()));
        }
    }

    pub(super) fn clinician(&self) -> Outcome<(&Clinician, String)> {
        let wait = || Failure::busy("the devices have just begun: try again in a few seconds");
        let trust = self.real()?.keys.trust.to_json()?;
        Ok((self.clinician.get().ok_or_else(wait)?, trust))
    }

    fn real(&self) -> Outcome<&Real> {
        let real = self.real.get();
        real.ok_or_else(|| Failure::busy("the server is starting: try again in a few seconds"))
    }

    /// Copies the ledger's folder once, as it stands. Runs on the thread that alone writes it.
    fn keep_older(&self) {
        let (Some(real), Some(clinician)) = (self.real.get(), self.clinician.get()) else {
            return;
        };
        let begun = real.catalogue.head(&clinician.did).is_some();
        if self.kept.get().is_some() || !begun {
            return;
        }
        let keep = || {
            copy_folder(&real.home.root().join("ledger"), &real.older())?;
            // The folder is a little older than the checkpoint that this call is about.
            let path = real.older().join("checkpoint");
            let text =
                std::fs::read_to_string(&path).map_err(|e| Failure::os(path.display(), &e))?;
            real.ledger.known(&text).map(|known| known.size)
        };
        match keep() {
            Ok(size) => {
                self.kept.get_or_init(|| size);
            }
            Err(why) => tracing::warn!(%why, "no older ledger is kept"),
        }
    }

    /// The router of the copy with this number, if it answers this path itself.
    pub(super) fn answers(&self, id: &str, path: &str) -> Outcome<Option<Router>> {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let copy = now.as_ref().filter(|copy| copy.id.to_string() == id);
        let gone = || {
            Failure::not_found("that copy is gone: a newer one was made, by this page or another")
        };
        let copy = copy.ok_or_else(gone)?;
        let own = match copy.deed {
            Deed::Nothing | Deed::FlipBit | Deed::SwapChunks => path.ends_with("/window"),
            Deed::RollBackLedger => {
                path.ends_with("/window")
                    || path.ends_with("/proof")
                    || path.starts_with("/ledger/")
            }
            Deed::WidenGrant => true,
        };
        Ok(own.then(|| copy.router.clone()))
    }

    /// Makes a copy, breaks it, checks it before and after, and puts a server over it. Blocks.
    ///
    /// # Errors
    /// `BadInput` where there is nothing to break yet, and says so; `Busy`; `Io`.
    pub(super) fn make(&self, deed: Deed, did: Did) -> Outcome<Told> {
        let real = self.real()?;
        let (clinician, _) = self.clinician()?;
        // One at a time: whoever comes second waits here.
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        *now = None;
        let id = self.made.fetch_add(1, Ordering::Relaxed);
        let copy = real.work.join("copy");
        if copy.exists() {
            std::fs::remove_dir_all(&copy).map_err(|e| Failure::os(copy.display(), &e))?;
        }
        // As new as what the server says.
        real.ledger.settle()?;
        copy_parts(real.home.root(), &copy)?;
        let before = real.check(&copy)?;
        if before.verdict == Verdict::Damaged {
            return Err(Failure::internal(format!(
                "the untouched copy does not verify: {:?}",
                before.findings
            )));
        }
        let (said, at_ms) = self.break_it(real, deed, did, &copy)?;
        let report = real.check(&copy)?;
        let (router, ledger) = real.serve(deed, clinician, &copy)?;
        *now = Some(Arc::new(Broken {
            id,
            deed,
            router,
            ledger,
        }));
        let Report {
            verdict,
            mut findings,
            ..
        } = report;
        findings.truncate(FINDINGS_TOLD);
        Ok(Told {
            copy: id,
            said,
            at_ms,
            checker: Checked { verdict, findings },
        })
    }

    fn break_it(&self, real: &Real, deed: Deed, did: Did, copy: &Path) -> Outcome<(String, i64)> {
        let disk: Arc<dyn Disk> = Arc::new(real::OsDisk);
        let tamper = |how| tamper::tamper_stream(&disk, copy, how, Some(did));
        let said = match deed {
            Deed::Nothing => "copied, and left as it is".to_owned(),
            Deed::FlipBit => tamper(How::ChangeSample)?,
            Deed::SwapChunks => tamper(How::SwapRows)?,
            Deed::RollBackLedger => {
                let size = real.ledger.size();
                let older = self.kept.get().filter(|older| **older < size);
                let why = "the ledger has no older state yet: try again in some seconds";
                let older = older.ok_or_else(|| Failure::busy(why))?;
                let into = copy.join("ledger");
                std::fs::remove_dir_all(&into).map_err(|e| Failure::os(into.display(), &e))?;
                copy_folder(&real.older(), &into)?;
                format!("put the ledger back from {size} entries to {older}, as an old backup would: each signature in it is good")
            }
            Deed::WidenGrant => {
                "replaced the record of the session by one without bounds, signed and sealed with the patient's own key".to_owned()
            }
        };
        let named = said
            .split_whitespace()
            .find_map(|word| link::parse_object_name(word.trim_end_matches(':')));
        let links = real.catalogue.links(&did, 0..u64::MAX);
        let shown = match named {
            Some((_, index)) => links.iter().find(|link| link.index == index),
            None => links.get(links.len() / 2),
        };
        let shown = shown.ok_or_else(|| {
            Failure::busy("nothing of this stream is sealed yet: try again in some seconds")
        })?;
        let middle_ns = shown.first_ns.midpoint(shown.end_ns);
        Ok((said, middle_ns / 1_000_000))
    }
}

impl Real {
    fn older(&self) -> PathBuf {
        self.work.join("older-ledger")
    }

    fn check(&self, copy: &Path) -> Outcome<Report> {
        check_folder(&real::OsDisk, copy, Some(&self.keys.trust))
    }

    /// A query service over the copy, and its ledger where that is another.
    fn serve(
        &self,
        deed: Deed,
        clinician: &Clinician,
        copy: &Path,
    ) -> Outcome<(Router, Option<Ledger>)> {
        let own = [
            self.keys
                .provider
                .public("provider", chordae_chain::keys::Role::Provider),
            self.keys
                .sequencer
                .public("sequencer", chordae_chain::keys::Role::Sequencer),
        ];
        let who = Who {
            registry: Arc::clone(&self.registry),
            own: Arc::new(own),
        };
        let older = match deed {
            Deed::RollBackLedger => Some(self.ledger_of(copy, &who)?),
            _ => None,
        };
        let ledger = older.clone().unwrap_or_else(|| self.ledger.clone());
        let records = Records {
            directory: Arc::clone(&self.directory),
            ledger: ledger.clone(),
        };
        let sessions: Arc<dyn Sessions> = match deed {
            Deed::WidenGrant => Arc::new(Widened::of(clinician, &self.keys, records)?),
            _ => Arc::new(records),
        };
        let genuine = Chunks(Arc::clone(&self.catalogue));
        let chunks: Arc<dyn ChunkSource> = Arc::new(forged::Files::new(genuine, copy));
        let threads = Threads::of_the_machine();
        let (trail, recall) =
            Trail::open(Arc::new(real::OsDisk), &copy.join("readings"), &threads)?;
        let service = Service::new(http::Parts {
            chunks,
            tail: None,
            aside: None,
            ledger: Arc::new(Log {
                ledger,
                catalogue: Arc::clone(&self.catalogue),
            }),
            sessions,
            inventories: Arc::new(Lists(Arc::clone(&self.directory))),
            parties: Arc::new(who),
            provider: self.keys.provider.clone(),
            origin: self.keys.trust.origin.clone(),
            clock: Arc::new(real::OsClock),
            threads,
            trail,
            recall,
            metrics: QueryMetrics::new(&prometheus::Registry::new())?,
            entries_public: self.settings.ledger.public_entries,
        })?;
        Ok((http::router(&service), older))
    }

    fn ledger_of(&self, copy: &Path, who: &Who) -> Outcome<Ledger> {
        Ledger::open(
            Arc::new(real::OsDisk),
            ledger::Settings {
                data_dir: copy.to_owned(),
                origin: self.keys.trust.origin.clone(),
                policy: Some(self.keys.trust.policy()?),
                cadence: self.settings.blocks(),
            },
            LedgerKeys {
                log: self.keys.log.clone(),
                sequencer: self.keys.sequencer.clone(),
            },
            Arc::new(who.clone()),
            Arc::new(real::OsClock),
            &Threads::of_the_machine(),
            &prometheus::Registry::new(),
        )
    }
}

/// How long a grant of the demo is: bounded, so that there is something to widen.
pub(super) const GRANTED_NS: i64 = 24 * 3600 * chordae_base::time::SECOND_NS;

/// The first instant that the demo grants, where it begins now.
pub(super) fn granted_from(now_ns: i64) -> i64 {
    chordae_base::time::slot_start(now_ns, limits::PAGE_NS)
}
