//! Devices as they are: most of what they send is in order, and the rest is everything that formats.md
//! says a device may do.
//!
//! ```text
//! make (device clock) ─▶ outbox ─▶ offered ─▶ acknowledged | refused | no word: sent again, also after a crash
//!        │                 ▲
//!        └─ held back ─────┘        gaps, reorder, late, historical, split over slots, clock steps, reboots
//! ```
//!
//! The codes say where they come from: sample `k` of the frame with number `id` is `id * SAMPLES_MAX + k`
//! on the first lead, so every stored row leads back to the one frame that it may come from.

use bytes::Bytes;
use chordae_base::{
    DeviceId, Outcome, Rate, StreamKey, StreamName, limits,
    time::SECOND_NS,
    wire::{Birth, ClockKind, Frame, Lead},
};
use chordae_ingest::core::decode::Shape;

use crate::dice::Dice;

/// Samples of one frame are fewer.
pub(crate) const SAMPLES_MAX: i32 = 64;
/// Numbers of frames are below this, so that every code fits.
pub(crate) const IDS_MAX: u32 = 1 << 24;

/// What became of something that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// No word yet, or one that says: again.
    Open,
    /// Acknowledged: from here on it is ours.
    Acked,
    /// Refused for good.
    Refused,
}

/// Something that a device sends, perhaps many times.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// Its number: the place in [`Fleet::items`].
    pub(crate) id: u32,
    /// Which stream of the fleet.
    pub(crate) stream: usize,
    /// What it is.
    pub(crate) what: What,
    /// As sent.
    pub(crate) payload: Bytes,
    /// How it is encoded.
    pub(crate) shape: Shape,
    /// What became of it.
    pub(crate) fate: Fate,
    /// Wall clock of the server at each offer.
    pub(crate) offered_ns: Vec<i64>,
    /// An acknowledgement means rows in a chunk, in the end; of others it may mean the quarantine.
    pub(crate) plain: bool,
    /// It begins a moment before the end of the frame before it: the clock was set back a little.
    pub(crate) jolted: bool,
    /// Whether its sender can hear a refusal.
    pub(crate) can_be_told: bool,
}

/// See [`Item::what`].
#[derive(Debug, Clone)]
pub(crate) enum What {
    /// First message of a boot.
    Birth(Birth),
    /// Samples, of the rate of their boot.
    Frame(Frame, Rate),
    /// Neither.
    Junk,
}

/// A stream of a device.
pub(crate) struct Stream {
    /// Its name.
    pub(crate) key: StreamKey,
    boot: u64,
    rate: Rate,
    leads: u32,
    samples: u32,
    clock: ClockKind,
    seq: u64,
    /// Device clock minus true time.
    skew_ns: i64,
    /// Device clock at the next sample.
    next_ns: i64,
    /// Births of the boot are held back until then.
    birth_ns: i64,
    /// Made and not yet due, with the time when it is.
    held: Vec<(i64, u32)>,
    /// To be offered.
    outbox: Vec<u32>,
    /// Offered, without word.
    pending: Vec<u32>,
    /// Frames of other content under a number that is taken, waiting for the original's fate.
    clashes: Vec<(u32, u32)>,
    /// Whether its clock has stepped in this boot.
    stepped: bool,
    /// Whether it has since the newest frame, by less than jitter may be.
    jolted: bool,
}

/// How wild the devices of a seed are: one in so many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manners {
    /// Frames that are never sent.
    pub(crate) gap: u64,
    /// Frames held back a moment, so that later ones overtake them.
    pub(crate) reorder: u64,
    /// Frames held back for minutes.
    pub(crate) late: u64,
    /// Frames sent twice.
    pub(crate) twice: u64,
    /// Another content under a number that was sent.
    pub(crate) clash: u64,
    /// Steps of the device's clock.
    pub(crate) step: u64,
    /// New boots.
    pub(crate) reboot: u64,
    /// Births of another content for a known boot.
    pub(crate) reuse: u64,
    /// Payloads that are nothing.
    pub(crate) junk: u64,
}

impl Manners {
    /// Chosen by the dice: some seeds are calm, so that a simple violation shows in a simple run.
    pub(crate) fn chosen(dice: &mut Dice) -> Self {
        let calm = u64::MAX;
        let mut some = |often: u64| if dice.one_in(2) { often } else { calm };
        Self {
            gap: some(15),
            reorder: some(6),
            late: some(20),
            twice: some(6),
            clash: some(25),
            step: some(40),
            reboot: some(40),
            reuse: some(60),
            junk: some(30),
        }
    }
}

