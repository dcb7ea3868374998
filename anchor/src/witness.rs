//! The witness: remembers the newest checkpoint of each log that it follows, and cosigns what goes on
//! from there (C2SP tlog-witness).
//!
//! ```text
//! request ─▶ core::witness::judge ─▶ {SHA-256 of the origin}.memory written, synced ─▶ cosignature
//!                          │
//!                          └▶ evidence/{origin}-{doubt}-{size}-{digest}.notes written, synced
//! ```
//!
//! Nothing leaves before it is on disk: a crash before the sync leaves the old memory and no
//! cosignature, one after it a memory that nobody was told of, and the asker is told its size. So no
//! two cosignatures are ever given for two roots of one size, and none goes back. One lock holds
//! judging, writing and signing together.
//!
//! A memory is made by [`Witness::init`], never by a start: a witness whose memory is lost could be
//! shown another history, and must say so instead. What a disk did after it failed is not known; the
//! witness then answers nothing more until it is started anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chordae_base::{
    Digest, Failure, Outcome,
    limits::{CHECKPOINT_BYTES_MAX, WITNESS_EVIDENCE_MAX, WITNESS_LOGS_MAX},
    seams::{self, Clock, Disk},
    time::SECOND_NS,
};
use chordae_chain::{
    checkpoint::{self, Checkpoint, TrustedLog},
    cosignature::{self, TrustedWitness},
    keys::SecretKeys,
    merkle,
};

use crate::core::witness::{Doubt, Evidence, Memory, Request, Verdict, judge, status_of};

/// Bytes of a memory: a note, and before it which log it is of.
const MEMORY_BYTES_MAX: u64 = CHECKPOINT_BYTES_MAX as u64 + 1024;

/// What a witness is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where its memory lies; nothing else may be in there.
    pub dir: PathBuf,
    /// The name that it signs under.
    pub name: String,
    /// The logs that it follows, at most 1,024 keys; a log may have several.
    pub logs: Vec<TrustedLog>,
}

/// A witness at work.
pub struct Witness {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    key: SecretKeys,
    state: Mutex<State>,
}

struct State {
    /// By origin.
    memories: BTreeMap<String, Option<Memory>>,
    /// Pairs of notes that are kept.
    kept: BTreeMap<Doubt, usize>,
    /// A write has begun that has not succeeded.
    stopped: bool,
}

/// The answer to a request, in the words of HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The cosignature line, the remembered size, or why not.
    pub body: String,
    /// The checkpoint goes against what is remembered; both notes are durable in `evidence/`, unless it
    /// is full.
    pub doubt: Option<Doubt>,
}

const TEXT: &str = "text/plain; charset=utf-8";
/// That a 409 says the remembered size (C2SP tlog-witness).
const SIZE: &str = "text/x.tlog.size";

