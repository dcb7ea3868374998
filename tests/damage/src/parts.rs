//! The parts of a data folder: how the product opens and reads each, and what it then says.
//!
//! Reading is what the server does at its start and when it is asked; nothing here checks more than it does.
//! What a part says is told as one text, so that two readings can be compared.

use std::{fmt::Write as _, path::Path, sync::Arc};

use bytes::Bytes;
use chordae_base::{
    Failure, FailureKind, Outcome,
    journal::{Journal, Settings, scan_dir},
    limits,
    seams::{
        Disk, Threads,
        fake::{FakeDisk, FakeEntropy},
    },
    time::SECOND_NS,
};
use chordae_chain::{
    event::{self, Event},
    session::SessionRecord,
};
use chordae_ingest::{core::exchange::codec::Decoder, quarantine::Quarantine, wal::Wal};
use chordae_query::trail::Trail;
use chordae_storage::{Committer, directory::Directory, registry::Registry};

use crate::house::{House, ROOT, at, open_ledger, wal_settings};

/// A part whose files lie below one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `wal/`
    Wal,
    /// `links/`
    Links,
    /// `registry/`
    Registry,
    /// `directory/`
    Directory,
    /// `trail/`
    Trail,
    /// `quarantine/`
    Quarantine,
    /// `outbox/`
    Outbox,
    /// `mqtt/`
    Exchange,
    /// `ledger/`
    Ledger,
    /// `ledger.heads/`, which the ledger reads at its start.
    Heads,
    /// `ledger.batches/`, whose newest batch a crash kept from its checkpoint.
    Pending,
    /// The same, of a ledger that was stopped in order.
    Batches,
}

/// What a part said when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// All of it.
    pub text: String,
    /// Whether a torn tail was cut, which the part reports.
    pub torn: bool,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Wal,
        Self::Links,
        Self::Registry,
        Self::Directory,
        Self::Trail,
        Self::Quarantine,
        Self::Outbox,
        Self::Exchange,
        Self::Ledger,
        Self::Heads,
        Self::Pending,
        Self::Batches,
    ];

    /// The name below which its files lie.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wal => "wal",
            Self::Links => "links",
            Self::Registry => "registry",
            Self::Directory => "directory",
            Self::Trail => "trail",
            Self::Quarantine => "quarantine",
            Self::Outbox => "outbox",
            Self::Exchange => "mqtt",
            Self::Ledger => "ledger",
            Self::Heads => "ledger.heads",
            Self::Pending | Self::Batches => "ledger.batches",
        }
    }

    /// The folder of its journal, if it is one.
    fn journal(self) -> Option<&'static str> {
        match self {
            Self::Registry => Some("registry/log"),
            Self::Directory | Self::Ledger | Self::Heads => None,
            other => Some(other.name()),
        }
    }

    /// Opens and reads it, as the server does.
    ///
    /// # Errors
    /// What the server would say.
    pub fn read(self, disk: &FakeDisk, house: &House) -> Outcome<Said> {
        // Looked at before it is opened: an open cuts the tail.
        let torn = match self.journal() {
            Some(dir) => scan_dir(disk, &at(dir), limits::RECORD_BYTES_MAX, &mut |_, _| Ok(()))
                .is_ok_and(|torn| torn.is_some()),
            None => false,
        };
        let text = match self {
            Self::Wal => wal(disk),
            Self::Links => links(disk),
            Self::Registry => registry(disk),
            Self::Directory => directory(disk, house),
            Self::Trail => trail(disk),
            Self::Quarantine => quarantine(disk),
            Self::Outbox => outbox(disk),
            Self::Exchange => exchange(disk),
            Self::Ledger | Self::Heads | Self::Pending | Self::Batches => ledger(disk),
        }?;
        Ok(Said { text, torn })
    }
}

