//! The rows of the list of bad inputs that a check of a folder, a ledger or a proof must catch, each by its
//! number and with a control. Elsewhere: the table of L11 in chain's `ed25519_strict`, the format's side of S02 and
//! S05 in `chordae-chunk`, what the server itself does about S04, L03 and L04 in node, anchor and storage.

use std::os::unix::net::UnixListener;

use bytes::Bytes;
use chordae_base::{FailureKind, Rate, seams::real::OsDisk};
use chordae_chain::{
    checkpoint::{self, Checkpoint, TrustedLog},
    event::{self, Event},
    finding::Code,
    link::{Link, genesis},
    merkle::{self, NodeHash, StoredHashes},
};
use chordae_checker::{Verdict, check_folder, tamper::How};
use chordae_chunk::ChunkRows;

use crate::{
    house::{House, ORIGIN, S, T, add_data, chain, chunk, did, found, keys, object, only},
    places::build,
};

const GOLDEN: &[u8] = include_bytes!("../../../../chunker/format/tests/golden/small.parquet");
const LEVEL: &[u8] =
    include_bytes!("../../../../chunker/format/tests/golden/again-level-9.parquet");
const GROUPS: &[u8] =
    include_bytes!("../../../../chunker/format/tests/golden/again-3-groups.parquet");

fn names(did_n: u8, index: u64) -> String {
    format!("links/{}/{index}", did(did_n))
}

/// A house with one more stream, whose only chunk is this file, anchored.
fn house_with(bytes: &[u8]) -> (House, Link, String) {
    let chunk = chordae_chunk::open(Bytes::copy_from_slice(bytes)).unwrap();
    let link = chunk.link().unwrap();
    let name = chordae_chain::link::object_name(&link.did, link.index);
    let mut house = House::new();
    house.put(&name, bytes);
    house.links.push(link.clone());
    house.write_links();
    house.batches.push(vec![add_data(&link)]);
    house.write_ledger();
    (house, link, name)
}

#[test]
fn s01_a_flipped_bit_in_every_part_of_a_chunk() {
    let house = House::new();
    let name = object(1, 2);
    let whole = house.get(&name);
    let at = |what: &[u8]| whole.windows(what.len()).rposition(|w| w == what).unwrap();
    // Magic, first page header, footer key, metadata, footer length.
    for at in [
        0,
        4,
        at(b"chordae-salt"),
        at(b"\"slot_len_ns\""),
        whole.len() - 8,
    ] {
        let mut bent = whole.clone();
        bent[at] ^= 1;
        house.put(&name, &bent);
        only(&house.check(), &[(&name, Code::FileDigest)]);
    }
    house.put(&name, &whole);
    only(&house.check(), &[]);
}

/// A chunk of noise, which does not compress: 10 s at 1 kHz, about 15 KiB.
fn noise() -> Bytes {
    let like = chunk(did(3), 0, genesis(&did(3)));
    let mut meta = like.meta().clone();
    (meta.rows, meta.rate) = (10_000, Rate::new(1000, 1).unwrap());
    meta.leads.truncate(1);
    let mut state = 1_u32;
    let mut code = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 20).cast_signed()
    };
    let rows = ChunkRows {
        times: (0..10_000).map(|k| T + k * S / 1000).collect(),
        leads: vec![(0..10_000).map(|_| code()).collect()],
    };
    chordae_chunk::seal(meta, [3; 32], &rows)
        .unwrap()
        .bytes()
        .clone()
}

#[test]
fn s02_cut_and_longer_at_every_4_kib_and_one_beside() {
    let whole = noise();
    let (house, _, name) = house_with(&whole);
    only(&house.check(), &[]);
    let cuts = (1..).map(|n| n * 4096).take_while(|at| *at < whole.len());
    let mut tried = 0;
    for at in cuts.flat_map(|at| [at - 1, at, at + 1]) {
        house.put(&name, &whole[..at.min(whole.len() - 1)]);
        only(&house.check(), &[(&name, Code::FileDigest)]);
        tried += 1;
    }
    assert!(tried >= 9, "the chunk has {} bytes", whole.len());
    let footer = u32::from_le_bytes(whole[whole.len() - 8..][..4].try_into().unwrap());
    let footer = &whole[whole.len() - 8 - footer as usize..];
    for more in [&[0][..], footer] {
        house.put(&name, &[&whole, more].concat());
        only(&house.check(), &[(&name, Code::FileDigest)]);
    }
    house.put(&name, b"");
    only(&house.check(), &[(&name, Code::FileDigest)]);
}

