//! What ingest needs from the other rooms. Declared here, implemented in the node.

use std::collections::BTreeMap;

use bytes::Bytes;
use chordae_base::{
    DeviceId, Outcome, RangeSet, StreamKey, StreamName, record::WalRecord, wire::Frame,
};

/// What an identity may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Publishes its own streams.
    Device,
    /// Speaks for the devices registered behind it (its own door; not MQTT).
    Gateway,
    /// Reads live frames.
    Monitor,
}

/// What the registry knows of a device, gateway or monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceEntry {
    /// What it may do.
    pub kind: DeviceKind,
    /// A disabled one is refused, and cut when it is connected.
    pub enabled: bool,
    /// The gateway that speaks for it.
    pub gateway: Option<DeviceId>,
    /// Streams it may publish; empty = any.
    pub streams: Vec<StreamName>,
    /// Devices whose live frames a monitor may read; empty = any.
    pub watches: Vec<DeviceId>,
    /// Serials of its revoked certificates (the bytes of their DER, lower-case hex): a connection that
    /// came with one of them is cut.
    pub revoked: Vec<String>,
}

impl DeviceEntry {
    /// One that is enabled, with no gateway, no bounds and nothing revoked.
    pub const fn new(kind: DeviceKind) -> Self {
        Self {
            kind,
            enabled: true,
            gateway: None,
            streams: Vec::new(),
            watches: Vec::new(),
            revoked: Vec::new(),
        }
    }
}

/// Who is known here.
pub trait Registry: Send + Sync {
    /// The entry of a name, if there is one.
    fn device(&self, id: &DeviceId) -> Option<DeviceEntry>;
    /// The devices that a gateway speaks for, by id.
    fn behind(&self, gateway: &DeviceId) -> Vec<(DeviceId, DeviceEntry)>;
    /// A number that is another one after every change, cheap to ask for.
    fn changes(&self) -> u64;
    /// Gives the stream a did if it has none; durable when it returns.
    ///
    /// # Errors
    /// Those of the registry's log; the birth is then not acknowledged.
    fn open_stream(&self, key: &StreamKey) -> Outcome<()>;
}

/// Where durable records go, in the order of the log. May block: that is the back-pressure.
pub trait Downstream: Send {
    /// One record that a commit has covered.
    ///
    /// # Errors
    /// When the receiver is gone; the service then ends.
    fn record(&mut self, position: u64, record: WalRecord) -> Outcome<()>;
    /// Time has come to `now_ns`, which never goes back and is never after the next record's `recv_ns`.
    ///
    /// # Errors
    /// When the receiver is gone; the service then ends.
    fn tick(&mut self, now_ns: i64) -> Outcome<()>;
}

/// What the chunks say about frames that have left the log.
pub trait History: Send + Sync {
    /// Per boot, the seqs of which every row is in a linked chunk. Asked once per stream.
    fn covered(&self, stream: &StreamKey) -> BTreeMap<u64, RangeSet>;
    /// Whether the frame's codes occur as consecutive stored rows that begin within 50 ms of
    /// `mapped_t0_ns`; `None` if the rows are erased.
    ///
    /// # Errors
    /// Those of reading chunks; the repeat is then neither acknowledged nor judged.
    fn same_rows(
        &self,
        stream: &StreamKey,
        mapped_t0_ns: i64,
        frame: &Frame,
    ) -> Outcome<Option<bool>>;
}

/// The log of the house, for gateways: they keep its newest checkpoint outside the data folder, and say so when
/// they connect.
pub trait Checkpoints: Send + Sync {
    /// The newest checkpoint, as signed; durable.
    fn newest(&self) -> String;
    /// What a gateway was given once. May block on the disk.
    ///
    /// # Errors
    /// When the log does not begin with it: the folder was set back, nothing more may be taken, and whoever
    /// implements this sees to it.
    fn remembered(&self, gateway: &DeviceId, text: &str) -> Outcome<()>;
}

/// The newest live frame of a stream, for `stream assign`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    /// Mapped end of its last sample.
    pub mapped_end_ns: i64,
    /// Our receive time.
    pub recv_ns: i64,
}

/// Frames that a linked chunk holds; sent after every link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoveredNews {
    /// The stream.
    pub stream: StreamKey,
    /// Boot of the device.
    pub boot: u64,
    /// Seqs with rows in the slot.
    pub seqs: RangeSet,
    /// The slot that is linked.
    pub slot_start_ns: i64,
}

/// Frames of a bucket that cannot be sealed: they are to go to quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapNews {
    /// The stream.
    pub stream: StreamKey,
    /// Boot of the device.
    pub boot: u64,
    /// Seq, and position of the record in the log.
    pub frames: Vec<(u64, u64)>,
}

/// A live frame on its way to a monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveFrame {
    /// `chordae/v1/{device}/{stream}/live`.
    pub topic: String,
    /// The frame as protobuf.
    pub payload: Bytes,
}
