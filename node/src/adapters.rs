//! One part's need met by another part's offer. Every trait here was declared by the core that needs it;
//! nothing here decides anything.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use chordae_anchor::{Ledger, core::ports as anchor};
use chordae_base::{
    DeviceId, Did, Digest, Failure, KeyId, Outcome, RangeSet, Span, StreamKey, StreamPlan, limits,
    seams::Stamp, wire::Frame,
};
use chordae_chain::{
    keys::{PublicIdentity, Role},
    link::Link,
    meta::ChunkMeta,
};
use chordae_chunk::SealedChunk;
use chordae_chunker::{self as chunker, Covered, Gap};
use chordae_ingest::{core::ports as ingest, mailbox::IngestHandle, quarantine::QuarantineReader};
use chordae_query::{
    core::{ledger_path::LedgerPath, ports as query},
    trail::Trail,
};
use chordae_storage::{
    Catalogue, Committer,
    directory::Directory,
    registry::{Device, DeviceKind, Registry},
};

/// Devices and streams, for the doors and the windower.
#[derive(Clone)]
pub(crate) struct Known(pub(crate) Arc<Registry>);

impl ingest::Registry for Known {
    fn device(&self, id: &DeviceId) -> Option<ingest::DeviceEntry> {
        self.0.device(id).map(entry)
    }

    fn behind(&self, gateway: &DeviceId) -> Vec<(DeviceId, ingest::DeviceEntry)> {
        let devices = self.0.behind(gateway).into_iter();
        devices.map(|d| (d.id.clone(), entry(d))).collect()
    }

    fn changes(&self) -> u64 {
        self.0.changes()
    }

    fn open_stream(&self, key: &StreamKey) -> Outcome<()> {
        self.0.open_stream(key).map(drop)
    }
}

fn entry(device: Device) -> ingest::DeviceEntry {
    let revoked = device.certificates().filter(|c| c.revoked_ns.is_some());
    ingest::DeviceEntry {
        kind: match device.kind {
            DeviceKind::Device => ingest::DeviceKind::Device,
            DeviceKind::Gateway => ingest::DeviceKind::Gateway,
            DeviceKind::Monitor => ingest::DeviceKind::Monitor,
        },
        enabled: device.enabled,
        revoked: revoked.map(|c| c.serial.clone()).collect(),
        gateway: device.gateway,
        streams: device.streams,
        watches: device.watches,
    }
}

impl chunker::Plans for Known {
    fn plan(&self, stream: &StreamKey) -> Option<StreamPlan> {
        self.0.plan(stream)
    }
}

/// What the chunks say about frames that have left the log.
pub(crate) struct Stored {
    pub(crate) registry: Arc<Registry>,
    pub(crate) catalogue: Arc<Catalogue>,
}

impl ingest::History for Stored {
    fn covered(&self, stream: &StreamKey) -> BTreeMap<u64, RangeSet> {
        let dids: Vec<Did> = self
            .registry
            .plan(stream)
            .iter()
            .flat_map(StreamPlan::dids)
            .collect();
        // A frame with a row in any chunk counts: one that is linked by halves is still in the log, which
        // ingest folds as well.
        let always = Span {
            from_ns: i64::MIN,
            until_ns: i64::MAX,
        };
        let mut boots: BTreeMap<u64, RangeSet> = BTreeMap::new();
        for entry in dids
            .iter()
            .flat_map(|did| self.catalogue.touching(did, always))
        {
            let Some(meta) = entry.meta() else { continue };
            let seqs = boots.entry(meta.boot).or_default();
            meta.covered()
                .iter()
                .for_each(|(a, b)| seqs.insert_range(a, b));
        }
        boots
    }

    fn same_rows(
        &self,
        stream: &StreamKey,
        mapped_t0_ns: i64,
        frame: &Frame,
    ) -> Outcome<Option<bool>> {
        let Some(plan) = self.registry.plan(stream) else {
            return Ok(None);
        };
        self.catalogue
            .same_rows(&plan.did_at(mapped_t0_ns), mapped_t0_ns, frame)
    }
}

/// The windower's news on their way to ingest, which starts after the windower: what comes earlier waits.
#[derive(Clone, Default)]
pub(crate) struct News(Arc<Mutex<Early>>);

#[derive(Default)]
struct Early {
    ingest: Option<IngestHandle>,
    covered: Vec<ingest::CoveredNews>,
    gaps: Vec<ingest::GapNews>,
    trim: Option<u64>,
}

impl News {
    /// From now on the news go to `ingest`, those that waited first.
    pub(crate) fn reach(&self, handle: IngestHandle) {
        let mut early = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        handle.covered(std::mem::take(&mut early.covered));
        for gap in std::mem::take(&mut early.gaps) {
            handle.gap(gap);
        }
        if let Some(floor) = early.trim.take() {
            handle.trim(floor);
        }
        early.ingest = Some(handle);
    }
}

