//! What the write-ahead log holds. Records are claims: read from a disk, verified by the journal's
//! checksums, and folded again at every start.

mod codec;

use bytes::Bytes;

pub use codec::{frame_named, print_of};

use crate::{
    Failure, Outcome, StreamKey,
    wire::{Birth, ClockKind, Frame},
};

/// One record of the WAL.
#[derive(Debug, Clone, PartialEq)]
pub enum WalRecord {
    /// First record of every segment: what earlier, trimmed segments said and later ones rely on.
    State(StateRecord),
    /// The first message of a boot on a stream.
    Birth(BirthRecord),
    /// A frame, acknowledged once this record is synced.
    Frame(FrameRecord),
    /// A frame that needs no chunk any more (it lies in quarantine); lets the WAL be trimmed.
    Settled(SettledRecord),
}

/// See [`WalRecord::State`].
#[derive(Debug, Clone, PartialEq)]
pub struct StateRecord {
    /// Births still remembered, at most [`crate::limits::BOOTS_PER_STREAM_MAX`] per stream.
    pub births: Vec<BirthRecord>,
    /// What the ingest core wants to find again (clock offsets, newest seqs); opaque to others.
    pub ingest: Vec<u8>,
}

/// See [`WalRecord::Birth`].
#[derive(Debug, Clone, PartialEq)]
pub struct BirthRecord {
    /// The stream it announces.
    pub stream: StreamKey,
    /// Our receive time.
    pub recv_ns: i64,
    /// What the device said.
    pub birth: Birth,
}

/// Where the windower is to put a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Put in order of seq, then in the live bucket of its slot.
    Live,
    /// Late lane: older than five minutes or `historical`.
    Late,
    /// Its birth or clock offset has not arrived: durable and acknowledged, in no bucket yet.
    /// Released by a further `Frame` record of the same seq, or by `Settled`.
    Parked,
}

/// See [`WalRecord::Frame`]. Everything that decides where the rows go travels here, so that replay
/// needs no state of the ingest core.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameRecord {
    /// The stream.
    pub stream: StreamKey,
    /// Boot of the device.
    pub boot: u64,
    /// Number within the boot.
    pub seq: u64,
    /// Our receive time; never less than that of the record before.
    pub recv_ns: i64,
    /// Device clock at the first sample.
    pub t0_ns: i64,
    /// Samples per lead.
    pub samples: u32,
    /// Claimed time plus this is the mapped time; 0 when synced. Of a parked frame, which is not mapped
    /// yet: receive time plus this is what its clock will be compared with.
    pub offset_ns: i64,
    /// The clock the mapping was made for.
    pub clock: ClockKind,
    /// Where it goes.
    pub place: Place,
    /// Of (t0_ns, samples, codes): "the same frame?" ([`crate::wire::Frame::print`]).
    pub print: [u8; 16],
    /// The frame as protobuf (`wire::Frame::decode` reads it back).
    pub payload: Bytes,
}

/// See [`WalRecord::Settled`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledRecord {
    /// The stream.
    pub stream: StreamKey,
    /// Boot of the device.
    pub boot: u64,
    /// Number within the boot.
    pub seq: u64,
    /// Our receive time.
    pub recv_ns: i64,
}

impl FrameRecord {
    /// The frame itself, read from the payload.
    ///
    /// # Errors
    /// `Damaged` if the payload is no frame or not the one that the record describes.
    pub fn frame(&self) -> Outcome<Frame> {
        let frame = Frame::decode(&self.payload).map_err(|err| {
            Failure::damaged(format!("frame {} {}: {err}", self.stream, self.seq))
        })?;
        let told = (self.boot, self.seq, self.t0_ns, self.samples);
        if told == (frame.boot, frame.seq, frame.t0_ns, frame.samples) {
            return Ok(frame);
        }
        Err(Failure::damaged(format!(
            "frame {} {}: payload of another frame",
            self.stream, self.seq
        )))
    }
}
