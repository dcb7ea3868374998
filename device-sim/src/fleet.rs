//! A fleet: so many devices with one source, started together, watched, stopped.

use std::{path::PathBuf, sync::Arc};

use chordae_base::{
    DeviceId, Failure, Outcome, StreamKey, StreamName, limits,
    seams::{Clock, Entropy},
    time::SECOND_NS,
    wire::ClockKind,
};
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
};

use crate::{
    acked::AckedList,
    credentials::Credentials,
    device::{Common, Device},
    dice::{Dice, draw},
    encoding::Encoding,
    faults::{Faults, Misfortune},
    link::{Dial, Endpoint, Mqtt, Protocol},
    maker::Workshop,
    report::{DeviceReport, Report},
    source::{Loop, Source, Stock},
    state::{Memory, State},
    tally::{Stats, Tally},
    timetable::{Pace, Timetable, samples_in},
};

/// How much history a synthetic fleet without a length has to send: the server takes 30 days.
const HISTORY_NS: i64 = 7 * 86_400 * SECOND_NS;
/// Devices connect one after the other by this: two thousand at once would wait for each other's
/// handshakes until all of them gave up.
const RAMP_NS: u64 = 2_000_000;
/// Longest wait before connecting again: of a few devices, which are to be back within two seconds after the
/// door is; of so many that they would keep a door from coming up.
const BACKOFF_NS: (u64, u64) = (1_000_000_000, 5_000_000_000);
/// Frames of a loop.
const LOOP_FRAMES: usize = 60;

/// What a fleet is and does.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The door.
    pub endpoint: Endpoint,
    /// For TLS.
    pub credentials: Option<Credentials>,
    /// The devices; each id once.
    pub devices: Vec<DeviceId>,
    /// The name of the one stream of each.
    pub stream: StreamName,
    /// What they send.
    pub source: Source,
    /// Length of a frame.
    pub frame_ns: i64,
    /// How fast.
    pub pace: Pace,
    /// Length of the stream in its own time; `None`: the record's, or without end.
    pub length_ns: Option<i64>,
    /// What the devices' clocks are.
    pub clock: ClockKind,
    /// What goes wrong.
    pub faults: Faults,
    /// Frames of one device in flight.
    pub burst: usize,
    /// A connection on which a packet waits longer than this for its acknowledgement is given up.
    pub ack_wait_ns: u64,
    /// Version of MQTT.
    pub mqtt: Mqtt,
    /// QoS of births and frames: 0, 1 or 2; MQTT only.
    pub qos: u8,
    /// How births and frames are encoded.
    pub encoding: Encoding,
    /// The fsynced list of acknowledged frames.
    pub acked: Option<PathBuf>,
    /// What is owed survives a crash in this file.
    pub state: Option<PathBuf>,
    /// Governs synthesis and faults, never boots; drawn if not given.
    pub seed: Option<u64>,
    /// The boot number of each device; drawn if not given, as it should be.
    pub boot: Option<u64>,
    /// The number of a boot's first frame; 0, as it should be.
    pub first_seq: u64,
    /// True time of the first sample; else now, or so long ago as the history that is sent.
    pub start_ns: Option<i64>,
    /// The devices' clocks are set wrong by this.
    pub skew_ns: i64,
    /// The devices have been recording for so long, without a network, when they start.
    pub away_ns: i64,
    /// All devices send the same frames over and over, encoded once: for thousands of devices.
    pub precomputed: bool,
    /// How long a device that makes no more frames, or waits for room to, waits for the next
    /// acknowledgement; `u64::MAX` for ever.
    pub patience_ns: u64,
}

impl Config {
    /// One-second frames of synthetic twelve-lead ECG at 500 Hz in real time, clocks synced.
    ///
    /// # Errors
    /// None in practice: the fixed rate and name are valid.
    pub fn new(endpoint: Endpoint, devices: Vec<DeviceId>) -> Outcome<Self> {
        Ok(Self {
            endpoint,
            credentials: None,
            devices,
            stream: StreamName::new("ecg")?,
            source: Source::Synthetic {
                leads: 12,
                rate: chordae_base::Rate::new(500, 1)?,
            },
            frame_ns: SECOND_NS,
            pace: Pace::Speed(1.0),
            length_ns: None,
            clock: ClockKind::Synced,
            faults: Faults::default(),
            burst: 16,
            ack_wait_ns: 20 * SECOND_NS.unsigned_abs(),
            mqtt: Mqtt::V5,
            qos: 1,
            encoding: Encoding::Deltas,
            acked: None,
            state: None,
            seed: None,
            boot: None,
            first_seq: 0,
            start_ns: None,
            skew_ns: 0,
            away_ns: 0,
            precomputed: false,
            patience_ns: 10 * SECOND_NS.unsigned_abs(),
        })
    }

