//! The short run: every target over its kept corpus, then over mutations of corpus and seeds.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod mutate;

use std::{fs, path::PathBuf};

use chordae_fuzz::TARGETS;

/// Mutated inputs per target; CHORDAE_FUZZ_RUNS asks for more.
const RUNS: u64 = 100_000;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    let mut files: Vec<_> = fs::read_dir(&dir)
        .unwrap_or_else(|err| panic!("{}: {err}", dir.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn every_target_holds_on_its_corpus_and_on_mutations_of_it() {
    let runs = std::env::var("CHORDAE_FUZZ_RUNS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(RUNS);
    for target in TARGETS {
        let mut inputs = corpus(target.name);
        assert!(!inputs.is_empty(), "{}: no corpus", target.name);
        inputs.extend((target.seeds)());
        for input in &inputs {
            (target.run)(input);
        }
        let mut dice = mutate::Dice::new(1);
        for _ in 0..runs {
            let input = mutate::mutated(&inputs, &mut dice);
            let caught = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(
                caught.is_ok(),
                "{}: keep this input: {input:02x?}",
                target.name
            );
        }
    }
}

/// The negative control: a target that breaks on one rare byte pattern is found out by the same loop.
#[test]
fn the_loop_finds_what_it_looks_for() {
    let inputs = vec![b"harmless \x10".to_vec()];
    let mut dice = mutate::Dice::new(1);
    let found = (0..RUNS).any(|_| mutate::mutated(&inputs, &mut dice).contains(&0xff));
    assert!(
        found,
        "mutations never reach a byte that the seed does not have"
    );
}
