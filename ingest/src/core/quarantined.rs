//! The record of a thing in `quarantine/`: one line of JSON, a newline, the payload as it came.
//!
//! Nothing that was acknowledged is ever dropped: what cannot go into a chunk lies here, durable before
//! its acknowledgement, with the reason as it stands in `chordae_quarantined_total{reason}`.

use bytes::Bytes;
use chordae_base::{
    Failure, Outcome, StreamKey,
    wire::{ClockKind, Glance},
};
use serde::{Deserialize, Serialize};

use super::dedupe::Print;

/// All but the payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quarantined {
    /// The stream it was sent on.
    pub stream: StreamKey,
    /// Our receive time.
    pub recv_ns: i64,
    /// What its clock will be compared with, where that is another time and the frame still waits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub arrived_ns: Option<i64>,
    /// Why it lies here.
    pub reason: String,
    /// The frame's head, where it is a frame.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub frame: Option<FrameNote>,
    /// Its birth or offset, when it comes, still brings it into a chunk.
    pub waits: bool,
    /// No chunk will hold a frame of this seq: a repeat of it is absorbed.
    pub settles: bool,
}

/// A frame's head as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameNote {
    /// Boot of the device.
    pub boot: u64,
    /// Number within the boot.
    pub seq: u64,
    /// Device clock at the first sample.
    pub t0_ns: i64,
    /// Samples per lead.
    pub samples: u32,
    /// How many leads.
    pub leads: u32,
    /// Sent later than recorded.
    pub historical: bool,
    /// The clock of `t0_ns`.
    pub clock: ClockKind,
    /// Digest prefix of the content.
    pub print: Print,
}

impl From<&Glance> for FrameNote {
    fn from(h: &Glance) -> Self {
        Self {
            boot: h.boot,
            seq: h.seq,
            t0_ns: h.t0_ns,
            samples: h.samples,
            leads: h.leads,
            historical: h.historical,
            clock: h.clock,
            print: h.print,
        }
    }
}

impl From<&FrameNote> for Glance {
    fn from(n: &FrameNote) -> Self {
        Self {
            boot: n.boot,
            seq: n.seq,
            t0_ns: n.t0_ns,
            samples: n.samples,
            leads: n.leads,
            historical: n.historical,
            clock: n.clock,
            print: n.print,
        }
    }
}

impl Quarantined {
    /// The instant that it is about: its own where its clock is disciplined, else that of its receipt.
    pub fn about_ns(&self) -> i64 {
        let own = self.frame.as_ref();
        let own = own.filter(|f| f.clock == ClockKind::Synced);
        own.map_or(self.recv_ns, |f| f.t0_ns)
    }

    /// Bytes of the record.
    ///
    /// # Errors
    /// None in practice; JSON of these types always can be written.
    pub fn encode(&self, payload: &[u8]) -> Outcome<Bytes> {
        let mut bytes = serde_json::to_vec(self)
            .map_err(|e| Failure::internal(format!("a quarantine record: {e}")))?;
        bytes.push(b'\n');
        bytes.extend_from_slice(payload);
        Ok(bytes.into())
    }

    /// Reads a record back: head and payload.
    ///
    /// # Errors
    /// `Damaged` for anything that [`Self::encode`] does not write.
    pub fn decode(record: &Bytes) -> Outcome<(Self, Bytes)> {
        let bad = |why: String| Failure::damaged(format!("a quarantine record: {why}"));
        let end = record.iter().position(|b| *b == b'\n');
        let end = end.ok_or_else(|| bad("no end of its first line".into()))?;
        let head = serde_json::from_slice(record.get(..end).unwrap_or_default())
            .map_err(|e| bad(e.to_string()))?;
        Ok((head, record.slice(end + 1..)))
    }
}
