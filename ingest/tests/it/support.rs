//! Fakes of the other rooms, and makers of what devices send.

use std::{
    collections::VecDeque,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use chordae_base::{
    DeviceId, Failure, Outcome, RangeSet, Rate, StreamKey,
    record::WalRecord,
    seams::{Clock, Disk, Threads, fake::FakeDisk, real::OsClock},
    time::SECOND_NS,
    wire::{Birth, ClockKind, Frame, Lead},
};
use chordae_ingest::{
    core::{
        admission::AdmissionLimits,
        arrival::{ConnId, Content, Notice, Verdict},
        decode::{Shape, decode},
        ports::{DeviceEntry, DeviceKind, Downstream, History, Registry},
    },
    fanout::{Fanout, NoFanout},
    mailbox::{Arrival, IngestHandle},
    metrics::Metrics,
    service::{Ingest, Parts, Recovered},
    wal::WalSettings,
};
use tokio::sync::mpsc;

pub(crate) fn key(text: &str) -> StreamKey {
    text.parse().unwrap()
}

/// 100 Hz, two leads.
pub(crate) fn birth(boot: u64) -> Birth {
    let lead = |name: &str| Lead {
        name: name.into(),
        mdc: 0,
        gain: 200.0,
        baseline: 0,
        unit: "mV".into(),
        bits: 16,
    };
    Birth {
        boot,
        rate: Rate::new(100, 1).unwrap(),
        leads: vec![lead("I"), lead("II")],
        model: "test".into(),
        firmware: "1".into(),
        clock: ClockKind::Synced,
    }
}

/// One second of two leads; `salt` makes its samples.
pub(crate) fn frame(boot: u64, seq: u64, t0_ns: i64, salt: i32) -> Frame {
    let code = |k: i32| salt.wrapping_mul(31).wrapping_add(k * 7 % 50);
    Frame {
        boot,
        seq,
        t0_ns,
        samples: 100,
        codes: (0..200).map(code).collect(),
        historical: false,
        clock: ClockKind::Synced,
    }
}

pub(crate) fn content(frame: &Frame) -> Content {
    decode(Shape::Frame, frame.encode().into())
}

/// Devices that are known, and what has been opened.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) devices: Mutex<BTreeMap<DeviceId, DeviceEntry>>,
    pub(crate) opened: Mutex<BTreeSet<StreamKey>>,
    pub(crate) fails: Mutex<bool>,
    pub(crate) changes: std::sync::atomic::AtomicU64,
}

impl Known {
    pub(crate) fn with(devices: &[(&str, DeviceKind)]) -> Arc<Self> {
        let known = Self::default();
        for (name, kind) in devices {
            known.put(name, *kind, true);
        }
        Arc::new(known)
    }

    /// A certificate of a device counts no more.
    pub(crate) fn revoke(&self, name: &str, serial: &str) {
        let mut devices = self.devices.lock().unwrap();
        let entry = devices.get_mut(&name.parse().unwrap()).unwrap();
        entry.revoked.push(serial.into());
    }

    pub(crate) fn put(&self, name: &str, kind: DeviceKind, enabled: bool) {
        let entry = DeviceEntry {
            enabled,
            ..DeviceEntry::new(kind)
        };
        self.put_entry(name, entry);
    }

    pub(crate) fn put_entry(&self, name: &str, entry: DeviceEntry) {
        self.devices
            .lock()
            .unwrap()
            .insert(name.parse().unwrap(), entry);
        self.changes
            .fetch_add(1, std::sync::atomic::Ordering::Release);
    }
}

impl Registry for Known {
    fn device(&self, id: &DeviceId) -> Option<DeviceEntry> {
        self.devices.lock().unwrap().get(id).cloned()
    }

    fn behind(&self, gateway: &DeviceId) -> Vec<(DeviceId, DeviceEntry)> {
        let devices = self.devices.lock().unwrap();
        let theirs = devices.iter();
        let theirs = theirs.filter(|(_, entry)| entry.gateway.as_ref() == Some(gateway));
        theirs.map(|(id, e)| (id.clone(), e.clone())).collect()
    }

