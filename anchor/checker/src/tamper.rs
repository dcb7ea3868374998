//! `chordae tamper`: breaks a *copy* of a data folder on purpose, so that anyone can see the checker
//! name it. Deterministic: the same copy is broken in the same way, and what was done is told.
//!
//! A bit that flips in a file is what disks do; a sample that changes in a file that is written anew, whole in
//! itself, is what somebody does who knows the format.
//!
//! A folder that a server holds is refused. Nothing here knows a secret of the folder; whoever rewrites
//! a ledger here does it with keys of his own, as a thief of the disk would.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use bytes::Bytes;
use chordae_base::{
    Did, Failure, Outcome, journal, limits,
    seams::{self, Disk, EntryKind},
};
use chordae_chain::link::{self, Link};

use crate::{
    files::{Folder, Read, name_of},
    ledger::CHECKPOINT,
    tiles::{self, BUNDLE_BYTES, Kind, TILE_BYTES, WIDTH},
};

mod forge;
mod rows;

pub use forge::{LogKeys, write_log};

/// A way to break a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// One bit of a chunk file.
    FlipBit,
    /// The lowest bit of one sample, in a file that is written anew.
    ChangeSample,
    /// Two chunk files change places.
    SwapChunks,
    /// Two chunks of a stream change their rows' values, in files that are written anew.
    SwapRows,
    /// A chunk file goes.
    DropChunk,
    /// A chunk file appears again as the next one of its stream.
    DuplicateChunk,
    /// The newest link of a stream goes, and its chunk.
    TruncateLinks,
    /// One bit of a ledger entry.
    ChangeEntry,
    /// One bit of a tile.
    ChangeTile,
    /// The checkpoint says less than it did.
    RollBackLedger,
    /// One bit of a record of the audit trail, in its checksum's favour.
    ChangeTrail,
    /// The whole ledger, signed again by other keys.
    ResignFolder,
}

impl How {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::FlipBit,
        Self::ChangeSample,
        Self::SwapChunks,
        Self::SwapRows,
        Self::DropChunk,
        Self::DuplicateChunk,
        Self::TruncateLinks,
        Self::ChangeEntry,
        Self::ChangeTile,
        Self::RollBackLedger,
        Self::ChangeTrail,
        Self::ResignFolder,
    ];

    /// As on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FlipBit => "flip-bit",
            Self::ChangeSample => "change-sample",
            Self::SwapChunks => "swap-chunks",
            Self::SwapRows => "swap-rows",
            Self::DropChunk => "drop-chunk",
            Self::DuplicateChunk => "duplicate-chunk",
            Self::TruncateLinks => "truncate-links",
            Self::ChangeEntry => "change-entry",
            Self::ChangeTile => "change-tile",
            Self::RollBackLedger => "roll-back-ledger",
            Self::ChangeTrail => "change-trail",
            Self::ResignFolder => "resign-folder",
        }
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for How {
    type Err = Failure;
    fn from_str(text: &str) -> Outcome<Self> {
        Self::ALL
            .into_iter()
            .find(|how| how.as_str() == text)
            .ok_or_else(|| {
                let ways: Vec<&str> = Self::ALL.iter().map(|how| how.as_str()).collect();
                Failure::bad_input(format!(
                    "{text:?} is not a way to tamper: {}",
                    ways.join(", ")
                ))
            })
    }
}

/// Breaks the copy at `path`; returns a line that says what was done to which object.
///
/// # Errors
/// `Refused` for a folder in use; `BadInput` when the copy has nothing to break in this way; `Io`.
pub fn tamper(disk: &Arc<dyn Disk>, path: &Path, how: How) -> Outcome<String> {
    tamper_stream(disk, path, how, None)
}

