//! The published evaluation, short: what each scheme asks and finds, the operation counts, the storage, the features.

use std::{fs, path::Path, sync::OnceLock, time::Duration};

use chordae_base::seams::real::OsClock;
use chordae_benches::paper::{
    Extent, Told,
    features::FEATURES,
    measure,
    schemes::{Found, Scheme},
    signals::Bad,
    storage::Arm,
};

const EXTENT: Extent = Extent {
    longest: 360,
    chunk_bytes: 3000,
    delay: Duration::from_millis(2),
    repeats: 1,
};

/// One run for all.
fn told() -> &'static Told {
    static TOLD: OnceLock<Told> = OnceLock::new();
    TOLD.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        measure(dir.path(), &EXTENT, &OsClock).unwrap()
    })
}

/// Reads of a scheme, by length and chance.
fn reads(scheme: Scheme, chunks: u64, one_in: u64) -> (usize, u64) {
    let row = told()
        .rows
        .iter()
        .find(|row| (row.chunks, row.one_in) == (chunks, one_in))
        .unwrap();
    let figures = row.figures.iter().find(|f| f.scheme == scheme).unwrap();
    (row.bad, figures.cost.ledger)
}

#[test]
fn a_clean_stream_costs_what_each_scheme_says() {
    for chunks in [1, 10, 50, 360] {
        assert_eq!(reads(Scheme::Records, chunks, 0), (0, chunks));
        for one in [Scheme::Chain, Scheme::Files, Scheme::Links] {
            assert_eq!(reads(one, chunks, 0), (0, 1), "{one:?} {chunks}");
        }
    }
}

/// That each found what was changed is checked in the run itself; here what it cost.
#[test]
fn with_bad_chunks_the_published_chain_walks_and_ours_does_not() {
    let (bad, walked) = reads(Scheme::Chain, 360, 100);
    assert!(bad > 0, "the draw changed none");
    assert!(walked > 100, "{bad} bad, {walked} reads");
    assert_eq!(reads(Scheme::Records, 360, 100).1, 360);
    assert_eq!(reads(Scheme::Links, 360, 100).1, 1);
    let (_, halved) = reads(Scheme::Files, 360, 100);
    // The newest head; one for each bad chunk; nine more where the bad one is the last.
    assert!(halved <= 1 + bad as u64 + 9, "{bad} bad, {halved} reads");
}

#[test]
fn what_was_found_is_held_against_what_was_changed() {
    let bad = Bad::from([4, 7]);
    Found::Named(bad.clone()).check(10, &bad).unwrap();
    Found::Beginning(4).check(10, &bad).unwrap();
    Found::Beginning(10).check(10, &Bad::new()).unwrap();
    for wrong in [
        Found::Named(Bad::from([4])),
        Found::Named(Bad::new()),
        Found::Beginning(5),
        Found::Beginning(3),
    ] {
        assert!(wrong.check(10, &bad).is_err(), "{wrong:?}");
    }
    assert!(Found::Beginning(9).check(10, &Bad::new()).is_err());
}

/// Figure 9: a session of both costs what its parts cost.
#[test]
fn records_beside_a_stream_cost_one_read_each() {
    let mixed = &told().mixed;
    assert!(mixed.iter().any(|m| (m.records, m.chunks) == (75, 25)));
    for mixed in mixed {
        for figures in &mixed.figures {
            let stream = match figures.scheme {
                Scheme::Records => mixed.chunks,
                _ => mixed.chunks.min(1),
            };
            assert_eq!(figures.cost.ledger, mixed.records + stream);
        }
    }
}

/// Table 2.
#[test]
fn operations_are_those_of_the_published_table() {
    let counted = &told().counted;
    for action in counted {
        assert_eq!(
            action.done, action.expected,
            "{} {}",
            action.who, action.what
        );
    }
    let of = |who: &str, what: &str| {
        let mut found = counted
            .iter()
            .filter(|a| a.who.starts_with(who) && a.what == what);
        found.next().unwrap().done
    };
    // Three sections of four entries.
    assert_eq!(of("published", "retrieve").ledger, 12);
    assert_eq!(of("existing", "retrieve").ledger, 12);
    assert_eq!(of("ours", "retrieve").ledger, 3);
    assert_eq!(of("published", "add a chunk").ledger, 1);
    assert_eq!(of("ours", "add a chunk").ledger, 0);
}

/// Figure 10.
#[test]
fn revoking_gives_the_directory_its_space_back_and_the_ledger_keeps_what_it_has() {
    let [own, shared] = &told().grown;
    for (arm, grown) in own.iter().chain(shared) {
        let (live, revoked) = (grown.live, grown.revoked);
        match arm {
            Arm::AllOnLedger => assert_eq!((live.directory, revoked.directory), (0, 0)),
            _ => assert!(revoked.directory < live.directory, "{arm:?}"),
        }
        match arm {
            Arm::Published => assert_eq!(live.ledger, revoked.ledger),
            _ => assert!(live.ledger < revoked.ledger, "{arm:?}"),
        }
    }
    let of = |arm: Arm| {
        shared
            .iter()
            .filter(move |(a, _)| *a == arm)
            .map(|(_, g)| g)
    };
    // The inventory alone is left, however many sessions there were.
    for arm in [Arm::Published, Arm::Ours] {
        let left: Vec<u64> = of(arm).map(|g| g.revoked.directory).collect();
        assert!(left.windows(2).all(|two| two[0] == two[1]), "{left:?}");
    }
}

/// Table 4: each mark names tests, each is there, and is a test.
#[test]
fn each_feature_is_held_by_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let is_test = |file: &str, name: &str| {
        let text = fs::read_to_string(root.join(file)).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let wanted = [format!("fn {name}("), format!("async fn {name}(")];
        let found = |line: &&str| wanted.iter().any(|fn_| line.starts_with(fn_.as_str()));
        let at = lines.iter().position(found);
        let mark = |line: &&str| line.starts_with("#[test") || line.starts_with("#[tokio::test");
        at.is_some_and(|at| {
            let above = lines[..at].iter().rev();
            // What stands above a function up to the end of the one before it.
            above.take_while(|line| !line.starts_with('}')).any(mark)
        })
    };
    assert_eq!(FEATURES.len(), 7);
    for feature in FEATURES {
        assert!(!feature.tests.is_empty(), "{}", feature.name);
        for (file, name) in feature.tests {
            assert!(is_test(file, name), "{}: {file}::{name}", feature.name);
        }
    }
    // Control: a helper beside the tests is none, and neither is what nobody wrote.
    assert!(!is_test("anchor/chain/tests/it/stream.rs", "chain"));
    assert!(!is_test(
        "anchor/chain/tests/it/stream.rs",
        "nobody_wrote_this"
    ));
}