    fn changes(&self) -> u64 {
        self.changes.load(std::sync::atomic::Ordering::Acquire)
    }

    fn open_stream(&self, key: &StreamKey) -> Outcome<()> {
        if *self.fails.lock().unwrap() {
            return Err(Failure::io("the registry's disk is gone"));
        }
        self.opened.lock().unwrap().insert(key.clone());
        Ok(())
    }
}

/// What the chunker would have got.
#[derive(Clone, Default)]
pub(crate) struct Sink(pub(crate) Arc<Mutex<Vec<(u64, WalRecord)>>>);

impl Sink {
    pub(crate) fn frames(&self) -> Vec<(u64, chordae_base::record::FrameRecord)> {
        let records = self.0.lock().unwrap();
        let frames = records.iter().filter_map(|(at, r)| match r {
            WalRecord::Frame(f) => Some((*at, f.clone())),
            _ => None,
        });
        frames.collect()
    }
}

impl Downstream for Sink {
    fn record(&mut self, position: u64, record: WalRecord) -> Outcome<()> {
        self.0.lock().unwrap().push((position, record));
        Ok(())
    }

    fn tick(&mut self, _now_ns: i64) -> Outcome<()> {
        Ok(())
    }
}

/// Chunks that hold what they are told to hold.
#[derive(Default)]
pub(crate) struct Chunks {
    pub(crate) covered: Mutex<BTreeMap<StreamKey, BTreeMap<u64, RangeSet>>>,
    pub(crate) rows: Mutex<Option<bool>>,
}

impl History for Chunks {
    fn covered(&self, stream: &StreamKey) -> BTreeMap<u64, RangeSet> {
        self.covered
            .lock()
            .unwrap()
            .get(stream)
            .cloned()
            .unwrap_or_default()
    }

    fn same_rows(&self, _: &StreamKey, _: i64, _: &Frame) -> Outcome<Option<bool>> {
        Ok(*self.rows.lock().unwrap())
    }
}

/// A node's worth of ingest on a disk that can crash.
pub(crate) struct House {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) registry: Arc<Known>,
    pub(crate) chunks: Arc<Chunks>,
    pub(crate) fanout: Arc<dyn Fanout>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) admission: AdmissionLimits,
    pub(crate) segment_bytes: u64,
}

impl House {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            registry: Known::with(&[
                ("bed-7", DeviceKind::Device),
                ("bed-8", DeviceKind::Device),
                ("desk", DeviceKind::Monitor),
            ]),
            chunks: Arc::default(),
            fanout: Arc::new(NoFanout),
            clock: Arc::new(OsClock),
            admission: AdmissionLimits {
                free_min: 0,
                wal_max: 1 << 40,
            },
            segment_bytes: 1 << 20,
        }
    }

    pub(crate) fn in_memory() -> (Self, Arc<FakeDisk>) {
        let disk = Arc::new(FakeDisk::new());
        (Self::new(Arc::clone(&disk) as Arc<dyn Disk>), disk)
    }

    pub(crate) fn metrics(&self) -> Metrics {
        Metrics::register(&prometheus::Registry::new()).unwrap()
    }

    pub(crate) fn open(&self) -> Outcome<Recovered> {
        Ingest::open(Parts {
            disk: Arc::clone(&self.disk),
            clock: Arc::clone(&self.clock),
            threads: Threads::of_the_machine(),
            wal: WalSettings {
                dir: "/data/wal".into(),
                segment_bytes: self.segment_bytes,
            },
            quarantine_dir: "/data/quarantine".into(),
            registry: Arc::clone(&self.registry) as Arc<dyn Registry>,
            history: Arc::clone(&self.chunks) as Arc<dyn History>,
            fanout: Arc::clone(&self.fanout),
            admission: self.admission,
            past_ns_max: chordae_base::limits::PAST_NS_MAX,
            metrics: self.metrics(),
        })
    }

    pub(crate) fn start(&self) -> (Ingest, Sink) {
        let sink = Sink::default();
        let ingest = self.open().unwrap().run(Box::new(sink.clone())).unwrap();
        (ingest, sink)
    }

    /// Time since 1970 in some seconds, for certificates.
    pub(crate) fn in_seconds(&self, seconds: i64) -> Duration {
        Duration::from_secs(u64::try_from(self.now() / SECOND_NS + seconds).unwrap())
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.wall_ns()
    }
}

