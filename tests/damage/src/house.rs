//! A data folder on a disk in memory, written by the product's own parts, every journal marked.
//!
//! Two streams of one device, anchored up to their newest links; a session granted and stored; a trail that
//! is anchored; frames in the WAL, one in quarantine, a retained message, an event in the outbox. Everything
//! follows from the seed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::parts::{Part, sections_of};
use bytes::Bytes;
use chordae_anchor::{Ledger, LedgerKeys, core::ports::Parties, ledger};
use chordae_base::{
    DeviceId, Did, Digest, Failure, KeyId, Outcome, Rate, StreamKey, StreamName,
    journal::{Journal, Settings as JournalSettings},
    limits,
    record::{BirthRecord, FrameRecord, Place, SettledRecord, StateRecord, WalRecord},
    seams::{
        Disk, Entropy, Threads,
        fake::{FakeClock, FakeDisk, FakeEntropy},
    },
    time::SECOND_NS,
    wire::{Birth, ClockKind, Frame, Lead},
};
use chordae_chain::{
    checkpoint::TrustedLog,
    event::{self, Event},
    heads::HeadSet,
    keys::{Role, SecretKeys},
    link::{self, Link},
    meta::{ChunkClock, ChunkMeta, Lane, Profile},
    session::{self, Grant, SectionPlain},
    trust::{TrustFile, policy_text},
};
use chordae_chunk::{ChunkRows, SealedChunk, seal};
use chordae_ingest::{
    core::{
        exchange::{
            codec,
            message::Message,
            record::{Record, Stored},
        },
        quarantined::Quarantined,
    },
    quarantine::Quarantine,
    wal::{Wal, WalSettings},
};
use chordae_query::trail::{Deed, Trail};
use chordae_storage::{
    Committer, Tip,
    directory::Directory,
    registry::{Device, DeviceKind, Registry},
};

/// Where the folder lies.
pub const ROOT: &str = "/data";
/// The log's name.
pub const ORIGIN: &str = "chordae.local/damage";
/// First sample of everything.
pub const T0: i64 = 1_700_006_400 * SECOND_NS;
/// Bytes of a WAL segment: small, so that there are several.
pub const WAL_SEGMENT: u64 = 2048;
const SLOT_NS: i64 = 10 * SECOND_NS;

/// Keys whose secrets are one byte 32 times.
///
/// # Errors
/// None; the library takes every such secret.
pub fn keys(seed: u8) -> Outcome<SecretKeys> {
    SecretKeys::from_secrets(&[seed; 32], Some(&[seed; 32]))
}

/// Provider, sequencer, patient, requester, log.
pub const PROVIDER: u8 = 1;
/// See [`PROVIDER`].
pub const SEQUENCER: u8 = 2;
/// See [`PROVIDER`].
pub const PATIENT: u8 = 3;
/// See [`PROVIDER`].
pub const REQUESTER: u8 = 4;
/// See [`PROVIDER`].
pub const LOG: u8 = 5;

/// Who may sign what in the folder's ledger.
pub struct Known;

impl Parties for Known {
    fn role_key(&self, kid: &KeyId) -> Option<(Role, [u8; 32])> {
        let roles = [(PROVIDER, Role::Provider), (PATIENT, Role::Patient)];
        roles.into_iter().find_map(|(seed, role)| {
            let keys = keys(seed).ok()?;
            (keys.key_id() == *kid).then(|| (role, keys.sign_public()))
        })
    }
}

/// The folder.
pub struct House {
    /// Where it lies.
    pub disk: FakeDisk,
    /// What lay there before the last links, anchors and readings.
    pub yesterday: FakeDisk,
    /// A crash before the newest checkpoint: its batch is pending.
    pub unfinished: FakeDisk,
    /// What a reader trusts.
    pub trust: TrustFile,
    /// The links, in the order of linking.
    pub links: Vec<Link>,
    /// What the ledger says of the session's sections.
    pub sections: [u8; 32],
}