#[test]
fn s03_chunks_in_the_wrong_place() {
    let check = |how: &dyn Fn(&House), want: &[(&str, Code)]| {
        let house = House::new();
        only(&house.check(), &[]);
        how(&house);
        let report = house.check();
        only(&report, want);
        assert_eq!(report.verdict, Verdict::Damaged);
        report
    };
    // Exchanged, between two indexes and between two devices.
    for (a, b) in [(object(1, 0), object(1, 3)), (object(1, 1), object(2, 1))] {
        let swap = |house: &House| {
            let (first, second) = (house.get(&a), house.get(&b));
            house.put(&a, &second);
            house.put(&b, &first);
        };
        check(&swap, &[(&a, Code::FileDigest), (&b, Code::FileDigest)]);
    }
    // Once more at the next index; in the middle; the last one, with and without its link.
    let twice = |house: &House| house.put(&object(2, 3), &house.get(&object(2, 2)));
    check(&twice, &[(&object(2, 3), Code::ExtraFile)]);
    for index in [2, 4] {
        let gone = |house: &House| house.remove(&object(1, index));
        check(&gone, &[(&object(1, index), Code::MissingFile)]);
    }
    let cut = |house: &House| drop(house.tamper(How::TruncateLinks).unwrap());
    check(&cut, &[(&names(1, 4), Code::TruncatedTail)]);
    // Renamed to another device: under a name that is free, it is one too many there and missing here.
    let renamed = |house: &House| {
        house.put(&object(2, 3), &house.get(&object(1, 3)));
        house.remove(&object(1, 3));
    };
    let free = [
        (&*object(1, 3), Code::MissingFile),
        (&*object(2, 3), Code::ExtraFile),
    ];
    check(&renamed, &free);
    // Over one of the other's: what it holds is told.
    let over = |house: &House| {
        house.put(&object(2, 1), &house.get(&object(1, 1)));
        house.remove(&object(1, 1));
    };
    let two = [
        (&*object(1, 1), Code::MissingFile),
        (&*object(2, 1), Code::FileDigest),
    ];
    let report = check(&over, &two);
    let holds = format!("it holds chunk 1 of {}", did(1));
    assert!(
        report.findings.iter().any(|f| f.detail.contains(&holds)),
        "{report:?}"
    );
}