fn arc(disk: &FakeDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

/// Adds a line; writing to a text cannot fail.
fn say(text: &mut String, what: impl std::fmt::Debug) {
    writeln!(text, "{what:?}").ok();
}

fn wal(disk: &FakeDisk) -> Outcome<String> {
    let mut text = String::new();
    let (wal, _) = Wal::open(arc(disk), wal_settings())?;
    wal.frame_source().replay(&mut |position, record| {
        say(&mut text, (position, record));
        Ok(())
    })?;
    Ok(text)
}

fn links(disk: &FakeDisk) -> Outcome<String> {
    let mut text = String::new();
    let (_, catalogue) =
        Committer::open(arc(disk), Path::new(ROOT), &mut |_, _| (), Box::new(|_| ()))?;
    for did in catalogue.dids() {
        say(&mut text, catalogue.links(&did, 0..u64::MAX));
    }
    match catalogue.damaged().first() {
        Some((did, index, why)) => Err(Failure::damaged(format!("chunk {index} of {did}: {why}"))),
        None => Ok(text),
    }
}

fn registry(disk: &FakeDisk) -> Outcome<String> {
    let entropy = Arc::new(FakeEntropy::new(0));
    let registry = Registry::open(arc(disk), &at("registry"), entropy, 10 * SECOND_NS)?;
    let mut text = String::new();
    say(&mut text, registry.devices());
    say(&mut text, registry.parties());
    say(&mut text, registry.streams());
    for (_, plan) in registry.streams() {
        say(&mut text, registry.patient_of(&plan.newest()));
    }
    Ok(text)
}

/// The query service reads a record on every request and holds its sections against the event that the
/// session's id names.
fn directory(disk: &FakeDisk, house: &House) -> Outcome<String> {
    let directory = Directory::open(arc(disk), &at("directory"))?;
    let mut text = String::new();
    for sid in directory.list() {
        let name = || format!("directory: session {}", chordae_base::Digest(sid));
        let bytes = directory.get(&sid)?.unwrap_or_default();
        let damaged = |e: Failure| Failure::damaged(format!("{}: {}", name(), e.why));
        let record = SessionRecord::decode(&bytes).map_err(damaged)?;
        if record.digest()? != house.sections {
            return Err(Failure::damaged(format!(
                "{}: its sections are not those of the ledger",
                name()
            )));
        }
        say(&mut text, (sid, record.sections));
    }
    Ok(text)
}

fn trail(disk: &FakeDisk) -> Outcome<String> {
    let (trail, recall) = Trail::open(arc(disk), &at("trail"), &Threads::of_the_machine())?;
    Ok(format!("{:?} {recall:?}", trail.head()))
}

fn quarantine(disk: &FakeDisk) -> Outcome<String> {
    let mut text = String::new();
    let quarantine = Quarantine::open(arc(disk), at("quarantine"))?;
    quarantine.reader().scan(&mut |position, record, payload| {
        say(&mut text, (position, record, payload));
        Ok(())
    })?;
    Ok(text)
}

fn journal(disk: &FakeDisk, dir: &str, visit: &mut dyn FnMut(Bytes) -> Outcome<()>) -> Outcome<()> {
    let settings = Settings::small(at(dir), limits::RECORD_BYTES_MAX);
    let journal = Journal::open(arc(disk), settings)?.journal;
    journal.reader().scan(0, &mut |_, bytes| visit(bytes))?;
    Ok(())
}

fn outbox(disk: &FakeDisk) -> Outcome<String> {
    let mut text = String::new();
    journal(disk, "outbox", &mut |bytes| {
        say(&mut text, event::decode(&bytes)?);
        Ok(())
    })?;
    Ok(text)
}

fn exchange(disk: &FakeDisk) -> Outcome<String> {
    let (mut text, mut decoder) = (String::new(), Decoder::default());
    journal(disk, "mqtt", &mut |bytes| {
        say(&mut text, decoder.read(bytes)?);
        Ok(())
    })?;
    Ok(text)
}

/// Opened, and every entry read with its receipt.
fn ledger(disk: &FakeDisk) -> Outcome<String> {
    let ledger = open_ledger(disk)?;
    let mut text = ledger.checkpoint();
    let read = (0..ledger.size()).try_for_each(|at| {
        say(&mut text, ledger.entry(at)?);
        say(&mut text, ledger.receipt(at)?);
        Ok(())
    });
    ledger.stop();
    read.map(|()| text)
}

/// Whether an error says that stored bytes are wrong, and not that something cannot be done.
pub fn is_finding(failure: &Failure) -> bool {
    matches!(
        failure.kind,
        FailureKind::Damaged | FailureKind::BadInput | FailureKind::Refused
    )
}

/// What a session's event says of its sections.
///
/// # Errors
/// `Internal` if the entry is no create-session event.
pub fn sections_of(entry: &[u8]) -> Outcome<[u8; 32]> {
    match event::decode(entry)?.event {
        Event::CreateSession { sections, .. } => Ok(sections),
        _ => Err(Failure::internal("not a create-session event")),
    }
}
