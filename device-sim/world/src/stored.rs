//! What a data folder holds, read without any part of the house: the journals, and the chunks that links name.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use bytes::Bytes;
use chordae_base::{
    Did, Failure, FailureKind, Outcome, journal, limits, record::WalRecord, seams::Disk,
};
use chordae_chain::{
    link::{Link, genesis, object_name},
    meta::ChunkMeta,
};
use chordae_chunk::open_verified;
use chordae_ingest::core::quarantined::Quarantined;

/// A chunk that a link names, verified.
pub(crate) struct Chunk {
    /// Its link.
    pub(crate) link: Link,
    /// Its metadata.
    pub(crate) meta: ChunkMeta,
    /// Times of its rows.
    pub(crate) times: Vec<i64>,
    /// Codes of its first lead.
    pub(crate) codes: Vec<i32>,
    /// Codes of its second lead.
    pub(crate) second: Option<Vec<i32>>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Stored {
    /// In the order of linking.
    pub(crate) chunks: Vec<Chunk>,
    /// Payloads of the frames in the log.
    pub(crate) wal: BTreeSet<Bytes>,
    /// Payloads of the quarantine.
    pub(crate) aside: BTreeSet<Bytes>,
    /// Encoded births in the log.
    pub(crate) births: BTreeSet<Vec<u8>>,
}

impl Stored {
    /// Reads a folder.
    ///
    /// # Errors
    /// `Damaged` for anything that is not as formats.md says.
    pub(crate) fn read(disk: &dyn Disk, root: &Path) -> Outcome<Self> {
        let mut stored = Self::default();
        stored.read_links(disk, root)?;
        let wal = &mut |_, bytes: Bytes| {
            match WalRecord::decode(bytes)? {
                WalRecord::Frame(frame) => drop(stored.wal.insert(frame.payload)),
                WalRecord::Birth(birth) => drop(stored.births.insert(birth.birth.encode())),
                WalRecord::State(state) => {
                    let births = state.births.iter().map(|b| b.birth.encode());
                    stored.births.extend(births);
                }
                WalRecord::Settled(_) => {}
            }
            Ok(())
        };
        scan(disk, &root.join("wal"), limits::RECORD_BYTES_MAX, wal)?;
        let aside = &mut |_, bytes: Bytes| {
            let (_, payload) = Quarantined::decode(&bytes)?;
            stored.aside.insert(payload);
            Ok(())
        };
        scan(
            disk,
            &root.join("quarantine"),
            limits::RECORD_BYTES_MAX,
            aside,
        )?;
        Ok(stored)
    }

    fn read_links(&mut self, disk: &dyn Disk, root: &Path) -> Outcome<()> {
        let mut tips: BTreeMap<Did, (u64, chordae_base::Digest)> = BTreeMap::new();
        let chunks = &mut self.chunks;
        let visit = &mut |_, bytes: Bytes| {
            let link = Link::decode(&bytes)?;
            let (index, prev) = tips
                .get(&link.did)
                .copied()
                .unwrap_or_else(|| (0, genesis(&link.did)));
            if (link.index, link.prev) != (index, prev) {
                return Err(Failure::damaged(format!(
                    "link {} of {} does not follow {index}",
                    link.index, link.did
                )));
            }
            tips.insert(link.did, (index + 1, link.digest()));
            chunks.push(chunk(disk, root, link)?);
            Ok(())
        };
        scan(disk, &root.join("links"), Link::BYTES, visit)
    }

    /// The chunks of a did.
    pub(crate) fn of(&self, did: &Did) -> impl Iterator<Item = &Chunk> {
        let did = *did;
        self.chunks.iter().filter(move |c| c.link.did == did)
    }
}

fn chunk(disk: &dyn Disk, root: &Path, link: Link) -> Outcome<Chunk> {
    let name = object_name(&link.did, link.index);
    let bytes = disk
        .read(&root.join(&name), limits::CHUNK_BYTES_MAX)
        .map_err(|e| Failure::damaged(format!("the chunk of a link, {name}: {e}")))?;
    let open = open_verified(bytes.into(), &link)?;
    let meta = open.meta.clone();
    let rows = open.into_rows();
    let mut leads = rows.leads.into_iter();
    Ok(Chunk {
        link,
        meta,
        times: rows.times,
        codes: leads.next().unwrap_or_default(),
        second: leads.next(),
    })
}

/// A journal's records; a folder that is not there yet has none.
fn scan(
    disk: &dyn Disk,
    dir: &Path,
    max: usize,
    visit: &mut dyn FnMut(u64, Bytes) -> Outcome<()>,
) -> Outcome<()> {
    match journal::scan_dir(disk, dir, max, visit) {
        Err(failure) if failure.kind == FailureKind::NotFound => Ok(()),
        done => done.map(drop),
    }
}
