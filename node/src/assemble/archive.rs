//! What is stored, opened and checked: all that readers need, and what the house is built upon.
//!
//! ```text
//! keys ─▶ registry ─▶ links, chunks ─▶ catalogue ─▶ ledger ─▶ trail ─▶ directory
//! ```
//!
//! Two things can keep a start from taking anything new while all this is whole: a folder that was set back
//! (`witness`, `memory`), and a write-ahead log that cannot be written. Then the archive is served as a [`Reading`]: the
//! doors stay shut, nothing is sealed or anchored, readers are answered and their readings are in the trail.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use chordae_anchor::{Ledger, LedgerKeys, Notary};
use chordae_base::{Failure, Outcome, limits, seams::Clock};
use chordae_chain::{keys::Role, link::Link};
use chordae_query::{
    core::ports::{Aside, Tail},
    http::{self, Service},
    metrics::QueryMetrics,
    trail::{Deed, Recall, Trail},
};
use chordae_storage::{Catalogue, Committer, directory::Directory, registry::Registry};

use super::Seams;
use crate::{
    adapters::{Chunks, Lists, Log, Records, Who},
    folder::Folder,
    keyring::Keyring,
    memory::Memory,
    observe::Readiness,
    settings::Settings,
    witness_file::WitnessFile,
};

/// See the module.
pub(super) struct Archive {
    pub(super) keys: Keyring,
    pub(super) who: Who,
    pub(super) registry: Arc<Registry>,
    pub(super) committer: Committer,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) ledger: Ledger,
    pub(super) trail: Trail,
    pub(super) directory: Arc<Directory>,
    pub(super) witness: Option<WitnessFile>,
    /// What gateways remember of the log.
    pub(super) memory: Arc<Memory>,
    /// Who hears of new links, once it runs.
    pub(super) notary: Arc<OnceLock<Arc<Notary>>>,
}

/// Why nothing new is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shut {
    /// The folder was set back; an operator may accept it.
    SetBack(String),
    /// The log cannot be written.
    Log(String),
}

impl Shut {
    /// Why, and what to do, in one line.
    pub fn why(&self) -> String {
        match self {
            Self::SetBack(why) => format!(
                "{why} it is only read from; restore the newer folder, or run: chordae rollback accept"
            ),
            Self::Log(why) => format!(
                "the write-ahead log cannot be written ({why}); nothing is taken, what is stored is \
                 served; mend the disk and start again"
            ),
        }
    }
}

/// A house that only answers.
pub struct Reading {
    /// Why.
    pub shut: Shut,
    /// The query service.
    pub service: Arc<Service>,
    /// Chunks.
    pub catalogue: Arc<Catalogue>,
    /// The log; nothing is submitted to it.
    pub ledger: Ledger,
    keys: Keyring,
    trail: Trail,
    witness: Option<WitnessFile>,
    memory: Arc<Memory>,
    clock: Arc<dyn Clock>,
}

/// What is there of the newest data; none where nothing new is taken.
pub(super) type Newest = (Option<Arc<dyn Tail>>, Option<Arc<dyn Aside>>);

impl Archive {
    pub(super) fn open(
        home: &Folder,
        keys: Keyring,
        settings: &Settings,
        seams: &Seams,
        metrics: &prometheus::Registry,
        ready: &Readiness,
    ) -> Outcome<(Self, Recall)> {
        let disk = || Arc::clone(&seams.disk);
        let entropy = Arc::clone(&seams.entropy);
        let registry = Registry::open(disk(), &home.registry(), entropy, settings.slot_ns())?;
        let registry = Arc::new(registry);
        let own = [
            keys.provider.public("provider", Role::Provider),
            keys.sequencer.public("sequencer", Role::Sequencer),
        ];
        let who = Who {
            registry: Arc::clone(&registry),
            own: Arc::new(own),
        };
        let notary: Arc<OnceLock<Arc<Notary>>> = Arc::default();
        let slot = Arc::clone(&notary);
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
            Committer::open(disk(), home.root(), &mut progress, on_linked)?;
        ready.set("chunks", None);
        let ledger = Ledger::open(
            disk(),
            chordae_anchor::ledger::Settings {
                data_dir: home.root().to_owned(),
                origin: keys.trust.origin.clone(),
                policy: Some(keys.trust.policy()?),
                cadence: settings.blocks(),
            },
            LedgerKeys {
                log: keys.log.clone(),
                sequencer: keys.sequencer.clone(),
            },
            Arc::new(who.clone()),
            Arc::clone(&seams.clock),
            &seams.threads,
            metrics,
        )?;
        let (trail, recall) = Trail::open(disk(), &home.trail(), &seams.threads)?;
        let directory = Arc::new(Directory::open(disk(), &home.directory())?);
        let witness = match settings.ledger.witness.as_str() {
            "" => None,
            path => Some(WitnessFile::new(disk(), Path::new(path), home.root())?),
        };
        let memory = Memory::open(disk(), home.rollback(), ledger.clone())?;
        let archive = Self {
            keys,
            who,
            registry,
            committer,
            catalogue,
            ledger,
            trail,
            directory,
            witness,
            memory: Arc::new(memory),
            notary,
        };
        Ok((archive, recall))
    }