/// As [`tamper`]; where it is about chunks, those of one stream only.
///
/// # Errors
/// Those of [`tamper`].
pub fn tamper_stream(
    disk: &Arc<dyn Disk>,
    path: &Path,
    how: How,
    stream: Option<Did>,
) -> Outcome<String> {
    refuse_live(path)?;
    let copy = Copy {
        disk,
        root: path.to_owned(),
        folder: Folder::new(disk.as_ref(), path),
        stream,
    };
    match how {
        How::FlipBit => copy.flip(&copy.middle_chunk()?, limits::CHUNK_BYTES_MAX),
        How::ChangeSample => rows::change_sample(&copy),
        How::SwapChunks => copy.swap(),
        How::SwapRows => rows::swap(&copy),
        How::DropChunk => {
            let name = copy.middle_chunk()?;
            copy.remove(&name)?;
            Ok(format!("removed {name}"))
        }
        How::DuplicateChunk => {
            let names = copy.chunks()?;
            let (did, index, name) = names.last().ok_or_else(|| nothing("chunk"))?;
            let next = link::object_name(did, index.saturating_add(1));
            copy.write(&next, &copy.read(name, limits::CHUNK_BYTES_MAX)?)?;
            Ok(format!("copied {name} to {next}"))
        }
        How::TruncateLinks => copy.truncate_links(),
        How::ChangeEntry => copy.flip(&copy.tile(Kind::Entries)?, BUNDLE_BYTES),
        How::ChangeTile => copy.flip(&copy.tile(Kind::Level(0))?, TILE_BYTES),
        How::RollBackLedger => forge::roll_back(&copy),
        How::ChangeTrail => copy.change_trail(),
        How::ResignFolder => forge::resign(&copy),
    }
}

fn nothing(what: &str) -> Failure {
    Failure::bad_input(format!("the copy has no {what} to tamper with"))
}

/// A server holds its folder as long as its control socket answers.
fn refuse_live(path: &Path) -> Outcome<()> {
    match std::os::unix::net::UnixStream::connect(path.join("control.sock")) {
        Ok(_) => Err(Failure::refused(format!(
            "{} is in use by a server: tamper with a copy (cp -a)",
            path.display()
        ))),
        Err(_) => Ok(()),
    }
}

struct Copy<'a> {
    disk: &'a Arc<dyn Disk>,
    root: PathBuf,
    folder: Folder<'a>,
    /// Whose chunks; all if none.
    stream: Option<Did>,
}

