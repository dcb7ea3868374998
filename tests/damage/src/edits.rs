//! R11: thousands of random edits of a folder's files, by somebody who knows no key: files that go, change
//! places, appear twice or under another name, are cut, grow, or are those of yesterday.
//!
//! The checker is asked, and the parts at their start. An edit after which every part says what it said
//! before is harmless (an idle mark cut off, two equal files exchanged). One edit the folder alone cannot
//! tell: all of it set back at once. For that there is the witness (`node/src/witness_file.rs`).

use chordae_base::{
    Outcome,
    seams::{
        Disk,
        fake::{FakeDisk, FakeEntropy},
    },
};
use chordae_chain::link;
use chordae_checker::{Verdict, check_folder};

use crate::{
    Form, Score,
    house::{House, ROOT, at},
    parts::{Part, Said},
};

/// Parts whose history is checked.
const PARTS: [Part; 3] = [Part::Links, Part::Trail, Part::Ledger];
/// Names below which edits happen.
const PLACES: [&str; 5] = ["chunks", "links", "ledger", "ledger.heads", "trail"];
/// Edits of the two forms; a thousand take some seconds.
const EDITS: (u64, u64) = (1000, 10_000);

/// Runs the row.
///
/// # Errors
/// When the folder cannot be made.
pub fn run(form: Form, seed: u64) -> Outcome<Score> {
    let house = House::new(seed)?;
    let mut score = Score::new("R11", seed);
    let dice = FakeEntropy::new(seed);
    let before = said(&house.disk, &house)?;
    let all: Vec<String> = PLACES.iter().flat_map(|place| house.files(place)).collect();
    let count = if form == Form::Long { EDITS.1 } else { EDITS.0 };
    for n in 0..count {
        let disk = house.disk.copy();
        // Each way in its turn, on files that the dice choose.
        let (what, names) = edit(&disk, &house, &all, &dice, n % 7)?;
        judge(&disk, &house, &before, &what, &names, &mut score)?;
    }
    let whole = house.yesterday.copy();
    let report = check_folder(&whole, ROOT.as_ref(), Some(&house.trust), &mut |_| {})?;
    // The control: what no folder can know of itself.
    let blind = report.verdict == Verdict::Ok;
    score.control = format!(
        "a whole folder of yesterday is {}: only a memory elsewhere can tell",
        if blind {
            "flawless in itself"
        } else {
            "found, which was not expected"
        }
    );
    Ok(score.judged(blind))
}

/// Does one edit; says which, and the files by which it may be named.
fn edit(
    disk: &FakeDisk,
    house: &House,
    all: &[String],
    dice: &FakeEntropy,
    way: u64,
) -> Outcome<(String, Vec<String>)> {
    let pick = || {
        let n = usize::try_from(dice.below(all.len() as u64)).unwrap_or(0);
        all.get(n).cloned().unwrap_or_default()
    };
    let (one, two) = (pick(), pick());
    let bytes = |name: &str| disk.peek(&at(name)).unwrap_or_default();
    let gone = |name: &str| {
        disk.remove(&at(name))
            .map_err(|e| chordae_base::Failure::os(name, &e))
    };
    let other = || elsewhere(&one, &two, dice);
    Ok(match way {
        0 => {
            gone(&one)?;
            (format!("{one} removed"), vec![one])
        }
        1 => {
            let (a, b) = (bytes(&one), bytes(&two));
            disk.put(&at(&one), &b);
            disk.put(&at(&two), &a);
            (format!("{one} and {two} exchanged"), vec![one, two])
        }
        2 => {
            let to = other();
            disk.put(&at(&to), &bytes(&one));
            (format!("{one} again as {to}"), vec![one, to])
        }
        3 => {
            let to = other();
            disk.put(&at(&to), &bytes(&one));
            if to != one {
                gone(&one)?;
            }
            (format!("{one} renamed to {to}"), vec![one, to])
        }
        4 => {
            let whole = bytes(&one);
            let len = usize::try_from(dice.below(whole.len() as u64)).unwrap_or(0);
            disk.put(&at(&one), whole.get(..len).unwrap_or_default());
            (
                format!("{one} cut to {len} of {} bytes", whole.len()),
                vec![one],
            )
        }
        5 => {
            let mut longer = bytes(&one);
            longer.extend((0..=dice.below(64)).map(|_| u8::try_from(dice.below(256)).unwrap_or(1)));
            disk.put(&at(&one), &longer);
            (format!("{one} longer"), vec![one])
        }
        _ => {
            let old = house.yesterday.peek(&at(&one));
            match old {
                Some(old) => disk.put(&at(&one), &old),
                None => gone(&one)?,
            }
            (format!("{one} as it was yesterday"), vec![one])
        }
    })
}

/// Another name for a file, of the kind that lies beside it.
fn elsewhere(one: &str, two: &str, dice: &FakeEntropy) -> String {
    match link::parse_object_name(one) {
        Some((did, index)) => link::object_name(&did, index + 1 + dice.below(5)),
        None if one.ends_with(".log") => {
            let dir = one.rsplit_once('/').map_or("", |(dir, _)| dir);
            format!("{dir}/{:020}.log", dice.below(100_000))
        }
        None => two.to_owned(),
    }
}

fn said(disk: &FakeDisk, house: &House) -> Outcome<Vec<Said>> {
    PARTS
        .iter()
        .map(|part| {
            let said = part.read(&disk.copy(), house)?;
            // A tail that is cut is told; what is said is the rest.
            Ok(Said {
                torn: false,
                ..said
            })
        })
        .collect()
}

fn judge(
    disk: &FakeDisk,
    house: &House,
    before: &[Said],
    what: &str,
    names: &[String],
    score: &mut Score,
) -> Outcome<()> {
    let report = check_folder(disk, ROOT.as_ref(), Some(&house.trust), &mut |_| {})?;
    let mut told: Vec<String> = report.findings.iter().map(|f| f.object.clone()).collect();
    let mut silent = report.verdict == Verdict::Ok;
    match said(disk, house) {
        Ok(now) if now == before => {
            // The readings are whole; a file too many may still be a finding.
            if silent {
                score.harmless();
                return Ok(());
            }
        }
        Ok(_) => {}
        Err(failure) => {
            silent = false;
            told.push(failure.why);
        }
    }
    if silent {
        score.missed(what.to_owned());
    } else {
        score.found(named(&told, names), || format!("{what}: {told:?}"));
    }
    Ok(())
}

/// Whether one of the things told is the file that was edited: a chunk by its name or its link, a journal by
/// its folder, the ledger by its entry or tile.
fn named(told: &[String], names: &[String]) -> bool {
    names.iter().any(|name| {
        let place = name.split('/').next().unwrap_or_default();
        let link = link::parse_object_name(name).map(|(did, index)| format!("links/{did}/{index}"));
        told.iter().any(|object| match &link {
            Some(link) => object.contains(name.as_str()) || object == link,
            None => object.contains(place),
        })
    })
}
