//! All that ingest remembers, and how it is found again.
//!
//! ```text
//! segment:  State* ─ Birth ─ Frame ─ Frame ─ Settled ─ ...       fold, record by record, gives the Core
//! quarantine/: what waits there, and what is settled there       fold, too
//! chunks:   which seqs they cover (History), once per stream     learn
//! ```
//!
//! [`Core::fold`] is the same function for every record, read at start or written in life, so a restart
//! finds what was there. Deciding is in `judge`, waiting in `release`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use chordae_base::{
    DeviceId, Outcome, RangeSet, StreamKey, limits,
    record::{BirthRecord, FrameRecord, Place, StateRecord, WalRecord},
    wire::{Birth, Glance},
};

use super::{
    arrival::{ConnId, Standing},
    clock::{ClockMap, Setting},
    dedupe::Seen,
    park::{Body, Parked, Waiting},
    ports::Newest,
    quarantined::Quarantined,
    saved::{PIECE_BYTES, Saved, SavedClock},
};

/// A boot of a stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Boot {
    pub(super) birth: Option<BirthRecord>,
    pub(super) clock: ClockMap,
    pub(super) seen: Seen,
    pub(super) parked: Parked,
    /// Newest receive time of anything of this boot: the least recent is forgotten first.
    pub(super) recv_ns: i64,
    /// Newest receive time of a live frame, or of the birth: historical frames wait from here.
    pub(super) live_ns: i64,
}

