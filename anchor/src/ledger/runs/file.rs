//! One run: its file written, opened, searched and read through.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    vec::IntoIter,
};

use chordae_base::{
    Failure, Outcome,
    seams::{Disk, DiskFile},
};

use crate::core::{
    index::Retired,
    run::{self, BLOCK_BYTES, BLOCK_RECORDS, Head, Key, Sealer},
};

/// Blocks that are written, or read through, at once.
const BLOCKS_AT_ONCE: u64 = 256;

/// A run in its file.
pub(super) struct Run {
    pub(super) head: Head,
    pub(super) path: PathBuf,
    sealer: Sealer,
    /// First key of each block: 24 bytes of memory for 127 keys.
    fences: Vec<Key>,
    /// Every event below its end that retires a key.
    pub(super) rotations: Vec<Retired>,
    file: Box<dyn DiskFile>,
    spoilt: AtomicBool,
}

/// First and end in a run's name.
pub(super) fn span(path: &Path) -> Option<(u64, u64)> {
    let name = path.file_name()?.to_str()?.strip_suffix(".run")?;
    let (first, end) = name.split_once('-')?;
    let number = |text: &str| text.parse().ok().filter(|_| text.len() == 20);
    Some((number(first)?, number(end)?))
}

impl Run {
    /// Opens a run; none if head or fences are not those that this ledger wrote under this name.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn open(disk: &dyn Disk, path: &Path, secret: &[u8; 32]) -> Outcome<Option<Self>> {
        let short = |e: &io::Error| e.kind() == io::ErrorKind::UnexpectedEof;
        match Self::read(disk, path, secret) {
            Err(e) if short(&e) => Ok(None),
            read => read.map_err(|e| Failure::os(path.display(), &e)),
        }
    }

    fn read(disk: &dyn Disk, path: &Path, secret: &[u8; 32]) -> io::Result<Option<Self>> {
        let file = disk.open_read(path)?;
        let mut bytes = vec![0; BLOCK_BYTES];
        file.read_exact_at(&mut bytes, 0)?;
        let Some((head, sealer)) = Sealer::open(secret, &bytes) else {
            return Ok(None);
        };
        let (fences_at, room) = (Head::offset(head.blocks()), head.fence_bytes());
        let rotations_at = fences_at.saturating_add(room);
        // Before memory is taken for what a head says.
        let whole = file.len()? == rotations_at.saturating_add(head.rotation_bytes());
        if !whole || span(path) != Some((head.first, head.end)) {
            return Ok(None);
        }
        let part = |room: u64, at: u64| {
            let mut bytes = vec![0; usize::try_from(room).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut bytes, at).map(|()| bytes)
        };
        let fences = sealer.open_fences(&part(room, fences_at)?);
        let rotations = sealer.open_rotations(&part(head.rotation_bytes(), rotations_at)?);
        Ok(fences.zip(rotations).map(|(fences, rotations)| Self {
            head,
            path: path.to_owned(),
            sealer,
            fences,
            rotations,
            file,
            spoilt: AtomicBool::new(false),
        }))
    }

    /// Whether no block was met that is not what was written.
    pub(super) fn is_whole(&self) -> bool {
        !self.spoilt.load(Ordering::Relaxed)
    }

    /// Where the first entry under a key is.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn find(&self, key: &Key) -> Outcome<Option<u64>> {
        let Some(number) = run::block_of(&self.fences, key) else {
            return Ok(None);
        };
        let mut bytes = [0; BLOCK_BYTES];
        self.fill(&mut bytes, number)?;
        let records = self.head.records_of(number);
        let block = self.sealer.open_block(number, records, &bytes);
        block
            .map(|block| block.get(key))
            .ok_or_else(|| self.spoil(number))
    }

    fn fill(&self, bytes: &mut [u8], block: u64) -> Outcome<()> {
        let read = self.file.read_exact_at(bytes, Head::offset(block));
        read.map_err(|e| Failure::os(self.path.display(), &e))
    }

    fn spoil(&self, block: u64) -> Failure {
        let failure = Failure::io(format!(
            "block {block} of {} is not what was written; the next start makes the file anew from the entries",
            self.path.display()
        ));
        if !self.spoilt.swap(true, Ordering::Relaxed) {
            tracing::error!("ledger: {failure}");
        }
        failure
    }

    /// All records, in order.
    pub(super) fn records(&self) -> Records<'_> {
        let mut next = 0;
        let pieces = std::iter::from_fn(move || {
            let blocks = self.head.blocks().saturating_sub(next).min(BLOCKS_AT_ONCE);
            let piece = (blocks > 0).then(|| self.piece(next, blocks));
            next += blocks;
            piece
        });
        Records {
            more: Box::new(pieces),
            here: Vec::new().into_iter(),
        }
    }

    fn piece(&self, first: u64, blocks: u64) -> Outcome<Vec<(Key, u64)>> {
        let blocks = usize::try_from(blocks).unwrap_or(0);
        let mut bytes = vec![0; blocks * BLOCK_BYTES];
        self.fill(&mut bytes, first)?;
        let mut records = Vec::with_capacity(blocks * BLOCK_RECORDS);
        for (number, bytes) in (first..).zip(bytes.chunks_exact(BLOCK_BYTES)) {
            let count = self.head.records_of(number);
            let block = self.sealer.open_block(number, count, bytes);
            records.extend(block.ok_or_else(|| self.spoil(number))?.records());
        }
        Ok(records)
    }

    /// Writes a run over parts in the order of the log; its records are counted here. Durable when it returns.
    ///
    /// # Errors
    /// `Io`; a file aside may be left, which the next start removes.
    pub(super) fn write(
        disk: &dyn Disk,
        dir: &Path,
        secret: &[u8; 32],
        (head, rotations): (Head, &[Retired]),
        parts: Vec<Records<'_>>,
    ) -> Outcome<Self> {
        let path = dir.join(format!("{:020}-{:020}.run", head.first, head.end));
        let aside = path.with_extension("tmp");
        let os = |e: io::Error| Failure::os(format_args!("write {}", path.display()), &e);
        super::remove(disk, &aside)?;
        let mut out = Writing {
            file: disk.create_new(&aside).map_err(os)?,
            sealer: Sealer::new(secret, &head),
            block: Vec::with_capacity(BLOCK_RECORDS),
            fences: Vec::new(),
            records: 0,
            bytes: Vec::new(),
            at: Head::offset(0),
        };
        merge(parts, |record| out.record(record).map_err(os))?;
        out.finish(head, rotations).map_err(os)?;
        disk.rename(&aside, &path).map_err(os)?;
        disk.sync_dir(dir).map_err(os)?;
        // Read back: what is found from now on comes from the file, and its head and fences are whole.
        let run = Self::open(disk, &path, secret)?;
        run.ok_or_else(|| Failure::io(format!("{} is not what was written", path.display())))
    }
}