/// All devices.
pub(crate) struct Fleet {
    /// Everything ever sent or held back, by number.
    pub(crate) items: Vec<Item>,
    /// The streams.
    pub(crate) streams: Vec<Stream>,
    manners: Manners,
    dice: Dice,
    /// Nothing more is measured.
    over: bool,
}

const KINDS: [ClockKind; 3] = [
    ClockKind::Synced,
    ClockKind::FreeRunning,
    ClockKind::Unknown,
];
const RATES: [u32; 3] = [10, 20, 50];

impl Fleet {
    /// A fleet of some streams that begins to measure at `now_ns`.
    ///
    /// # Errors
    /// None in practice: the names are good.
    pub(crate) fn new(mut dice: Dice, streams: usize, now_ns: i64) -> Outcome<Self> {
        let manners = Manners::chosen(&mut dice);
        let mut fleet = Self {
            items: Vec::new(),
            streams: Vec::new(),
            manners,
            dice,
            over: false,
        };
        for n in 0..streams {
            let stream = fleet.stream(n, now_ns)?;
            fleet.streams.push(stream);
            fleet.boot(n, now_ns)?;
        }
        Ok(fleet)
    }

    fn stream(&mut self, n: usize, now_ns: i64) -> Outcome<Stream> {
        // Two streams of the first device, then one each.
        let (device, name) = if n == 1 { (0, "pulse") } else { (n, "ecg") };
        let clock = match self.dice.one_in(3) {
            true => self.dice.pick(&KINDS).unwrap_or(ClockKind::Synced),
            false => ClockKind::Synced,
        };
        let skew_ns = match clock {
            ClockKind::Synced => 0,
            _ => (self.dice.below(200_000) as i64 - 100_000) * 1_000_000,
        };
        Ok(Stream {
            key: StreamKey {
                device: DeviceId::new(format!("bed-{device}"))?,
                stream: StreamName::new(name)?,
            },
            boot: 1 + self.dice.below(1000),
            rate: Rate::new(10, 1)?,
            leads: 1,
            samples: 10,
            clock,
            seq: 0,
            skew_ns,
            next_ns: now_ns.saturating_add(skew_ns),
            birth_ns: now_ns,
            held: Vec::new(),
            outbox: Vec::new(),
            pending: Vec::new(),
            clashes: Vec::new(),
            stepped: false,
            jolted: false,
        })
    }

    /// A new boot of a stream: other settings, a birth, seq 0.
    fn boot(&mut self, n: usize, now_ns: i64) -> Outcome<()> {
        let hz = self.dice.pick(&RATES).unwrap_or(10);
        let rate = Rate::new(hz, 1)?;
        let leads = 1 + self.dice.below(2) as u32;
        let seconds = if hz == 50 {
            1
        } else {
            1 + self.dice.below(3) as u32
        };
        let wait = match self.dice.one_in(6) {
            true => self.dice.below(5_000) as i64 * 1_000_000,
            false => 0,
        };
        let Some(stream) = self.streams.get_mut(n) else {
            return Ok(());
        };
        stream.boot += 1;
        stream.seq = 0;
        stream.stepped = false;
        (stream.rate, stream.leads) = (rate, leads);
        stream.samples = (hz * seconds).min(SAMPLES_MAX as u32 - 1);
        stream.next_ns = now_ns.saturating_add(stream.skew_ns);
        stream.birth_ns = now_ns.saturating_add(wait);
        let birth = birth(stream, "1.0");
        let due = stream.birth_ns;
        let id = self.item(
            n,
            What::Birth(birth.clone()),
            birth.encode().into(),
            Shape::Birth,
        );
        self.hold(n, due, id);
        Ok(())
    }

    fn item(&mut self, stream: usize, what: What, payload: Bytes, shape: Shape) -> u32 {
        let can_be_told = self.dice.one_in(2);
        let id = u32::try_from(self.items.len()).unwrap_or(IDS_MAX);
        self.items.push(Item {
            id,
            stream,
            what,
            payload,
            shape,
            fate: Fate::Open,
            offered_ns: Vec::new(),
            plain: true,
            jolted: false,
            can_be_told,
        });
        id
    }

    fn hold(&mut self, n: usize, due: i64, id: u32) {
        if let Some(stream) = self.streams.get_mut(n) {
            stream.held.push((due, id));
        }
    }

    /// The devices measure up to the true time `now_ns`, and make what they have to say due.
    ///
    /// # Errors
    /// None in practice.
    pub(crate) fn measure(&mut self, now_ns: i64) -> Outcome<()> {
        if self.over {
            return Ok(());
        }
        for n in 0..self.streams.len() {
            self.mishap(n, now_ns)?;
            while let Some((frame, rate)) = self.next_frame(n, now_ns)? {
                self.send(n, frame, rate, now_ns);
            }
            let Some(stream) = self.streams.get_mut(n) else {
                continue;
            };
            let due = stream.held.iter().filter(|(at, _)| *at <= now_ns);
            stream.outbox.extend(due.map(|(_, id)| *id));
            stream.held.retain(|(at, _)| *at > now_ns);
        }
        Ok(())
    }

