//! Random histories of one device against what must hold whatever happens: nothing acknowledged is lost,
//! nothing is stored twice, and a restart, or a loss of the log's head to trimming, changes no answer.

use std::collections::BTreeMap;

use chordae_base::{
    RangeSet,
    record::{Place, WalRecord},
    wire::{ClockKind, Frame},
};
use chordae_ingest::core::arrival::Verdict;
use proptest::prelude::*;

use crate::{
    desk::{Desk, NOW},
    support::{birth, content, frame, seconds},
};

#[derive(Debug, Clone)]
enum Act {
    Birth {
        boot: u64,
        other: bool,
        conn: u64,
    },
    Frame {
        boot: u64,
        seq: u64,
        salt: i32,
        clock: ClockKind,
        historical: bool,
        conn: u64,
        told: bool,
        skew_s: i64,
    },
    Pass(i64),
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let clock = prop_oneof![
        Just(ClockKind::Synced),
        Just(ClockKind::Unknown),
        Just(ClockKind::FreeRunning)
    ];
    let skew =
        prop_oneof![4 => -3i64..3, 1 => Just(-400i64), 1 => Just(1_000), 1 => Just(-40 * 86_400)];
    let sent = (
        0u64..2,
        0u64..6,
        0i32..2,
        clock,
        any::<bool>(),
        0u64..2,
        any::<bool>(),
        skew,
    );
    prop_oneof![
        2 => (0u64..2, prop::bool::weighted(0.2), 0u64..2)
            .prop_map(|(boot, other, conn)| Act::Birth { boot, other, conn }),
        12 => sent.prop_map(|(boot, seq, salt, clock, historical, conn, told, skew_s)| {
            Act::Frame { boot, seq, salt, clock, historical, conn, told, skew_s }
        }),
        2 => prop_oneof![Just(1), Just(61), Just(601)].prop_map(Act::Pass),
        1 => Just(Act::Restart),
    ]
}

fn made(boot: u64, seq: u64, salt: i32, clock: ClockKind, historical: bool, skew_s: i64) -> Frame {
    let t0 = NOW + seconds(i64::try_from(seq).unwrap() + skew_s);
    Frame {
        clock,
        historical,
        ..frame(boot, seq, t0, salt)
    }
}

/// Frames by (boot, seq), all prints that the log holds, and how often each is placed.
fn check(desk: &Desk, acknowledged: &[(Frame, Verdict)]) {
    let mut prints: BTreeMap<(u64, u64), [u8; 16]> = BTreeMap::new();
    let mut placed: BTreeMap<(u64, u64), usize> = BTreeMap::new();
    let mut recv = i64::MIN;
    for record in &desk.log {
        let at = match record {
            WalRecord::Frame(f) => {
                let print = prints.entry((f.boot, f.seq)).or_insert(f.print);
                assert_eq!(*print, f.print, "two contents under one seq");
                *placed.entry((f.boot, f.seq)).or_default() +=
                    usize::from(f.place != Place::Parked);
                assert_eq!(Frame::decode(&f.payload).unwrap().print(), f.print);
                f.recv_ns
            }
            WalRecord::Birth(b) => b.recv_ns,
            WalRecord::Settled(s) => s.recv_ns,
            WalRecord::State(_) => continue,
        };
        assert!(at >= recv, "receive times go back");
        recv = at;
    }
    assert!(placed.values().all(|n| *n <= 1), "stored twice: {placed:?}");
    for (sent, verdict) in acknowledged {
        let kept = prints.get(&(sent.boot, sent.seq)) == Some(&sent.print());
        let aside = desk.aside.iter().any(|(_, payload)| {
            Frame::decode(payload).is_ok_and(|f| f.print() == sent.print() && f.seq == sent.seq)
        });
        assert!(
            kept || aside,
            "acknowledged ({verdict:?}) and lost: {sent:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn nothing_is_lost_nothing_is_twice(acts in prop::collection::vec(act(), 1..60)) {
        let mut desk = Desk::new();
        let mut acknowledged: Vec<(Frame, Verdict)> = Vec::new();
        for act in acts {
            match act {
                Act::Birth { boot, other, conn } => {
                    let mut sent = birth(boot);
                    if other {
                        sent.firmware = "other".into();
                    }
                    desk.offer_as(conn, true, chordae_ingest::core::arrival::Content::Birth(sent));
                }
                Act::Frame { boot, seq, salt, clock, historical, conn, told, skew_s } => {
                    let sent = made(boot, seq, salt, clock, historical, skew_s);
                    let (verdict, _) = desk.offer_as(conn, told, content(&sent));
                    if verdict == Verdict::Durable {
                        acknowledged.push((sent, verdict));
                    }
                }
                Act::Pass(s) => {
                    let now = desk.now + seconds(s);
                    desk.tick(now);
                }
                Act::Restart => {
                    let before: Vec<_> = (0..2).map(|b| desk.core.standing(&desk.stream, b)).collect();
                    desk.restart().unwrap();
                    for (boot, standing) in before.iter().enumerate() {
                        let after = desk.core.standing(&desk.stream, boot as u64);
                        prop_assert_eq!(&standing.durable, &after.durable);
                        prop_assert_eq!(&standing.boots, &after.boots);
                    }
                }
            }
        }
        check(&desk, &acknowledged);
        // Whatever came, what is durable is absorbed again after a restart, or was set aside as foreign.
        desk.restart().unwrap();
        let frames = desk.frames().len();
        for (sent, _) in acknowledged.clone() {
            let (verdict, label) = desk.offer_as(9, false, content(&sent));
            prop_assert_eq!(verdict, Verdict::Durable);
            prop_assert!(matches!(label, "repeat" | "conflict" | "live" | "late" | "parked-no-birth" | "parked-no-offset" | "quarantined"));
        }
        check(&desk, &acknowledged);
        prop_assert!(desk.frames().len() <= frames + acknowledged.len());
    }
}

#[test]
fn the_check_notices_a_loss_and_a_double() {
    let mut desk = Desk::new();
    desk.birth(&birth(1));
    let sent = frame(1, 0, NOW, 1);
    desk.frame(&sent);
    let acknowledged = vec![(sent, Verdict::Durable)];
    check(&desk, &acknowledged);
    let whole = desk.log.clone();
    desk.log.pop();
    assert!(
        std::panic::catch_unwind(|| check(&desk, &acknowledged)).is_err(),
        "a loss"
    );
    desk.log = whole;
    desk.log.push(desk.log.last().unwrap().clone());
    assert!(
        std::panic::catch_unwind(|| check(&desk, &acknowledged)).is_err(),
        "a double"
    );
    let mut covered = RangeSet::new();
    covered.insert(0);
    assert!(covered.holds(0));
}
