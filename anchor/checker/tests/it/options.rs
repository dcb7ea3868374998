//! How a folder is checked: with several threads, without page digests.

use chordae_base::Digest;
use chordae_chain::finding::Code;
use chordae_checker::{CheckOptions, Report, check_folder_with};

use crate::house::{House, did, object, only};

fn check(house: &House, pages: bool, threads: usize) -> Report {
    let options = CheckOptions {
        pages,
        threads,
        now_ms: None,
    };
    let (disk, trust) = (&house.disk, Some(&house.trust));
    check_folder_with(disk, &house.root, trust, &options, &mut |_| {}).unwrap()
}

#[test]
fn many_threads_say_what_one_says_in_the_same_order() {
    let house = House::new();
    for threads in [0, 1, 2, 7, 1000] {
        only(&check(&house, true, threads), &[]);
    }
    for index in [0, 2, 4] {
        let name = object(1, index);
        let mut bytes = house.get(&name);
        bytes[100] ^= 1;
        house.put(&name, &bytes);
    }
    house.remove(&object(2, 1));
    let one = check(&house, true, 1);
    assert_eq!(one.findings.len(), 4);
    for threads in [2, 3, 8] {
        assert_eq!(check(&house, true, threads), one, "{threads} threads");
        assert_eq!(check(&house, false, threads).findings, one.findings);
    }
}

#[test]
fn without_pages_file_digests_and_links_are_checked_and_no_more() {
    let mut house = House::new();
    only(&check(&house, false, 2), &[]);
    // A link that names other pages, with the chain behind it broken: only its pages are not looked at.
    let at = house.at(1, 2);
    house.links[at].pages_root = Digest([3; 32]);
    house.write_links();
    let next = format!("links/{}/3", did(1));
    only(&check(&house, false, 2), &[(&next, Code::LinkPrev)]);
    let both = [
        (&*object(1, 2), Code::PagesDigest),
        (&*next, Code::LinkPrev),
    ];
    only(&check(&house, true, 2), &both);
}
