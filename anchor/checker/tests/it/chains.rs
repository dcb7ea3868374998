//! Links rewritten by somebody who knows the journal's checksums, and what a crash leaves.

use chordae_base::Digest;
use chordae_chain::finding::Code;
use chordae_checker::Verdict;

use crate::house::{House, add_data, chain, chunk, did, found, object, only};

fn name(did_n: u8, index: u64) -> String {
    format!("links/{}/{index}", did(did_n))
}

#[test]
fn a_link_left_out_is_a_gap_and_its_file_an_extra() {
    let mut house = House::new();
    house.links.retain(|l| (l.did, l.index) != (did(1), 2));
    house.write_links();
    only(
        &house.check(),
        &[
            (&name(1, 3), Code::IndexGap),
            (&object(1, 2), Code::ExtraFile),
        ],
    );
}

#[test]
fn a_link_twice_is_a_duplicate() {
    let mut house = House::new();
    let again = house.links[2].clone();
    house.links.push(again);
    house.write_links();
    only(&house.check(), &[(&name(1, 1), Code::DuplicateIndex)]);
}

#[test]
fn a_link_changed_in_place_breaks_the_next_one_and_its_file() {
    let mut house = House::new();
    let at = house.at(1, 2);
    house.links[at].file_root = Digest([3; 32]);
    house.write_links();
    only(
        &house.check(),
        &[
            (&object(1, 2), Code::FileDigest),
            (&name(1, 3), Code::LinkPrev),
        ],
    );

    let mut house = House::new();
    house.links[at].pages_root = Digest([3; 32]);
    house.write_links();
    only(
        &house.check(),
        &[
            (&object(1, 2), Code::PagesDigest),
            (&name(1, 3), Code::LinkPrev),
        ],
    );

    let mut house = House::new();
    house.links[at].rows = 79;
    house.write_links();
    only(
        &house.check(),
        &[
            (&object(1, 2), Code::Metadata),
            (&name(1, 3), Code::LinkPrev),
        ],
    );
}

#[test]
fn an_anchored_link_changed_with_its_file_is_a_fork() {
    // The newest chunk replaced by another one, chained and linked as it must be.
    let mut house = House::new();
    let prev = house.links[house.at(1, 3)].digest();
    let other = chunk(did(1), 4, prev);
    let mut meta = other.meta().clone();
    meta.boot = 2;
    let other = chordae_chunk::seal(meta, [4; 32], &other.rows().unwrap()).unwrap();
    house.put(&object(1, 4), other.bytes());
    let at = house.at(1, 4);
    house.links[at] = other.link().clone();
    house.write_links();
    let report = house.check();
    only(&report, &[(&name(1, 4), Code::Fork)]);
    assert_eq!(report.streams[0].verdict, Verdict::Damaged);
}

#[test]
fn two_digests_under_one_tag_are_a_fork() {
    let mut house = House::new();
    let mut other = house.links[house.at(2, 2)].clone();
    other.rows = 79;
    house.batches.push(vec![add_data(&other)]);
    house.write_ledger();
    let report = house.check();
    assert!(
        report.findings.iter().all(|f| f.code == Code::Fork),
        "{report:?}"
    );
    let objects: Vec<_> = found(&report).into_iter().map(|(o, _)| o).collect();
    assert!(
        objects.iter().any(|o| o.starts_with("ledger entry ")),
        "{objects:?}"
    );
    assert!(objects.contains(&name(2, 2)), "{objects:?}");
}

#[test]
fn a_stream_that_is_gone_altogether_is_still_missed() {
    let mut house = House::new();
    house.links.retain(|l| l.did != did(2));
    house.write_links();
    for index in 0..3 {
        house.remove(&object(2, index));
    }
    // Its empty folder still names it; without that only the entry can be named.
    only(&house.check(), &[(&name(2, 2), Code::TruncatedTail)]);
    let report = {
        let fresh = House::new();
        let mut links = fresh.links.clone();
        links.retain(|l| l.did != did(2));
        let mut bare = House::new();
        bare.disk = chordae_base::seams::fake::FakeDisk::new();
        for chunk in chain(did(1), 5) {
            bare.put(&object(1, chunk.link().index), chunk.bytes());
        }
        bare.links = links;
        bare.write_links();
        bare.batches[1].clear();
        bare.batches.remove(1);
        bare.batches[1].truncate(1);
        bare.write_ledger();
        bare.check()
    };
    only(&report, &[("ledger entry 1", Code::Rollback)]);
}

