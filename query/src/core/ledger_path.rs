//! Paths below `/ledger/` (formats.md 5, laid out as C2SP tlog-tiles says), read strictly.
//!
//! ```text
//! checkpoint
//! fresh                       the newest audit-head with its receipt; beside the log
//! tile/{L}/{N}[.p/{W}]        L 0-63, N as x001/x234/067, W 1-255
//! tile/entries/{N}[.p/{W}]
//! heads/{R}/{root}            64 digits of the root that an add-heads event names, R the first two of them
//! ```
//!
//! What is handed on is the text written anew from the numbers, never the text that came in, and only
//! if both are equal: no `..`, no empty part, no second spelling reaches a disk.

use chordae_base::{Digest, Failure, Outcome};
use chordae_chain::heads;

/// A file of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerPath {
    /// The newest checkpoint; changes.
    Checkpoint,
    /// The newest audit-head; changes.
    Fresh,
    /// A tile of hashes.
    Tile {
        /// Level, 0 to 63.
        level: u8,
        /// Number in its level.
        index: u64,
        /// Hashes of a partial tile, `None` for a full one (256).
        width: Option<u8>,
    },
    /// A bundle of entries.
    Entries {
        /// Number of the bundle.
        index: u64,
        /// Entries of a partial bundle, `None` for a full one (256).
        width: Option<u8>,
    },
    /// What an `add-heads` event anchors; beside the log.
    Heads {
        /// The root that the event names.
        root: [u8; 32],
    },
}

impl LedgerPath {
    /// Reads what follows `/ledger/`.
    ///
    /// # Errors
    /// `NotFound` for anything that is no path of the layout.
    pub fn parse(text: &str) -> Outcome<Self> {
        let path = Self::read(text).filter(|p| p.text() == text);
        path.ok_or_else(|| Failure::not_found("no such file of the log"))
    }

    fn read(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix("heads/") {
            let (_, root) = rest.split_once('/')?;
            let Digest(root) = root.parse().ok()?;
            return Some(Self::Heads { root });
        }
        // Longest: tile/entries/ and seven groups, each "x123/", and ".p/255".
        if text.len() > 64 {
            return None;
        }
        if text == "checkpoint" {
            return Some(Self::Checkpoint);
        }
        if text == "fresh" {
            return Some(Self::Fresh);
        }
        let rest = text.strip_prefix("tile/")?;
        let (level, number) = rest.split_once('/')?;
        let (number, width) = match number.split_once(".p/") {
            Some((number, width)) => (number, Some(width.parse().ok().filter(|w| *w > 0)?)),
            None => (number, None),
        };
        let index = index(number)?;
        if level == "entries" {
            return Some(Self::Entries { index, width });
        }
        let level = level.parse().ok().filter(|l| *l < 64)?;
        Some(Self::Tile {
            level,
            index,
            width,
        })
    }

    /// The one spelling of the path.
    pub fn text(&self) -> String {
        let (head, index, width) = match *self {
            Self::Checkpoint => return "checkpoint".to_owned(),
            Self::Fresh => return "fresh".to_owned(),
            Self::Tile {
                level,
                index,
                width,
            } => (level.to_string(), index, width),
            Self::Entries { index, width } => ("entries".to_owned(), index, width),
            Self::Heads { root } => return format!("heads/{}", heads::file_name(&root)),
        };
        let mut groups = vec![format!("{:03}", index % 1000)];
        let mut left = index / 1000;
        while left > 0 {
            groups.push(format!("x{:03}", left % 1000));
            left /= 1000;
        }
        groups.reverse();
        let partial = width.map(|w| format!(".p/{w}")).unwrap_or_default();
        format!("tile/{head}/{}{partial}", groups.join("/"))
    }

    /// Whether the file may never change.
    pub fn immutable(&self) -> bool {
        !matches!(self, Self::Checkpoint | Self::Fresh)
    }
}

fn index(text: &str) -> Option<u64> {
    let mut value: u64 = 0;
    for group in text.split('/') {
        let digits = group.strip_prefix('x').unwrap_or(group);
        if digits.len() != 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        value = value.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_for_each_file() {
        for text in [
            "checkpoint",
            "tile/0/000",
            "tile/0/x001/x234/067",
            "tile/63/000.p/1",
            "tile/entries/x001/000.p/255",
            &format!("heads/ab/{}", "ab".repeat(32)),
        ] {
            assert_eq!(
                LedgerPath::parse(text).map(|p| p.text()).as_deref(),
                Ok(text)
            );
        }
    }

    #[test]
    fn everything_else_is_no_file() {
        for text in [
            "",
            "Checkpoint",
            "checkpoint/",
            "tile/",
            "tile/0",
            "tile/0/",
            "tile/64/000",
            "tile/00/000",
            "tile/+1/000",
            "tile/0/0",
            "tile/0/001/234",
            "tile/0/x001/x234",
            "tile/0/x000/001",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/0/../../keys/log",
            "tile/entries/../000",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
            "pending",
            "../keys/log.pem",
            "heads/",
            "heads/ab/ab",
            &format!("heads/aa/{}", "ab".repeat(32)),
            &format!("heads/AB/{}", "AB".repeat(32)),
            &format!("heads/{}", "ab".repeat(32)),
            "heads/../keys/log.pem",
        ] {
            assert!(LedgerPath::parse(text).is_err(), "{text:?} was taken");
        }
    }
}
