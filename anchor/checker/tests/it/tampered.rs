//! Every way of `chordae tamper`, and the folder that nobody touched.

use chordae_base::{FailureKind, seams::Disk as _};
use chordae_chain::finding::Code;
use chordae_checker::{
    Verdict,
    tamper::{How, tamper_stream},
};

use crate::house::{House, did, object, only};

#[test]
fn the_untouched_folder_is_ok() {
    let report = House::new().check();
    only(&report, &[]);
    assert_eq!(report.verdict, Verdict::Ok);
    assert_eq!(report.verdict.exit_code(), 0);
    assert!(report.notes.is_empty(), "{:?}", report.notes);
    let (a, b) = (did(1), did(2));
    let want = format!(
        "{{\"v\":1,\"verdict\":\"ok\",\"streams\":[\
         {{\"did\":\"{a}\",\"chunks\":5,\"anchored_to\":4,\"verdict\":\"ok\"}},\
         {{\"did\":\"{b}\",\"chunks\":3,\"anchored_to\":2,\"verdict\":\"ok\"}}],\"findings\":[]}}"
    );
    assert_eq!(report.to_json(), want);
}

#[test]
fn without_a_trust_file_nothing_is_better_than_unanchored() {
    let report = House::new().check_with(None);
    only(&report, &[]);
    assert_eq!(report.verdict, Verdict::Unanchored);
    assert_eq!(report.verdict.exit_code(), 4);
    assert!(
        report
            .streams
            .iter()
            .all(|s| s.verdict == Verdict::Unanchored && s.anchored_to.is_none())
    );
}

#[test]
fn a_chunk_that_was_tampered_with_is_named() {
    let changed: [(How, Vec<(String, Code)>); 5] = [
        (How::FlipBit, vec![(object(1, 4), Code::FileDigest)]),
        (How::ChangeSample, vec![(object(1, 4), Code::FileDigest)]),
        (
            How::SwapChunks,
            vec![
                (object(1, 0), Code::FileDigest),
                (object(1, 1), Code::FileDigest),
            ],
        ),
        (How::DropChunk, vec![(object(1, 4), Code::MissingFile)]),
        (How::DuplicateChunk, vec![(object(2, 3), Code::ExtraFile)]),
    ];
    for (how, want) in changed {
        let house = House::new();
        let said = house.tamper(how).unwrap();
        let want: Vec<(&str, Code)> = want.iter().map(|(o, c)| (o.as_str(), *c)).collect();
        let report = house.check();
        only(&report, &want);
        assert_eq!(report.verdict.exit_code(), 3, "{how}: {said}");
        assert!(
            want.iter().all(|(object, _)| said.contains(object)),
            "{said}"
        );
        // Even who knows no key sees it.
        only(&house.check_with(None), &want);
    }
}

#[test]
fn rows_changed_in_files_that_are_whole_in_themselves_are_named() {
    let house = House::new();
    let of_two = |how| tamper_stream(&house.arc(), &house.root, how, Some(did(2)));
    // All chunks of this house have the same values: swapped, nothing would have changed.
    assert_eq!(
        of_two(How::SwapRows).unwrap_err().kind,
        FailureKind::BadInput
    );
    only(&house.check(), &[]);
    let said = of_two(How::ChangeSample).unwrap();
    assert!(said.contains(&object(2, 1)), "{said}");
    only(&house.check(), &[(&object(2, 1), Code::FileDigest)]);
    // The changed values go to the neighbour, and the own ones come back: the same bytes as ever.
    let said = of_two(How::SwapRows).unwrap();
    assert!(
        said.contains(&object(2, 1)) && said.contains(&object(2, 2)),
        "{said}"
    );
    only(&house.check(), &[(&object(2, 2), Code::FileDigest)]);
    // The control: the file alone is a flawless chunk.
    let file = house.disk.read(&house.root.join(object(2, 2)), u64::MAX);
    chordae_chunk::open(file.unwrap().into()).unwrap();
}

#[test]
fn a_stream_that_was_cut_at_its_end_is_named() {
    let house = House::new();
    house.tamper(How::TruncateLinks).unwrap();
    let report = house.check();
    let name = format!("links/{}/4", did(1));
    only(&report, &[(&name, Code::TruncatedTail)]);
    assert_eq!(report.streams[0].verdict, Verdict::Damaged);
    assert_eq!(
        report.streams[1].verdict,
        Verdict::Ok,
        "the other stream is whole"
    );
}

#[test]
fn a_ledger_that_was_tampered_with_is_named() {
    let house = House::new();
    house.tamper(How::ChangeEntry).unwrap();
    let report = house.check();
    let codes: Vec<Code> = report.findings.iter().map(|f| f.code).collect();
    assert!(
        codes.contains(&Code::LogRoot) && codes.contains(&Code::EntrySignature),
        "{report:?}"
    );
    let entry = |f: &chordae_chain::finding::Finding| f.object.starts_with("ledger entry ");
    assert!(
        report
            .findings
            .iter()
            .filter(|f| f.code == Code::EntrySignature)
            .all(entry)
    );

    let house = House::new();
    house.tamper(How::ChangeTile).unwrap();
    only(&house.check(), &[("ledger/tile/0/000", Code::LogRoot)]);

    let house = House::new();
    house.tamper(How::RollBackLedger).unwrap();
    let report = house.check();
    assert!(
        report
            .findings
            .iter()
            .any(|f| { f.object == "ledger/checkpoint" && f.code == Code::CheckpointSignature })
    );
    assert_eq!(report.verdict, Verdict::Damaged);

    let house = House::new();
    house.tamper(How::ChangeTrail).unwrap();
    let report = house.check();
    assert!(
        report.findings.iter().all(|f| f.code == Code::Trail),
        "{report:?}"
    );
    assert_eq!(report.verdict, Verdict::Damaged);
}

#[test]
fn a_folder_signed_again_by_others_is_never_ok() {
    let house = House::new();
    house.tamper(How::ResignFolder).unwrap();
    let report = house.check();
    assert_eq!(report.verdict.exit_code(), 3);
    assert!(
        report
            .findings
            .iter()
            .any(|f| f.code == Code::CheckpointSignature)
    );
    assert!(report.streams.iter().all(|s| s.anchored_to.is_none()));
    // In itself it is flawless: the negative control for what only trust can tell.
    let blind = house.check_with(None);
    only(&blind, &[]);
    assert_eq!(blind.verdict.exit_code(), 4);
}

#[test]
fn ways_have_names_and_a_copy_without_anything_is_refused() {
    for how in How::ALL {
        assert_eq!(how.as_str().parse::<How>().unwrap(), how);
    }
    assert!("burn".parse::<How>().unwrap_err().why.contains("flip-bit"));
    let house = House::new();
    for (did, index) in [
        (1, 0),
        (1, 1),
        (1, 2),
        (1, 3),
        (1, 4),
        (2, 0),
        (2, 1),
        (2, 2),
    ] {
        house.remove(&object(did, index));
    }
    assert_eq!(
        house.tamper(How::FlipBit).unwrap_err().kind,
        FailureKind::BadInput
    );
}
