//! R09: each bit of a chunk. Served bytes come from the catalogue alone, so it is asked twice: after a start
//! over the damaged file, and as a running server that read the whole one before. The checker is asked too.
//!
//! The control opens the same bytes without hashing them: what then reads as other rows, or as other
//! metadata, would have been served in silence.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use chordae_base::{
    Did, FailureKind, Outcome,
    seams::{
        Disk,
        fake::{FakeDisk, FakeEntropy},
    },
};
use chordae_chain::link::{Link, genesis};
use chordae_checker::{Verdict, check_chunk};
use chordae_chunk::{SealedChunk, open};
use chordae_storage::{Catalogue, Committer, Tip};

use crate::{
    Form, Score,
    house::{ROOT, at, chunk},
};

const DID: Did = Did([7; 16]);
/// Of how many bytes the short form takes one: of the small chunk, of the large one.
const SHORT_STEPS: [usize; 2] = [3, 997];

/// A folder with one chunk.
struct Stored {
    disk: FakeDisk,
    chunk: SealedChunk,
    name: String,
}

impl Stored {
    fn new(hz: u32) -> Outcome<Self> {
        let disk = FakeDisk::new();
        let tip = Tip {
            next_index: 0,
            prev: genesis(&DID),
        };
        let chunk = chunk(DID, tip, hz, 1)?;
        let (mut committer, _) = start(&disk)?;
        committer.commit(std::slice::from_ref(&chunk))?;
        let name = chordae_chain::link::object_name(&DID, 0);
        Ok(Self { disk, chunk, name })
    }

    fn link(&self) -> &Link {
        self.chunk.link()
    }
}

fn start(disk: &FakeDisk) -> Outcome<(Committer, Arc<Catalogue>)> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Committer::open(disk, Path::new(ROOT), &mut |_, _| (), Box::new(|_| ()))
}

/// Runs the row.
///
/// # Errors
/// When the chunks cannot be made.
pub fn run(form: Form, seed: u64) -> Outcome<Score> {
    let dice = FakeEntropy::new(seed);
    let mut score = Score::new("R09", seed);
    let (mut silent, mut bytes) = (0_u64, Vec::new());
    for (hz, step) in [8, 1000].into_iter().zip(SHORT_STEPS) {
        let stored = Stored::new(hz)?;
        let len = stored.chunk.bytes().len();
        bytes.push(len.to_string());
        let step = if form == Form::Long { 1 } else { step };
        for offset in (0..len).step_by(step) {
            // Of the large chunk each byte, and the whole footer bit by bit.
            let all = form == Form::Long && (hz == 8 || offset + 4096 > len);
            let bits = if all {
                (0..8).collect()
            } else {
                vec![dice.below(8)]
            };
            for bit in bits {
                let mut broken = stored.chunk.bytes().to_vec();
                if let Some(byte) = broken.get_mut(offset) {
                    *byte ^= 1 << bit;
                }
                let place = || format!("bit {bit} of byte {offset} of {len}");
                one(&stored, Bytes::from(broken), &place, &mut score)?;
            }
        }
        silent += control(&stored, seed)?;
    }
    score.control = format!(
        "read without its digest, {silent} broken chunks say something else in silence; chunks of {} bytes",
        bytes.join(" and ")
    );
    Ok(score.judged(silent > 0))
}

fn one(
    stored: &Stored,
    broken: Bytes,
    place: &dyn Fn() -> String,
    score: &mut Score,
) -> Outcome<()> {
    // A running server, which read the whole file at its start.
    let disk = stored.disk.copy();
    let (_, running) = start(&disk)?;
    disk.put(&at(&stored.name), &broken);
    let (_, started) = start(&disk)?;
    let mut named = true;
    for (who, catalogue) in [("running", running), ("started", started)] {
        match catalogue.chunk_bytes(&DID, 0) {
            Ok(_) => score.served(format!("{}: served by a server that was {who}", place())),
            Err(failure) => {
                named &=
                    failure.kind == FailureKind::Damaged && failure.why.contains(&DID.to_string());
            }
        }
        named &= catalogue
            .damaged()
            .first()
            .is_some_and(|(did, index, _)| (*did, *index) == (DID, 0));
    }
    if disk.peek(&at(&stored.name)).as_deref() != Some(&*broken) {
        score.served(format!("{}: mended in silence", place()));
    }
    let report = check_chunk(broken, std::slice::from_ref(stored.link()));
    // A footer that cannot be read does not say whose chunk it is; what says other names is unlinked.
    let seen = report.verdict == Verdict::Damaged || !report.notes.is_empty();
    match seen {
        true => score.found(named, || format!("{}: not named", place())),
        false => score.missed(format!("{}: not seen by the checker", place())),
    }
    Ok(())
}

/// How many of a sample of broken files read as something else, if nobody hashes them.
fn control(stored: &Stored, seed: u64) -> Outcome<u64> {
    let dice = FakeEntropy::new(seed ^ 0xc0);
    let whole = open(stored.chunk.bytes().clone())?;
    let mut silent = 0;
    for _ in 0..400 {
        let mut broken = stored.chunk.bytes().to_vec();
        let offset = dice.below(broken.len() as u64) as usize;
        if let Some(byte) = broken.get_mut(offset) {
            *byte ^= 1 << dice.below(8);
        }
        if let Ok(read) = open(Bytes::from(broken)) {
            let same = read.meta_json == whole.meta_json
                && read.salt == whole.salt
                && read.rows() == whole.rows();
            silent += u64::from(!same);
        }
    }
    Ok(silent)
}