impl Copy<'_> {
    fn read(&self, name: &str, max: u64) -> Outcome<Vec<u8>> {
        match self.folder.read(name, max)? {
            Read::Bytes(bytes) => Ok(bytes),
            Read::Missing => Err(nothing(name)),
            Read::Unfit(why) => Err(Failure::bad_input(format!("{name}: {why}"))),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Outcome<()> {
        let path = self.root.join(name);
        if let Some(dir) = path.parent() {
            self.disk
                .create_dir_all(dir)
                .map_err(|e| Failure::os(dir.display(), &e))?;
        }
        seams::write_atomic(self.disk.as_ref(), &path, bytes)
            .map_err(|e| Failure::os(path.display(), &e))
    }

    fn remove(&self, name: &str) -> Outcome<()> {
        self.disk
            .remove(&self.root.join(name))
            .map_err(|e| Failure::os(name, &e))
    }

    /// Flips the lowest bit of the byte in the middle.
    fn flip(&self, name: &str, max: u64) -> Outcome<String> {
        let mut bytes = self.read(name, max)?;
        let at = bytes.len() / 2;
        *bytes.get_mut(at).ok_or_else(|| nothing(name))? ^= 1;
        self.write(name, &bytes)?;
        Ok(format!("flipped bit 0 of byte {at} of {name}"))
    }

    /// The one that is broken where any will do.
    fn middle_chunk(&self) -> Outcome<String> {
        let mut names = self.chunks()?;
        if names.is_empty() {
            return Err(nothing("chunk"));
        }
        let (_, _, name) = names.swap_remove(names.len() / 2);
        Ok(name)
    }

    /// The chunk files, by did and index.
    fn chunks(&self) -> Outcome<Vec<(Did, u64, String)>> {
        let mut names = Vec::new();
        for did in self.folder.list("chunks")?.unwrap_or_default() {
            let dir = format!("chunks/{}", name_of(&did.path));
            for thousand in self.folder.list(&dir)?.unwrap_or_default() {
                let dir = format!("{dir}/{}", name_of(&thousand.path));
                for file in self.folder.list(&dir)?.unwrap_or_default() {
                    let name = format!("{dir}/{}", name_of(&file.path));
                    let chunk = link::parse_object_name(&name)
                        .filter(|_| file.kind == EntryKind::File)
                        .filter(|(did, _)| self.stream.is_none_or(|only| only == *did));
                    names.extend(chunk.map(|(did, index)| (did, index, name)));
                }
            }
        }
        names.sort();
        Ok(names)
    }

    fn swap(&self) -> Outcome<String> {
        let names = self.chunks()?;
        let [(_, _, a), (_, _, b), ..] = names.as_slice() else {
            return Err(nothing("two chunks"));
        };
        let (first, second) = (
            self.read(a, limits::CHUNK_BYTES_MAX)?,
            self.read(b, limits::CHUNK_BYTES_MAX)?,
        );
        self.write(a, &second)?;
        self.write(b, &first)?;
        Ok(format!("swapped {a} and {b}"))
    }

    /// The first tile or bundle there is, a partial one where the log is short.
    fn tile(&self, kind: Kind) -> Outcome<String> {
        let full = tiles::name(kind, 0);
        let max = if kind == Kind::Entries {
            BUNDLE_BYTES
        } else {
            TILE_BYTES
        };
        if matches!(self.folder.read(&full, max)?, Read::Bytes(_)) {
            return Ok(full);
        }
        let partial = self.folder.list(&format!("{full}.p"))?.unwrap_or_default();
        let widths = partial
            .iter()
            .filter_map(|e| name_of(&e.path).parse::<u64>().ok());
        let widest = widths
            .filter(|w| *w < WIDTH)
            .max()
            .ok_or_else(|| nothing("ledger tile"))?;
        Ok(format!("{full}.p/{widest}"))
    }

    fn records(&self, dir: &str) -> Outcome<Vec<Bytes>> {
        let mut records = Vec::new();
        let mut take = |_, record| {
            records.push(record);
            Ok(())
        };
        let path = self.root.join(dir);
        journal::scan_dir(
            self.disk.as_ref(),
            &path,
            limits::RECORD_BYTES_MAX,
            &mut take,
        )?;
        Ok(records)
    }

    /// Writes a journal anew, as a program that knows the format would: all checksums hold.
    fn rewrite(&self, dir: &str, records: &[Bytes]) -> Outcome<()> {
        for entry in self.folder.list(dir)?.unwrap_or_default() {
            self.disk
                .remove(&entry.path)
                .map_err(|e| Failure::os(entry.path.display(), &e))?;
        }
        let settings = journal::Settings::small(self.root.join(dir), limits::RECORD_BYTES_MAX);
        let journal = journal::Journal::open(Arc::clone(self.disk), settings)?.journal;
        let (journal, _) = journal.commit(records)?;
        journal.mark().map(drop)
    }

    fn truncate_links(&self) -> Outcome<String> {
        let mut records = self.records("links")?;
        let (at, newest) = records
            .iter()
            .enumerate()
            .filter_map(|(at, record)| Link::decode(record).ok().map(|link| (at, link)))
            .max_by_key(|(_, link)| (std::cmp::Reverse(link.did), link.index))
            .ok_or_else(|| nothing("link"))?;
        records.remove(at);
        self.rewrite("links", &records)?;
        let name = link::object_name(&newest.did, newest.index);
        self.remove(&name)?;
        Ok(format!(
            "removed link {} of {} and {name}",
            newest.index, newest.did
        ))
    }

    fn change_trail(&self) -> Outcome<String> {
        let mut records = self.records("trail")?;
        let middle = records.len() / 2;
        let record = records
            .get_mut(middle)
            .ok_or_else(|| nothing("trail record"))?;
        let mut bytes = record.to_vec();
        let at = bytes.len() / 2;
        *bytes.get_mut(at).ok_or_else(|| nothing("trail record"))? ^= 1;
        *record = Bytes::from(bytes);
        self.rewrite("trail", &records)?;
        Ok(format!(
            "flipped bit 0 of byte {at} of trail record {middle}"
        ))
    }

    fn checkpoint(&self) -> Outcome<String> {
        String::from_utf8(self.read(CHECKPOINT, 64 * 1024)?)
            .map_err(|_| Failure::bad_input("the checkpoint is not text"))
    }

    /// All entries under the checkpoint, in order.
    fn entries(&self, size: u64) -> Outcome<Vec<Vec<u8>>> {
        let mut entries = Vec::new();
        let mut n = 0;
        while n * WIDTH < size {
            let width = usize::try_from((size - n * WIDTH).min(WIDTH)).unwrap_or(0);
            let full = tiles::name(Kind::Entries, n);
            let bytes = match self.folder.read(&full, BUNDLE_BYTES)? {
                Read::Bytes(bytes) => bytes,
                _ => self.read(&format!("{full}.p/{width}"), BUNDLE_BYTES)?,
            };
            let (bundle, _) = tiles::split(&bytes, width)?;
            entries.extend(bundle.into_iter().map(<[u8]>::to_vec));
            n += 1;
        }
        Ok(entries)
    }
}
