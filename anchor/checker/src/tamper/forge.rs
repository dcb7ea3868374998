//! A ledger written by somebody else: with other keys, or from an older state.

use std::{path::Path, sync::Arc};

use chordae_base::{
    Failure, Outcome,
    seams::{self, Disk},
};
use chordae_chain::{
    checkpoint::Checkpoint,
    event::{self, Event},
    keys::SecretKeys,
    merkle::{self, NodeHash},
};

use super::{Copy, nothing};
use crate::{
    ledger::CHECKPOINT,
    tiles::{self, Kind, Tower},
};

/// Whose names stand under a ledger.
#[derive(Debug, Clone)]
pub struct LogKeys {
    /// Signs the checkpoint.
    pub log: SecretKeys,
    /// Signs blocks.
    pub sequencer: SecretKeys,
}

/// Writes a whole tile log: batches of events (already signed entries, 1-400 each), a block after each,
/// tiles, and the checkpoint over all. Times are `time_ms` plus one per block. Returns all entries.
///
/// # Errors
/// `BadInput` for a batch that breaks the rules of a block, `Io`.
pub fn write_log(
    disk: &Arc<dyn Disk>,
    root: &Path,
    origin: &str,
    keys: &LogKeys,
    batches: &[Vec<Vec<u8>>],
    time_ms: u64,
) -> Outcome<Vec<Vec<u8>>> {
    let mut entries: Vec<Vec<u8>> = Vec::new();
    let mut prev = [0; 32];
    for (height, batch) in (0_u64..).zip(batches) {
        let hashes: Vec<NodeHash> = batch.iter().map(|e| merkle::leaf_hash(e)).collect();
        let block = Event::Block {
            height,
            prev,
            events_root: merkle::root(&hashes),
            first: entries.len() as u64,
            count: u32::try_from(batch.len()).unwrap_or(u32::MAX),
            time_ms: time_ms.saturating_add(height),
        };
        let block = event::sign(&block, &keys.sequencer)?;
        prev = merkle::leaf_hash(&block);
        entries.extend(batch.iter().cloned());
        entries.push(block);
    }
    write_tiles(disk, root, &entries)?;
    let leaves: Vec<NodeHash> = entries.iter().map(|e| merkle::leaf_hash(e)).collect();
    let (size, root_hash) = (entries.len() as u64, merkle::root(&leaves));
    let checkpoint = Checkpoint {
        origin: origin.to_owned(),
        size,
        root: root_hash,
    };
    put(
        disk,
        root,
        CHECKPOINT,
        checkpoint.sign(&keys.log.sign)?.as_bytes(),
    )?;
    Ok(entries)
}

fn put(disk: &Arc<dyn Disk>, root: &Path, name: &str, bytes: &[u8]) -> Outcome<()> {
    let path = root.join(name);
    if let Some(dir) = path.parent() {
        disk.create_dir_all(dir)
            .map_err(|e| Failure::os(dir.display(), &e))?;
    }
    seams::write_atomic(disk.as_ref(), &path, bytes).map_err(|e| Failure::os(path.display(), &e))
}

fn write_tiles(disk: &Arc<dyn Disk>, root: &Path, entries: &[Vec<u8>]) -> Outcome<()> {
    let tile = |kind, n, width: usize, bytes: &[u8]| {
        let name = tiles::name(kind, n);
        let name = if width == 256 {
            name
        } else {
            format!("{name}.p/{width}")
        };
        put(disk, root, &name, bytes)
    };
    let mut tower = Tower::default();
    let mut upper = Vec::new();
    for (n, bundle) in (0_u64..).zip(entries.chunks(256)) {
        let mut bytes = Vec::new();
        for entry in bundle {
            let len =
                u16::try_from(entry.len()).map_err(|_| Failure::bad_input("entry too long"))?;
            bytes.extend(len.to_be_bytes());
            bytes.extend(entry);
        }
        tile(Kind::Entries, n, bundle.len(), &bytes)?;
        let leaves: Vec<NodeHash> = bundle.iter().map(|e| merkle::leaf_hash(e)).collect();
        tile(Kind::Level(0), n, leaves.len(), leaves.as_flattened())?;
        upper.extend(tower.add(&leaves));
    }
    upper.extend(tower.finish().1);
    for (level, n, hashes) in upper {
        tile(Kind::Level(level), n, hashes.len(), hashes.as_flattened())?;
    }
    Ok(())
}

/// Size and signatures of the checkpoint of a copy.
fn parts(text: &str) -> Outcome<(tlog_tiles::Checkpoint, String)> {
    let bad = || Failure::bad_input("the copy's checkpoint is not one");
    let (body, signatures) = text.split_once("\n\n").ok_or_else(bad)?;
    let body =
        tlog_tiles::Checkpoint::from_bytes(format!("{body}\n").as_bytes()).map_err(|_| bad())?;
    Ok((body, signatures.to_owned()))
}

/// Puts the checkpoint back by one batch. The old signature stays under it: a thief has no other.
pub(super) fn roll_back(copy: &Copy<'_>) -> Outcome<String> {
    let (body, signatures) = parts(&copy.checkpoint()?)?;
    let entries = copy.entries(body.size())?;
    let is_block =
        |e: &Vec<u8>| matches!(event::decode(e).map(|s| s.event), Ok(Event::Block { .. }));
    let before = entries.len().saturating_sub(1);
    let size = entries
        .iter()
        .take(before)
        .rposition(is_block)
        .map_or(0, |at| at + 1);
    let leaves: Vec<NodeHash> = entries
        .iter()
        .take(size)
        .map(|e| merkle::leaf_hash(e))
        .collect();
    let root = tlog_tiles::Hash(merkle::root(&leaves));
    let older = tlog_tiles::Checkpoint::new(body.origin(), size as u64, root, "")
        .map_err(|_| nothing("checkpoint"))?;
    let mut text = older.to_bytes();
    text.extend(format!("\n{signatures}").into_bytes());
    copy.write(CHECKPOINT, &text)?;
    Ok(format!(
        "rolled {CHECKPOINT} back from {} entries to {size}",
        body.size()
    ))
}

/// Keys that nobody trusts, the same every time.
fn stranger(seed: u8) -> Outcome<SecretKeys> {
    SecretKeys::from_secrets(&[seed; 32], None)
}

/// Signs every event, block and the checkpoint again: in itself, the copy is flawless afterwards.
pub(super) fn resign(copy: &Copy<'_>) -> Outcome<String> {
    let (body, _) = parts(&copy.checkpoint()?)?;
    let keys = LogKeys {
        log: stranger(0x66)?,
        sequencer: stranger(0x67)?,
    };
    let provider = stranger(0x68)?;
    let mut batches = Vec::new();
    let mut batch = Vec::new();
    let mut first_ms = None;
    for entry in copy.entries(body.size())? {
        match event::decode(&entry)?.event {
            Event::Block { time_ms, .. } => {
                first_ms.get_or_insert(time_ms);
                batches.push(std::mem::take(&mut batch));
            }
            // A patient's grant keeps the patient's own signature: forging it would show at once.
            Event::CreateSession { .. } | Event::RevokeSession { .. } => batch.push(entry),
            other => batch.push(event::sign(&other, &provider)?),
        }
    }
    let time_ms = first_ms.ok_or_else(|| nothing("block"))?;
    let entries = write_log(
        copy.disk,
        &copy.root,
        body.origin(),
        &keys,
        &batches,
        time_ms,
    )?;
    Ok(format!(
        "signed {} ledger entries and {CHECKPOINT} again with other keys",
        entries.len()
    ))
}