/// A stream of a device.
#[derive(Debug, Clone, Default)]
pub(super) struct Stream {
    pub(super) boots: BTreeMap<u64, Boot>,
    pub(super) refused: VecDeque<(u64, u64, u64, &'static str)>,
    pub(super) newest: Option<Newest>,
    /// Whether the chunks have been asked what they cover.
    learned: bool,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Core {
    pub(super) streams: BTreeMap<StreamKey, Stream>,
    pub(super) per_device: BTreeMap<DeviceId, usize>,
    /// Connections that sent another birth for a known boot.
    pub(super) impostors: BTreeSet<(ConnId, StreamKey, u64)>,
    /// Boots with parked frames in the log: their timers run.
    pub(super) waiting: BTreeSet<(StreamKey, u64)>,
    pub(super) past_ns_max: i64,
    recv_ns: i64,
    /// While recovering: what waits in quarantine, until the log and the chunks say otherwise.
    aside: BTreeMap<(StreamKey, u64, u64), Waiting>,
}

impl Core {
    /// Nothing remembered. Samples older than `past_ns_max` go to quarantine.
    pub fn new(past_ns_max: i64) -> Self {
        Self {
            streams: BTreeMap::new(),
            per_device: BTreeMap::new(),
            impostors: BTreeSet::new(),
            waiting: BTreeSet::new(),
            past_ns_max,
            recv_ns: i64::MIN,
            aside: BTreeMap::new(),
        }
    }

    /// Newest receive time in the log.
    pub fn recv_ns(&self) -> i64 {
        self.recv_ns
    }

    /// Takes note of a record of the log at `position`.
    ///
    /// # Errors
    /// `Damaged` when a state record cannot be read, or a parked frame cannot be decoded.
    pub fn fold(&mut self, position: u64, record: &WalRecord) -> Outcome<()> {
        match record {
            WalRecord::State(state) => self.fold_state(state)?,
            WalRecord::Birth(birth) => self.fold_birth(birth),
            WalRecord::Frame(frame) => self.fold_frame(position, frame)?,
            WalRecord::Settled(s) => {
                self.recv_ns = self.recv_ns.max(s.recv_ns);
                let aside = self.aside.get(&(s.stream.clone(), s.boot, s.seq)).cloned();
                let boot = self.boot(&s.stream, s.boot);
                boot.recv_ns = boot.recv_ns.max(s.recv_ns);
                boot.parked.take(s.seq);
                if let Some(waiting) = aside {
                    boot.parked.put(waiting);
                }
                boot.seen.settle(s.seq, None);
                boot.seen.locate(s.seq, position);
                self.note_waiting(&s.stream, s.boot);
            }
        }
        Ok(())
    }

    fn fold_state(&mut self, state: &StateRecord) -> Outcome<()> {
        let saved = Saved::decode(state)?;
        self.recv_ns = self.recv_ns.max(saved.recv_ns);
        for birth in &state.births {
            self.fold_birth(birth);
        }
        for clock in saved.clocks {
            let boot = self.boot(&clock.stream, clock.boot);
            for (seq, offset_ns, kind) in clock.changes {
                boot.clock.put(
                    seq,
                    Setting {
                        offset_ns,
                        clock: kind,
                    },
                );
            }
        }
        Ok(())
    }

    fn fold_birth(&mut self, record: &BirthRecord) {
        self.recv_ns = self.recv_ns.max(record.recv_ns);
        let boot = self.boot(&record.stream, record.birth.boot);
        if boot.birth.is_none() {
            boot.birth = Some(record.clone());
        }
        boot.recv_ns = boot.recv_ns.max(record.recv_ns);
        boot.live_ns = boot.live_ns.max(record.recv_ns);
    }

    fn fold_frame(&mut self, position: u64, record: &FrameRecord) -> Outcome<()> {
        self.recv_ns = self.recv_ns.max(record.recv_ns);
        let waiting = match record.place {
            Place::Parked => Some(Waiting {
                head: head_of(record)?,
                recv_ns: record.recv_ns,
                arrived_ns: record.recv_ns.saturating_add(record.offset_ns),
                body: Body::Wal(position),
            }),
            Place::Live | Place::Late => None,
        };
        if waiting.is_none() && !self.aside.is_empty() {
            self.aside
                .remove(&(record.stream.clone(), record.boot, record.seq));
        }
        let boot = self.boot(&record.stream, record.boot);
        boot.recv_ns = boot.recv_ns.max(record.recv_ns);
        boot.seen.keep(record.seq, Some(record.print));
        boot.seen.locate(record.seq, position);
        match waiting {
            Some(waiting) => {
                boot.parked.put(waiting);
            }
            None => {
                boot.parked.take(record.seq);
                let used = Setting {
                    offset_ns: record.offset_ns,
                    clock: record.clock,
                };
                boot.clock
                    .fold(record.seq, used, record.place == Place::Live);
                if record.place == Place::Live {
                    boot.live_ns = boot.live_ns.max(record.recv_ns);
                }
            }
        }
        // Nearly no frame waits, and nearly none did.
        if boot.parked.any_in_log() || !self.waiting.is_empty() {
            self.note_waiting(&record.stream, record.boot);
        }
        Ok(())
    }

    /// Takes note of a record of `quarantine/`. To be called before the log is folded: what the log says
    /// later (a released frame) wins.
    pub fn fold_quarantined(&mut self, position: u64, q: &Quarantined) {
        let Some(note) = &q.frame else { return };
        if !q.settles {
            return;
        }
        let boot = self.boot(&q.stream, note.boot);
        boot.recv_ns = boot.recv_ns.max(q.recv_ns);
        boot.seen.settle(note.seq, Some(note.print));
        // Its print goes when the log is next trimmed; that it is settled stays.
        boot.seen.locate(note.seq, 0);
        if q.waits {
            let body = Body::Quarantine(position);
            let waiting = Waiting {
                head: note.into(),
                recv_ns: q.recv_ns,
                arrived_ns: q.arrived_ns.unwrap_or(q.recv_ns),
                body,
            };
            self.aside
                .insert((q.stream.clone(), note.boot, note.seq), waiting);
        }
    }

    /// The log is read to its end: what waits in quarantine, and was not released in the log, waits on.
    /// What the log had no room to remember, the chunks say next (`learn`).
    pub fn recovered(&mut self) {
        for ((stream, boot, seq), waiting) in std::mem::take(&mut self.aside) {
            let boot = self.boot(&stream, boot);
            // Still in the log: it expired, but the log was not told before the crash. It will be again.
            if boot.parked.get(seq).is_none() {
                boot.parked.put(waiting);
            }
        }
    }

    /// Whether the chunks have yet to be asked about `stream`.
    pub fn is_new_to(&self, stream: &StreamKey) -> bool {
        !self.streams.get(stream).is_some_and(|s| s.learned)
    }

    /// Streams about which the chunks have yet to be asked.
    pub fn unlearned(&self) -> Vec<StreamKey> {
        self.streams
            .iter()
            .filter(|(_, s)| !s.learned)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// What the chunks cover of `stream`, per boot.
    pub fn learn(&mut self, stream: &StreamKey, covered: BTreeMap<u64, RangeSet>) {
        if covered.is_empty() && !self.streams.contains_key(stream) {
            // Nothing to remember yet; asking again costs little.
            return;
        }
        for (boot, seqs) in covered {
            self.cover(stream, boot, &seqs);
        }
        if let Some(s) = self.streams.get_mut(stream) {
            s.learned = true;
        }
    }

    /// Chunks hold these seqs.
    pub fn cover(&mut self, stream: &StreamKey, boot: u64, seqs: &RangeSet) {
        let boot = self.boot(stream, boot);
        boot.seen.cover(seqs);
        // What the chunks hold was released before, whatever quarantine still says.
        let released: Vec<u64> = boot.parked.seqs().filter(|seq| seqs.holds(*seq)).collect();
        for seq in released {
            boot.parked.take(seq);
        }
    }

    /// The log begins at `start` now: prints before it are dropped.
    pub fn trim(&mut self, start: u64) {
        for boot in self.streams.values_mut().flat_map(|s| s.boots.values_mut()) {
            boot.seen.trim(start);
        }
    }

    /// A commit put the newest record of this frame at `position`.
    pub fn located(&mut self, record: &WalRecord, position: u64) {
        let (stream, boot, seq, parked) = match record {
            WalRecord::Frame(f) => (&f.stream, f.boot, f.seq, f.place == Place::Parked),
            WalRecord::Settled(s) => (&s.stream, s.boot, s.seq, false),
            WalRecord::State(_) | WalRecord::Birth(_) => return,
        };
        let found = self
            .streams
            .get_mut(stream)
            .and_then(|s| s.boots.get_mut(&boot));
        let Some(boot) = found else { return };
        boot.seen.locate(seq, position);
        if parked {
            boot.parked.locate(seq, Body::Wal(position));
        }
    }

    /// A commit put this waiting frame into quarantine, at `position`.
    pub fn moved(&mut self, q: &Quarantined, position: u64) {
        let Some(note) = q.frame.as_ref().filter(|_| q.waits) else {
            return;
        };
        let found = self
            .streams
            .get_mut(&q.stream)
            .and_then(|s| s.boots.get_mut(&note.boot));
        if let Some(boot) = found {
            boot.parked.locate(note.seq, Body::Quarantine(position));
        }
        self.note_waiting(&q.stream, note.boot);
    }

    /// A connection is gone.
    pub fn gone(&mut self, conn: ConnId) {
        self.impostors.retain(|(c, _, _)| *c != conn);
    }

    /// What the `ack` topic says of a boot. The newest ranges only.
    pub fn standing(&self, stream: &StreamKey, boot: u64) -> Standing {
        let max = limits::ACK_RANGES_MAX;
        let known = self.streams.get(stream);
        let seen = known
            .and_then(|s| s.boots.get(&boot))
            .map(|b| b.seen.durable());
        let mut durable: Vec<_> = seen
            .map(|d| d.iter().rev().take(max).collect())
            .unwrap_or_default();
        durable.reverse();
        let refused = known.map(|s| {
            let of_boot = s.refused.iter().filter(|(b, ..)| *b == boot);
            of_boot
                .map(|(_, first, last, why)| (*first, *last, *why))
                .collect()
        });
        let mut boots: Vec<(i64, u64)> = known.map_or_else(Vec::new, |s| {
            let born = s.boots.values().filter_map(|b| b.birth.as_ref());
            born.map(|b| (b.recv_ns, b.birth.boot)).collect()
        });
        boots.sort_unstable();
        let skip = boots.len().saturating_sub(max);
        Standing {
            stream: stream.clone(),
            boot,
            durable,
            refused: refused.unwrap_or_default(),
            boots: boots.into_iter().skip(skip).map(|(_, boot)| boot).collect(),
        }
    }

    /// The newest live frame of a stream.
    pub fn newest(&self, stream: &StreamKey) -> Option<Newest> {
        self.streams.get(stream)?.newest
    }

    /// The state records that a new segment begins with; at least one.
    ///
    /// # Errors
    /// None in practice.
    pub fn save(&self) -> Outcome<Vec<StateRecord>> {
        let mut pieces = Vec::new();
        let mut births = Vec::new();
        let mut saved = Saved {
            recv_ns: self.recv_ns,
            clocks: Vec::new(),
        };
        let mut bytes = 0;
        for (key, stream) in &self.streams {
            for (number, boot) in &stream.boots {
                if let Some(birth) = &boot.birth {
                    births.push(birth.clone());
                    bytes += birth_bytes(&birth.birth);
                }
                if !boot.clock.is_empty() {
                    let changes: Vec<_> = boot
                        .clock
                        .changes()
                        .map(|(q, s)| (q, s.offset_ns, s.clock))
                        .collect();
                    bytes += 160 + changes.len() * 64;
                    saved.clocks.push(SavedClock {
                        stream: key.clone(),
                        boot: *number,
                        changes,
                    });
                }
                if bytes >= PIECE_BYTES {
                    let births = std::mem::take(&mut births);
                    pieces.push(StateRecord {
                        births,
                        ingest: saved.encode()?,
                    });
                    saved.clocks.clear();
                    bytes = 0;
                }
            }
        }
        pieces.push(StateRecord {
            births,
            ingest: saved.encode()?,
        });
        Ok(pieces)
    }

    pub(super) fn note_recv(&mut self, recv_ns: i64) {
        self.recv_ns = self.recv_ns.max(recv_ns);
    }

    /// The boot, made if it is new. Whoever makes one that may be one too many calls
    /// `forget_oldest_boot` first.
    pub(super) fn boot(&mut self, stream: &StreamKey, boot: u64) -> &mut Boot {
        if !self.streams.contains_key(stream) {
            *self.per_device.entry(stream.device.clone()).or_default() += 1;
        }
        let known = self.streams.entry(stream.clone()).or_default();
        known.boots.entry(boot).or_insert_with(|| Boot {
            recv_ns: i64::MIN,
            live_ns: i64::MIN,
            ..Boot::default()
        })
    }

    pub(super) fn note_waiting(&mut self, stream: &StreamKey, boot: u64) {
        let known = self.streams.get(stream).and_then(|s| s.boots.get(&boot));
        if known.is_some_and(|b| b.parked.any_in_log()) {
            self.waiting.insert((stream.clone(), boot));
        } else {
            self.waiting.remove(&(stream.clone(), boot));
        }
    }
}

fn birth_bytes(birth: &Birth) -> usize {
    let text = birth.model.len() + birth.firmware.len();
    256 + text
        + birth
            .leads
            .iter()
            .map(|l| 64 + l.name.len() + l.unit.len())
            .sum::<usize>()
}

/// The head of a parked frame, whose `historical` flag and lead count only its payload knows.
fn head_of(record: &FrameRecord) -> Outcome<Glance> {
    let frame = record.frame()?;
    Ok(Glance {
        boot: record.boot,
        seq: record.seq,
        t0_ns: record.t0_ns,
        samples: record.samples,
        leads: u32::try_from(frame.leads()).unwrap_or(u32::MAX),
        historical: frame.historical,
        clock: frame.clock,
        print: record.print,
    })
}

/// An empty payload: its bytes are read from where they lie when the record is written.
pub(super) const NO_PAYLOAD: Bytes = Bytes::new();
