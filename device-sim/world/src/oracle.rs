//! What must be true, whatever happened.
//!
//! ```text
//! after each death, on the disk as it is      acknowledged ⊆ stored (log, chunks, quarantine) ⊆ sent,
//!                                             links and chunks verify, nothing twice, times by the rules,
//!                                             no row of one patient in a did of another
//! at the end, after an orderly stop           and: every plain frame that was acknowledged is in chunks,
//!                                             whole; the checker finds nothing and everything is anchored
//! ```

use std::{collections::BTreeMap, path::Path};

use chordae_base::{limits, seams::Disk, wire::ClockKind};
use chordae_chain::trust::TrustFile;
use chordae_checker::Verdict;

use crate::{
    fleet::{Fate, Fleet, Item, SAMPLES_MAX, What},
    stored::{Chunk, Stored},
    wards::Wards,
};

/// The house's receive time may run ahead of a wall clock that was set back, by less than this.
const DAY_NS: i64 = 86_400_000_000_000;

/// What was found wrong, one line each.
pub type Wrong = Vec<String>;

/// Counts for the scorecard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames, births and others that were acknowledged.
    pub acknowledged: u64,
    /// Frames with rows in chunks.
    pub stored: u64,
    /// Acknowledged, and nowhere.
    pub lost: u64,
    /// Rows that are stored twice.
    pub duplicate: u64,
    /// Rows that nobody sent.
    pub phantom: u64,
}

impl Counts {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.stored += other.stored;
        self.lost += other.lost;
        self.duplicate += other.duplicate;
        self.phantom += other.phantom;
    }
}

/// Rows of one frame, by sample, with the chunk they lie in.
type Found<'s> = BTreeMap<u32, BTreeMap<u32, (&'s Chunk, i64)>>;

/// Looks at a folder.
pub(crate) struct Oracle<'a> {
    /// Whoever sent what is there.
    pub(crate) fleet: &'a Fleet,
    /// Whose it is.
    pub(crate) wards: &'a Wards,
    /// All that is wrong.
    pub(crate) wrong: Wrong,
    /// Counts.
    pub(crate) counts: Counts,
}

impl<'a> Oracle<'a> {
    /// Has seen nothing yet.
    pub(crate) fn new(fleet: &'a Fleet, wards: &'a Wards) -> Self {
        Self {
            fleet,
            wards,
            wrong: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// After a death: on the disk as it is now.
    pub(crate) fn look(&mut self, disk: &dyn Disk, root: &Path, last: bool) {
        let stored = match Stored::read(disk, root) {
            Ok(stored) => stored,
            Err(failure) => return self.wrong.push(format!("the folder: {failure}")),
        };
        let found = self.rows(&stored);
        self.counts.stored = found.len() as u64;
        for item in &self.fleet.items {
            match item.fate {
                Fate::Acked => self.kept(item, &stored, &found, last),
                Fate::Refused if found.contains_key(&item.id) => {
                    self.wrong
                        .push(format!("{} was refused and is stored", name(item)));
                }
                Fate::Refused | Fate::Open => {}
            }
        }
        self.one_content_each(&found);
        for chunk in &stored.chunks {
            self.gaps_are_told(chunk);
        }
    }

    /// The checker, which shares no code with what wrote the folder.
    pub(crate) fn check(&mut self, disk: &dyn Disk, root: &Path, trust: &TrustFile) {
        match chordae_checker::check_folder(disk, root, Some(trust), &mut |_| ()) {
            Ok(report) if report.verdict == Verdict::Ok => {}
            Ok(report) => {
                let all = report.findings.iter();
                let lines = all.map(|f| format!("{}: {} {}", f.object, f.code, f.detail));
                let lines: Vec<String> = lines.collect();
                let streams = report.streams.iter().filter(|s| s.verdict != Verdict::Ok);
                let open: Vec<String> = streams.map(|s| format!("{s:?}")).collect();
                self.wrong.push(format!(
                    "the checker says {:?}: {} {}",
                    report.verdict,
                    lines.join("; "),
                    open.join("; ")
                ));
            }
            Err(failure) => self.wrong.push(format!("the checker: {failure}")),
        }
    }

    /// Every row leads back to one sample of one frame that was offered, is where it belongs, once.
    fn rows<'s>(&mut self, stored: &'s Stored) -> Found<'s> {
        let mut found = Found::new();
        for chunk in &stored.chunks {
            for (at, (time, code)) in chunk.times.iter().zip(&chunk.codes).enumerate() {
                let (id, k) = (code.div_euclid(SAMPLES_MAX), code.rem_euclid(SAMPLES_MAX));
                let (id, k) = (id as u32, k as u32);
                let Some(item) = self.fleet.items.get(id as usize) else {
                    self.counts.phantom += 1;
                    continue;
                };
                let second = chunk
                    .second
                    .as_ref()
                    .is_some_and(|s| s.get(at) != Some(&-code));
                if second || !self.belongs(item, k, *time, chunk) {
                    self.counts.phantom += 1;
                    self.wrong.push(format!(
                        "row {at} of chunk {} of {}: sample {k} of {} at {time}",
                        chunk.link.index,
                        chunk.link.did,
                        name(item)
                    ));
                }
                if found
                    .entry(id)
                    .or_default()
                    .insert(k, (chunk, *time))
                    .is_some()
                {
                    self.counts.duplicate += 1;
                    self.wrong
                        .push(format!("sample {k} of {} is stored twice", name(item)));
                }
            }
        }
        if self.counts.phantom > 0 {
            self.wrong
                .push(format!("{} rows that nobody sent so", self.counts.phantom));
        }
        found
    }

