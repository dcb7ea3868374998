//! Tiles and bundles as they lie on disk: full ones, the partial one at the checkpoint's size, and
//! older partial ones, which must be beginnings of what replaced them.

use chordae_base::Outcome;
use chordae_chain::{
    finding::{Code, Findings},
    merkle::NodeHash,
};

use crate::{
    files::{Folder, Read, name_of},
    tiles::{self, BUNDLE_BYTES, Kind, TILE_BYTES, WIDTH},
};

/// Differences above level 0 that one tower keeps.
const WRONG_MAX: usize = 1000;

/// A ledger's tiles.
pub(super) struct Stored<'a> {
    pub(super) folder: &'a Folder<'a>,
}

impl Stored<'_> {
    /// The bytes of tile `n` as far as `width` (the partial file of that width, else the full one).
    fn bytes(&self, kind: Kind, n: u64, width: usize) -> Outcome<(String, Read)> {
        let max = if kind == Kind::Entries {
            BUNDLE_BYTES
        } else {
            TILE_BYTES
        };
        let full = tiles::name(kind, n);
        if width as u64 == WIDTH {
            let read = self.folder.read(&full, max)?;
            return Ok((full, read));
        }
        let partial = format!("{full}.p/{width}");
        match self.folder.read(&partial, max)? {
            // A reader may be behind the log: the beginning of the full tile serves as well.
            Read::Missing => match self.folder.read(&full, max)? {
                Read::Missing => Ok((partial, Read::Missing)),
                read => Ok((full, read)),
            },
            read => Ok((partial, read)),
        }
    }

    /// The entries of bundle `n`, `width` of them; `None` after a finding.
    pub(super) fn bundle(
        &self,
        n: u64,
        width: usize,
        found: &mut Findings,
    ) -> Outcome<Option<Vec<Vec<u8>>>> {
        let (name, read) = self.bytes(Kind::Entries, n, width)?;
        let Some(bytes) = taken(&name, read, found) else {
            return Ok(None);
        };
        let partial = name.contains(".p/");
        let entries = match tiles::split(&bytes, width) {
            Ok((entries, rest)) if entries.len() == width && (rest.is_empty() || !partial) => {
                entries.into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>()
            }
            _ => {
                found.add(
                    &name,
                    Code::LogRoot,
                    format!("not a bundle of {width} entries"),
                );
                return Ok(None);
            }
        };
        let lens = entries.iter().scan(0, |at, e| {
            *at += e.len() + 2;
            Some(*at)
        });
        self.older(Kind::Entries, n, &bytes, &lens.collect::<Vec<_>>(), found)?;
        Ok(Some(entries))
    }

    /// The hashes of tile `n`, `width` of them; `None` after a finding.
    pub(super) fn hashes(
        &self,
        kind: Kind,
        n: u64,
        width: usize,
        found: &mut Findings,
    ) -> Outcome<Option<Vec<NodeHash>>> {
        let (name, read) = self.bytes(kind, n, width)?;
        let Some(bytes) = taken(&name, read, found) else {
            return Ok(None);
        };
        let (hashes, rest) = bytes.as_chunks::<32>();
        let whole = rest.is_empty() && (hashes.len() == width || !name.contains(".p/"));
        let Some(hashes) = hashes.get(..width).filter(|_| whole) else {
            found.add(
                &name,
                Code::LogRoot,
                format!("not a tile of {width} hashes"),
            );
            return Ok(None);
        };
        let lens: Vec<usize> = (1..=width).map(|w| w * 32).collect();
        self.older(kind, n, &bytes, &lens, found)?;
        Ok(Some(hashes.to_vec()))
    }

    /// Compares a tile above level 0 with what it must be.
    pub(super) fn compare(
        &self,
        kind: Kind,
        n: u64,
        want: &[NodeHash],
        wrong: &mut Vec<(String, String)>,
    ) -> Outcome<()> {
        let mut found = Findings::default();
        let hashes = self.hashes(kind, n, want.len(), &mut found)?;
        if hashes.is_some_and(|hashes| hashes != want) {
            found.add(
                tiles::name(kind, n),
                Code::LogRoot,
                "its hashes are not those of the tree",
            );
        }
        let room = WRONG_MAX.saturating_sub(wrong.len());
        wrong.extend(
            found
                .into_vec()
                .into_iter()
                .take(room)
                .map(|f| (f.object, f.detail)),
        );
        Ok(())
    }

    /// Partial files of tile `n`: a file of width w must be the first `lens[w - 1]` bytes.
    fn older(
        &self,
        kind: Kind,
        n: u64,
        bytes: &[u8],
        lens: &[usize],
        found: &mut Findings,
    ) -> Outcome<()> {
        let dir = format!("{}.p", tiles::name(kind, n));
        for entry in self.folder.list(&dir)?.unwrap_or_default() {
            let width = name_of(&entry.path)
                .parse::<usize>()
                .ok()
                .filter(|w| *w > 0);
            // Wider than the log: what lies past the checkpoint is looked at elsewhere.
            let Some(len) = width.and_then(|w| lens.get(w - 1)) else {
                continue;
            };
            let name = format!("{dir}/{}", name_of(&entry.path));
            let max = if kind == Kind::Entries {
                BUNDLE_BYTES
            } else {
                TILE_BYTES
            };
            let same = match self.folder.read(&name, max)? {
                Read::Bytes(partial) => bytes.get(..*len) == Some(partial.as_slice()),
                Read::Missing => true,
                Read::Unfit(_) => false,
            };
            if !same {
                found.add(
                    &name,
                    Code::LogRoot,
                    "not the beginning of the tile that replaced it",
                );
            }
        }
        Ok(())
    }

    /// All entries of the widest file of bundle `n`; `None` if there is no readable one.
    pub(super) fn widest(&self, n: u64) -> Outcome<Option<Vec<Vec<u8>>>> {
        let full = tiles::name(Kind::Entries, n);
        let mut names = vec![full.clone()];
        let partial = self.folder.list(&format!("{full}.p"))?.unwrap_or_default();
        let mut widths: Vec<u64> = partial
            .iter()
            .filter_map(|e| name_of(&e.path).parse().ok())
            .collect();
        widths.sort_unstable_by(|a, b| b.cmp(a));
        names.extend(widths.iter().map(|w| format!("{full}.p/{w}")));
        for name in names {
            if let Read::Bytes(bytes) = self.folder.read(&name, BUNDLE_BYTES)?
                && let Ok((entries, _)) = tiles::split(&bytes, usize::try_from(WIDTH).unwrap_or(0))
            {
                return Ok(Some(entries.into_iter().map(<[u8]>::to_vec).collect()));
            }
        }
        Ok(None)
    }
}

pub(super) fn taken(name: &str, read: Read, found: &mut Findings) -> Option<Vec<u8>> {
    match read {
        Read::Bytes(bytes) => return Some(bytes),
        Read::Missing => found.add(
            name,
            Code::MissingFile,
            "the log has it, the folder does not",
        ),
        Read::Unfit(why) => found.add(name, Code::LogRoot, why),
    }
    None
}
