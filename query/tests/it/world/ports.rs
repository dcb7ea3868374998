//! The ports of the query service in memory.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use chordae_base::{
    Did, Digest, Failure, KeyId, Outcome, Rate, Span, StreamKey,
    seams::Stamp,
    time::SECOND_NS as S,
    wire::{ClockKind, Lead},
};
use chordae_chain::{
    checkpoint::Checkpoint,
    event::{self, Event},
    keys::SecretKeys,
    link::{self, Link},
    merkle,
    meta::{ChunkClock, ChunkMeta, Lane, Profile},
    receipt,
};
use chordae_chunk::{ChunkRows, seal};
use chordae_query::core::{
    ledger_path::LedgerPath,
    ports::{
        Anchor, Aside, Bell, ChunkSource, Inventories, Ledger, Parties, Party, Sessions, Tail,
        TailFrame, TailPage, Touched,
    },
};

use super::{ORIGIN, SLOT, T0};

/// A linked chunk in memory.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) link: Link,
    pub(crate) meta: Arc<ChunkMeta>,
    pub(crate) bytes: Bytes,
    /// What the file system says, whatever the bytes are.
    pub(crate) untouched: Option<Stamp>,
    pub(crate) rows: ChunkRows,
}

#[derive(Default)]
pub(crate) struct MemChunks(pub(crate) Mutex<BTreeMap<Did, Vec<Stored>>>);

/// What a test says about a chunk; the rest follows from it.
pub(crate) struct Draft {
    pub(crate) did: Did,
    pub(crate) lane: Lane,
    pub(crate) boot: u64,
    pub(crate) seq: (u64, u64),
    pub(crate) missing: Vec<(u64, u64)>,
    pub(crate) rate: u32,
    pub(crate) leads: Vec<Lead>,
    pub(crate) rows: ChunkRows,
}

impl MemChunks {
    /// Seals and links a chunk.
    pub(crate) fn link(&self, draft: Draft) -> Link {
        let mut all = self.0.lock().unwrap();
        let chain = all.entry(draft.did).or_default();
        let (first, last) = (draft.rows.times[0], *draft.rows.times.last().unwrap());
        let slot = first - first.rem_euclid(SLOT);
        let meta = ChunkMeta {
            boot: draft.boot,
            clock: ChunkClock {
                offset_ns: 0,
                quality: ClockKind::Synced,
            },
            did: draft.did,
            end_ns: (last + S / i64::from(draft.rate)).min(slot + SLOT),
            first_ns: first,
            index: chain.len() as u64,
            jitter_ns: (0, 0),
            lane: draft.lane,
            leads: draft.leads,
            missing: draft.missing,
            page_ns: 10 * S,
            prev: chain
                .last()
                .map_or(link::genesis(&draft.did), |s| s.link.digest()),
            profile: Profile::Open,
            rate: Rate::new(draft.rate, 1).unwrap(),
            received: (first, last),
            rows: draft.rows.times.len() as u32,
            seq: draft.seq,
            slot_len_ns: SLOT,
            slot_start_ns: slot,
            v: 1,
        };
        let salt = [chain.len() as u8 + draft.did.0[0]; 32];
        let sealed = seal(meta, salt, &draft.rows).unwrap();
        let link = sealed.link().clone();
        chain.push(Stored {
            link: link.clone(),
            meta: Arc::new(sealed.meta().clone()),
            bytes: sealed.bytes().clone(),
            untouched: None,
            rows: draft.rows,
        });
        link
    }

    pub(crate) fn of(&self, did: Did) -> Vec<Stored> {
        self.0
            .lock()
            .unwrap()
            .get(&did)
            .cloned()
            .unwrap_or_default()
    }
}

impl ChunkSource for MemChunks {
    fn links(&self, did: &Did, from_index: u64, most: usize) -> Outcome<Vec<Link>> {
        let links = self.of(*did).into_iter().map(|s| s.link);
        Ok(links.filter(|l| l.index >= from_index).take(most).collect())
    }

    fn touching(&self, did: &Did, span: Span) -> Outcome<Vec<Touched>> {
        let all = self
            .of(*did)
            .into_iter()
            .filter(|s| s.link.span().meets(&span));
        Ok(all
            .map(|s| Touched {
                link: s.link,
                meta: s.meta,
            })
            .collect())
    }

    fn newest(&self, did: &Did) -> Option<u64> {
        self.of(*did).last().map(|s| s.link.index)
    }

    fn bytes(&self, did: &Did, index: u64) -> Outcome<Bytes> {
        let found = self.of(*did).into_iter().find(|s| s.link.index == index);
        let found = found.ok_or_else(|| Failure::damaged("the file is missing"))?;
        if Digest(*blake3::hash(&found.bytes).as_bytes()) != found.link.file_root {
            return Err(Failure::damaged(
                "the file is not the one that its link names",
            ));
        }
        Ok(found.bytes)
    }