    /// Why the folder is not what it was, if somebody remembers it otherwise.
    pub(super) fn set_back(&self) -> Outcome<Option<Shut>> {
        let why = self.witness.as_ref().map(|w| w.contradicts(&self.ledger));
        let why = match why.transpose()?.flatten() {
            Some(why) => Some(why),
            None => self.memory.contradicts()?,
        };
        Ok(why.map(Shut::SetBack))
    }

    /// From now on the witness sees every checkpoint. One that cannot be written is said, and stops nothing.
    pub(super) fn watched(&self, ready: &Readiness) {
        let Some(witness) = self.witness.clone() else {
            return;
        };
        let ready = ready.clone();
        let keep = move |text: &str| {
            let kept = witness.keep(text);
            if let Err(why) = &kept {
                tracing::warn!(%why, "the witness does not see the newest checkpoint");
            }
            ready.note("witness", kept.err().map(|why| why.to_string()));
        };
        keep(&self.ledger.checkpoint());
        self.ledger.watch(Box::new(keep));
    }

    /// The query service.
    pub(super) fn serving(
        &self,
        recall: Recall,
        (tail, aside): Newest,
        settings: &Settings,
        seams: &Seams,
        metrics: &prometheus::Registry,
    ) -> Outcome<Arc<Service>> {
        Service::new(http::Parts {
            chunks: Arc::new(Chunks(Arc::clone(&self.catalogue))),
            tail,
            aside,
            ledger: Arc::new(Log {
                ledger: self.ledger.clone(),
                catalogue: Arc::clone(&self.catalogue),
            }),
            sessions: Arc::new(Records {
                directory: Arc::clone(&self.directory),
                ledger: self.ledger.clone(),
            }),
            inventories: Arc::new(Lists(Arc::clone(&self.directory))),
            parties: Arc::new(self.who.clone()),
            provider: self.keys.provider.clone(),
            origin: self.keys.trust.origin.clone(),
            clock: Arc::clone(&seams.clock),
            threads: seams.threads.clone(),
            trail: self.trail.clone(),
            recall,
            metrics: QueryMetrics::new(metrics)?,
            entries_public: settings.ledger.public_entries,
        })
    }
}

impl Archive {
    /// Serves it, and nothing else: the link journal is closed, nobody anchors.
    pub(super) fn read_only(
        self,
        shut: Shut,
        recall: Recall,
        settings: &Settings,
        seams: &Seams,
        metrics: &prometheus::Registry,
    ) -> Outcome<Reading> {
        let service = self.serving(recall, (None, None), settings, seams, metrics)?;
        Ok(Reading {
            shut,
            service,
            catalogue: self.catalogue,
            ledger: self.ledger,
            keys: self.keys,
            trail: self.trail,
            witness: self.witness,
            memory: self.memory,
            clock: Arc::clone(&seams.clock),
        })
    }
}

impl Reading {
    /// The operator takes a folder that was set back for what it is: that is written into the trail, then
    /// the witness sees the ledger as it stands, and keeps what it saw before under another name; what a gateway
    /// remembers is kept as accepted. The next start goes on from here. Blocks. A crash in between leaves the
    /// folder to be accepted again.
    ///
    /// # Errors
    /// `Refused` if it was not set back; `Io`.
    pub fn accept(&self, reason: &str) -> Outcome<()> {
        let Shut::SetBack(why) = &self.shut else {
            return Err(Failure::refused("this folder was not set back"));
        };
        let fits = !reason.is_empty() && reason.len() <= limits::TRAIL_FORMAT_BYTES_MAX / 2;
        if !fits {
            return Err(Failure::bad_input("say in a few words why it is accepted"));
        }
        let time_ms = u64::try_from(self.clock.wall_ns() / 1_000_000).unwrap_or(0);
        self.trail.write_blocking(Deed {
            time_ms,
            jti: format!("rollback-accepted-{time_ms}"),
            sid: None,
            kid: self.keys.provider.key_id(),
            did: None,
            from_ns: None,
            until_ns: None,
            leads: None,
            format: format!("rollback accept: {reason}"),
            outcome: "accepted".into(),
            rows: None,
        })?;
        self.memory.accept()?;
        if let Some(witness) = &self.witness {
            witness.accept(&self.ledger, time_ms)?;
        }
        tracing::warn!(why, reason, "an operator has accepted the folder as it is");
        Ok(())
    }
}
