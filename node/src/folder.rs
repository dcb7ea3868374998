//! The data folder: where each part lives, who may hold it, and files that only their owner may read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use chordae_base::{Failure, Outcome};

/// Bytes of a key, certificate, trust or settings file.
const SMALL_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A data folder (interfaces.md "Data folder").
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

macro_rules! rooms {
    ($($(#[$doc:meta])* $name:ident => $path:literal),* $(,)?) => { impl Folder { $(
        $(#[$doc])*
        pub fn $name(&self) -> PathBuf {
            self.root.join($path)
        }
    )* } };
}
rooms! {
    /// Write-ahead log.
    wal => "wal",
    /// Sessions, retained messages and commands.
    mqtt => "mqtt",
    /// Frames kept apart with their reasons.
    quarantine => "quarantine",
    /// Devices, streams, parties.
    registry => "registry",
    /// Session records.
    directory => "directory",
    /// Who read what.
    trail => "trail",
    /// Keys and certificates.
    keys => "keys",
    /// The control socket.
    control => "control.sock",
    /// Held by the one server of the folder.
    lock => "lock",
    /// What gateways remembered otherwise.
    rollback => "rollback.json",
    /// Settings.
    settings => "chordae.toml",
}

impl Folder {
    /// Names a folder; nothing is read yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file in `keys/`.
    pub fn key(&self, name: &str) -> PathBuf {
        self.keys().join(name)
    }

    /// Takes the folder for this process, until the returned file is dropped (also by kill -9).
    ///
    /// # Errors
    /// `Busy` when another process holds it.
    pub fn hold(&self) -> Outcome<File> {
        let path = self.lock();
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| Failure::os(format!("open {}", path.display()), &e))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(
            |_| {
                Failure::busy(format!(
                    "{} is in use by another chordae; stop it, or choose another --data",
                    self.root.display()
                ))
            },
        )?;
        Ok(file)
    }
}

/// Makes a folder that only its owner may enter, with its parents; durable when it returns.
///
/// # Errors
/// `Io`.
pub fn make_private(path: &Path) -> Outcome<()> {
    make(path, 0o700).map_err(|e| Failure::os(format!("make {}", path.display()), &e))
}

/// Makes a folder and its missing parents, each synced into its parent.
fn make(path: &Path, mode: u32) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    make(parent, mode)?;
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        done => done?,
    }
    sync_names(parent)
}

/// Makes the names in a folder durable: a key whose name is lost with the power is a lost key.
fn sync_names(dir: &Path) -> io::Result<()> {
    let here = Path::new(".");
    let dir = if dir.as_os_str().is_empty() {
        here
    } else {
        dir
    };
    File::open(dir)?.sync_all()
}

/// Writes a new file that only its owner may read; refuses to replace one. Durable when it returns.
///
/// # Errors
/// `Io` when it exists or cannot be written.
pub fn write_secret(path: &Path, text: &str) -> Outcome<()> {
    write_new(path, text, 0o600)
}

/// Writes a new file that anybody may read; refuses to replace one. Durable when it returns.
///
/// # Errors
/// `Io` when it exists or cannot be written.
pub fn write_public(path: &Path, text: &str) -> Outcome<()> {
    write_new(path, text, 0o644)
}

fn write_new(path: &Path, text: &str, mode: u32) -> Outcome<()> {
    let doing = || format!("write {}", path.display());
    let dir = path.parent().unwrap_or(Path::new(""));
    make(dir, 0o777).map_err(|e| Failure::os(doing(), &e))?;
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(mode)
        .open(path)
        .map_err(|e| Failure::os(doing(), &e))?;
    file.write_all(text.as_bytes())
        .map_err(|e| Failure::os(doing(), &e))?;
    let synced = file.sync_all().and_then(|()| sync_names(dir));
    synced.map_err(|e| Failure::os(doing(), &e))
}

/// Reads a small text file: regular, bounded, UTF-8.
///
/// # Errors
/// `NotFound`, `BadInput` or `Io`, naming the file.
pub fn read_small(path: &Path) -> Outcome<String> {
    let doing = || format!("read {}", path.display());
    let meta = fs::metadata(path).map_err(|e| Failure::os(doing(), &e))?;
    if !meta.is_file() || meta.len() > SMALL_FILE_BYTES_MAX {
        let why = format!("{} is not a regular file of at most 1 MiB", path.display());
        return Err(Failure::bad_input(why));
    }
    let mut text = String::new();
    let file = File::open(path).map_err(|e| Failure::os(doing(), &e))?;
    file.take(SMALL_FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|e| Failure::bad_input(format!("{}: {e}", doing())))?;
    Ok(text)
}

/// Reads a key file, after making sure that nobody else can.
///
/// # Errors
/// `Refused` when group or others may read it, or it is reached through a link.
pub fn read_secret(path: &Path) -> Outcome<String> {
    let meta = fs::symlink_metadata(path)
        .map_err(|e| Failure::os(format!("read {}", path.display()), &e))?;
    if meta.file_type().is_symlink() {
        return Err(Failure::refused(format!(
            "{} is a symbolic link; name the key file itself",
            path.display()
        )));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(Failure::refused(format!(
            "{} is readable by others (mode {:03o}); run: chmod 600 {}",
            path.display(),
            meta.mode() & 0o777,
            path.display()
        )));
    }
    read_small(path)
}