/// The ledger of a folder.
///
/// # Errors
/// Those of opening it.
pub fn open_ledger(disk: &FakeDisk) -> Outcome<Ledger> {
    let settings = ledger::Settings {
        policy: None,
        data_dir: ROOT.into(),
        origin: ORIGIN.into(),
        cadence: ledger::Cadence::default(),
    };
    let keys = LedgerKeys {
        log: keys(LOG)?,
        sequencer: keys(SEQUENCER)?,
    };
    let clock = Arc::new(FakeClock::new(T0));
    let metrics = prometheus::Registry::new();
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Ledger::open(
        disk,
        settings,
        keys,
        Arc::new(Known),
        clock,
        &Threads::of_the_machine(),
        &metrics,
    )
}

/// A path in the folder.
pub fn at(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

fn lead(name: &str) -> Lead {
    Lead {
        name: name.into(),
        mdc: 0,
        gain: 200.0,
        baseline: 0,
        unit: "mV".into(),
        bits: 16,
    }
}

/// A chunk of a slot: `hz` rows a second of two leads, at the tip.
///
/// # Errors
/// None for rates that divide a second.
pub fn chunk(did: Did, tip: Tip, hz: u32, salt: u8) -> Outcome<SealedChunk> {
    let slot = T0 + i64::try_from(tip.next_index).unwrap_or(0) * SLOT_NS;
    let count = i64::from(hz) * 10;
    let step = SECOND_NS / i64::from(hz);
    let wave = |k: i64, m: i64| i32::try_from((k * k * m + 37 * k) % 1201 - 600).unwrap_or(0);
    let rows = ChunkRows {
        times: (0..count).map(|k| slot + k * step).collect(),
        leads: vec![
            (0..count).map(|k| wave(k, 3)).collect(),
            (0..count).map(|k| wave(k, 7)).collect(),
        ],
    };
    let first = tip.next_index * 10;
    let meta = ChunkMeta {
        boot: 5,
        clock: ChunkClock {
            offset_ns: 0,
            quality: ClockKind::Synced,
        },
        did,
        end_ns: slot + SLOT_NS,
        first_ns: slot,
        index: tip.next_index,
        jitter_ns: (0, 0),
        lane: Lane::Live,
        leads: vec![lead("I"), lead("V5")],
        missing: Vec::new(),
        page_ns: limits::PAGE_NS,
        prev: tip.prev,
        profile: Profile::Open,
        rate: Rate::new(hz, 1)?,
        received: (slot + SECOND_NS, slot + SLOT_NS),
        rows: u32::try_from(count).unwrap_or(0),
        seq: (first, first + 9),
        slot_len_ns: SLOT_NS,
        slot_start_ns: slot,
        v: 1,
    };
    seal(meta, [salt; 32], &rows)
}

impl House {
    /// Makes it.
    ///
    /// # Errors
    /// Those of the parts: none on a disk without faults.
    pub fn new(seed: u64) -> Outcome<Self> {
        let disk = FakeDisk::new();
        let entropy = FakeEntropy::new(seed);
        let dids = registry(&disk, &entropy)?;
        let (mut links, _) = day(&disk, &dids, 0)?;
        let ledger = open_ledger(&disk)?;
        let sections = grant(&disk, &ledger, &dids, &entropy)?;
        ledger.stop();
        let yesterday = disk.copy();
        let (more, unfinished) = day(&disk, &dids, 1)?;
        links.extend(more);
        wal(&disk)?;
        quarantine(&disk)?;
        exchange(&disk)?;
        outbox(&disk, &links)?;
        let log = TrustedLog::new(ORIGIN, &keys(LOG)?.sign_public())?;
        let trust = TrustFile {
            origin: ORIGIN.into(),
            policy: policy_text(&log),
            providers: vec![keys(PROVIDER)?.public("provider", Role::Provider)],
            sequencers: vec![keys(SEQUENCER)?.public("sequencer", Role::Sequencer)],
            retired: Vec::new(),
            ca: None,
        };
        Ok(Self {
            disk,
            yesterday,
            unfinished,
            trust,
            links,
            sections,
        })
    }

    /// Where a part is broken: the pending batch where a crash left it, all else where it was left in order.
    pub fn base(&self, part: Part) -> &FakeDisk {
        match part {
            Part::Pending => &self.unfinished,
            _ => &self.disk,
        }
    }

    /// Every file of the folder below a name, ascending.
    pub fn files(&self, below: &str) -> Vec<String> {
        files(&self.disk, below)
    }
}

/// Every file of a folder below a name, ascending; the name itself, if it is a file.
pub fn files(disk: &FakeDisk, below: &str) -> Vec<String> {
    let path = at(below);
    if disk.peek(&path).is_some() {
        return vec![below.to_owned()];
    }
    let entries = disk.list(&path).unwrap_or_default();
    let names = entries.iter().filter_map(|e| e.path.file_name());
    names
        .flat_map(|name| files(disk, &format!("{below}/{}", name.to_string_lossy())))
        .collect()
}

fn arc(disk: &FakeDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

/// The stream of the folder by number.
///
/// # Errors
/// None.
pub fn stream(n: u8) -> Outcome<StreamKey> {
    Ok(StreamKey {
        device: DeviceId::new("bed-1")?,
        stream: StreamName::new(format!("ecg-{n}"))?,
    })
}

fn registry(disk: &FakeDisk, entropy: &FakeEntropy) -> Outcome<Vec<Did>> {
    let entropy: Arc<dyn Entropy> = Arc::new(entropy.clone());
    let registry = Registry::open(arc(disk), &at("registry"), entropy, SLOT_NS)?;
    registry.add_device(Device::new(DeviceId::new("bed-1")?, DeviceKind::Device))?;
    registry.add_party(keys(PATIENT)?.public("Ada", Role::Patient))?;
    registry.add_party(keys(REQUESTER)?.public("Bob", Role::Requester))?;
    (0..2)
        .map(|n| {
            let did = registry.open_stream(&stream(n)?)?.newest();
            registry.set_patient(did, keys(PATIENT)?.key_id())?;
            Ok(did)
        })
        .collect()
}

/// Two rounds of chunks, readings, and the anchors of both; the links, and the folder before the ledger was stopped, with the last
/// checkpoint but one.
fn day(disk: &FakeDisk, dids: &[Did], day: u8) -> Outcome<(Vec<Link>, FakeDisk)> {
    let links = chunks(disk, dids, day)?;
    let (digest, count) = trail(disk, day)?;
    let audit = Event::AuditHead {
        digest,
        count,
        time_ms: u64::from(day),
    };
    let ledger = open_ledger(disk)?;
    // The first round each by itself, the second together.
    let (alone, together) = links.split_at(links.len() / 2);
    for link in alone {
        // Not waited for: they gather in a few batches, as in life. The last submission waits for all.
        ledger.submit_then(anchor(link)?, |_| ());
    }
    let head = |link: &Link| (link::tag(&link.did, link.index), link.digest());
    let heads = HeadSet::new(together.iter().map(head).collect())?;
    let all = Event::AddHeads {
        root: ledger.keep(&heads)?,
        count: heads.count(),
    };
    ledger.submit(event::sign(&all, &keys(PROVIDER)?)?)?;
    let before = ledger.checkpoint();
    ledger.submit(event::sign(&audit, &keys(PROVIDER)?)?)?;
    let unfinished = disk.copy();
    unfinished.put(&at("ledger/checkpoint"), before.as_bytes());
    ledger.stop();
    Ok((links, unfinished))
}

fn chunks(disk: &FakeDisk, dids: &[Did], day: u8) -> Outcome<Vec<Link>> {
    let (mut committer, _) =
        Committer::open(arc(disk), Path::new(ROOT), &mut |_, _| (), Box::new(|_| ()))?;
    let mut links = Vec::new();
    for salt in 0..2 {
        for did in dids {
            let chunk = chunk(*did, committer.tip(did), 8, day * 2 + salt)?;
            links.extend(committer.commit(&[chunk])?);
        }
    }
    Ok(links)
}

/// The signed event that vouches for a link.
///
/// # Errors
/// None.
pub fn anchor(link: &Link) -> Outcome<Vec<u8>> {
    let event = Event::AddData {
        digest: link.digest(),
        tag: link::tag(&link.did, link.index),
        content: vec![9; 60],
    };
    event::sign(&event, &keys(PROVIDER)?)
}

fn grant(
    disk: &FakeDisk,
    ledger: &Ledger,
    dids: &[Did],
    entropy: &FakeEntropy,
) -> Outcome<[u8; 32]> {
    let (patient, requester) = (keys(PATIENT)?, keys(REQUESTER)?);
    let grants = dids.iter().map(|did| Grant {
        did: *did,
        metadata: std::collections::BTreeMap::new(),
        url: String::new(),
        st_ns: None,
        et_ns: None,
        leads: None,
    });
    let plain = SectionPlain {
        patient: patient.sign_public(),
        requester: requester.sign_public(),
        expires_ns: None,
        purpose: "care".into(),
        grants: grants.collect(),
    };
    let half = |keys: &SecretKeys| {
        let none = || Failure::internal("keys without a sealing half");
        keys.seal_public().ok_or_else(none)
    };
    let (to, whom) = (half(&keys(PROVIDER)?)?, half(&requester)?);
    let made = session::make(&patient, &to, &whom, &[plain], entropy)?;
    let sections = sections_of(&made.entry)?;
    ledger.submit(made.entry)?;
    let directory = Directory::open(arc(disk), &at("directory"))?;
    directory.put(&made.sid, &made.record.encode()?, || Ok(false))?;
    Ok(sections)
}

fn trail(disk: &FakeDisk, day: u8) -> Outcome<(Digest, u64)> {
    let (trail, _) = Trail::open(arc(disk), &at("trail"), &Threads::of_the_machine())?;
    for n in day * 3..day * 3 + 3 {
        trail.write_blocking(Deed {
            time_ms: 1_700_006_400_000 + u64::from(n),
            jti: format!("request-{n}"),
            sid: None,
            kid: keys(REQUESTER)?.key_id(),
            did: None,
            from_ns: Some(T0),
            until_ns: Some(T0 + SECOND_NS),
            leads: None,
            format: "arrow".into(),
            outcome: "answered".into(),
            rows: Some(8),
        })?;
    }
    let head = trail.head();
    drop(trail);
    mark(disk, "trail", limits::RECORD_BYTES_MAX)?;
    Ok((head.digest, head.count))
}

/// Opens a journal for its mark: what an idle server writes.
fn mark(disk: &FakeDisk, dir: &str, record_bytes_max: usize) -> Outcome<()> {
    let settings = JournalSettings::small(at(dir), record_bytes_max);
    Journal::open(arc(disk), settings)?.journal.mark().map(drop)
}

/// The birth of a stream's boot, as the WAL holds it.
///
/// # Errors
/// None.
pub fn birth(n: u8) -> Outcome<BirthRecord> {
    Ok(BirthRecord {
        stream: stream(n)?,
        recv_ns: T0,
        birth: Birth {
            boot: 5,
            rate: Rate::new(8, 1)?,
            leads: vec![lead("I"), lead("V5")],
            model: "sim".into(),
            firmware: "1".into(),
            clock: ClockKind::Synced,
        },
    })
}

/// A frame of a second of a stream, as the WAL holds it.
///
/// # Errors
/// None.
pub fn frame(n: u8, seq: u64) -> Outcome<FrameRecord> {
    let t0_ns = T0 + i64::try_from(seq).unwrap_or(0) * SECOND_NS;
    let frame = Frame {
        boot: 5,
        seq,
        t0_ns,
        samples: 8,
        codes: (0..16).map(|k| k * 31 - 200).collect(),
        historical: false,
        clock: ClockKind::Synced,
    };
    Ok(FrameRecord {
        stream: stream(n)?,
        boot: 5,
        seq,
        recv_ns: t0_ns + SECOND_NS,
        t0_ns,
        samples: 8,
        offset_ns: 0,
        clock: ClockKind::Synced,
        place: Place::Live,
        print: frame.print(),
        payload: frame.encode().into(),
    })
}

fn wal(disk: &FakeDisk) -> Outcome<()> {
    let state = |births| {
        WalRecord::State(StateRecord {
            births,
            ingest: Vec::new(),
        })
    };
    let (mut wal, _) = Wal::open(arc(disk), wal_settings())?;
    let births = vec![birth(0)?, birth(1)?];
    let mut first = vec![state(Vec::new())];
    first.extend(births.iter().cloned().map(WalRecord::Birth));
    (wal, _) = wal.commit(&first)?;
    for seq in 30..44 {
        if wal.wants_roll() {
            (wal, _) = wal.roll(&[state(births.clone())])?;
        }
        let records = [frame(0, seq)?, frame(1, seq)?].map(WalRecord::Frame);
        (wal, _) = wal.commit(&records)?;
    }
    let settled = WalRecord::Settled(SettledRecord {
        stream: stream(0)?,
        boot: 5,
        seq: 43,
        recv_ns: T0 + 60 * SECOND_NS,
    });
    (wal, _) = wal.commit(&[settled])?;
    wal.mark().map(drop)
}

/// How the folder's WAL is opened.
pub fn wal_settings() -> WalSettings {
    WalSettings {
        dir: at("wal"),
        segment_bytes: WAL_SEGMENT,
    }
}

fn quarantine(disk: &FakeDisk) -> Outcome<()> {
    let record = Quarantined {
        stream: stream(0)?,
        recv_ns: T0,
        arrived_ns: None,
        reason: "conflict".into(),
        frame: None,
        waits: false,
        settles: false,
    };
    let payload = frame(0, 7)?.payload;
    let quarantine = Quarantine::open(arc(disk), at("quarantine"))?;
    let records = [record.encode(&payload)?, record.encode(b"not a frame")?];
    quarantine.commit(&records)?.0.mark().map(drop)
}

fn exchange(disk: &FakeDisk) -> Outcome<()> {
    let stored = |no: u64, payload: &'static [u8]| {
        Arc::new(Stored {
            no,
            message: Message {
                topic: format!("chordae/v1/bed-{no}/status"),
                payload: Bytes::from_static(payload),
                qos: 1,
                retain: true,
                ..Message::default()
            },
            at_ns: T0,
            expires_ns: None,
        })
    };
    let entries: Vec<Bytes> = [stored(1, b"online"), stored(2, b"offline")]
        .into_iter()
        .map(|stored| codec::encode([&Record::Message(stored)]))
        .collect();
    journal(disk, "mqtt", &entries, true)
}

/// As the notary writes it: never marked, for what is lost of it is signed anew.
fn outbox(disk: &FakeDisk, links: &[Link]) -> Outcome<()> {
    let events: Vec<Bytes> = links
        .iter()
        .take(2)
        .map(|link| anchor(link).map(Bytes::from))
        .collect::<Outcome<_>>()?;
    journal(disk, "outbox", &events, false)
}

fn journal(disk: &FakeDisk, dir: &str, records: &[Bytes], marked: bool) -> Outcome<()> {
    let settings = JournalSettings::small(at(dir), limits::RECORD_BYTES_MAX);
    let mut journal = Journal::open(arc(disk), settings)?.journal;
    for record in records {
        (journal, _) = journal.commit(std::slice::from_ref(record))?;
    }
    match marked {
        true => journal.mark().map(drop),
        false => Ok(()),
    }
}