#[test]
fn links_past_the_anchored_one_are_unanchored() {
    let mut house = House::new();
    let prev = house.links[house.at(2, 2)].digest();
    let more = chunk(did(2), 3, prev);
    house.put(&object(2, 3), more.bytes());
    house.links.push(more.link().clone());
    house.write_links();
    let report = house.check();
    only(&report, &[]);
    assert_eq!(report.verdict, Verdict::Unanchored);
    assert_eq!(report.verdict.exit_code(), 4);
    assert_eq!(report.streams[0].verdict, Verdict::Ok);
    assert_eq!(
        (report.streams[1].anchored_to, report.streams[1].chunks),
        (Some(2), 4)
    );
}

#[test]
fn what_a_crash_leaves_is_a_note_and_what_it_cannot_leave_a_finding() {
    let house = House::new();
    let prev = house.links[house.at(2, 2)].digest();
    let next = chunk(did(2), 3, prev);
    for bytes in [&next.bytes()[..], &next.bytes()[..100], b""] {
        house.put(&object(2, 3), bytes);
        let report = house.check();
        only(&report, &[]);
        assert_eq!((report.verdict, report.notes.len()), (Verdict::Ok, 1));
    }
    // Not the next index; another stream's rows; a name that no chunk has.
    house.remove(&object(2, 3));
    house.put(&object(2, 4), next.bytes());
    house.put(&object(1, 5), next.bytes());
    house.put("chunks/readme", b"hello");
    house.put(&format!("{}x", object(1, 0)), b"hello");
    let strange = format!("{}x", object(1, 0));
    only(
        &house.check(),
        &[
            (&object(2, 4), Code::ExtraFile),
            (&object(1, 5), Code::ExtraFile),
            ("chunks/readme", Code::ExtraFile),
            (&strange, Code::ExtraFile),
        ],
    );
}

#[test]
fn a_torn_tail_of_the_links_is_a_crash_and_not_a_finding() {
    let house = House::new();
    let file = "links/00000000000000000000.log";
    let mut bytes = house.get(file);
    bytes.extend([1; 30]);
    house.put(file, &bytes);
    let report = house.check();
    only(&report, &[]);
    assert_eq!((report.verdict, report.notes.len()), (Verdict::Ok, 1));
}

#[test]
fn a_folder_in_use_grows_while_it_is_checked() {
    let house = House::new();
    let prev = house.links[house.at(2, 2)].digest();
    let next = chunk(did(2), 3, prev);
    let after = chunk(did(2), 4, next.link().digest());
    let mut grown = House::new();
    grown
        .links
        .extend([next.link().clone(), after.link().clone()]);
    grown
        .batches
        .extend([vec![add_data(next.link())], vec![add_data(after.link())]]);
    let mut done = false;
    // At the first word of progress the checkpoint has been read, and nothing else.
    let mut grow = |_| {
        if !std::mem::replace(&mut done, true) {
            grown.disk = house.disk.clone();
            for chunk in [&next, &after] {
                grown.put(&object(2, chunk.link().index), chunk.bytes());
            }
            grown.write_links();
            grown.write_ledger();
        }
    };
    let report =
        chordae_checker::check_folder(&house.disk, &house.root, Some(&house.trust), &mut grow);
    let report = report.unwrap();
    only(&report, &[]);
    assert!(
        report.notes.iter().any(|n| n.contains("grew")),
        "{:?}",
        report.notes
    );
    assert_eq!(report.streams[1].chunks, 5);
    assert_eq!(report.streams[1].verdict, Verdict::Unanchored);
    only(&house.check(), &[]);
    assert_eq!(house.check().verdict, Verdict::Ok);
}