/// A sender that hears its fates.
pub(crate) struct Sender {
    handle: IngestHandle,
    pub(crate) can_be_told: bool,
    conn: ConnId,
    next: u64,
    reply: mpsc::Sender<Notice>,
    notices: mpsc::Receiver<Notice>,
    told: VecDeque<(u64, Verdict)>,
    /// Boots of which there was news without a question.
    pub(crate) news: Vec<(StreamKey, u64)>,
}

impl Sender {
    pub(crate) fn new(handle: IngestHandle, conn: u64) -> Self {
        let (reply, notices) = mpsc::channel(4096);
        Self {
            handle,
            can_be_told: true,
            conn: ConnId(conn),
            next: 0,
            reply,
            notices,
            told: VecDeque::new(),
            news: Vec::new(),
        }
    }

    fn hear(&mut self, notice: Notice) {
        match notice {
            Notice::Fates(fates) => self.told.extend(fates),
            Notice::News(stream, boot) => self.news.push((stream, boot)),
            other => panic!("not a fate: {other:?}"),
        }
    }

    pub(crate) async fn offer(&mut self, stream: &StreamKey, content: Content) -> u64 {
        self.try_offer(stream, content).await.unwrap()
    }

    /// Fails once the service has ended.
    pub(crate) async fn try_offer(&mut self, stream: &StreamKey, content: Content) -> Outcome<u64> {
        let token = self.next;
        self.next += 1;
        let arrival = Arrival {
            stream: stream.clone(),
            content,
            at_mono_ns: self.handle.mono_ns(),
            relayed_ns: None,
            door: "test",
            conn: self.conn,
            can_be_told: self.can_be_told,
            token,
            reply: self.reply.clone(),
        };
        self.handle.offer(arrival).await?;
        Ok(token)
    }

    /// What has been heard and not been read.
    pub(crate) fn heard(&mut self) -> Option<(u64, Verdict)> {
        while let Ok(notice) = self.notices.try_recv() {
            self.hear(notice);
        }
        self.told.pop_front()
    }

    /// `None` once the service has ended.
    pub(crate) async fn fate_or_end(&mut self, handle: &IngestHandle) -> Option<(u64, Verdict)> {
        if let Some(told) = self.told.pop_front() {
            return Some(told);
        }
        tokio::select! {
            biased;
            notice = self.notices.recv() => self.hear(notice?),
            () = handle.ended() => {}
        }
        self.told.pop_front()
    }

    /// Offers one thing and waits for its fate.
    pub(crate) async fn ask(&mut self, stream: &StreamKey, content: Content) -> Verdict {
        let token = self.offer(stream, content).await;
        let (heard, verdict) = self.fate().await.expect("the service ended");
        assert_eq!(heard, token);
        verdict
    }

    /// `None` after two seconds of silence.
    pub(crate) async fn fate(&mut self) -> Option<(u64, Verdict)> {
        while self.told.is_empty() {
            let notice = tokio::time::timeout(Duration::from_secs(2), self.notices.recv()).await;
            self.hear(notice.ok()??);
        }
        self.told.pop_front()
    }

    pub(crate) async fn standing(
        &mut self,
        stream: &StreamKey,
        boot: u64,
    ) -> chordae_ingest::core::arrival::Standing {
        self.handle
            .standing(stream.clone(), boot, self.reply.clone())
            .await
            .unwrap();
        loop {
            match self.notices.recv().await {
                Some(Notice::Standing(standing)) => return standing,
                Some(Notice::News(stream, boot)) => self.news.push((stream, boot)),
                other => panic!("not a standing: {other:?}"),
            }
        }
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Waits until something is so; says what was awaited if it never is.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

pub(crate) const fn seconds(n: i64) -> i64 {
    n * SECOND_NS
}

pub(crate) fn payload_of(content: &Content) -> Bytes {
    match content {
        Content::Frame(_, payload) => payload.clone(),
        other => panic!("not a frame: {other:?}"),
    }
}
