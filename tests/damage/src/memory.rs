//! R12: a bit that flips before the head is anchored. In memory between encoding and hashing, or on the way
//! to the disk: nothing may be linked then, because what is linked is anchored, and an anchor is for ever.
//!
//! ```text
//! rows ─▶ encode ─(a)─▶ hash, read back ─▶ write ─(b)─▶ read again, hash ─▶ link ─▶ anchor
//! ```
//!
//! At (a) a bit may change bytes that say nothing; then the chunk reads as the same rows under the digest that
//! its link names, and is whole. The control stores the same broken writes without reading them again.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use chordae_base::{
    Did, FailureKind, Outcome,
    seams::{
        Disk, DiskFile, Entry,
        fake::{FakeDisk, FakeEntropy},
    },
};
use chordae_chain::link::genesis;
use chordae_chunk::{SealedChunk, file_root, open, seal_through};
use chordae_storage::{Committer, Tip, store::ChunkStore};

use crate::{
    Form, Score,
    house::{ROOT, at, chunk},
};

const DID: Did = Did([7; 16]);

/// Runs the row.
///
/// # Errors
/// When the chunk cannot be made.
pub fn run(form: Form, seed: u64) -> Outcome<Score> {
    let dice = FakeEntropy::new(seed);
    let mut score = Score::new("R12", seed);
    let tip = Tip {
        next_index: 0,
        prev: genesis(&DID),
    };
    let whole = chunk(DID, tip, 8, 1)?;
    let len = whole.bytes().len();
    let step = if form == Form::Long { 1 } else { 11 };
    let mut slipped = 0_u64;
    for offset in (0..len).step_by(step) {
        let bits = match form {
            Form::Long => (0..8).collect(),
            Form::Short => vec![dice.below(8)],
        };
        for bit in bits {
            let flip = Flip { offset, bit };
            in_memory(&whole, flip, &mut score)?;
            slipped += u64::from(on_the_way(&whole, flip, &mut score)?);
        }
    }
    score.control =
        format!("stored without reading again, {slipped} broken chunks would be linked");
    Ok(score.judged(slipped > 0))
}

#[derive(Debug, Clone, Copy)]
struct Flip {
    offset: usize,
    bit: u64,
}

impl Flip {
    fn of(self, bytes: &[u8]) -> Vec<u8> {
        let mut broken = bytes.to_vec();
        if let Some(byte) = broken.get_mut(self.offset) {
            *byte ^= 1 << self.bit;
        }
        broken
    }
}

/// (a): between encoding and hashing.
fn in_memory(whole: &SealedChunk, flip: Flip, score: &mut Score) -> Outcome<()> {
    let rows = whole.rows()?;
    let salt = open(whole.bytes().clone())?.salt;
    let between = |bytes: Bytes| Bytes::from(flip.of(&bytes));
    let place = || format!("in memory, {flip:?}");
    match seal_through(whole.meta().clone(), salt, &rows, between) {
        Err(failure) => {
            let stops = matches!(failure.kind, FailureKind::Damaged | FailureKind::Internal);
            score.found(stops, || format!("{}: {failure}", place()));
        }
        Ok(sealed) => {
            let read = open(sealed.bytes().clone())?;
            let same = *read.rows() == rows && read.meta == *whole.meta() && read.salt == salt;
            match same && file_root(sealed.bytes()) == sealed.link().file_root {
                true => score.harmless(),
                false => score.missed(place()),
            }
        }
    }
    Ok(())
}

/// (b): on the way to the disk. Whether the control would have linked it.
fn on_the_way(whole: &SealedChunk, flip: Flip, score: &mut Score) -> Outcome<bool> {
    let disk = Bad::new(flip);
    let told = Arc::new(AtomicU64::new(0));
    let heard = Arc::clone(&told);
    let on_linked = Box::new(move |links: &[_]| {
        heard.fetch_add(links.len() as u64, Ordering::SeqCst);
    });
    let (mut committer, catalogue) = Committer::open(
        Arc::new(disk.clone()),
        Path::new(ROOT),
        &mut |_, _| (),
        on_linked,
    )?;
    let place = || format!("on the way to the disk, {flip:?}");
    let name = chordae_chain::link::object_name(&DID, 0);
    match committer.commit(std::slice::from_ref(whole)) {
        Ok(_) => score.missed(place()),
        Err(failure) => {
            let named =
                failure.kind == FailureKind::Damaged && failure.why.contains(&DID.to_string());
            score.found(named, || format!("{}: {failure}", place()));
            if told.load(Ordering::SeqCst) > 0 || catalogue.head(&DID).is_some() {
                score.served(format!("{}: linked all the same", place()));
            }
            if disk.inner.peek(&at(&name)).is_some() {
                score.complain(format!("{}: the broken file stays", place()));
                score.lost += 1;
            }
            // The disk has recovered: the same rows are stored after all.
            if committer.commit(std::slice::from_ref(whole)).is_err() {
                score.complain(format!("{}: not stored the second time", place()));
                score.lost += 1;
            }
        }
    }
    let bare = Bad::new(flip);
    let store = ChunkStore::new(Arc::new(bare), Path::new(ROOT));
    let stored = store.put(&DID, 0, whole.bytes()).is_ok();
    Ok(stored && file_root(&store.read(&DID, 0)?) != whole.link().file_root)
}

/// A disk that breaks one bit of the first chunk written to it.
#[derive(Clone)]
struct Bad {
    inner: FakeDisk,
    flip: Arc<Mutex<Option<Flip>>>,
}

impl Bad {
    fn new(flip: Flip) -> Self {
        Self {
            inner: FakeDisk::new(),
            flip: Arc::new(Mutex::new(Some(flip))),
        }
    }
}

struct BadFile {
    inner: Box<dyn DiskFile>,
    flip: Option<Flip>,
}

impl DiskFile for BadFile {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.flip.take() {
            Some(flip) => self.inner.write_all_at(&flip.of(bytes), offset),
            None => self.inner.write_all_at(bytes, offset),
        }
    }
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_exact_at(buf, offset)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.inner.sync()
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
}

impl Disk for Bad {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inner = self.inner.create_new(path)?;
        let mut flip = self.flip.lock().unwrap_or_else(PoisonError::into_inner);
        let chunk = path.extension().is_some_and(|e| e == "parquet");
        let flip = if chunk { flip.take() } else { None };
        Ok(Box::new(BadFile { inner, flip }))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.inner.open(path)
    }
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.inner.open_read(path)
    }
    fn read(&self, path: &Path, max: u64) -> io::Result<Vec<u8>> {
        self.inner.read(path, max)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.inner.list(path)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.inner.free_bytes(path)
    }
}
