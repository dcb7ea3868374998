//! Records of the log that keep failing at the start: counted, and after the third failed start set aside.
//!
//! ```text
//! start n   record fails (its reading or its taking in errs or panics) ─▶ `wal.failed`: that record, n ─▶ the start ends
//! n = 3     the next start: quarantine/ `unreplayable` (synced) ─▶ `wal.failed`: set aside ─▶ passed over from now on
//! a start that comes to its end forgets the count; what is trimmed off the log is forgotten here
//! ```
//!
//! Its checksum is right, so it is what we wrote or what a later version did: nothing on the disk is damaged, and
//! waiting for a person would keep every other frame out. A log whose *checksums* are wrong never comes here:
//! there the start ends each time. So does one that fails by anything but a frame, because other records lean
//! on what births, states and settlements say.
//!
//! A crash between quarantine and note leaves a second copy there, never none. A process that dies without
//! unwinding (no memory, `abort`) leaves no name, and is not counted.

use std::{
    any::Any,
    collections::BTreeMap,
    io,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use chordae_base::{
    Failure, FailureKind, Outcome, limits,
    record::{self, WalRecord},
    seams::{Disk, write_atomic},
    wire::ClockKind,
};
use serde::{Deserialize, Serialize};

use crate::core::quarantined::{FrameNote, Quarantined};

/// Why such a frame lies in quarantine.
pub(crate) const UNREPLAYABLE: &str = "unreplayable";

/// The file, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    /// What the newest failed starts failed by.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    failed: Option<Failed>,
    /// Positions that are passed over, each with the print of the record.
    #[serde(default)]
    aside: BTreeMap<u64, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failed {
    position: u64,
    /// Which record it was: another one may come to lie there.
    print: String,
    /// Starts in a row.
    starts: u32,
    why: String,
}

/// See the module.
pub(crate) struct Unreplayable {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    note: Mutex<Note>,
}

impl Unreplayable {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// `Damaged` for a file that we did not write; `Io`.
    pub(crate) fn open(disk: Arc<dyn Disk>, path: PathBuf) -> Outcome<Self> {
        let note = match disk.read(&path, limits::REPLAY_NOTE_BYTES_MAX) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|err| {
                Failure::damaged(format!(
                    "{}: {err}; remove it, and it counts anew",
                    path.display()
                ))
            })?,
            Err(err) if err.kind() == io::ErrorKind::NotFound => Note::default(),
            Err(err) => return Err(Failure::os(format_args!("read {}", path.display()), &err)),
        };
        Ok(Self {
            disk,
            path,
            note: Mutex::new(note),
        })
    }

    /// The record that has failed as many starts as one may.
    pub(crate) fn due(&self) -> Option<u64> {
        let note = self.lock();
        let failed = note.failed.as_ref()?;
        (failed.starts >= limits::REPLAY_STARTS_MAX).then_some(failed.position)
    }

    /// Its quarantine record and payload: the frame as far as it can be read, else all of its bytes. `None` if
    /// another record lies at the position now, or one that may not be set aside.
    pub(crate) fn quarantined(&self, bytes: &Bytes, now_ns: i64) -> Option<(Quarantined, Bytes)> {
        let print = record::print_of(bytes);
        let is_it = |failed: &Failed| failed.print == print;
        if !self.lock().failed.as_ref().is_some_and(is_it) {
            return None;
        }
        let (stream, boot, seq) = record::frame_named(bytes.clone())?;
        // Its reading may be what fails.
        let read = panic::catch_unwind(AssertUnwindSafe(|| WalRecord::decode(bytes.clone())));
        let frame = match read {
            Ok(Ok(WalRecord::Frame(frame))) => Some(frame),
            _ => None,
        };
        let note = FrameNote {
            boot,
            seq,
            t0_ns: frame.as_ref().map_or(0, |f| f.t0_ns),
            samples: frame.as_ref().map_or(0, |f| f.samples),
            leads: 0,
            historical: false,
            clock: frame.as_ref().map_or(ClockKind::Unknown, |f| f.clock),
            // Of none: a repeat may be the better copy, and must not be absorbed.
            print: Default::default(),
        };
        let q = Quarantined {
            stream,
            recv_ns: frame.as_ref().map_or(now_ns, |f| f.recv_ns),
            arrived_ns: None,
            reason: UNREPLAYABLE.into(),
            frame: Some(note),
            waits: false,
            // It was acknowledged: a frame of its number is no new one.
            settles: true,
        };
        Some((q, frame.map_or_else(|| bytes.clone(), |f| f.payload)))
    }

    /// It lies in quarantine: from now on it is passed over.
    ///
    /// # Errors
    /// `Io`; the next start then puts another copy there.
    pub(crate) fn set_aside(&self) -> Outcome<()> {
        let mut note = self.lock();
        if let Some(failed) = note.failed.take() {
            note.aside.insert(failed.position, failed.print);
        }
        self.write(&note)
    }

    /// Takes a record in by `take`, unless it is set aside. What fails is counted.
    ///
    /// # Errors
    /// Those of `take`, with what the count came to; `Internal` if it panicked.
    pub(crate) fn try_one(
        &self,
        position: u64,
        bytes: &Bytes,
        take: impl FnOnce() -> Outcome<()>,
    ) -> Outcome<()> {
        if self.passes_over(position, bytes) {
            return Ok(());
        }
        let failure = match panic::catch_unwind(AssertUnwindSafe(take)) {
            Ok(Err(failure)) if failure.kind == FailureKind::Damaged => failure,
            Ok(done) => return done,
            Err(payload) => match said(&*payload) {
                Some(said) => Failure::internal(format!("it panicked: {said}")),
                // No panic of ours: a thread that is ended from outside.
                None => panic::resume_unwind(payload),
            },
        };
        Err(self.failed(position, bytes, failure))
    }

    fn passes_over(&self, position: u64, bytes: &Bytes) -> bool {
        let note = self.lock();
        // Nearly always there is none.
        let known = note.aside.get(&position);
        known.is_some_and(|print| *print == record::print_of(bytes))
    }

    fn failed(&self, position: u64, bytes: &Bytes, failure: Failure) -> Failure {
        let failure = failure.during(format_args!("record {position} of the log"));
        let Some((stream, _, seq)) = record::frame_named(bytes.clone()) else {
            return failure;
        };
        let print = record::print_of(bytes);
        let mut note = self.lock();
        let before = note
            .failed
            .take()
            .filter(|f| f.position == position && f.print == print);
        let starts = before.map_or(1, |f| f.starts.saturating_add(1));
        note.failed = Some(Failed {
            position,
            print,
            starts,
            why: failure.why.clone(),
        });
        if let Err(err) = self.write(&note) {
            tracing::error!(%err, "a failed start cannot be counted");
            return failure;
        }
        let most = limits::REPLAY_STARTS_MAX;
        let frame = format!("{failure}; frame {seq} of {stream}, failed start {starts} of {most}");
        Failure {
            kind: failure.kind,
            why: match starts < most {
                true => frame,
                false => format!("{frame}: the next start sets it aside in quarantine/"),
            },
        }
    }

    /// A start has come to its end, with a log that begins at `start`.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn started(&self, start: u64) -> Outcome<()> {
        let mut note = self.lock();
        let before = note.clone();
        note.failed = None;
        note.aside.retain(|position, _| *position >= start);
        match *note == before {
            true => Ok(()),
            false => self.write(&note),
        }
    }

    fn write(&self, note: &Note) -> Outcome<()> {
        let bytes = serde_json::to_vec(note)
            .map_err(|err| Failure::internal(format!("{}: {err}", self.path.display())))?;
        write_atomic(&*self.disk, &self.path, &bytes)
            .map_err(|err| Failure::os(format_args!("write {}", self.path.display()), &err))
    }

    fn lock(&self) -> MutexGuard<'_, Note> {
        self.note.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a panic says.
fn said(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
}