    /// The power is off at the bedside: what would have been measured is not.
    pub(crate) fn silence(&mut self, until_ns: i64) {
        for stream in &mut self.streams {
            stream.next_ns = until_ns.saturating_add(stream.skew_ns);
        }
    }

    /// Boots, steps, junk.
    fn mishap(&mut self, n: usize, now_ns: i64) -> Outcome<()> {
        let manners = self.manners;
        if self.dice.one_in(manners.reboot) {
            self.boot(n, now_ns)?;
        }
        let hours = self.dice.below(7_200_000) as i64 - 3_600_000;
        if self.dice.one_in(manners.step) {
            // Hours, seconds, or no more than jitter.
            let scale = self.dice.pick(&[1, 600, 60_000]).unwrap_or(1);
            if let Some(stream) = self.streams.get_mut(n) {
                let step = 1_000_000 * (hours / scale);
                stream.skew_ns = stream.skew_ns.saturating_add(step);
                stream.jolted |= step.abs() <= limits::JITTER_NS_MAX;
                stream.next_ns = stream.next_ns.saturating_add(step);
            }
            self.stepped(n);
        }
        if self.dice.one_in(manners.junk) {
            let mut junk = vec![0xff];
            junk.extend_from_slice(&self.dice.next().to_be_bytes());
            let shape = if self.dice.one_in(2) {
                Shape::Frame
            } else {
                Shape::BirthJson
            };
            let id = self.item(n, What::Junk, junk.into(), shape);
            self.hold(n, now_ns, id);
        }
        if self.dice.one_in(manners.reuse)
            && let Some(other) = self.streams.get(n).map(|s| birth(s, "other"))
        {
            let id = self.item(
                n,
                What::Birth(other.clone()),
                other.encode().into(),
                Shape::Birth,
            );
            self.set(id, |item| item.plain = false);
            self.hold(n, now_ns.saturating_add(10 * SECOND_NS), id);
        }
        Ok(())
    }

    /// A clock that is not synced has stepped: whether frames of this boot that were held back map to a time
    /// that is taken depends on which of them arrives first.
    fn stepped(&mut self, n: usize) {
        let Some(stream) = self.streams.get_mut(n) else {
            return;
        };
        stream.stepped = true;
        for item in self.items.iter_mut().filter(|item| item.stream == n) {
            if let What::Frame(frame, _) = &item.what
                && frame.clock != ClockKind::Synced
            {
                item.plain = false;
            }
        }
    }

    /// The server's clock was set: offsets taken before are now wrong by as much.
    pub(crate) fn server_jumped(&mut self) {
        for n in 0..self.streams.len() {
            self.stepped(n);
        }
    }

    /// The next frame of a stream, once its last sample is measured.
    fn next_frame(&mut self, n: usize, now_ns: i64) -> Outcome<Option<(Frame, Rate)>> {
        let id = u32::try_from(self.items.len()).unwrap_or(IDS_MAX);
        let Some(stream) = self.streams.get_mut(n).filter(|_| id < IDS_MAX) else {
            return Ok(None);
        };
        let span = stream.rate.after_ns(stream.samples.into())?;
        let end = stream.next_ns.saturating_add(span);
        if end > now_ns.saturating_add(stream.skew_ns) {
            return Ok(None);
        }
        let frame = Frame {
            boot: stream.boot,
            seq: stream.seq,
            t0_ns: stream.next_ns,
            samples: stream.samples,
            codes: codes(id, stream.samples, stream.leads),
            historical: false,
            clock: stream.clock,
        };
        stream.next_ns = end;
        stream.seq += 1;
        Ok(Some((frame, stream.rate)))
    }

