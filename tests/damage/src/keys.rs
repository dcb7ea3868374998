//! R10, second half: the files that people write or keep, `keys/` and `chordae.toml`.
//!
//! A broken key must refuse the start, because what it would sign nobody would believe. Settings are the
//! operator's words: a broken word is refused by name, one that is still a word is what the operator says.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path};

use chordae::{
    commands::init,
    folder::Folder,
    keyring,
    settings::{Settings, TEMPLATE},
};
use chordae_base::{
    Failure, Outcome,
    seams::fake::{FakeClock, FakeEntropy},
};

use crate::{Form, Score, house::T0};

/// Files of `keys/` that the start reads to sign with, or to know whom readers trust.
const FILES: [&str; 4] = ["provider.pem", "sequencer.pem", "log.pem", "trust.json"];
/// Bits that say nothing in the dress of a PEM block or a JSON text: both read as what they were.
pub const DRESS: &str = "dress";
/// Settings that still are settings, and comments.
pub const WORDS: &str = "operator-words";

/// Breaks each of the files; counts the harmless by kind.
///
/// # Errors
/// When the installation cannot be made.
pub fn run(
    form: Form,
    seed: u64,
    score: &mut Score,
    kinds: &mut BTreeMap<&'static str, u64>,
) -> Outcome<()> {
    let dice = FakeEntropy::new(seed ^ 0x4b);
    let dir = tempfile::tempdir().map_err(|e| Failure::os("make a folder", &e))?;
    let data = dir.path().join("data");
    init::make(
        &data,
        None,
        &[],
        &FakeClock::new(T0),
        &FakeEntropy::new(seed),
    )?;
    let home = Folder::new(&data);
    let before = said(&home)?;
    for file in FILES {
        let path = home.key(file);
        let whole = fs::read(&path).map_err(|e| Failure::os(file, &e))?;
        for (offset, bit) in flips(form, whole.len(), &dice) {
            write(&path, &flipped(&whole, offset, bit))?;
            let place = format!("bit {bit} of byte {offset} of keys/{file}");
            match said(&home) {
                Err(e) => {
                    let named = e.why.contains(file) || e.why.contains("trust.json");
                    score.found(named, || format!("{place}: {e}"));
                }
                Ok(now) if now == before => {
                    score.harmless();
                    *kinds.entry(DRESS).or_default() += 1;
                }
                Ok(_) => score.missed(place),
            }
        }
        write(&path, &whole)?;
    }
    settings(form, &dice, score, kinds);
    Ok(())
}

/// All that the keys and the trust file say to the server; names of parties are for people.
fn said(home: &Folder) -> Outcome<Vec<u8>> {
    let ring = keyring::open(home)?;
    let mut said = Vec::new();
    for keys in [&ring.provider, &ring.sequencer, &ring.log] {
        said.extend(keys.sign_public());
        said.extend(keys.seal_public().unwrap_or_default());
    }
    said.extend(ring.trust.origin.bytes());
    said.extend(ring.trust.ca.unwrap_or_default().bytes());
    Ok(said)
}

fn settings(
    form: Form,
    dice: &FakeEntropy,
    score: &mut Score,
    kinds: &mut BTreeMap<&'static str, u64>,
) {
    for (offset, bit) in flips(form, TEMPLATE.len(), dice) {
        let broken = flipped(TEMPLATE.as_bytes(), offset, bit);
        let parsed = String::from_utf8(broken)
            .map_err(|_| Failure::bad_input("not text"))
            .and_then(|text| Settings::parse(&text, &[]));
        match parsed {
            // The line or the key; a byte that is no text is refused with the file's name by its reader.
            Err(e) => score.found(!e.why.is_empty(), || e.why.clone()),
            Ok(_) => {
                score.harmless();
                *kinds.entry(WORDS).or_default() += 1;
            }
        }
    }
}

fn flips(form: Form, len: usize, dice: &FakeEntropy) -> Vec<(usize, u64)> {
    match form {
        Form::Long => (0..len)
            .flat_map(|at| (0..8).map(move |bit| (at, bit)))
            .collect(),
        Form::Short => (0..len).step_by(5).map(|at| (at, dice.below(8))).collect(),
    }
}

fn flipped(whole: &[u8], offset: usize, bit: u64) -> Vec<u8> {
    let mut broken = whole.to_vec();
    if let Some(byte) = broken.get_mut(offset) {
        *byte ^= 1 << bit;
    }
    broken
}

fn write(path: &Path, bytes: &[u8]) -> Outcome<()> {
    let done = fs::write(path, bytes)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o600)));
    done.map_err(|e| Failure::os(path.display(), &e))
}
