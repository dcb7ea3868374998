//! Reading a folder that anybody may have prepared: bounded, and never through a link.
//!
//! The disk seam refuses a final symlink, a pipe or a device; the folders *above* a file are held
//! against listings here, because an opened path would follow a link in the middle.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Mutex,
    sync::PoisonError,
};

use chordae_base::{
    Failure, Outcome,
    seams::{Disk, Entry, EntryKind},
};

/// Entries of one folder that are looked at; our largest holds a thousand.
const ENTRIES_MAX: usize = 1_000_000;

/// A folder under check.
pub(crate) struct Folder<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) root: PathBuf,
    /// Folders below the root that were seen to be folders.
    real: Mutex<BTreeSet<PathBuf>>,
}

/// What reading a file came to.
pub(crate) enum Read {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// There is no such file.
    Missing,
    /// There is something, but not a file of at most the asked length; why.
    Unfit(String),
}

impl Read {
    /// The same as text, or why it is none; nothing where there is no file.
    pub(crate) fn text(self) -> Option<Result<String, String>> {
        match self {
            Self::Bytes(bytes) => Some(String::from_utf8(bytes).map_err(|_| "not text".to_owned())),
            Self::Unfit(why) => Some(Err(why)),
            Self::Missing => None,
        }
    }
}

impl<'a> Folder<'a> {
    pub(crate) fn new(disk: &'a dyn Disk, root: &Path) -> Self {
        Self {
            disk,
            root: root.to_owned(),
            real: Mutex::default(),
        }
    }

    /// Whether `name` (a path below the root, with `/`) is a folder, and all above it are.
    fn is_dir(&self, name: &Path) -> Outcome<bool> {
        let (Some(parent), Some(last)) = (name.parent(), name.file_name()) else {
            return Ok(true); // the root itself, which the caller listed
        };
        if self
            .real
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(name)
        {
            return Ok(true);
        }
        if !self.is_dir(parent)? {
            return Ok(false);
        }
        let entries = self.list_below(parent)?.unwrap_or_default();
        let found = entries
            .iter()
            .any(|e| e.kind == EntryKind::Dir && e.path.file_name().is_some_and(|n| n == last));
        if found {
            let mut real = self.real.lock().unwrap_or_else(PoisonError::into_inner);
            // A chunk folder is asked for once per file: remember, within bounds.
            if real.len() >= ENTRIES_MAX {
                real.clear();
            }
            real.insert(name.to_owned());
        }
        Ok(found)
    }

    fn list_below(&self, name: &Path) -> Outcome<Option<Vec<Entry>>> {
        let path = self.root.join(name);
        match self.disk.list(&path) {
            Ok(entries) if entries.len() > ENTRIES_MAX => Err(Failure::busy(format!(
                "{} holds too many names to check",
                path.display()
            ))),
            Ok(entries) => Ok(Some(entries)),
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(e) => Err(Failure::os(format_args!("list {}", path.display()), &e)),
        }
    }

    /// The entries of a folder below the root, ascending; none if it is not there or not a folder.
    pub(crate) fn list(&self, name: &str) -> Outcome<Option<Vec<Entry>>> {
        let name = Path::new(name);
        if self.is_dir(name)? {
            self.list_below(name)
        } else {
            Ok(None)
        }
    }

    /// Reads a file below the root.
    pub(crate) fn read(&self, name: &str, max: u64) -> Outcome<Read> {
        let name = Path::new(name);
        if let Some(parent) = name.parent().filter(|p| !p.as_os_str().is_empty())
            && !self.is_dir(parent)?
        {
            return Ok(Read::Missing);
        }
        match self.disk.read(&self.root.join(name), max) {
            Ok(bytes) => Ok(Read::Bytes(bytes)),
            Err(e) => match e.kind() {
                io::ErrorKind::NotFound => Ok(Read::Missing),
                io::ErrorKind::InvalidData => Ok(Read::Unfit(format!("longer than {max} bytes"))),
                // A link (ELOOP), a pipe, a device, a folder.
                io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory => {
                    Ok(Read::Unfit("not a regular file".into()))
                }
                _ if matches!(e.raw_os_error(), Some(ELOOP | ENXIO)) => {
                    Ok(Read::Unfit("not a regular file".into()))
                }
                _ => Err(Failure::os(format_args!("read {}", name.display()), &e)),
            },
        }
    }
}

/// "Too many levels of symbolic links" on Linux: what opening a link without following it gives.
const ELOOP: i32 = 40;
/// "No such device or address": what opening a socket gives.
const ENXIO: i32 = 6;

/// The last part of a path, as text; names that are not text are nobody's.
pub(crate) fn name_of(path: &Path) -> &str {
    path.file_name()
        .and_then(|n| n.to_str())
        .unwrap_or_default()
}
