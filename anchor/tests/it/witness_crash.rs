//! The machine dies at every disk operation of a witness. Whatever it has cosigned before and after,
//! there are never two roots for one size, and nothing goes back.

use std::{io::ErrorKind, path::Path, sync::Arc};

use chordae_anchor::{
    Witness,
    core::witness::{Doubt, Memory, Request, Verdict, judge},
};
use chordae_base::seams::{
    self,
    fake::FakeDisk,
    faulty::{Fault, FaultyDisk, How, Op},
};
use chordae_chain::checkpoint::{Checkpoint, origin_hash};

use crate::{
    house::{ORIGIN, dies_at},
    witness_house::{Branch, DIR, LOG, evidence, init, log, open},
};

/// Leaves that the two histories share.
const FORK: u64 = 3;
const LEN: u64 = 9;

fn histories() -> (Branch, Branch) {
    (Branch::new(0, FORK, LEN), Branch::new(1, FORK, LEN))
}

/// What has left the witness, in order.
#[derive(Default)]
struct Told {
    cosigned: Vec<Checkpoint>,
    /// Notes of which it was said that they prove two roots.
    two_roots: Vec<String>,
}

impl Told {
    fn ask(&mut self, witness: &Witness, branch: &Branch, size: u64) {
        let old = witness.remembers(ORIGIN).unwrap_or(0);
        let answer = witness.add_checkpoint(branch.ask(old, size).as_bytes());
        if answer.status == 200 {
            self.cosigned.push(branch.checkpoint(size));
        }
        if answer.doubt == Some(Doubt::TwoRoots) {
            self.two_roots.push(branch.note(size, LOG));
        }
    }
}

/// The first life: the log grows; once it shows another root.
fn run(disk: &FaultyDisk) -> Told {
    let mut told = Told::default();
    let (a, b) = histories();
    let Ok(witness) = open(disk.clone()) else {
        return told;
    };
    for size in [2, 3, 4, 4, 5] {
        told.ask(&witness, &a, size);
    }
    told.ask(&witness, &b, 5);
    told.ask(&witness, &a, 6);
    told
}

fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

/// The next life: the log comes with its other history, then with the first again.
fn audit(disk: &FakeDisk, mut told: Told) -> Result<(), String> {
    let (a, b) = histories();
    let witness = open(disk.clone()).map_err(|e| format!("no start: {e}"))?;
    for branch in [&b, &a] {
        for size in 1..=LEN {
            told.ask(&witness, branch, size);
        }
    }
    let last = told.cosigned.last().map(|c| c.size);
    ensure(last == Some(LEN), "the log is not cosigned any more")?;
    for pair in told.cosigned.windows(2) {
        let [before, after] = pair else { continue };
        ensure(before.size <= after.size, "a cosignature goes back")?;
    }
    for (n, one) in told.cosigned.iter().enumerate() {
        let later = told.cosigned.iter().skip(n + 1);
        let two = later
            .clone()
            .find(|c| c.size == one.size && c.root != one.root);
        ensure(two.is_none(), "two roots of one size are cosigned")?;
        let together = |branch: &Branch, other: &Checkpoint| {
            branch.checkpoint(one.size) == *one && branch.checkpoint(other.size) == *other
        };
        let split = later.clone().find(|c| !together(&a, c) && !together(&b, c));
        ensure(split.is_none(), "both histories are cosigned")?;
    }
    let kept = evidence(disk);
    for note in &told.two_roots {
        let there = kept.iter().any(|(_, text)| text.ends_with(note));
        ensure(there, "evidence is gone of which the log was told")?;
    }
    Ok(())
}

fn start() -> FakeDisk {
    let disk = FakeDisk::new();
    init(&disk).unwrap();
    disk
}

/// Kills the first life at each of its operations; what the audit says of each.
fn campaign(
    how: How,
    life: impl Fn(&FaultyDisk) -> Told,
    crash: impl Fn(&FakeDisk, u64),
) -> Vec<Result<(), String>> {
    let whole = FaultyDisk::new(Arc::new(start()));
    assert!(life(&whole).cosigned.len() >= 6);
    let points = 0..whole.changes();
    points
        .map(|after| {
            let disk = start();
            let faulty = FaultyDisk::new(Arc::new(disk.clone()));
            faulty.arm(dies_at(after, how));
            let told = life(&faulty);
            assert!(faulty.struck() > 0);
            crash(&disk, after);
            audit(&disk, told).map_err(|what| format!("dead at operation {after}: {what}"))
        })
        .collect()
}

#[test]
fn a_witness_that_dies_at_any_operation_never_contradicts_itself() {
    let fail = How::Fail(ErrorKind::Other);
    let fail_after = How::FailAfter(ErrorKind::Other);
    let outcomes = [
        campaign(fail, run, |disk, _| disk.crash()),
        campaign(fail_after, run, |disk, _| disk.crash()),
        campaign(fail_after, run, FakeDisk::crash_torn),
        campaign(How::Short(7), run, FakeDisk::crash_torn),
        // The process dies, the machine does not: what was never synced is still seen, and goes with
        // the next crash.
        campaign(fail_after, run, |disk, _| {
            assert!(open(disk.clone()).is_ok());
            disk.crash();
        }),
    ];
    for (n, outcome) in outcomes.iter().enumerate() {
        assert!(
            outcome.len() > 30,
            "{} points of campaign {n}",
            outcome.len()
        );
        for point in outcome {
            assert_eq!(*point, Ok(()), "campaign {n}");
        }
    }
}

#[test]
fn a_witness_that_answers_before_it_remembers_is_caught() {
    // Negative control: the same rules, the memory written after the answer has left.
    let hasty = |disk: &FaultyDisk| {
        let mut told = Told::default();
        let (a, _) = histories();
        let mut memory: Option<Memory> = None;
        let path = format!("{DIR}/{}.memory", origin_hash(ORIGIN));
        for size in [2, 3, 4, 4, 5, 6] {
            let old = memory.as_ref().map_or(0, |m| m.checkpoint.size);
            let request = Request::parse(a.ask(old, size).as_bytes()).unwrap();
            let (verdict, _) = judge(&[log(LOG)], memory.as_ref(), &request);
            told.cosigned.push(a.checkpoint(size));
            if let Verdict::Cosign(new) = verdict {
                let text = Memory::encode(ORIGIN, Some(&new));
                if seams::write_atomic(disk, Path::new(&path), text.as_bytes()).is_err() {
                    break;
                }
                memory = Some(new);
            }
        }
        told
    };
    let outcomes = campaign(How::Fail(ErrorKind::Other), hasty, |disk, _| disk.crash());
    let caught = outcomes.iter().filter(|o| o.is_err()).count();
    assert!(caught > 0, "the audit sees nothing");
}

#[test]
fn on_a_disk_that_only_pretends_to_sync_the_audit_finds_the_contradiction() {
    let lying = |op: Op| {
        let disk = start();
        let faulty = FaultyDisk::new(Arc::new(disk.clone()));
        faulty.arm(Fault {
            for_ever: true,
            ..Fault::next(op, How::Lie)
        });
        let told = run(&faulty);
        assert_eq!(told.cosigned.len(), 6);
        disk.crash();
        audit(&disk, told).unwrap_err()
    };
    // The name was never made durable: the old memory is there, and the other history is cosigned.
    let forgot = lying(Op::SyncDir);
    assert!(!forgot.contains("no start"), "{forgot}");
    // The bytes were not: a memory that cannot be read stops the start.
    assert!(lying(Op::Sync).contains("no start"));
}