#[test]
fn s03_without_links_the_chunk_files_and_the_ledger_tell_the_same() {
    let bare = |how: &dyn Fn(&House)| {
        let house = House::new();
        how(&house);
        // As a copy that was made without it: the folder itself is not there.
        let copy = chordae_base::seams::fake::FakeDisk::new();
        for name in house.files() {
            if !name.starts_with("links/") {
                copy.put(&house.root.join(&name), &house.get(&name));
            }
        }
        check_folder(&copy, &house.root, Some(&house.trust), &mut |_| {}).unwrap()
    };
    let report = bare(&|_| {});
    only(&report, &[]);
    assert_eq!(report.verdict, Verdict::Ok);
    assert!(
        report.notes[0].contains("there is no links/"),
        "{:?}",
        report.notes
    );
    assert_eq!(
        (report.streams[0].chunks, report.streams[0].anchored_to),
        (5, Some(4))
    );
    // Altered so that the file opens, in the middle: its successor names another.
    let altered = |house: &House| {
        let was = chordae_chunk::open(Bytes::from(house.get(&object(1, 2)))).unwrap();
        let again = chordae_chunk::seal(was.meta.clone(), [9; 32], was.rows()).unwrap();
        house.put(&object(1, 2), again.bytes());
    };
    only(&bare(&altered), &[(&object(1, 2), Code::LinkPrev)]);
    let swapped = |house: &House| drop(house.tamper(How::SwapChunks).unwrap());
    let two = [
        (&*object(1, 0), Code::Metadata),
        (&*object(1, 1), Code::Metadata),
    ];
    only(&bare(&swapped), &two);
    let flipped = |house: &House| {
        let mut bytes = house.get(&object(1, 3));
        let at = bytes.len() - 9;
        bytes[at] ^= 1;
        house.put(&object(1, 3), &bytes);
    };
    only(&bare(&flipped), &[(&object(1, 3), Code::Metadata)]);
    only(
        &bare(&|house| house.remove(&object(1, 2))),
        &[(&object(1, 2), Code::MissingFile)],
    );
    only(
        &bare(&|house| house.remove(&object(1, 4))),
        &[(&object(1, 4), Code::TruncatedTail)],
    );
    // A whole end that hangs together, by somebody who knows the format.
    let forged = |house: &House| {
        let mut prev = chordae_chunk::open(Bytes::from(house.get(&object(1, 2)))).unwrap();
        for index in [3, 4] {
            let next = chunk(did(1), index, prev.link().unwrap().digest());
            let mut meta = next.meta().clone();
            meta.boot = 7;
            let next = chordae_chunk::seal(meta, [9; 32], &next.rows().unwrap()).unwrap();
            house.put(&object(1, index), next.bytes());
            prev = chordae_chunk::open(next.bytes().clone()).unwrap();
        }
    };
    // Anchored are 1 and 4: that 4 is wrong is certain, where it begins between them is not.
    only(&bare(&forged), &[(&object(1, 4), Code::LinkPrev)]);
    // What a crash leaves at the end is no finding there either.
    let report = bare(&|house| house.put(&object(1, 5), b"PAR1"));
    only(&report, &[]);
    assert_eq!((report.verdict, report.notes.len()), (Verdict::Ok, 2));
    // A stream that is not anchored to its end is told as such.
    let more = |house: &House| {
        let prev = house
            .links
            .iter()
            .rfind(|l| l.did == did(2))
            .unwrap()
            .digest();
        house.put(&object(2, 3), chunk(did(2), 3, prev).bytes());
    };
    let report = bare(&more);
    only(&report, &[]);
    assert_eq!(report.verdict, Verdict::Unanchored);
    let other = |house: &House| {
        house.put(&object(2, 3), chunk(did(2), 3, genesis(&did(2))).bytes());
    };
    only(&bare(&other), &[(&object(2, 3), Code::LinkPrev)]);
}

#[test]
fn s04_a_folder_set_back_tells_its_age_to_who_brings_a_clock() {
    // In itself yesterday's folder is flawless (the server's own memory is tested with the server); its newest
    // audit-head is as old as the folder.
    let house = House::new();
    let check = |now_ms: u64| {
        let options = chordae_checker::CheckOptions {
            now_ms: Some(now_ms),
            ..Default::default()
        };
        let trust = Some(&house.trust);
        let disk = &house.disk;
        chordae_checker::check_folder_with(disk, &house.root, trust, &options, &mut |_| {}).unwrap()
    };
    let report = check(7 + 86_400_000);
    only(&report, &[]);
    assert_eq!(
        (report.verdict, report.fresh_ms),
        (Verdict::Ok, Some(86_400_000))
    );
    assert!(
        report
            .notes
            .contains(&"newest audit-head: 86400 s old".into()),
        "{:?}",
        report.notes
    );
    assert!(
        report.to_json().ends_with(",\"fresh_ms\":86400000}"),
        "{}",
        report.to_json()
    );
    assert_eq!(check(7).fresh_ms, Some(0));
    assert_eq!(house.check().fresh_ms, None, "nobody asked");
}