impl Witness {
    /// Makes the memory of a log that this key has never cosigned. The key of a witness whose memory is
    /// lost must not be used again.
    ///
    /// # Errors
    /// `Refused` if there is a memory, `BadInput` for what cannot name a log, `Io`.
    pub fn init(disk: &dyn Disk, dir: &Path, origin: &str) -> Outcome<()> {
        checkpoint::check_origin(origin)?;
        make_dir(disk, dir)?;
        let path = memory_path(dir, origin);
        match disk.read(&path, MEMORY_BYTES_MAX) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Failure::os(path.display(), &e)),
            Ok(_) => {
                return Err(Failure::refused(format!(
                    "{} is there: the witness remembers this log",
                    path.display()
                )));
            }
        }
        let text = Memory::encode(origin, None);
        seams::write_atomic(disk, &path, text.as_bytes())
            .map_err(|e| Failure::os(format_args!("write {}", path.display()), &e))
    }

    /// Starts with the memories that are there.
    ///
    /// # Errors
    /// `NotFound` for a log without memory (see [`Self::init`]), `Damaged` for a memory that none of
    /// the log's keys has signed, `BadInput` for a name that no witness can have, no log or too many,
    /// `Io`.
    pub fn open(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        settings: Settings,
        key: SecretKeys,
    ) -> Outcome<Self> {
        TrustedWitness::new(&settings.name, &key.sign_public())?;
        if !(1..=WITNESS_LOGS_MAX).contains(&settings.logs.len()) {
            return Err(Failure::bad_input(format!(
                "a witness follows 1 to {WITNESS_LOGS_MAX} logs"
            )));
        }
        let evidence = settings.dir.join("evidence");
        make_dir(&*disk, &settings.dir)?;
        make_dir(&*disk, &evidence)?;
        // A killed process may have left names in a cache that was never synced. They are now: what is
        // cosigned from here on is built on them, and must not outlive them.
        for dir in [&settings.dir, &evidence] {
            disk.sync_dir(dir)
                .map_err(|e| Failure::os(format_args!("sync {}", dir.display()), &e))?;
        }
        let mut memories = BTreeMap::new();
        let origins: BTreeSet<&str> = settings.logs.iter().map(TrustedLog::origin).collect();
        for origin in origins {
            let memory = recall(&*disk, &settings, origin)?;
            memories.insert(origin.to_owned(), memory);
        }
        let kept = count(&*disk, &evidence)?;
        Ok(Self {
            disk,
            clock,
            settings,
            key,
            state: Mutex::new(State {
                memories,
                kept,
                stopped: false,
            }),
        })
    }

    /// How others verify its cosignatures.
    ///
    /// # Errors
    /// None that [`Self::open`] would not have met.
    pub fn verifier(&self) -> Outcome<TrustedWitness> {
        TrustedWitness::new(&self.settings.name, &self.key.sign_public())
    }

    /// The size that is remembered of a log; none if it is not followed.
    pub fn remembers(&self, origin: &str) -> Option<u64> {
        let state = self.state();
        let memory = state.memories.get(origin)?;
        Some(memory.as_ref().map_or(0, |m| m.checkpoint.size))
    }

    /// The newest note of a log that was cosigned, cosigned again as of now.
    ///
    /// # Errors
    /// `NotFound` for a log that is not followed or of which nothing was cosigned yet; `Io` after the
    /// disk has failed.
    pub fn newest(&self, origin: &str) -> Outcome<String> {
        let state = self.state();
        state.fit()?;
        let memory = state.memories.get(origin).and_then(Option::as_ref);
        let memory =
            memory.ok_or_else(|| Failure::not_found("nothing of this log was cosigned yet"))?;
        let line = self.cosign(&memory.checkpoint)?;
        Ok(memory.note.clone() + &line)
    }

    /// Answers the body of an `add-checkpoint` request.
    pub fn add_checkpoint(&self, body: &[u8]) -> Answer {
        self.answer(body).unwrap_or_else(|e| {
            let status = status_of(&e);
            if status == 500 {
                tracing::error!("witness: {e}");
            }
            say(status, e.why)
        })
    }

    fn answer(&self, body: &[u8]) -> Outcome<Answer> {
        let request = Request::parse(body)?;
        let origin = request.origin();
        let mut state = self.state();
        state.fit()?;
        let memory = state.memories.get(origin).and_then(Option::as_ref);
        let (verdict, evidence) = judge(&self.settings.logs, memory, &request);
        let doubt = evidence.as_ref().map(|e| e.doubt);
        if let Some(evidence) = evidence {
            self.keep(&mut state, &evidence)?;
        }
        let mut answer = match &verdict {
            Verdict::Cosign(memory) => {
                self.remember(&mut state, memory)?;
                say(200, self.cosign(&memory.checkpoint)?)
            }
            Verdict::Again(checkpoint) => say(200, self.cosign(checkpoint)?),
            Verdict::Stale(size) => Answer {
                content_type: SIZE,
                ..say(verdict.status(), format!("{size}\n"))
            },
            _ => say(verdict.status(), format!("{}\n", verdict.why())),
        };
        answer.doubt = doubt;
        Ok(answer)
    }

    /// Durable when it returns. A crash here leaves the old memory or the new one, and no cosignature
    /// of the new one has left.
    fn remember(&self, state: &mut State, memory: &Memory) -> Outcome<()> {
        let origin = &memory.checkpoint.origin;
        let path = memory_path(&self.settings.dir, origin);
        let text = Memory::encode(origin, Some(memory));
        state.write(&*self.disk, &path, &text)?;
        state.memories.insert(origin.clone(), Some(memory.clone()));
        Ok(())
    }

    /// Keeps both notes; the same two are kept once, and nothing that is kept is written over.
    fn keep(&self, state: &mut State, evidence: &Evidence) -> Outcome<()> {
        let (doubt, size, text) = (evidence.doubt, evidence.size, evidence.text());
        let origin = &evidence.origin;
        let word = doubt.word();
        tracing::warn!("witness: log {origin} has signed a checkpoint of size {size}: {word}");
        let digest = Digest(merkle::leaf_hash(text.as_bytes())).to_string();
        let name = format!(
            "{}-{word}-{size}-{}.notes",
            checkpoint::origin_hash(origin),
            digest.get(..16).unwrap_or_default()
        );
        let path = self.settings.dir.join("evidence").join(name);
        if self.disk.open_read(&path).is_ok() {
            return Ok(());
        }
        let kept = state.kept.get(&doubt).copied().unwrap_or(0);
        if kept >= WITNESS_EVIDENCE_MAX {
            tracing::warn!("witness: evidence/ is full of {word}: this one is not kept");
            return Ok(());
        }
        state.write(&*self.disk, &path, &text)?;
        state.kept.insert(doubt, kept + 1);
        Ok(())
    }

    fn cosign(&self, checkpoint: &Checkpoint) -> Outcome<String> {
        let time_s = u64::try_from(self.clock.wall_ns() / SECOND_NS)
            .map_err(|_| Failure::internal("the clock shows a time before 1970"))?;
        cosignature::sign(checkpoint, &self.settings.name, &self.key.sign, time_s)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fit(&self) -> Outcome<()> {
        if self.stopped {
            return Err(Failure::io(
                "the witness could not write its memory and has stopped: start it anew",
            ));
        }
        Ok(())
    }

    fn write(&mut self, disk: &dyn Disk, path: &Path, text: &str) -> Outcome<()> {
        self.stopped = true;
        seams::write_atomic(disk, path, text.as_bytes())
            .map_err(|e| Failure::os(format_args!("write {}", path.display()), &e))?;
        self.stopped = false;
        Ok(())
    }
}