    fn stamp(&self, did: &Did, index: u64) -> Option<Stamp> {
        let found = self.of(*did).into_iter().find(|s| s.link.index == index);
        found.map(|s| s.untouched.unwrap_or(Stamp::of_content(&s.bytes)))
    }
}

/// A log that is nothing but its entries.
pub(crate) struct MemLedger {
    pub(crate) entries: Mutex<Vec<Bytes>>,
    pub(crate) log: SecretKeys,
}

impl MemLedger {
    fn checkpoint(&self, entries: &[Bytes]) -> String {
        let leaves: Vec<_> = entries.iter().map(|e| merkle::leaf_hash(e)).collect();
        let (size, root) = (leaves.len() as u64, merkle::root(&leaves));
        let checkpoint = Checkpoint {
            origin: ORIGIN.to_owned(),
            size,
            root,
        };
        checkpoint.sign(&self.log.sign).unwrap()
    }

    fn events(&self) -> Vec<(Bytes, event::SignedEvent)> {
        let entries = self.entries.lock().unwrap().clone();
        entries
            .into_iter()
            .map(|e| (e.clone(), event::decode(&e).unwrap()))
            .collect()
    }

    /// Vouches for a link.
    pub(crate) fn anchor_link(&self, link: &Link, provider: &SecretKeys) {
        let tag = link::tag(&link.did, link.index);
        let event = Event::AddData {
            digest: link.digest(),
            tag,
            content: vec![0; 8],
        };
        self.submit(event::sign(&event, provider).unwrap().into())
            .unwrap();
    }
}

impl Ledger for MemLedger {
    fn session(&self, sid: &[u8; 32]) -> Outcome<Option<Bytes>> {
        let found = self.events().into_iter().find(|(entry, signed)| {
            let create = matches!(signed.event, Event::CreateSession { .. });
            create && event::leaf_hash(entry) == *sid
        });
        Ok(found.map(|f| f.0))
    }

    fn revoked(&self, sid: &[u8; 32]) -> Outcome<bool> {
        let events = self.events();
        let created = events
            .iter()
            .find(|(entry, _)| event::leaf_hash(entry) == *sid);
        let signer = created.map(|(_, signed)| signed.kid);
        Ok(events.iter().any(|(_, signed)| {
            let revokes = matches!(signed.event, Event::RevokeSession { sid: s, .. } if s == *sid);
            revokes && Some(signed.kid) == signer
        }))
    }

    fn anchor(&self, did: &Did, at_least: u64) -> Outcome<Option<Anchor>> {
        let entries = self.entries.lock().unwrap().clone();
        let leaves: Vec<_> = entries.iter().map(|e| merkle::leaf_hash(e)).collect();
        for index in at_least..at_least + 100 {
            let wanted = link::tag(did, index);
            let hit = entries.iter().position(|e| {
                let event = event::decode(e).unwrap().event;
                matches!(event, Event::AddData { tag, .. } if tag == wanted)
            });
            if let Some(at) = hit {
                let stored = merkle::StoredHashes::of(&leaves);
                let path = merkle::inclusion_path(leaves.len() as u64, at as u64, &stored).unwrap();
                let proof = receipt::make(at as u64, &path, &self.checkpoint(&entries));
                return Ok(Some(Anchor {
                    index,
                    entry: entries[at].clone(),
                    proof,
                    way: None,
                }));
            }
        }
        Ok(None)
    }

    fn submit(&self, entry: Bytes) -> Outcome<u64> {
        let mut entries = self.entries.lock().unwrap();
        if let Some(at) = entries.iter().position(|e| *e == entry) {
            return Ok(at as u64);
        }
        entries.push(entry);
        Ok(entries.len() as u64 - 1)
    }

    fn file(&self, path: &LedgerPath) -> Outcome<Bytes> {
        match path {
            LedgerPath::Checkpoint => Ok(self.checkpoint(&self.entries.lock().unwrap()).into()),
            LedgerPath::Tile {
                level: 0, index: 0, ..
            } => Ok(Bytes::from_static(b"tile")),
            LedgerPath::Entries { index: 0, .. } => Ok(Bytes::from_static(b"entries")),
            _ => Err(Failure::not_found("no such tile")),
        }
    }
}

#[derive(Default)]
pub(crate) struct MemSessions(pub(crate) Mutex<BTreeMap<[u8; 32], Bytes>>);

impl Sessions for MemSessions {
    fn put(&self, sid: &[u8; 32], record: &[u8]) -> Outcome<()> {
        self.0
            .lock()
            .unwrap()
            .insert(*sid, Bytes::copy_from_slice(record));
        Ok(())
    }

    fn get(&self, sid: &[u8; 32]) -> Outcome<Option<Bytes>> {
        Ok(self.0.lock().unwrap().get(sid).cloned())
    }

    fn remove(&self, sid: &[u8; 32]) -> Outcome<()> {
        self.0.lock().unwrap().remove(sid);
        Ok(())
    }