    /// Whether it can be run at all; [`Fleet::start`] asks too.
    ///
    /// # Errors
    /// `BadInput` naming what is out of bounds.
    pub fn check(&self) -> Outcome<()> {
        let bad = |why: String| Err(Failure::bad_input(why));
        if self.devices.is_empty() || self.devices.len() > limits::SIM_DEVICES_MAX {
            let n = self.devices.len();
            return bad(format!(
                "{n} devices; 1 to {} can be run",
                limits::SIM_DEVICES_MAX
            ));
        }
        let ids: std::collections::BTreeSet<_> = self.devices.iter().collect();
        if ids.len() != self.devices.len() {
            return bad("a device id is given twice".into());
        }
        if self.burst == 0 || self.burst > limits::SIM_INFLIGHT_MAX {
            let n = self.burst;
            return bad(format!(
                "{n} in flight; 1 to {} fit",
                limits::SIM_INFLIGHT_MAX
            ));
        }
        if let Pace::Speed(by) = self.pace
            && !(by.is_finite() && by > 0.0)
        {
            return bad(format!("speed {by} is not a positive number"));
        }
        if self.endpoint.tls != self.credentials.is_some() {
            return bad(if self.endpoint.tls {
                "TLS needs the authority, a certificate and its key".into()
            } else {
                "certificates are given, but the address is not one of TLS (mqtts://)".into()
            });
        }
        if self.length_ns.is_some_and(|ns| ns <= 0) {
            return bad("the stream's length must be more than 0".into());
        }
        if self.qos > 2 {
            return bad(format!("QoS {}: 0, 1 or 2", self.qos));
        }
        let zmq = self.endpoint.protocol == Protocol::Zmq;
        if zmq && self.encoding == Encoding::Json {
            return bad("ZeroMQ has no JSON twins; encode as deltas, i16le or mixed".into());
        }
        if self.away_ns < 0 || (self.away_ns > 0 && !self.pace.is_live()) {
            return bad("only a live device can have been away".into());
        }
        Ok(())
    }

    fn encoding(&self) -> Encoding {
        match self.faults.encodings {
            true => Encoding::Mixed,
            false => self.encoding,
        }
    }

    /// How long a device that goes away stays away, on our clock.
    fn pause_ns(&self) -> u64 {
        match self.pace {
            Pace::Speed(by) => (self.faults.pause_ns as f64 / by) as u64,
            Pace::Max => 0,
        }
    }

    fn dial(&self, device: &DeviceId) -> Outcome<Dial> {
        let tls = self.credentials.as_ref();
        Ok(Dial {
            endpoint: self.endpoint.clone(),
            tls: tls.map(|files| files.config(device)).transpose()?,
            key: StreamKey {
                device: device.clone(),
                stream: self.stream.clone(),
            },
            mqtt: self.mqtt,
            qos: self.qos,
        })
    }

    fn looped(&self, stock: &Stock, seed: u64) -> Outcome<Option<Arc<Loop>>> {
        if !self.precomputed {
            return Ok(None);
        }
        let leads = stock.feed(seed, None)?.1.len();
        let table = Timetable::new(stock.rate(), self.frame_ns, leads, 0, self.pace)?;
        let looped = Loop::record(stock, seed, table.per_frame(), LOOP_FRAMES)?;
        Ok(Some(Arc::new(looped)))
    }

    fn remembered(&self) -> Outcome<(Option<Arc<State>>, Memory)> {
        let Some(path) = self.state.as_deref() else {
            return Ok((None, Memory::new()));
        };
        let (state, memory) = State::open(path, self.acked.as_deref())?;
        Ok((Some(Arc::new(state)), memory))
    }