fn say(status: u16, body: String) -> Answer {
    Answer {
        status,
        content_type: TEXT,
        body,
        doubt: None,
    }
}

fn make_dir(disk: &dyn Disk, dir: &Path) -> Outcome<()> {
    disk.create_dir_all(dir)
        .map_err(|e| Failure::os(dir.display(), &e))
}

fn memory_path(dir: &Path, origin: &str) -> PathBuf {
    dir.join(format!("{}.memory", checkpoint::origin_hash(origin)))
}

fn recall(disk: &dyn Disk, settings: &Settings, origin: &str) -> Outcome<Option<Memory>> {
    let path = memory_path(&settings.dir, origin);
    let bytes = disk
        .read(&path, MEMORY_BYTES_MAX)
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Failure::not_found(format!(
                "{} is missing: if this key has never cosigned log {origin:?}, initialise it; \
                 if it has, its memory is lost and the key must not be used again",
                path.display()
            )),
            _ => Failure::os(path.display(), &e),
        })?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::damaged(format!("{} is not text", path.display())))?;
    Memory::decode(&text, origin, &settings.logs).map_err(|e| e.during(path.display()))
}

/// How many pairs of notes are kept, by what is odd about them.
fn count(disk: &dyn Disk, evidence: &Path) -> Outcome<BTreeMap<Doubt, usize>> {
    let entries = disk
        .list(evidence)
        .map_err(|e| Failure::os(evidence.display(), &e))?;
    let kept = |doubt: Doubt| {
        let of_it = format!("-{}-", doubt.word());
        let names = entries.iter().filter_map(|e| e.path.file_name()?.to_str());
        names
            .filter(|name| name.ends_with(".notes") && name.contains(&of_it))
            .count()
    };
    Ok(Doubt::ALL.iter().map(|d| (*d, kept(*d))).collect())
}
