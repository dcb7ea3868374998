//! The commit cut at every disk operation: after a restart the links are a beginning of what was
//! committed, every linked file is whole, and committing the rest again completes the chains. Files
//! that a crash left without a link were adopted or removed.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use chordae_base::{
    Outcome,
    seams::{
        Disk, EntryKind,
        fake::FakeDisk,
        faulty::{Fault, FaultyDisk, How},
    },
};
use chordae_chain::link::Link;

use crate::made::{DATA, did, open, plain, rows};

const DIDS: u8 = 2;
const SLOTS: u64 = 3;

/// Commits what is missing, two dids at a time, with salts of this life.
fn life(disk: Arc<dyn Disk>, salt: u8) -> Outcome<()> {
    let (mut committer, _) = open(disk)?;
    loop {
        let mut chunks = Vec::new();
        for n in 1..=DIDS {
            let tip = committer.tip(&did(n));
            if tip.next_index < SLOTS {
                chunks.push(plain(
                    did(n),
                    tip,
                    i64::try_from(tip.next_index).unwrap(),
                    salt,
                ));
            }
        }
        if chunks.is_empty() {
            return Ok(());
        }
        committer.commit(&chunks)?;
    }
}

fn files(disk: &FakeDisk, dir: &Path, out: &mut Vec<PathBuf>) {
    let disk_: &dyn Disk = disk;
    for entry in disk_.list(dir).unwrap_or_default() {
        match entry.kind {
            EntryKind::Dir => files(disk, &entry.path, out),
            _ => out.push(entry.path),
        }
    }
}

/// Both chains, complete and verified; nothing else lies in the store.
fn complete(disk: &FakeDisk) -> Vec<Link> {
    let (_, catalogue) = open(Arc::new(disk.clone())).unwrap();
    assert_eq!(catalogue.damaged(), []);
    let mut links = Vec::new();
    for n in 1..=DIDS {
        let chain = catalogue.links(&did(n), 0..u64::MAX);
        assert_eq!(chain.len() as u64, SLOTS);
        for (slot, link) in chain.iter().enumerate() {
            let seqs: Vec<u64> = (0..10).map(|k| slot as u64 * 10 + k).collect();
            let chunk = catalogue.open_chunk(&did(n), link.index).unwrap();
            assert_eq!(*chunk.rows(), rows(slot as i64, &seqs));
            chunk.verify(link).unwrap();
        }
        links.extend(chain);
    }
    let mut found = Vec::new();
    files(disk, &Path::new(DATA).join("chunks"), &mut found);
    assert_eq!(found.len(), links.len(), "{found:?}");
    links
}

fn salt_of(disk: &FakeDisk, link: &Link) -> u8 {
    let (_, catalogue) = open(Arc::new(disk.clone())).unwrap();
    catalogue.open_chunk(&link.did, link.index).unwrap().salt[0]
}

#[test]
fn every_crash_leaves_a_beginning_that_can_be_completed() {
    let all = {
        let faulty = FaultyDisk::new(Arc::new(FakeDisk::new()));
        life(Arc::new(faulty.clone()), 1).unwrap();
        faulty.changes()
    };
    assert!(all > 40, "only {all} operations");
    let (mut adopted, mut replaced) = (0, 0);
    for n in 0..all {
        for torn in [false, true] {
            for how in [
                How::Fail(io::ErrorKind::Other),
                How::FailAfter(io::ErrorKind::Other),
            ] {
                let fake = FakeDisk::new();
                let faulty = FaultyDisk::new(Arc::new(fake.clone()));
                let path_has = String::new();
                faulty.arm(Fault {
                    op: None,
                    path_has,
                    after: n,
                    for_ever: true,
                    how,
                });
                life(Arc::new(faulty), 1).unwrap_err();
                if torn {
                    fake.crash_torn(n)
                } else {
                    fake.crash()
                }
                let first = open(Arc::new(fake.copy())).unwrap().1.chunks();
                let orphans = {
                    let (mut found, copy) = (Vec::new(), fake.copy());
                    files(&copy, &Path::new(DATA).join("chunks"), &mut found);
                    found.len().saturating_sub(first)
                };
                assert!(orphans <= usize::from(DIDS), "one per did at most");
                life(Arc::new(fake.clone()), 2).unwrap();
                let links = complete(&fake);
                let old = links.iter().filter(|l| salt_of(&fake, l) == 1).count();
                adopted += usize::from(old > first);
                replaced += usize::from(old == first && orphans > 0);
            }
        }
    }
    assert!(
        adopted > 0 && replaced > 0,
        "adopted {adopted}, replaced {replaced}"
    );
}

/// The negative control: on a disk that only says it syncs files, links outlive their chunks.
#[test]
fn a_disk_that_lies_about_syncs_is_seen() {
    let fake = FakeDisk::new();
    let faulty = FaultyDisk::new(Arc::new(fake.clone()));
    let path_has = "chunks".into();
    let op = Some(chordae_base::seams::faulty::Op::Sync);
    faulty.arm(Fault {
        op,
        path_has,
        after: 0,
        for_ever: true,
        how: How::Lie,
    });
    life(Arc::new(faulty), 1).unwrap();
    fake.crash();
    let (_, catalogue) = open(Arc::new(fake)).unwrap();
    assert_eq!(catalogue.damaged().len() as u64, SLOTS * u64::from(DIDS));
}

/// One fault that passes: the same committer goes on, or a restart does; nothing is lost or doubled.
#[test]
fn a_single_fault_costs_at_most_a_restart() {
    let mut after_restart = 0;
    for n in 0..60 {
        let fake = FakeDisk::new();
        let faulty = FaultyDisk::new(Arc::new(fake.clone()));
        let (path_has, how) = (String::new(), How::Fail(io::ErrorKind::Other));
        faulty.arm(Fault {
            op: None,
            path_has,
            after: n,
            for_ever: false,
            how,
        });
        let disk: Arc<dyn Disk> = Arc::new(faulty);
        if life(Arc::clone(&disk), 1).is_err() {
            after_restart += 1;
            life(disk, 1).unwrap();
        }
        complete(&fake);
    }
    assert!(after_restart > 20);
}
