//! What a door hands to ingest, and what it hears back.

use bytes::Bytes;
use chordae_base::{
    StreamKey,
    wire::{Birth, Glance},
};

use super::steady::Now;

/// One connection of one door, for the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// What arrived.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// First message of a boot.
    Birth(Birth),
    /// A frame: its head, and the frame as protobuf.
    Frame(Glance, Bytes),
    /// A payload that breaks formats.md 2: reason as metric label, one line for people, the payload.
    Malformed(&'static str, String, Bytes),
}

impl Content {
    /// Bytes of the payload, roughly; births count as small.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Birth(_) => 1024,
            Self::Frame(_, payload) | Self::Malformed(_, _, payload) => payload.len(),
        }
    }

    /// Boot and seq, where there are any.
    pub fn number(&self) -> (Option<u64>, Option<u64>) {
        match self {
            Self::Birth(birth) => (Some(birth.boot), None),
            Self::Frame(head, _) => (Some(head.boot), Some(head.seq)),
            Self::Malformed(..) => (None, None),
        }
    }
}

/// What arrived on which stream, and how its sender can be told what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The stream, already authorised by the door.
    pub stream: StreamKey,
    /// What arrived.
    pub content: Content,
    /// Our receive time; ours never less than the one before.
    pub now: Now,
    /// What the device's clock is compared with: the gateway's receive time where there is one, else the
    /// wall clock of `now`. See [`arrived_ns`].
    pub arrived_ns: i64,
    /// Who sent it.
    pub conn: ConnId,
    /// Whether the sender's protocol can carry a refusal. Where it cannot (MQTT 3.1.1), what would come
    /// back for ever is quarantined and acknowledged.
    pub can_be_told: bool,
}

/// When something first met a clock of the house, by the wall clock `wall_ns` of now and the receive time
/// that a gateway gave with it.
///
/// It may lie as far back as it likes: a gateway hands over in an hour what it has spooled for a week, and
/// the week is what the device's clock must be compared with. Samples that a wrong gateway clock maps out
/// of the window go to quarantine like any others. It may not lie ahead of us: then the gateway's clock is
/// wrong, or ours, and ours is what the window of formats.md 2 is measured with.
pub fn arrived_ns(wall_ns: i64, relayed_ns: Option<i64>) -> i64 {
    relayed_ns.map_or(wall_ns, |relayed| relayed.min(wall_ns))
}

/// Why something was not taken. The sender may drop it: sending it again would not help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It breaks formats.md 2; the label says how.
    Malformed(&'static str, String),
    /// A different birth for a known boot.
    BootReused,
    /// Another content under a boot and seq that is stored already; this one is quarantined.
    Conflict,
    /// More streams than a device may have.
    TooManyStreams,
}

impl Refusal {
    /// Metric label, and the reason in the `ack` topic.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Malformed(reason, _) => reason,
            Self::BootReused => "boot-reused",
            Self::Conflict => "conflict",
            Self::TooManyStreams => "too-many-streams",
        }
    }

    /// One line for the sender.
    pub fn why(&self) -> String {
        match self {
            Self::Malformed(reason, why) => format!("{reason}: {why}"),
            Self::BootReused => {
                "boot-reused: another birth of this boot is known; a change is a new boot".into()
            }
            Self::Conflict => "conflict: another frame with this boot and seq is stored".into(),
            Self::TooManyStreams => "too-many-streams: this device has as many as it may".into(),
        }
    }
}

/// What became of an [`Offer`]. Sent only after the commit that makes it true.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Durable: stored, parked, quarantined, or a repeat of something that is.
    Durable,
    /// Not taken, and never will be.
    Refused(Refusal),
    /// No room now (disk or log full). Handed back: a sender that cannot be told may be made to wait.
    Full(Content),
    /// It could not be judged now (a chunk could not be read). Not acknowledged: it will come again.
    Unsure,
}

/// The `ack` topic's content for one boot of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The stream.
    pub stream: StreamKey,
    /// The boot it speaks of.
    pub boot: u64,
    /// Inclusive ranges of durable seqs, the newest [`chordae_base::limits::ACK_RANGES_MAX`], ascending.
    pub durable: Vec<(u64, u64)>,
    /// Inclusive ranges of refused seqs with their reason, newest last.
    pub refused: Vec<(u64, u64, &'static str)>,
    /// Boots whose birth is known, newest received last.
    pub boots: Vec<u64>,
}

/// What a connection hears from the service.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// The fates of offers, each with the connection's own number for it.
    Fates(Vec<(u64, Verdict)>),
    /// The answer to a question about a boot.
    Standing(Standing),
    /// There is news about a boot of the device: its standing should be asked for.
    News(StreamKey, u64),
}