    fn send(&mut self, n: usize, frame: Frame, rate: Rate, now_ns: i64) {
        let manners = self.manners;
        let mut frame = frame;
        let mut due = now_ns;
        if self.dice.one_in(manners.reorder) {
            due += self.dice.below(4_000) as i64 * 1_000_000;
        }
        if self.dice.one_in(manners.late) {
            due += self.dice.between(5, 900) as i64 * SECOND_NS;
            frame.historical = self.dice.one_in(2);
        }
        let gap = self.dice.one_in(manners.gap);
        let clash = self.dice.one_in(manners.clash);
        let vague =
            frame.clock != ClockKind::Synced && self.streams.get(n).is_some_and(|s| s.stepped);
        let id = self.item(
            n,
            What::Frame(frame.clone(), rate),
            encode(&frame),
            Shape::Frame,
        );
        let jolted = self
            .streams
            .get_mut(n)
            .is_some_and(|s| std::mem::take(&mut s.jolted));
        self.set(id, |item| (item.plain, item.jolted) = (!vague, jolted));
        if !gap {
            self.hold(n, due, id);
        }
        if !gap && self.dice.one_in(manners.twice) {
            let again = due + self.dice.below(20) as i64 * SECOND_NS;
            self.hold(n, again, id);
        }
        if !gap && clash {
            let leads = frame.leads() as u32;
            let other = u32::try_from(self.items.len()).unwrap_or(IDS_MAX);
            frame.codes = codes(other, frame.samples, leads);
            let other = self.item(
                n,
                What::Frame(frame.clone(), rate),
                encode(&frame),
                Shape::Frame,
            );
            self.set(other, |item| (item.plain, item.jolted) = (false, jolted));
            if let Some(stream) = self.streams.get_mut(n) {
                stream.clashes.push((id, other));
            }
        }
    }

    fn set(&mut self, id: u32, change: impl FnOnce(&mut Item)) {
        if let Some(item) = self.items.get_mut(id as usize) {
            change(item);
        }
    }

    /// What a device offers now: what is due, in almost that order.
    pub(crate) fn offers(&mut self, n: usize) -> Vec<u32> {
        let Some(stream) = self.streams.get_mut(n) else {
            return Vec::new();
        };
        let items = &self.items;
        let acked = |id: &u32| items.get(*id as usize).map(|i| i.fate) == Some(Fate::Acked);
        // Only an original that is ours can be clashed with.
        let ready: Vec<u32> = stream
            .clashes
            .iter()
            .filter(|(first, _)| acked(first))
            .map(|(_, other)| *other)
            .collect();
        stream.clashes.retain(|(first, _)| !acked(first));
        let mut out = std::mem::take(&mut stream.outbox);
        out.extend(ready);
        stream.pending.extend(&out);
        out
    }

    /// Something was offered.
    pub(crate) fn offered(&mut self, id: u32, wall_ns: i64) {
        self.set(id, |item| item.offered_ns.push(wall_ns));
    }

    /// A word about something.
    pub(crate) fn told(&mut self, id: u32, fate: Fate) {
        let Some(item) = self.items.get_mut(id as usize) else {
            return;
        };
        // An acknowledgement is not taken back by what becomes of a second offer.
        if item.fate != Fate::Acked {
            item.fate = fate;
        }
        let n = item.stream;
        if fate != Fate::Open
            && let Some(stream) = self.streams.get_mut(n)
        {
            stream.pending.retain(|waits| *waits != id);
        }
    }

    /// What has had no word is sent again, oldest first; after a crash, or after a while.
    pub(crate) fn again(&mut self) {
        for stream in &mut self.streams {
            let mut pending = std::mem::take(&mut stream.pending);
            pending.sort_unstable();
            pending.dedup();
            pending.append(&mut stream.outbox);
            stream.outbox = pending;
        }
    }

    /// Everything held back is due and nothing more is measured: the end of the story.
    pub(crate) fn release(&mut self) {
        self.over = true;
        for stream in &mut self.streams {
            stream.held.sort_unstable();
            let due: Vec<u32> = stream.held.drain(..).map(|(_, id)| id).collect();
            stream.outbox.extend(due);
        }
    }

    /// Whether everything sent has had its last word.
    pub(crate) fn is_done(&self) -> bool {
        self.streams
            .iter()
            .all(|s| s.pending.is_empty() && s.outbox.is_empty() && s.clashes.is_empty())
    }
}

fn birth(stream: &Stream, firmware: &str) -> Birth {
    let names = ["I", "II"].into_iter().take(stream.leads as usize);
    Birth {
        boot: stream.boot,
        rate: stream.rate,
        leads: names
            .map(|name| Lead {
                name: name.to_owned(),
                mdc: 0,
                gain: 200.0,
                baseline: 0,
                unit: "mV".to_owned(),
                bits: 31,
            })
            .collect(),
        model: "world".to_owned(),
        firmware: firmware.to_owned(),
        clock: stream.clock,
    }
}

fn codes(id: u32, samples: u32, leads: u32) -> Vec<i32> {
    let first = id as i32 * SAMPLES_MAX;
    let one = (0..samples as i32).map(|k| first + k);
    let two = (0..samples as i32).map(|k| -(first + k));
    one.chain(two).take((samples * leads) as usize).collect()
}

fn encode(frame: &Frame) -> Bytes {
    frame.encode().into()
}