    fn list(&self, from: &[u8; 32], most: usize) -> Outcome<Vec<[u8; 32]>> {
        Ok(self
            .0
            .lock()
            .unwrap()
            .range(*from..)
            .map(|(sid, _)| *sid)
            .take(most)
            .collect())
    }
}

#[derive(Default)]
pub(crate) struct MemInventories(pub(crate) Mutex<BTreeMap<[u8; 32], (KeyId, Bytes)>>);

impl Inventories for MemInventories {
    fn put(
        &self,
        owner: &KeyId,
        id: &[u8; 32],
        record: &[u8],
        _replaces: Option<&[u8; 32]>,
    ) -> Outcome<()> {
        let record = Bytes::copy_from_slice(record);
        self.0.lock().unwrap().insert(*id, (*owner, record));
        Ok(())
    }

    fn get(&self, id: &[u8; 32]) -> Outcome<Option<(KeyId, Bytes)>> {
        Ok(self.0.lock().unwrap().get(id).cloned())
    }

    fn owner(&self, id: &[u8; 32]) -> Option<KeyId> {
        self.0.lock().unwrap().get(id).map(|f| f.0)
    }

    fn of(&self, owner: &KeyId) -> Vec<[u8; 32]> {
        let all = self.0.lock().unwrap();
        let own = all.iter().filter(|(_, f)| f.0 == *owner);
        own.map(|(id, _)| *id).collect()
    }
}

#[derive(Default)]
pub(crate) struct MemParties {
    pub(crate) known: Mutex<BTreeMap<KeyId, Party>>,
    pub(crate) patients: Mutex<BTreeMap<Did, Option<KeyId>>>,
}

impl Parties for MemParties {
    fn party(&self, kid: &KeyId) -> Option<Party> {
        self.known.lock().unwrap().get(kid).cloned()
    }

    fn patient_of(&self, did: &Did) -> Option<KeyId> {
        self.patients.lock().unwrap().get(did).copied().flatten()
    }

    fn stream_name(&self, did: &Did) -> Option<StreamKey> {
        format!("dev-{}/ecg", did.0[0]).parse().ok()
    }

    fn dids(&self) -> Vec<Did> {
        self.patients.lock().unwrap().keys().copied().collect()
    }
}

/// A tail that keeps everything, until it is told to let go.
#[derive(Default)]
pub(crate) struct MemTail {
    pub(crate) frames: Mutex<BTreeMap<Did, Vec<TailFrame>>>,
    /// Places up to which frames were let go, and the newest of them.
    pub(crate) lost: Mutex<Option<(u64, u64, u64, Span)>>,
    pub(crate) ended: AtomicBool,
    /// Whether a reader has been told that there is nothing more.
    pub(crate) read_out: AtomicBool,
    bells: Mutex<Vec<Weak<Bell>>>,
}

impl MemTail {
    pub(crate) fn push(&self, did: Did, frame: TailFrame) {
        self.frames
            .lock()
            .unwrap()
            .entry(did)
            .or_default()
            .push(frame);
        self.bells
            .lock()
            .unwrap()
            .iter()
            .filter_map(Weak::upgrade)
            .for_each(|bell| bell());
    }
}

/// Three conflicts with each stream, one a second from [`T0`] on.
pub(crate) struct MemAside;

impl Aside for MemAside {
    fn counts(&self, _: &Did, span: Span) -> Outcome<BTreeMap<String, u64>> {
        let inside = (0..3).filter(|n| span.holds(T0 + n * S)).count() as u64;
        Ok((inside > 0)
            .then(|| ("conflict".to_owned(), inside))
            .into_iter()
            .collect())
    }
}

impl Tail for MemTail {
    fn after(&self, did: &Did, at: u64, most: usize) -> Outcome<TailPage> {
        let all = self.frames.lock().unwrap();
        let frames = all.get(did).into_iter().flatten().filter(|f| f.at > at);
        let frames: Vec<TailFrame> = frames.take(most).cloned().collect();
        let lost = self.lost.lock().unwrap().filter(|l| l.0 > at);
        if frames.is_empty() {
            self.read_out.store(true, Ordering::SeqCst);
        }
        Ok(TailPage {
            next: frames.last().map_or(lost.map_or(at, |l| l.0), |f| f.at),
            frames,
            lost: lost.map(|(_, boot, seq, span)| (boot, seq, span)),
            ended: self.ended.load(Ordering::SeqCst),
        })
    }

    fn find(&self, did: &Did, boot: u64, seq: u64) -> Option<u64> {
        let all = self.frames.lock().unwrap();
        let mut frames = all.get(did)?.iter();
        frames
            .find(|f| (f.boot, f.seq) == (boot, seq))
            .map(|f| f.at)
    }

    fn ring(&self, _: &Did, bell: Weak<Bell>) {
        self.bells.lock().unwrap().push(bell);
    }
}