    /// Whether a row is this sample of this frame, under the rules of formats.md 2 and 3.
    fn belongs(&self, item: &Item, k: u32, time: i64, chunk: &Chunk) -> bool {
        let What::Frame(frame, rate) = &item.what else {
            return false;
        };
        let meta = &chunk.meta;
        let Ok(after) = rate.after_ns(k.into()) else {
            return false;
        };
        let synced = frame.clock == ClockKind::Synced;
        let offset = meta.clock.offset_ns;
        let mapped = frame.t0_ns.saturating_add(after).saturating_add(offset);
        // Frames that overlap by jitter are spread.
        let near = mapped.abs_diff(time) <= limits::JITTER_NS_MAX.unsigned_abs();
        let exact = mapped == time || (near && (!synced || item.jolted));
        let slot = meta.slot_start_ns..meta.slot_start_ns.saturating_add(meta.slot_len_ns);
        !item.offered_ns.is_empty()
            && self.wards.holds(&chunk.link.did, item.stream, time)
            && k < frame.samples
            && exact
            && (!synced || offset == 0)
            && meta.clock.quality == frame.clock
            && slot.contains(&time)
            && meta.boot == frame.boot
            && meta.rate == *rate
            && meta.covered().holds(frame.seq)
            && meta.leads.len() == frame.leads()
    }

    /// What was acknowledged is there.
    fn kept(&mut self, item: &Item, stored: &Stored, found: &Found<'_>, last: bool) {
        self.counts.acknowledged += 1;
        let rows = found.get(&item.id).map_or(0, BTreeMap::len);
        let (whole, waits) = match &item.what {
            What::Frame(frame, _) => (
                rows == frame.samples as usize,
                stored.wal.contains(&item.payload),
            ),
            What::Birth(birth) => (self.birth_is_known(birth.boot, item, stored), false),
            What::Junk => (false, false),
        };
        let aside = stored.aside.contains(&item.payload);
        if !(whole || waits || aside) {
            self.counts.lost += 1;
            self.wrong.push(format!(
                "{} was acknowledged and is lost ({rows} rows)",
                name(item)
            ));
        } else if last && !whole && self.is_plain(item) {
            let place = if aside { "in quarantine" } else { "in the log" };
            let offered = &item.offered_ns;
            self.wrong.push(format!(
                "{} was acknowledged and ended {place}, offered at {offered:?}",
                name(item)
            ));
        }
    }