    /// Samples to send and the history they cover; live streams have none.
    fn extent(&self, stock: &Stock) -> Outcome<(Option<u64>, i64)> {
        let rate = stock.rate();
        let length = match (self.pace, self.length_ns) {
            (Pace::Max, None) if stock.samples().is_none() => Some(HISTORY_NS),
            (_, length) => length,
        };
        let asked = length.map(|ns| samples_in(ns, rate).max(1));
        let samples = match (asked, stock.samples()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let history = match (self.pace.is_live(), samples) {
            (true, _) => 0,
            (false, Some(n)) => rate.after_ns(n)?,
            (false, None) => {
                return Err(Failure::bad_input(
                    "synthetic ECG at another speed than 1 is sent as history: say how much",
                ));
            }
        };
        Ok((samples, history))
    }
}

/// Starts fleets.
pub struct Fleet;

impl Fleet {
    /// Starts the devices; inside a tokio runtime. Reads the record and the certificates first.
    ///
    /// # Errors
    /// What makes the configuration impossible. A server that is not there is none: devices try
    /// until it is.
    pub fn start(
        config: Config,
        clock: Arc<dyn Clock>,
        entropy: &dyn Entropy,
    ) -> Outcome<FleetHandle> {
        config.check()?;
        let stock = Stock::open(&config.source)?;
        let (samples, history_ns) = config.extent(&stock)?;
        let seed = config.seed.unwrap_or_else(|| draw(entropy));
        let looped = config.looped(&stock, seed)?;
        let (state, mut memory) = config.remembered()?;
        let list = match config.acked.as_deref() {
            Some(path) => Some(AckedList::open(path, state.clone())?),
            None => None,
        };
        let tally = Arc::new(Tally::new()?);
        let (stop, stopped) = watch::channel(false);
        let (done, finished) = watch::channel(0);
        let common = Arc::new(Common {
            burst: config.burst,
            ack_wait_ns: config.ack_wait_ns,
            backoff_ns: backoff_ns(config.devices.len()),
            live: config.pace.is_live(),
            pause_ns: config.pause_ns(),
            encoding: config.encoding(),
            clock: Arc::clone(&clock),
            tally: Arc::clone(&tally),
            state,
            done,
            patience_ns: config.patience_ns,
        });
        let back_ns = history_ns.saturating_add(config.away_ns);
        let first_ns = config
            .start_ns
            .unwrap_or_else(|| clock.wall_ns().saturating_sub(back_ns));
        let mono_ns = i64::try_from(clock.mono_ns()).unwrap_or(i64::MAX);
        let mut devices = Vec::with_capacity(config.devices.len());
        for (i, id) in config.devices.iter().enumerate() {
            let throw = |purpose: &str| Dice::new(seed, &format!("{id} {purpose}"));
            let mut workshop = Workshop {
                stock: stock.clone(),
                looped: looped.as_ref().map(|l| (Arc::clone(l), i)),
                seed: throw("signal").bits(),
                boots: Dice::new(draw(entropy), "boots"),
                kind: config.clock,
                skew_ns: config.skew_ns,
                drift_ppm: config.faults.drift_ppm,
                frame_ns: config.frame_ns,
                pace: config.pace,
                first_seq: config.first_seq,
            };
            // Live devices take turns within a frame, as real ones would.
            let turn_ns = match config.pace.is_live() {
                true => config.frame_ns / config.devices.len() as i64 * i as i64,
                false => 0,
            };
            let start_ns = first_ns.saturating_add(turn_ns);
            let (maker, birth) = workshop.maker(config.boot, start_ns, samples)?;
            devices.push(Device {
                common: Arc::clone(&common),
                dial: config.dial(id)?,
                workshop,
                maker,
                birth,
                remembered: memory.remove(id.as_str()).unwrap_or_default(),
                luck: Misfortune::new(config.faults, throw("faults"), throw("sending")),
                dice: throw("backoff"),
                lines: list.as_ref().map(AckedList::lines),
                stop: stopped.clone(),
                start_ns: mono_ns
                    .saturating_add(turn_ns)
                    .saturating_sub(config.away_ns),
                connect_ns: clock.mono_ns().saturating_add(i as u64 * RAMP_NS),
            });
        }
        let count = devices.len() as u64;
        let tasks = devices
            .into_iter()
            .map(|device| tokio::spawn(device.run()))
            .collect();
        Ok(FleetHandle {
            count,
            tasks,
            tally,
            list,
            stop,
            finished,
        })
    }
}

/// Longest wait of each of so many devices: no more than a thousand of them knock in a second.
fn backoff_ns(devices: usize) -> u64 {
    let (least, most) = BACKOFF_NS;
    (devices as u64).saturating_mul(RAMP_NS).clamp(least, most)
}

/// A running fleet. Dropping it stops the devices without waiting for what they owe.
pub struct FleetHandle {
    count: u64,
    tasks: Vec<JoinHandle<DeviceReport>>,
    tally: Arc<Tally>,
    list: Option<AckedList>,
    stop: watch::Sender<bool>,
    finished: watch::Receiver<u64>,
}

impl FleetHandle {
    /// The counters now.
    pub fn snapshot(&self) -> Stats {
        self.tally
            .stats(self.count, self.list.as_ref().map_or(0, AckedList::synced))
    }

    /// The last trouble that any device had with its connection, with its stream in front.
    pub fn trouble(&self) -> Option<String> {
        self.tally.last_trouble()
    }

    /// Whether every device is done: its stream has ended and nothing is owed, or it gave up.
    pub fn is_finished(&self) -> bool {
        *self.finished.borrow() >= self.count
    }

    /// Waits until [`Self::is_finished`].
    pub async fn finished(&mut self) {
        let count = self.count;
        // It fails only when every device is gone, which is what is waited for.
        self.finished.wait_for(|n| *n >= count).await.ok();
    }

    /// Ends the streams, waits with the configured patience for what is owed, and reports.
    ///
    /// # Errors
    /// `Io` when the list of acknowledged frames could not be written.
    pub async fn stop(mut self) -> Outcome<Report> {
        self.stop.send_replace(true);
        let mut devices = Vec::with_capacity(self.tasks.len());
        for task in std::mem::take(&mut self.tasks) {
            let gone = |e| Failure::internal(format!("a simulated device: {e}"));
            devices.push(task.await.map_err(gone)?);
        }
        let listed = match self.list.take() {
            Some(list) => spawn_blocking(move || list.close())
                .await
                .map_err(|e| Failure::internal(format!("the acknowledged list: {e}")))??,
            None => 0,
        };
        Ok(Report {
            stats: self.tally.stats(self.count, listed),
            devices,
        })
    }
}

impl Drop for FleetHandle {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
