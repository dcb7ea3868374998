//! R10: every byte of every stored file that is no chunk.
//!
//! Each damage is done to a copy of the folder, whose part is then opened and read as the server does; what
//! that does not see, the checker must. Whatever refuses a folder leaves the damaged file as it was.

use std::collections::BTreeMap;

use chordae_base::{
    Outcome,
    journal::scan_dir,
    limits,
    seams::fake::{FakeDisk, FakeEntropy},
};
use chordae_chain::link::Link;
use chordae_checker::{Verdict, check_folder};

use crate::{
    Form, Score, harmless,
    house::{House, ROOT, at},
    keys,
    parts::{Part, Said, is_finding},
};

/// Of how many bytes the short form takes one.
const SHORT_STEP: usize = 23;

/// Zeros at the end of a journal of which each byte is broken; of those behind them, one in [`FAR_STEP`].
const NEAR_ZEROS: usize = 512;
const FAR_STEP: usize = 509;

/// One damage: which bit of which byte of which file.
struct Flip<'a> {
    part: Part,
    file: &'a str,
    offset: usize,
    bit: u64,
}

/// Runs the row.
///
/// # Errors
/// When the folder cannot be made.
pub fn run(form: Form, seed: u64) -> Outcome<Score> {
    let house = House::new(seed)?;
    let dice = FakeEntropy::new(seed);
    let mut score = Score::new("R10", seed);
    let mut kinds: BTreeMap<&'static str, u64> = BTreeMap::new();
    for part in Part::ALL {
        let before = part.read(&house.base(part).copy(), &house)?;
        for file in &house.files(part.name()) {
            let bytes = house.base(part).peek(&at(file)).unwrap_or_default();
            let near = bytes.len().min(end_of_words(&bytes) + NEAR_ZEROS);
            let (step, from) = match form {
                Form::Long => (1, 0),
                Form::Short => (SHORT_STEP, dice.below(SHORT_STEP as u64) as usize),
            };
            let far = (near..bytes.len()).step_by(FAR_STEP * step);
            for offset in (from..near).step_by(step).chain(far) {
                // Each look at a ledger hashes and signs; every byte of it is still broken once.
                let bits = match (form, part) {
                    (Form::Short, _) | (_, Part::Ledger | Part::Heads | Part::Batches) => {
                        vec![dice.below(8)]
                    }
                    (Form::Long, _) => (0..8).collect(),
                };
                for bit in bits {
                    let flip = Flip {
                        part,
                        file,
                        offset,
                        bit,
                    };
                    if let Some(kind) = one(&house, &before, &flip, &mut score)? {
                        *kinds.entry(kind).or_default() += 1;
                    }
                }
            }
        }
    }
    keys::run(form, seed, &mut score, &mut kinds)?;
    let (tried, slipped) = control(&house)?;
    let listed: Vec<String> = kinds.iter().map(|(k, n)| format!("{n} {k}")).collect();
    score.control = format!(
        "without checksums {slipped} of {tried} broken links read as other links; harmless: {}",
        listed.join(", ")
    );
    Ok(score.judged(slipped > 0))
}

/// Where the zeros begin that a file ends with.
fn end_of_words(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|b| *b != 0)
        .map_or(0, |last| last + 1)
}

/// Does one damage and judges it; the kind, where it is harmless.
fn one(
    house: &House,
    before: &Said,
    flip: &Flip<'_>,
    score: &mut Score,
) -> Outcome<Option<&'static str>> {
    let disk = house.base(flip.part).copy();
    let path = at(flip.file);
    let mut bytes = disk.peek(&path).unwrap_or_default();
    if let Some(byte) = bytes.get_mut(flip.offset) {
        *byte ^= 1 << flip.bit;
    }
    disk.put(&path, &bytes);
    let place = || format!("bit {} of byte {} of {}", flip.bit, flip.offset, flip.file);
    match flip.part.read(&disk, house) {
        Err(failure) if is_finding(&failure) => {
            let named = failure.why.contains(flip.part.name());
            score.found(named, || format!("{}: {failure}", place()));
            if disk.peek(&path).as_deref() != Some(&bytes) {
                score.complain(format!("{}: changed by who refused it", place()));
                score.lost += 1;
            }
        }
        Err(failure) => score.missed(format!("{}: {failure}", place())),
        Ok(after) => {
            if let Some(kind) = harmless::kind(flip.part, before, &after) {
                score.harmless();
                return Ok(Some(kind));
            }
            let disk = house.base(flip.part).copy();
            disk.put(&path, &bytes);
            match checked(&disk, house, flip.part)? {
                Some(named) => score.found(named, || format!("{}: unnamed", place())),
                None => score.missed(place()),
            }
        }
    }
    Ok(None)
}

/// Whether the checker finds something in a folder, and names this part.
fn checked(disk: &FakeDisk, house: &House, part: Part) -> Outcome<Option<bool>> {
    let report = check_folder(disk, ROOT.as_ref(), Some(&house.trust), &mut |_| {})?;
    let named = report
        .findings
        .iter()
        .any(|f| f.object.starts_with(part.name()));
    Ok((report.verdict == Verdict::Damaged).then_some(named))
}

/// What a reader without checksums makes of broken links: how many were tried, how many passed for links.
fn control(house: &House) -> Outcome<(u64, u64)> {
    let (mut tried, mut slipped) = (0, 0);
    let dir = at("links");
    scan_dir(
        &house.disk,
        &dir,
        limits::RECORD_BYTES_MAX,
        &mut |_, record| {
            for offset in 0..record.len() {
                let mut broken = record.to_vec();
                if let Some(byte) = broken.get_mut(offset) {
                    *byte ^= 1;
                }
                tried += 1;
                slipped += u64::from(Link::decode(&broken).is_ok());
            }
            Ok(())
        },
    )?;
    Ok((tried, slipped))
}
