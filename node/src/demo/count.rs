//! Acknowledged = stored, counted from both ends: what the devices were told, and what linked chunks hold.

use std::collections::BTreeMap;

use chordae_base::{Failure, Outcome, RangeSet};
use chordae_device_sim::Report;
use chordae_storage::Catalogue;

/// What was counted.
pub(super) struct Counted {
    /// Frames that devices hold an acknowledgement for.
    pub(super) acknowledged: u64,
    /// Frames with rows in linked chunks.
    pub(super) stored: u64,
    /// Linked chunks.
    pub(super) chunks: usize,
}

fn size(set: &RangeSet) -> u64 {
    set.iter().map(|(a, b)| b - a + 1).sum()
}

/// Holds the devices' lists against the catalogue.
///
/// # Errors
/// `Internal` naming the first frame that was acknowledged and is not stored, or the other way round.
pub(super) fn count(catalogue: &Catalogue, report: &Report) -> Outcome<Counted> {
    let mut stored: BTreeMap<u64, RangeSet> = BTreeMap::new();
    for meta in catalogue.metas() {
        let seqs = stored.entry(meta.boot).or_default();
        meta.covered()
            .iter()
            .for_each(|(a, b)| seqs.insert_range(a, b));
    }
    let mut counted = Counted {
        acknowledged: 0,
        stored: 0,
        chunks: catalogue.chunks(),
    };
    for device in &report.devices {
        for (boot, acked) in &device.acked {
            let held = stored.remove(boot).unwrap_or_default();
            counted.acknowledged += size(acked);
            counted.stored += size(&held);
            for (a, b) in acked.iter() {
                if let Some((missing, _)) = held.gaps(a, b).first() {
                    return Err(Failure::internal(format!(
                        "{}: frame {missing} was acknowledged and is not stored",
                        device.key
                    )));
                }
            }
        }
    }
    if counted.acknowledged != counted.stored || counted.acknowledged == 0 {
        return Err(Failure::internal(format!(
            "{} frames were acknowledged and {} are stored",
            counted.acknowledged, counted.stored
        )));
    }
    Ok(counted)
}
