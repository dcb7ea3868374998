//! "The same frame?" asked of history.

use std::sync::Arc;

use chordae_base::{
    seams::fake::FakeDisk,
    wire::{ClockKind, Frame},
};
use chordae_storage::Catalogue;

use crate::made::{HZ, MS, S, T0, chunk, did, open};

/// Frame `seq` begins half a second before it does in `made::rows`, so that 10 lies in two slots:
/// its codes are taken from the rows there.
fn frame(seq: u64, t0_ns: i64) -> Frame {
    let who = i32::try_from(seq).unwrap();
    let mut codes = vec![who; HZ as usize];
    codes.extend(0..HZ as i32);
    let (historical, clock) = (false, ClockKind::Synced);
    Frame {
        boot: 5,
        seq,
        t0_ns,
        samples: HZ,
        codes,
        historical,
        clock,
    }
}

/// Frames 0 to 8 in slot 0 without 4; 10 to 12 in slot 1.
fn stored() -> Arc<Catalogue> {
    let (mut committer, catalogue) = open(Arc::new(FakeDisk::new())).unwrap();
    for (slot, seqs) in [
        (0, &[0u64, 1, 2, 3, 5, 6, 7, 8][..]),
        (1, &[10, 11, 12][..]),
    ] {
        let chunk = chunk(did(1), committer.tip(&did(1)), slot, seqs, 1);
        committer.commit(&[chunk]).unwrap();
    }
    catalogue
}

#[test]
fn codes_decide_within_fifty_milliseconds() {
    let catalogue = stored();
    let ask = |seq: u64, t0_ns: i64| {
        catalogue
            .same_rows(&did(1), t0_ns, &frame(seq, t0_ns))
            .unwrap()
    };
    for near in [0, 50 * MS, -50 * MS, 7] {
        assert_eq!(ask(3, T0 + 3 * S + near), Some(true), "{near}");
    }
    assert_eq!(
        ask(3, T0 + 3 * S + 51 * MS),
        Some(false),
        "rows are there, but begin elsewhere"
    );
    assert_eq!(ask(11, T0 + 11 * S), Some(true));
    let mut other = frame(3, T0 + 3 * S);
    *other.codes.last_mut().unwrap() += 1;
    assert_eq!(
        catalogue.same_rows(&did(1), other.t0_ns, &other).unwrap(),
        Some(false)
    );
    other.codes.truncate(HZ as usize);
    assert_eq!(
        catalogue.same_rows(&did(1), other.t0_ns, &other).unwrap(),
        Some(false),
        "one lead"
    );
}

#[test]
fn what_no_chunk_holds_cannot_be_told() {
    let catalogue = stored();
    let ask = |seq: u64, at: i64| catalogue.same_rows(&did(1), at, &frame(seq, at)).unwrap();
    assert_eq!(ask(4, T0 + 4 * S), None, "missing in its chunk");
    assert_eq!(ask(3, T0 + 300 * S), None, "nothing there");
    assert_eq!(ask(9, T0 + 9 * S), None);
    let boot = Frame {
        boot: 6,
        ..frame(3, T0 + 3 * S)
    };
    assert_eq!(
        catalogue.same_rows(&did(1), T0 + 3 * S, &boot).unwrap(),
        None,
        "another boot"
    );
    assert_eq!(
        catalogue
            .same_rows(&did(2), T0 + 3 * S, &frame(3, T0 + 3 * S))
            .unwrap(),
        None
    );
}

#[test]
fn a_frame_in_two_slots_is_one_frame() {
    // A frame of 20 s over slots 0 and 1, as one piece each.
    let (mut committer, catalogue) = open(Arc::new(FakeDisk::new())).unwrap();
    let half = |slot| crate::made::rows(slot, &(0..20).collect::<Vec<_>>());
    let mut codes: Vec<i32> = Vec::new();
    for lead in 0..2 {
        for slot in 0..2 {
            codes.extend(&half(slot).leads[lead]);
        }
    }
    let samples = 20 * HZ;
    let (historical, clock) = (false, ClockKind::Synced);
    let whole = Frame {
        boot: 5,
        seq: 7,
        t0_ns: T0,
        samples,
        codes,
        historical,
        clock,
    };
    for slot in 0..2 {
        let tip = committer.tip(&did(1));
        let seqs: Vec<u64> = (0..20).collect();
        let sealed = chunk(did(1), tip, slot, &seqs, 1);
        committer.commit(&[sealed]).unwrap();
        let expected = if slot == 0 { None } else { Some(true) };
        assert_eq!(
            catalogue.same_rows(&did(1), T0, &whole).unwrap(),
            expected,
            "slot {slot}"
        );
    }
    let mut other = whole;
    other.codes[0] += 1;
    assert_eq!(
        catalogue.same_rows(&did(1), T0, &other).unwrap(),
        Some(false)
    );
}