    /// Whether formats.md puts it into a chunk, whatever else happened: its time was within bounds at every
    /// offer of it, and of what it may have waited for: its birth, and where an offset is needed any frame.
    fn is_plain(&self, item: &Item) -> bool {
        let What::Frame(frame, rate) = &item.what else {
            return false;
        };
        let Ok(end_ns) = frame.end_ns(*rate) else {
            return false;
        };
        // The clock of a device that is not synced is off by less than this (more once it has stepped).
        let off_ns = match frame.clock {
            ClockKind::Synced => 0,
            ClockKind::FreeRunning | ClockKind::Unknown => 200_000_000_000,
        };
        let near = |now: &i64| {
            let past = now.saturating_sub(limits::PAST_NS_MAX - DAY_NS);
            let future = now.saturating_add(limits::FUTURE_NS_MAX - off_ns);
            frame.t0_ns >= past && end_ns <= future
        };
        let waited_for = |other: &&Item| match &other.what {
            What::Birth(birth) => birth.boot == frame.boot,
            What::Frame(other, _) => frame.clock != ClockKind::Synced && other.boot == frame.boot,
            What::Junk => false,
        };
        let same_stream = self
            .fleet
            .items
            .iter()
            .filter(|other| other.stream == item.stream);
        let mut others = same_stream.filter(waited_for);
        let in_time = |item: &Item| item.offered_ns.iter().all(near);
        item.plain && in_time(item) && others.all(in_time)
    }

    /// A birth stays known, at least through the chunks of its boot.
    fn birth_is_known(&self, boot: u64, item: &Item, stored: &Stored) -> bool {
        let in_chunks = || stored.chunks.iter().any(|c| c.meta.boot == boot);
        stored.births.contains(item.payload.as_ref()) || in_chunks()
    }

    /// Of two contents under one number only one has rows.
    fn one_content_each(&mut self, found: &Found<'_>) {
        let mut taken: BTreeMap<(usize, u64, u64), u32> = BTreeMap::new();
        for id in found.keys() {
            let Some(item) = self.fleet.items.get(*id as usize) else {
                continue;
            };
            let What::Frame(frame, _) = &item.what else {
                continue;
            };
            let number = (item.stream, frame.boot, frame.seq);
            if let Some(other) = taken.insert(number, *id) {
                self.wrong.push(format!(
                    "frames {other} and {id} are both stored as {number:?}"
                ));
            }
        }
    }

    /// A chunk says which numbers inside its range have no row in it.
    fn gaps_are_told(&mut self, chunk: &Chunk) {
        let mut seqs = chordae_base::RangeSet::new();
        for code in &chunk.codes {
            let id = code.div_euclid(SAMPLES_MAX) as usize;
            if let Some(What::Frame(frame, _)) = self.fleet.items.get(id).map(|i| &i.what) {
                seqs.insert(frame.seq);
            }
        }
        if chunk.meta.covered() != seqs {
            self.wrong.push(format!(
                "chunk {} of {} says seqs {:?} without {:?}, and holds {seqs:?}",
                chunk.link.index, chunk.link.did, chunk.meta.seq, chunk.meta.missing
            ));
        }
    }
}

/// How an item is called in a finding.
fn name(item: &Item) -> String {
    match &item.what {
        What::Birth(b) => format!(
            "birth {} (stream {}, boot {})",
            item.id, item.stream, b.boot
        ),
        What::Frame(f, _) => format!(
            "frame {} (stream {}, boot {}, seq {}, t0 {})",
            item.id, item.stream, f.boot, f.seq, f.t0_ns
        ),
        What::Junk => format!("junk {} (stream {})", item.id, item.stream),
    }
}
