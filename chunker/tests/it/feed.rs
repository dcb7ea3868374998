//! Making WAL records, and a plain model of where each sample belongs.

use std::{collections::BTreeMap, sync::Mutex};

use bytes::Bytes;
use chordae_base::{
    Did, Rate, StreamKey, StreamPlan,
    record::{BirthRecord, FrameRecord, Place, SettledRecord, WalRecord},
    wire::{Birth, ClockKind, Frame, Lead},
};
use chordae_chunker::Plans;

pub(crate) const MS: i64 = 1_000_000;
pub(crate) const S: i64 = 1_000 * MS;
/// A moment on every grid that the tests use.
pub(crate) const T0: i64 = 1_700_006_400 * S;

pub(crate) fn key() -> StreamKey {
    "dev/ecg".parse().unwrap()
}

pub(crate) fn did(n: u8) -> Did {
    Did([n; 16])
}

pub(crate) fn lead(name: &str) -> Lead {
    Lead {
        name: name.into(),
        mdc: 0,
        gain: 200.0,
        baseline: 0,
        unit: "mV".into(),
        bits: 16,
    }
}

pub(crate) fn birth(boot: u64, hz: u32) -> WalRecord {
    WalRecord::Birth(BirthRecord {
        stream: key(),
        recv_ns: T0,
        birth: Birth {
            boot,
            rate: Rate::new(hz, 1).unwrap(),
            leads: vec![lead("I"), lead("II")],
            model: String::new(),
            firmware: String::new(),
            clock: ClockKind::Synced,
        },
    })
}

/// A frame whose codes say who they are: lead 0 carries boot and seq, lead 1 the sample.
pub(crate) fn frame(boot: u64, seq: u64, t0_ns: i64, samples: u32) -> Frame {
    let who = i32::try_from(boot * 10_000 + seq).unwrap();
    let mut codes = vec![who; samples as usize];
    codes.extend(0..samples as i32);
    let (historical, clock) = (false, ClockKind::Synced);
    Frame {
        boot,
        seq,
        t0_ns,
        samples,
        codes,
        historical,
        clock,
    }
}

pub(crate) fn record(frame: &Frame, recv_ns: i64, offset_ns: i64, place: Place) -> FrameRecord {
    FrameRecord {
        stream: key(),
        boot: frame.boot,
        seq: frame.seq,
        recv_ns,
        t0_ns: frame.t0_ns,
        samples: frame.samples,
        offset_ns,
        clock: if offset_ns == 0 {
            ClockKind::Synced
        } else {
            ClockKind::FreeRunning
        },
        place,
        print: frame.print(),
        payload: Bytes::from(frame.encode()),
    }
}

pub(crate) fn settled(boot: u64, seq: u64, recv_ns: i64) -> WalRecord {
    WalRecord::Settled(SettledRecord {
        stream: key(),
        boot,
        seq,
        recv_ns,
    })
}

/// Plans that a test changes.
#[derive(Default)]
pub(crate) struct Registry(pub(crate) Mutex<BTreeMap<StreamKey, StreamPlan>>);

impl Registry {
    pub(crate) fn with(plan: StreamPlan) -> Self {
        Self(Mutex::new([(key(), plan)].into()))
    }
}

impl Plans for Registry {
    fn plan(&self, stream: &StreamKey) -> Option<StreamPlan> {
        self.0.lock().unwrap().get(stream).cloned()
    }
}