#[test]
fn s05_the_same_rows_written_again_are_another_file() {
    let (house, link, name) = house_with(GOLDEN);
    only(&house.check(), &[]);
    for again in [LEVEL, GROUPS] {
        house.put(&name, again);
        only(&house.check(), &[(&name, Code::FileDigest)]);
    }
    // The link changed with it: the ledger vouches for the other one.
    let (mut house, _, name) = house_with(GOLDEN);
    house.put(&name, LEVEL);
    let level = chordae_chunk::open(Bytes::from_static(LEVEL)).unwrap();
    assert_eq!(level.pages_root().unwrap(), link.pages_root, "equal rows");
    house.links.last_mut().unwrap().file_root = level.file_root;
    house.write_links();
    only(
        &house.check(),
        &[(&format!("links/{}/0", link.did), Code::Fork)],
    );
}

#[test]
fn s08_hard_links_and_sockets() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data");
    let house = build(&root);
    let check = || check_folder(&OsDisk, &root, Some(&house.trust), &mut |_| {}).unwrap();
    // A second name outside changes nothing of what is inside.
    std::fs::hard_link(root.join(object(1, 0)), dir.path().join("outside")).unwrap();
    only(&check(), &[]);
    // One chunk under two names: each name is held against its own link.
    std::fs::remove_file(root.join(object(1, 1))).unwrap();
    std::fs::hard_link(root.join(object(1, 0)), root.join(object(1, 1))).unwrap();
    std::fs::hard_link(root.join(object(1, 0)), root.join(object(1, 5))).unwrap();
    std::fs::remove_file(root.join(object(1, 2))).unwrap();
    let _socket = UnixListener::bind(root.join(object(1, 2))).unwrap();
    let _stranger = UnixListener::bind(root.join("chunks/socket")).unwrap();
    only(
        &check(),
        &[
            (&object(1, 1), Code::FileDigest),
            (&object(1, 2), Code::FileDigest),
            (&object(1, 5), Code::ExtraFile),
            ("chunks/socket", Code::ExtraFile),
        ],
    );
}

/// A change of a log's entries.
type Edit = dyn Fn(&mut Vec<Vec<u8>>);

#[test]
fn l01_a_ledger_changed_by_whoever_holds_the_disk() {
    let changed = |how: &Edit| {
        let house = House::new();
        let mut entries = house.entries.clone();
        how(&mut entries);
        // Entries and tiles as the new entries ask for, under the checkpoint that was signed.
        let signed = house.get("ledger/checkpoint");
        house.forget_log();
        house.put_log(&entries);
        house.put("ledger/checkpoint", &signed);
        house.check()
    };
    only(&changed(&|_| {}), &[]);
    let ways: [(&str, &Edit); 5] = [
        ("altered", &|entries| *entries[6].last_mut().unwrap() ^= 1),
        ("removed", &|entries| drop(entries.remove(3))),
        ("inserted", &|entries| entries.insert(3, entries[0].clone())),
        ("reordered", &|entries| entries.swap(0, 1)),
        ("signature swapped", &|entries| {
            let (a, b) = (entries[0].len() - 64, entries[1].len() - 64);
            let other = entries[1][b..].to_vec();
            entries[0][a..].copy_from_slice(&other);
        }),
    ];
    for (what, how) in ways {
        let report = changed(how);
        let root = ("ledger/checkpoint".to_owned(), Code::LogRoot);
        assert_eq!(report.verdict, Verdict::Damaged, "{what}");
        let missing = report.findings.iter().any(|f| f.code == Code::MissingFile);
        assert!(
            found(&report).contains(&root) || missing,
            "{what}: {report:?}"
        );
        assert!(
            report.streams.iter().all(|s| s.anchored_to.is_none()),
            "{what}"
        );
    }
    // The thief rolls the key: everything holds, under a key that nobody trusts.
    let house = House::new();
    house.tamper(How::ResignFolder).unwrap();
    let report = house.check();
    let named = report
        .findings
        .iter()
        .any(|f| f.code == Code::CheckpointSignature);
    assert!(named && report.verdict == Verdict::Damaged, "{report:?}");
}

/// A signed checkpoint over these leaves, as a client receives it.
fn tip(leaves: &[NodeHash]) -> String {
    let checkpoint = Checkpoint {
        origin: ORIGIN.into(),
        size: leaves.len() as u64,
        root: merkle::root(leaves),
    };
    checkpoint.sign(&keys(5).sign).unwrap()
}

