//! What goes in comes out, and nothing goes in that could not come out.

use bytes::Bytes;
use chordae_base::{Digest, FailureKind, Rate, Span, wire::NO_VALUE};
use chordae_chunk::{ChunkRows, file_root, open, open_verified, read_meta, read_span, seal};
use proptest::prelude::*;

use crate::common::{SALT, SLOT, lead, meta, rows};

#[test]
fn a_sealed_chunk_opens_as_itself() {
    let rows = rows(4320);
    let sealed = seal(meta(&rows), SALT, &rows).unwrap();
    let chunk = open_verified(sealed.bytes().clone(), sealed.link()).unwrap();
    assert_eq!(chunk.rows(), &rows);
    assert_eq!(chunk.meta, *sealed.meta());
    assert_eq!(chunk.link().unwrap(), *sealed.link());
    assert_eq!(sealed.rows().unwrap(), rows);
    assert_eq!(sealed.link().file_root, file_root(sealed.bytes()));
    assert_eq!(
        read_meta(sealed.bytes().clone()).unwrap(),
        (chunk.meta, chunk.meta_json)
    );
}

#[test]
fn equal_rows_and_salt_give_equal_bytes_and_another_salt_gives_others() {
    let rows = rows(4320);
    let a = seal(meta(&rows), SALT, &rows).unwrap();
    let b = seal(meta(&rows), SALT, &rows).unwrap();
    let c = seal(meta(&rows), [8; 32], &rows).unwrap();
    assert_eq!(a.bytes(), b.bytes());
    assert_ne!(a.bytes(), c.bytes());
    assert_ne!(
        a.link().pages_root,
        c.link().pages_root,
        "the salt hides equal pages"
    );
}

#[test]
fn the_link_of_another_chunk_is_refused() {
    let rows = rows(400);
    let sealed = seal(meta(&rows), SALT, &rows).unwrap();
    let chunk = open(sealed.bytes().clone()).unwrap();
    let mut other = sealed.link().clone();
    other.index = 1;
    assert!(chunk.verify(&other).unwrap_err().why.contains("index"));
    other = sealed.link().clone();
    other.pages_root = Digest([1; 32]);
    assert!(
        chunk
            .verify(&other)
            .unwrap_err()
            .why
            .contains("page digests")
    );
    other.file_root = Digest([1; 32]);
    let refused = open_verified(sealed.bytes().clone(), &other).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Damaged);
}

#[test]
fn a_span_reads_what_the_whole_holds() {
    let rows = rows(4320 * 4);
    let sealed = seal(meta(&rows), SALT, &rows).unwrap();
    for (from, until) in [
        (0, 60),
        (12, 22),
        (5, 6),
        (40, 90),
        (59, 60),
        (0, 5),
        (70, 80),
    ] {
        let span = Span {
            from_ns: SLOT + from * 1_000_000_000,
            until_ns: SLOT + until * 1_000_000_000,
        };
        let (_, part) = read_span(sealed.bytes().clone(), span, &[1, 0]).unwrap();
        let within = rows.within(span);
        assert_eq!(part.times, rows.times[within.clone()]);
        assert_eq!(
            part.leads,
            [&rows.leads[1][within.clone()], &rows.leads[0][within]]
        );
    }
    assert!(
        read_span(
            sealed.bytes().clone(),
            Span {
                from_ns: 0,
                until_ns: 1
            },
            &[2]
        )
        .is_err()
    );
}

#[test]
fn rows_that_contradict_their_metadata_are_not_sealed() {
    type Break = fn(&mut chordae_chain::meta::ChunkMeta, &mut ChunkRows);
    let breaks: [(&str, Break); 14] = [
        ("no rows", |m, r| {
            *r = ChunkRows {
                times: vec![],
                leads: vec![vec![], vec![]],
            };
            m.rows = 0;
        }),
        ("row count", |m, _| m.rows += 1),
        ("a short lead", |_, r| r.leads[1].truncate(5)),
        ("a lead too many", |_, r| r.leads.push(r.leads[0].clone())),
        ("equal times", |_, r| r.times[7] = r.times[6]),
        ("times back", |_, r| r.times.swap(7, 6)),
        ("first", |m, _| m.first_ns += 1),
        ("end", |m, _| m.end_ns += 1),
        ("slot", |m, _| m.slot_start_ns += m.slot_len_ns),
        ("slot length", |m, _| m.slot_len_ns += 1),
        ("page", |m, _| m.page_ns += 1),
        ("lead twice", |m, _| m.leads[1] = lead("mlii")),
        ("missing outside seq", |m, _| m.missing = vec![(4, 40)]),
        ("a missing list of a megabyte", |m, _| {
            m.seq.1 = 1 << 50;
            m.missing = (0..200_000).map(|k| (10 * k + 1, 10 * k + 2)).collect();
        }),
    ];
    for (what, broken) in breaks {
        let mut rows = rows(400);
        let mut meta = meta(&rows);
        broken(&mut meta, &mut rows);
        assert!(seal(meta, SALT, &rows).is_err(), "{what}");
    }
}

#[test]
fn a_chunk_that_ends_at_its_slot_is_cut_there() {
    let times = vec![SLOT + 59_999_999_999];
    let rows = ChunkRows {
        times,
        leads: vec![vec![1], vec![NO_VALUE]],
    };
    let sealed = seal(meta(&rows), SALT, &rows).unwrap();
    assert_eq!(sealed.link().end_ns, SLOT + 60_000_000_000);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    /// Any codes, any holes, any lead count: through the file and back.
    #[test]
    fn any_codes_survive(
        leads in prop::collection::vec(
            prop::collection::vec(prop_oneof![3 => any::<i32>(), 1 => Just(NO_VALUE), 4 => -50..50i32], 700),
            1..5,
        ),
        steps in prop::collection::vec(1..80_000_000i64, 700),
    ) {
        let times: Vec<i64> =
            steps.iter().scan(SLOT, |t, step| { *t += step; Some(*t) }).collect();
        let rows = ChunkRows { times, leads };
        let mut meta = meta(&rows);
        meta.leads = (0..rows.leads.len()).map(|i| lead(&format!("lead {i}"))).collect();
        meta.rate = Rate::new(100, 3).unwrap();
        meta.end_ns = (rows.times[699] + 30_000_000).min(SLOT + 60_000_000_000);
        let sealed = seal(meta, SALT, &rows).unwrap();
        prop_assert_eq!(sealed.rows().unwrap(), rows);
    }
}

#[test]
fn a_file_of_another_kind_is_refused() {
    for bytes in [
        &b""[..],
        b"PAR1",
        b"PAR1PAR1",
        b"PAR1\0\0\0\0PAR1",
        b"PAR1\xff\xff\xff\xffPAR1",
    ] {
        assert_eq!(
            open(Bytes::from_static(bytes)).unwrap_err().kind,
            FailureKind::Damaged
        );
    }
}
