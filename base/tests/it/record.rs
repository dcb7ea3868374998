//! WAL records: what is written reads back, and nothing else reads.

use bytes::Bytes;
use chordae_base::{
    FailureKind, StreamKey,
    record::{BirthRecord, FrameRecord, Place, SettledRecord, StateRecord, WalRecord},
};
use proptest::prelude::*;

use crate::wire::{birth, clock, frame};

fn stream() -> impl Strategy<Value = StreamKey> {
    let name = "[a-z0-9][a-z0-9._-]{0,63}";
    (name, name).prop_map(|(device, stream)| format!("{device}/{stream}").parse().unwrap())
}

fn birth_record() -> impl Strategy<Value = BirthRecord> {
    (stream(), any::<i64>(), birth()).prop_map(|(stream, recv_ns, birth)| BirthRecord {
        stream,
        recv_ns,
        birth,
    })
}

fn frame_record() -> impl Strategy<Value = FrameRecord> {
    let place = prop::sample::select(vec![Place::Live, Place::Late, Place::Parked]);
    (
        stream(),
        any::<i64>(),
        any::<i64>(),
        clock(),
        place,
        frame(),
    )
        .prop_map(
            |(stream, recv_ns, offset_ns, clock, place, frame)| FrameRecord {
                stream,
                boot: frame.boot,
                seq: frame.seq,
                recv_ns,
                t0_ns: frame.t0_ns,
                samples: frame.samples,
                offset_ns,
                clock,
                place,
                print: frame.print(),
                payload: frame.encode().into(),
            },
        )
}

fn wal_record() -> impl Strategy<Value = WalRecord> {
    let state = (
        prop::collection::vec(birth_record(), 0..4),
        prop::collection::vec(any::<u8>(), 0..99),
    );
    let settled = (stream(), any::<u64>(), any::<u64>(), any::<i64>());
    prop_oneof![
        state.prop_map(|(births, ingest)| WalRecord::State(StateRecord { births, ingest })),
        birth_record().prop_map(WalRecord::Birth),
        frame_record().prop_map(WalRecord::Frame),
        settled.prop_map(|(stream, boot, seq, recv_ns)| {
            WalRecord::Settled(SettledRecord {
                stream,
                boot,
                seq,
                recv_ns,
            })
        }),
    ]
}

proptest! {
    #[test]
    fn reads_back_and_every_beginning_is_another_thing(record in wal_record(), cut in any::<prop::sample::Index>()) {
        let bytes = Bytes::from(record.encode());
        prop_assert_eq!(&WalRecord::decode(bytes.clone()).unwrap(), &record);
        let shorter = bytes.slice(..cut.index(bytes.len()));
        match WalRecord::decode(shorter.clone()) {
            Err(failure) => prop_assert_eq!(failure.kind, FailureKind::Damaged),
            Ok(other) => {
                prop_assert_ne!(&other, &record);
                prop_assert_eq!(other.encode(), shorter, "one value, one encoding");
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0u8..7) {
        let mut bytes = bytes;
        bytes.insert(0, kind);
        if let Ok(record) = WalRecord::decode(bytes.clone().into()) {
            prop_assert_eq!(record.encode(), bytes);
        }
    }

    #[test]
    fn a_frame_record_yields_its_frame_and_no_other(record in frame_record()) {
        let frame = record.frame().unwrap();
        prop_assert_eq!(frame.print(), record.print);
        let wrong = [
            FrameRecord { seq: record.seq.wrapping_add(1), ..record.clone() },
            FrameRecord { boot: !record.boot, ..record.clone() },
            FrameRecord { t0_ns: !record.t0_ns, ..record.clone() },
            FrameRecord { samples: record.samples + 1, ..record.clone() },
            FrameRecord { payload: Bytes::from_static(b"\xff"), ..record.clone() },
        ];
        for record in wrong {
            prop_assert_eq!(record.frame().unwrap_err().kind, FailureKind::Damaged);
        }
        // A log of before says the same with another print, which is made anew.
        let payload = record.payload.len();
        let mut before = WalRecord::Frame(record.clone()).encode();
        let print = before.len() - payload - 16;
        before[0] = 3;
        before[print..print + 16].fill(9);
        prop_assert_eq!(WalRecord::decode(before.into()).unwrap(), WalRecord::Frame(record));
    }
}

#[test]
fn the_payload_is_a_slice_and_strangers_are_refused() {
    let settled = WalRecord::Settled(SettledRecord {
        stream: "bed/ecg".parse().unwrap(),
        boot: 1,
        seq: 2,
        recv_ns: -3,
    });
    let good = settled.encode();
    assert_eq!(
        hex::encode(&good),
        "04\
         03626564\
         03656367\
         0000000000000001\
         0000000000000002\
         fffffffffffffffd"
    );
    let mut longer = good.clone();
    longer.push(0);
    let mut upper = good.clone();
    upper[2] = b'B';
    let strangers = [
        vec![],
        vec![0],
        vec![5],
        vec![6],
        vec![255; 40],
        longer,
        upper,
        vec![1, 255, 255, 255, 255],
    ];
    for bytes in strangers {
        assert_eq!(
            WalRecord::decode(bytes.into()).unwrap_err().kind,
            FailureKind::Damaged
        );
    }
}

#[test]
fn decoding_a_frame_copies_no_payload() {
    let record = FrameRecord {
        stream: "bed/ecg".parse().unwrap(),
        boot: 1,
        seq: 2,
        recv_ns: 3,
        t0_ns: 4,
        samples: 5,
        offset_ns: 6,
        clock: chordae_base::wire::ClockKind::Synced,
        place: Place::Live,
        print: [7; 16],
        payload: Bytes::from_static(b"eight"),
    };
    let bytes = Bytes::from(WalRecord::Frame(record).encode());
    let inside = bytes.as_ptr_range();
    match WalRecord::decode(bytes.clone()).unwrap() {
        WalRecord::Frame(found) => {
            assert_eq!(&*found.payload, b"eight");
            assert!(inside.contains(&found.payload.as_ptr()));
        }
        other => panic!("{other:?}"),
    }
}