#[test]
fn l02_a_split_view_is_found_when_two_readers_compare_and_by_who_holds_an_older_head() {
    let log = TrustedLog::new(ORIGIN, &keys(5).sign_public()).unwrap();
    let leaf = |n: u8| merkle::leaf_hash(&[n]);
    let common: Vec<NodeHash> = (0..9).map(leaf).collect();
    let for_one: Vec<NodeHash> = (0..20).map(leaf).collect();
    let mut for_other = for_one.clone();
    for_other[12] = leaf(200);
    // Both are signed by the true key, and each alone is valid.
    let open = |leaves: &[NodeHash]| checkpoint::open(&tip(leaves), &log).unwrap();
    let (one, other, older) = (open(&for_one), open(&for_other), open(&common));
    let follows = |old: &Checkpoint, new: &Checkpoint, leaves: &[NodeHash]| {
        let path = merkle::consistency_path(new.size, old.size, &StoredHashes::of(leaves)).unwrap();
        merkle::check_consistency((old.size, old.root), (new.size, new.root), &path)
    };
    // The two compare: one size, two roots. No path can join them.
    assert_eq!(one.size, other.size);
    assert!(follows(&one, &other, &for_other).is_err());
    // Who holds a head from before the split sees nothing yet: both views begin with it.
    follows(&older, &one, &for_one).expect("the control");
    follows(&older, &other, &for_other).expect("the control");
    // Who holds a head from after the split is shown the other view, also one that has grown.
    let seen = open(&for_one[..15]);
    follows(&seen, &one, &for_one).expect("the control");
    for grown in [20, 21, 40] {
        let mut leaves = for_other.clone();
        leaves.extend((20..grown).map(leaf));
        let refused = follows(&seen, &open(&leaves), &leaves).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Damaged);
    }
}

#[test]
fn l03_an_older_state_of_the_ledger_does_not_fit_what_lies_beside_it() {
    // Ledger alone set back, by its own signed checkpoint of that time, with the entries after it still there.
    let house = House::new();
    let old = House::new();
    only(&old.check(), &[]);
    let leaves: Vec<NodeHash> = house.entries[..3]
        .iter()
        .map(|e| merkle::leaf_hash(e))
        .collect();
    house.put_log(&house.entries[..3]);
    house.put("ledger/checkpoint", tip(&leaves).as_bytes());
    only(&house.check(), &[("ledger/checkpoint", Code::Rollback)]);
}

#[test]
fn l04_an_anchor_whose_chunk_is_not_there_is_found() {
    // The server never makes one (chunk, link, then anchor); who finds one knows that the disk lied.
    let mut house = House::new();
    let before = house.links.iter().rfind(|l| l.did == did(1)).unwrap();
    let next = chunk(did(1), 5, before.digest());
    house.batches.push(vec![add_data(next.link())]);
    house.write_ledger();
    only(&house.check(), &[(&names(1, 5), Code::TruncatedTail)]);
    house.links.push(next.link().clone());
    house.write_links();
    only(&house.check(), &[(&object(1, 5), Code::MissingFile)]);
    house.put(&object(1, 5), next.bytes());
    only(&house.check(), &[]);
}

#[test]
fn l05_the_same_anchor_twice_is_one_and_another_head_under_its_tag_is_evidence() {
    let mut house = House::new();
    let anchored = house.links[house.at(1, 4)].clone();
    // Submitted again, other sealed bytes: says the same.
    let again = Event::AddData {
        digest: anchored.digest(),
        tag: chordae_chain::link::tag(&anchored.did, anchored.index),
        content: vec![8; 60],
    };
    house
        .batches
        .push(vec![event::sign(&again, &keys(1)).unwrap()]);
    house.write_ledger();
    let report = house.check();
    only(&report, &[]);
    assert_eq!(report.verdict, Verdict::Ok);
    // Another head of the same index: both entries stay in the log and are named, signed by the provider.
    let mut other = anchored;
    other.rows -= 1;
    house.batches.push(vec![add_data(&other)]);
    house.write_ledger();
    let report = house.check();
    assert!(
        report.findings.iter().all(|f| f.code == Code::Fork),
        "{report:?}"
    );
    let objects: Vec<String> = found(&report)
        .into_iter()
        .map(|(object, _)| object)
        .collect();
    assert!(objects.contains(&names(1, 4)), "{objects:?}");
    let evidence: Vec<&String> = objects
        .iter()
        .filter(|o| o.starts_with("ledger entry "))
        .collect();
    let leaf: usize = evidence[0]["ledger entry ".len()..].parse().unwrap();
    let signed = event::decode(&house.entries[leaf]).unwrap();
    signed
        .verify(&keys(1).sign_public())
        .expect("nobody else can have signed it");
}

