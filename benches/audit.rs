//! What is on the disk after a round, held against what was acknowledged: same frames, same bytes, same
//! order on each connection, nothing missing and nothing more. A round that does not pass has no figure.

use std::{
    fs::File,
    io::{BufReader, ErrorKind, Read},
    path::Path,
};

use chordae_base::{
    Failure, Outcome, journal, limits,
    record::{Place, WalRecord},
    seams::real::OsDisk,
};

use crate::{
    load::frames::Frames,
    server::{BARE_FILE, Kind, WAL_DIR},
};

/// Frames found, and the generators that say what each must be. Connection n sends boot n + 1.
struct Audit {
    expected: Vec<Frames>,
    found: Vec<u64>,
}

/// Reads what a server of this kind left in `dir`. `expected` are the devices' frames from their first
/// on, `acknowledged` how many of each the client counted.
///
/// # Errors
/// `Damaged`, naming the connection, when the disk holds anything else than what was acknowledged.
pub fn check(kind: Kind, dir: &Path, expected: Vec<Frames>, acknowledged: &[u64]) -> Outcome<()> {
    let found = vec![0; expected.len()];
    let mut audit = Audit { expected, found };
    match kind {
        Kind::Bare => audit.messages(&dir.join(BARE_FILE))?,
        Kind::Chordae | Kind::ChordaeTls | Kind::ChordaeZmq => audit.log(&dir.join(WAL_DIR))?,
        _ => return Err(Failure::internal("the files of this server are not known")),
    }
    if audit.found == acknowledged {
        return Ok(());
    }
    let all = |counts: &[u64]| counts.iter().sum::<u64>();
    Err(Failure::damaged(format!(
        "{} frames are on the disk, {} were acknowledged",
        all(&audit.found),
        all(acknowledged)
    )))
}

impl Audit {
    fn see(&mut self, boot: u64, payload: &[u8]) -> Outcome<()> {
        let place = usize::try_from(boot.wrapping_sub(1)).unwrap_or(usize::MAX);
        let (Some(frames), Some(found)) = (self.expected.get_mut(place), self.found.get_mut(place))
        else {
            return Err(Failure::damaged(format!("boot {boot} was never sent")));
        };
        if !frames.next()?.is(payload) {
            return Err(Failure::damaged(format!(
                "frame {found} of boot {boot} is another one"
            )));
        }
        *found += 1;
        Ok(())
    }

    fn log(&mut self, dir: &Path) -> Outcome<()> {
        let max = limits::RECORD_BYTES_MAX;
        let torn = journal::scan_dir(&OsDisk, dir, max, &mut |_, bytes| match WalRecord::decode(
            bytes,
        )? {
            WalRecord::Frame(frame) if frame.place == Place::Late => {
                self.see(frame.boot, &frame.payload)
            }
            WalRecord::Frame(frame) => {
                let place = frame.place;
                Err(Failure::damaged(format!(
                    "a frame went another way: {place:?}"
                )))
            }
            _ => Ok(()),
        })?;
        torn.map_or(Ok(()), |_| Err(Failure::damaged("the log has a torn tail")))
    }

    fn messages(&mut self, path: &Path) -> Outcome<()> {
        let os = |e: std::io::Error| Failure::os("read the file of the bare peer", &e);
        let mut file = BufReader::with_capacity(1 << 20, File::open(path).map_err(os)?);
        let (mut length, mut message) = ([0; 4], Vec::new());
        loop {
            match file.read_exact(&mut length) {
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                read => read.map_err(os)?,
            }
            message.resize(u32::from_be_bytes(length) as usize, 0);
            file.read_exact(&mut message).map_err(os)?;
            // Field 1, the boot: below 128 here, so one byte.
            let boot = message.get(1).copied().unwrap_or(0);
            self.see(u64::from(boot), &message)?;
        }
    }
}