impl chunker::Progress for News {
    fn covered(&mut self, news: Vec<Covered>) {
        let news: Vec<ingest::CoveredNews> = news
            .into_iter()
            .map(|c| ingest::CoveredNews {
                stream: c.stream,
                boot: c.boot,
                seqs: c.whole,
                slot_start_ns: c.slot_start_ns,
            })
            .collect();
        let mut early = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &early.ingest {
            Some(handle) => handle.covered(news),
            None => early.covered.extend(news),
        }
    }

    fn gap(&mut self, gap: Gap) {
        let gap = ingest::GapNews {
            stream: gap.stream,
            boot: gap.boot,
            frames: gap.frames,
        };
        let mut early = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &early.ingest {
            Some(handle) => handle.gap(gap),
            None => early.gaps.push(gap),
        }
    }

    fn trim(&mut self, floor: u64) {
        let mut early = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &early.ingest {
            Some(handle) => handle.trim(floor),
            None => early.trim = Some(floor),
        }
    }
}

/// Storage, for the sealer.
pub(crate) struct Sink(pub(crate) Committer);

impl chunker::ChunkSink for Sink {
    fn tip(&self, did: &Did) -> chunker::Tip {
        let tip = self.0.tip(did);
        chunker::Tip {
            next_index: tip.next_index,
            prev: tip.prev,
        }
    }

    fn commit(&mut self, chunks: Vec<SealedChunk>) -> Outcome<Vec<Link>> {
        self.0.commit(&chunks)
    }
}

/// Parties for the ledger and the readers: the registry's, and the keys of this installation itself.
#[derive(Clone)]
pub(crate) struct Who {
    pub(crate) registry: Arc<Registry>,
    pub(crate) own: Arc<[PublicIdentity]>,
}

impl anchor::Parties for Who {
    fn role_key(&self, kid: &KeyId) -> Option<(Role, [u8; 32])> {
        if let Some(own) = self.own.iter().find(|i| i.key_id() == *kid) {
            return Some((own.role, own.sign));
        }
        let party = self.registry.party(kid).filter(|p| p.enabled)?;
        Some((party.identity.role, party.identity.sign))
    }
}

impl anchor::Patients for Who {
    fn seal_key_of(&self, did: &Did) -> Option<([u8; 32], [u8; 32])> {
        let party = self.registry.party(&self.registry.patient_of(did)?)?;
        Some((party.identity.sign, party.identity.seal?))
    }
}

impl query::Parties for Who {
    fn party(&self, kid: &KeyId) -> Option<query::Party> {
        let party = self.registry.party(kid)?;
        Some(query::Party {
            identity: party.identity,
            enabled: party.enabled,
        })
    }

    fn patient_of(&self, did: &Did) -> Option<KeyId> {
        self.registry.patient_of(did)
    }

    fn stream_name(&self, did: &Did) -> Option<StreamKey> {
        self.registry.stream_of(did)
    }

    fn dids(&self) -> Vec<Did> {
        self.registry
            .streams()
            .iter()
            .flat_map(|(_, plan)| plan.dids().collect::<Vec<_>>())
            .collect()
    }
}

/// Linked chunks, for readers and the notary.
#[derive(Clone)]
pub(crate) struct Chunks(pub(crate) Arc<Catalogue>);

impl query::ChunkSource for Chunks {
    fn links(&self, did: &Did, from_index: u64, most: usize) -> Outcome<Vec<Link>> {
        let until = from_index.saturating_add(u64::try_from(most).unwrap_or(u64::MAX));
        Ok(self.0.links(did, from_index..until))
    }

    fn touching(&self, did: &Did, span: Span) -> Outcome<Vec<query::Touched>> {
        let entries = self
            .0
            .touching(did, span)
            .into_iter()
            .map(|entry| match entry.meta() {
                Some(meta) => Ok(query::Touched {
                    meta: Arc::clone(meta),
                    link: entry.link,
                }),
                None => Err(Failure::damaged(format!(
                    "chunk {} does not match its link; it is not served",
                    entry.link.index
                ))),
            });
        entries.collect()
    }

    fn newest(&self, did: &Did) -> Option<u64> {
        self.0.head(did).map(|l| l.index)
    }

    fn bytes(&self, did: &Did, index: u64) -> Outcome<Bytes> {
        self.0.chunk_bytes(did, index)
    }

    fn stamp(&self, did: &Did, index: u64) -> Option<Stamp> {
        self.0.chunk_stamp(did, index)
    }
}

impl chunker::Stored for Chunks {
    fn metas(&self) -> Vec<Arc<ChunkMeta>> {
        self.0.metas()
    }

    fn times(&self, did: &Did, index: u64) -> Outcome<Vec<i64>> {
        Ok(self.0.open_chunk(did, index)?.rows().times.clone())
    }
}

impl anchor::Links for Chunks {
    fn heads(&self) -> Vec<Link> {
        self.0
            .dids()
            .iter()
            .filter_map(|did| self.0.head(did))
            .collect()
    }