#[test]
fn l05_two_heads_of_the_trail_for_one_count_and_one_that_goes_back() {
    let head = |count: u64, digest: u8, time_ms: u64| {
        let digest = chordae_base::Digest([digest; 32]);
        let event = Event::AuditHead {
            digest,
            count,
            time_ms,
        };
        event::sign(&event, &keys(1)).unwrap()
    };
    let mut house = House::new();
    house.forget_log();
    house.batches.insert(0, vec![head(0, 0, 1), head(0, 0, 2)]);
    house.write_ledger();
    only(&house.check(), &[]);
    house.batches.push(vec![head(4, 1, 9)]);
    house.write_ledger();
    only(&house.check(), &[("ledger entry 12", Code::Trail)]);
    house.batches.last_mut().unwrap()[0] = head(0, 0, 9);
    house.write_ledger();
    only(&house.check(), &[("ledger entry 12", Code::Trail)]);
}

#[test]
fn l11_a_second_text_of_a_signature_is_none() {
    let revoke = Event::RevokeSession {
        sid: [1; 32],
        nonce: [1; 16],
    };
    let entry = event::sign(&revoke, &keys(3)).unwrap();
    // S + L, which a lax verifier takes for S.
    let order = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
    let mut bent = entry.clone();
    let (mut carry, start) = (0, entry.len() - 32);
    for (at, byte) in bent[start..].iter_mut().enumerate() {
        let l = u16::from_str_radix(&order[2 * at..2 * at + 2], 16).unwrap();
        carry += u16::from(*byte) + l;
        *byte = carry.to_le_bytes()[0];
        carry >>= 8;
    }
    for (entry, want) in [
        (entry, &[][..]),
        (bent, &[("ledger entry 9", Code::EntrySignature)]),
    ] {
        let mut house = House::new();
        house.batches.push(vec![entry]);
        house.write_ledger();
        only(&house.check(), want);
    }
}

#[test]
fn l12_inclusion_paths_that_prove_something_else() {
    let leaves: Vec<NodeHash> = chain(did(1), 7)
        .iter()
        .map(|c| merkle::leaf_hash(&c.link().encode()))
        .collect();
    let (size, root, stored) = (7, merkle::root(&leaves), StoredHashes::of(&leaves));
    let path = merkle::inclusion_path(size, 4, &stored).unwrap();
    let check = |size, index, leaf, path: &[NodeHash]| {
        merkle::check_inclusion(size, root, index, leaf, path).is_ok()
    };
    assert!(check(size, 4, leaves[4], &path), "the control");
    assert!(!check(size, 4, leaves[4], &path[1..]), "short");
    assert!(
        !check(size, 4, leaves[4], &[&path[..], &[root]].concat()),
        "long"
    );
    assert!(!check(size, 4, leaves[5], &path), "another leaf");
    assert!(!check(size, 5, leaves[4], &path), "another place");
    for claimed in [0, 1, 4, 1 << 63, u64::MAX] {
        assert!(!check(claimed, 4, leaves[4], &path), "size {claimed}");
    }
    // An inner node shown as a leaf: the domains differ, and a path from it has another length.
    let node = merkle::root(&leaves[4..6]);
    let inner = [leaves[4], leaves[5]].concat();
    assert_ne!(merkle::leaf_hash(&inner), node);
    assert!(!check(size, 4, node, &path) && !check(size, 4, node, &path[1..]));
}