/// A run while it is written: blocks, fences, rotations, then, over the hole at the beginning, the head.
struct Writing {
    file: Box<dyn DiskFile>,
    sealer: Sealer,
    block: Vec<(Key, u64)>,
    fences: Vec<Key>,
    records: u64,
    bytes: Vec<u8>,
    at: u64,
}

impl Writing {
    fn record(&mut self, record: (Key, u64)) -> io::Result<()> {
        self.block.push(record);
        self.records += 1;
        if self.block.len() == BLOCK_RECORDS {
            self.close_block()?;
        }
        Ok(())
    }

    fn close_block(&mut self) -> io::Result<()> {
        let Some((key, _)) = self.block.first() else {
            return Ok(());
        };
        let number = self.fences.len() as u64;
        self.fences.push(*key);
        self.sealer.block(number, &self.block, &mut self.bytes);
        self.block.clear();
        if self.bytes.len() as u64 >= BLOCKS_AT_ONCE * BLOCK_BYTES as u64 {
            self.put()?;
        }
        Ok(())
    }

    fn put(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.bytes, self.at)?;
        self.at += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }

    fn finish(mut self, head: Head, rotations: &[Retired]) -> io::Result<()> {
        self.close_block()?;
        let fences = self.sealer.fences(&self.fences);
        self.bytes.extend_from_slice(&fences);
        let rotations = self.sealer.rotations(rotations);
        self.bytes.extend_from_slice(&rotations);
        self.put()?;
        let head = Head {
            records: self.records,
            ..head
        };
        self.file.write_all_at(&self.sealer.head(&head), 0)?;
        self.file.sync()
    }
}

/// Records in the order of their keys, read piece by piece.
pub(super) struct Records<'a> {
    more: Box<dyn Iterator<Item = Outcome<Vec<(Key, u64)>>> + 'a>,
    here: IntoIter<(Key, u64)>,
}

impl<'a> Records<'a> {
    /// Those of memory.
    pub(super) fn of(keys: &'a BTreeMap<Key, u64>) -> Self {
        let all = || Ok(keys.iter().map(|(key, at)| (*key, *at)).collect());
        Self {
            more: Box::new(std::iter::once_with(all)),
            here: Vec::new().into_iter(),
        }
    }

    fn next(&mut self) -> Outcome<Option<(Key, u64)>> {
        loop {
            if let Some(record) = self.here.next() {
                return Ok(Some(record));
            }
            match self.more.next() {
                Some(piece) => self.here = piece?.into_iter(),
                None => return Ok(None),
            }
        }
    }
}

/// Gives the records of all parts in order, of each key the one of the earliest part.
fn merge(
    mut parts: Vec<Records<'_>>,
    mut give: impl FnMut((Key, u64)) -> Outcome<()>,
) -> Outcome<()> {
    let mut heads = Vec::with_capacity(parts.len());
    for part in &mut parts {
        heads.push(part.next()?);
    }
    loop {
        let least = heads.iter().flatten().map(|(key, _)| *key).min();
        let Some(least) = least else { return Ok(()) };
        let mut given = false;
        for (head, part) in heads.iter_mut().zip(&mut parts) {
            if let Some(record) = head.filter(|(key, _)| *key == least) {
                if !given {
                    give(record)?;
                }
                given = true;
                *head = part.next()?;
            }
        }
    }
}