    fn link(&self, did: &Did, index: u64) -> Outcome<Option<Link>> {
        Ok(self
            .0
            .links(did, index..index.saturating_add(1))
            .into_iter()
            .next())
    }
}

/// The ledger, for readers.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) ledger: Ledger,
    pub(crate) catalogue: Arc<Catalogue>,
}

impl query::Ledger for Log {
    fn session(&self, sid: &[u8; 32]) -> Outcome<Option<Bytes>> {
        let at = self.ledger.session(sid)?;
        at.map(|at| self.ledger.entry(at)).transpose()
    }

    fn revoked(&self, sid: &[u8; 32]) -> Outcome<bool> {
        self.ledger.revoked(sid)
    }

    fn anchor(&self, did: &Did, at_least: u64) -> Outcome<Option<query::Anchor>> {
        let Some(head) = self.catalogue.head(did) else {
            return Ok(None);
        };
        let Some(anchor) = self.ledger.anchored(did, at_least, head.index)? else {
            return Ok(None);
        };
        let proof = self.ledger.receipt(anchor.leaf_index)?;
        Ok(Some(query::Anchor {
            index: anchor.index,
            way: anchor.way(did)?,
            entry: anchor.entry,
            proof,
        }))
    }

    fn anchored(&self, did: &Did, at_least: u64) -> Outcome<bool> {
        let Some(head) = self.catalogue.head(did) else {
            return Ok(false);
        };
        let anchor = self.ledger.anchored(did, at_least, head.index)?;
        Ok(anchor.is_some())
    }

    fn submit(&self, entry: Bytes) -> Outcome<u64> {
        self.ledger.submit(entry)
    }

    fn file(&self, path: &LedgerPath) -> Outcome<Bytes> {
        match path {
            LedgerPath::Heads { root } => self.ledger.heads(root),
            LedgerPath::Fresh => self.ledger.fresh().map(Bytes::from),
            _ => self.ledger.file(&path.text()),
        }
    }
}

/// Session records, for readers; a revoked one is never stored again.
pub(crate) struct Records {
    pub(crate) directory: Arc<Directory>,
    pub(crate) ledger: Ledger,
}

impl query::Sessions for Records {
    fn put(&self, sid: &[u8; 32], record: &[u8]) -> Outcome<()> {
        self.directory.put(sid, record, || self.ledger.revoked(sid))
    }

    fn get(&self, sid: &[u8; 32]) -> Outcome<Option<Bytes>> {
        self.directory.get(sid)
    }

    fn remove(&self, sid: &[u8; 32]) -> Outcome<()> {
        self.directory.remove(sid).map(drop)
    }

    fn list(&self, from: &[u8; 32], most: usize) -> Outcome<Vec<[u8; 32]>> {
        Ok(self
            .directory
            .list()
            .into_iter()
            .filter(|sid| sid >= from)
            .take(most)
            .collect())
    }
}

/// Inventories, for readers.
pub(crate) struct Lists(pub(crate) Arc<Directory>);

impl query::Inventories for Lists {
    fn put(
        &self,
        owner: &KeyId,
        id: &[u8; 32],
        record: &[u8],
        replaces: Option<&[u8; 32]>,
    ) -> Outcome<()> {
        self.0.inventories().put(owner, id, record, replaces)
    }

    fn get(&self, id: &[u8; 32]) -> Outcome<Option<(KeyId, Bytes)>> {
        self.0.inventories().get(id)
    }

    fn owner(&self, id: &[u8; 32]) -> Option<KeyId> {
        self.0.inventories().owner(id)
    }

    fn of(&self, owner: &KeyId) -> Vec<[u8; 32]> {
        self.0.inventories().of(owner)
    }
}

/// Quarantine, for readers.
pub(crate) struct SetAside {
    pub(crate) quarantine: QuarantineReader,
    pub(crate) registry: Arc<Registry>,
}

impl query::Aside for SetAside {
    fn counts(&self, did: &Did, span: Span) -> Outcome<BTreeMap<String, u64>> {
        let Some((stream, plan)) = self
            .registry
            .stream_of(did)
            .and_then(|s| Some((s.clone(), self.registry.plan(&s)?)))
        else {
            return Ok(BTreeMap::new());
        };
        let (mut counts, mut left) = (BTreeMap::new(), limits::ASIDE_SCANNED_MAX);
        self.quarantine.scan(&mut |_, q, _| {
            left = left.checked_sub(1).ok_or_else(|| {
                Failure::bad_input("more lies in quarantine than one request looks through")
            })?;
            let about_ns = q.about_ns();
            if q.stream == stream && span.holds(about_ns) && plan.did_at(about_ns) == *did {
                *counts.entry(q.reason).or_default() += 1;
            }
            Ok(())
        })?;
        Ok(counts)
    }
}

/// The trail's head, for the notary.
pub(crate) struct Head(pub(crate) Trail);

impl anchor::TrailHead for Head {
    fn head(&self) -> Option<(Digest, u64)> {
        let head = self.0.head();
        (head.count > 0).then_some((head.digest, head.count))
    }
}
