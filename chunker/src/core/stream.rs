//! What the windower knows of one stream: its plan, its boots, its open buckets.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chordae_base::{
    Did, StreamKey, StreamPlan,
    limits::{BOOTS_PER_STREAM_MAX, CLOSED_SLOTS_MAX},
    wire::Birth,
};
use chordae_chain::meta::Lane;

use super::{
    bucket::{Key, Shape},
    cut::Cell,
    turn::Turn,
};

/// One boot of the device on this stream.
#[derive(Debug)]
pub struct Boot {
    /// Rate and leads.
    pub shape: Arc<Shape>,
    /// Frames that wait.
    pub turn: Turn,
    /// Span of its longest frame so far.
    pub longest_ns: i64,
    /// Slots whose live bucket was sealed by time, by start.
    pub closed: BTreeSet<(i64, Did)>,
    /// When it was last heard of: the oldest boot is forgotten first.
    pub heard_ns: i64,
    /// Whether an alarm for [`Turn::forget`] is set.
    pub forgetting: bool,
}

impl Boot {
    /// Remembers that the live bucket of a cell was sealed by time.
    pub fn close(&mut self, cell: &Cell) {
        self.closed.insert((cell.slot_start_ns, cell.did));
        while self.closed.len() > CLOSED_SLOTS_MAX {
            self.closed.pop_first();
        }
    }

    /// Whether a live frame in this cell is late.
    pub fn closed(&self, cell: &Cell) -> bool {
        self.closed.contains(&(cell.slot_start_ns, cell.did))
    }
}

/// See the module.
#[derive(Debug)]
pub struct Stream {
    /// Its name.
    pub key: StreamKey,
    /// Its plan; none before it has a did.
    pub plan: Option<StreamPlan>,
    /// Its boots.
    pub boots: BTreeMap<u64, Boot>,
    /// Open live buckets by boot and cell: at most one each.
    pub live: BTreeMap<(u64, Cell), u64>,
    /// Open late buckets, at most [`chordae_base::limits::LATE_SLOTS_MAX`].
    pub late: BTreeMap<Key, u64>,
    /// Parked frames: (boot, seq) to position.
    pub parked: BTreeMap<(u64, u64), u64>,
}

impl Stream {
    /// A stream of which nothing is known.
    pub fn new(key: StreamKey) -> Self {
        let (boots, live) = (BTreeMap::new(), BTreeMap::new());
        let (late, parked) = (BTreeMap::new(), BTreeMap::new());
        Self {
            key,
            plan: None,
            boots,
            live,
            late,
            parked,
        }
    }

    /// Learns a birth. The first one of a boot stands: ingest refuses a different one.
    pub fn learn(&mut self, birth: &Birth, recv_ns: i64) {
        if self.boots.contains_key(&birth.boot) {
            return;
        }
        if self.boots.len() >= BOOTS_PER_STREAM_MAX {
            let spare = self.boots.iter().filter(|(_, b)| b.turn.idle());
            let oldest = spare.min_by_key(|(_, b)| b.heard_ns).map(|(boot, _)| *boot);
            oldest.map(|boot| self.boots.remove(&boot));
        }
        let shape = Arc::new(Shape {
            rate: birth.rate,
            leads: birth.leads.clone(),
        });
        let boot = Boot {
            shape,
            turn: Turn::default(),
            longest_ns: 0,
            closed: BTreeSet::new(),
            heard_ns: recv_ns,
            forgetting: false,
        };
        self.boots.insert(birth.boot, boot);
    }

    /// The open bucket that a row with this key goes to, whatever its mapping in the live lane.
    pub fn open(&self, key: &Key) -> Option<u64> {
        match key.lane {
            Lane::Live => self.live.get(&(key.boot, key.cell)).copied(),
            Lane::Late => self.late.get(key).copied(),
        }
    }

    /// Enters an open bucket.
    pub fn enter(&mut self, key: Key, bucket: u64) {
        match key.lane {
            Lane::Live => self.live.insert((key.boot, key.cell), bucket),
            Lane::Late => self.late.insert(key, bucket),
        };
    }

    /// Strikes an open bucket.
    pub fn strike(&mut self, key: &Key) {
        match key.lane {
            Lane::Live => self.live.remove(&(key.boot, key.cell)),
            Lane::Late => self.late.remove(key),
        };
    }
}
