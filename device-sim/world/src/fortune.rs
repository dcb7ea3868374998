//! What is in store for a life: when it dies and how, what its disk refuses, how much room there is.

use chordae_base::seams::faulty::{Fault, How, Op};

use crate::{dice::Dice, disk::Death};

/// How a life ends if nothing comes between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    /// In order.
    Stop,
    /// Between two turns.
    Death(Death),
}

/// What is in store for a life.
pub(crate) struct Fortune {
    /// At which change of the disk it dies, and how.
    pub(crate) at: Option<(u64, Death)>,
    /// What the disk refuses.
    pub(crate) faults: Vec<Fault>,
    /// Which sync fails as on a real machine: what it was to write is lost, and nobody sees it.
    pub(crate) failing: Option<u64>,
    /// Bytes of the disk.
    pub(crate) room: u64,
    /// Turns that it is driven for.
    pub(crate) turns: u64,
    /// How it ends if nothing comes between.
    pub(crate) close: Close,
}

impl Fortune {
    /// Chosen by the dice; `lies`: the disk says that it synced, and did not.
    pub(crate) fn chosen(dice: &mut Dice, lies: bool) -> Self {
        let death = match dice.below(4) {
            0 => Death::Kill,
            1 => Death::Power,
            _ => Death::Torn(dice.next()),
        };
        let at = match dice.below(4) {
            0 => None,
            1 => Some(dice.between(1, 80)),
            _ => Some(dice.between(1, 900)),
        };
        let lie = |op| Fault {
            for_ever: true,
            ..Fault::next(op, How::Lie)
        };
        let faults = match (lies, dice.one_in(4)) {
            (true, _) => vec![lie(Op::Sync), lie(Op::SyncDir)],
            (false, true) => vec![fault(dice)],
            (false, false) => Vec::new(),
        };
        Self {
            at: at.map(|n| (n, death)),
            faults,
            failing: dice.one_in(5).then(|| dice.between(1, 250)),
            room: match dice.one_in(8) {
                true => dice.between(64, 1500) << 10,
                false => u64::MAX,
            },
            turns: dice.between(3, 40),
            close: match dice.one_in(4) {
                true => Close::Stop,
                false => Close::Death(death),
            },
        }
    }

    /// A life on a good disk that ends in order.
    pub(crate) fn good() -> Self {
        Self {
            at: None,
            faults: Vec::new(),
            failing: None,
            room: u64::MAX,
            turns: 3,
            close: Close::Stop,
        }
    }
}

/// A disk that fails once, somewhere.
fn fault(dice: &mut Dice) -> Fault {
    let op = dice.pick(&[
        Op::Sync,
        Op::Sync,
        Op::Write,
        Op::SyncDir,
        Op::Rename,
        Op::Create,
        Op::Remove,
    ]);
    let eio = std::io::ErrorKind::Other;
    let how = match dice.below(4) {
        0 => How::FailAfter(eio),
        1 => How::Short(usize::try_from(dice.below(600)).unwrap_or(0)),
        _ => How::Fail(eio),
    };
    let path_has = dice.pick(&[
        "", "", "wal", "links", "chunks", "ledger", "trail", "registry",
    ]);
    Fault {
        path_has: path_has.unwrap_or_default().to_owned(),
        after: dice.below(60),
        ..Fault::next(op.unwrap_or(Op::Sync), how)
    }
}
