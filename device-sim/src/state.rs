//! What a device remembers over a crash: births, the frames it owes, the commands it has executed.
//!
//! ```text
//!  born DEVICE BOOT HEX · frame DEVICE BOOT SEQ T0 SAMPLES DIGEST HEX · order DEVICE HEX(id) HEX(reply)
//!  done DEVICE BOOT SEQ T0
//! ```
//!
//! One file of lines for the fleet, appended to, and written anew at each start with what is still
//! owed. A frame is in it before it is sent; `done` comes after its line in the acknowledged list is
//! fsynced, and at start a frame that the list has is not owed: so the list says each frame once, wherever
//! the blow fell. The crash meant is that of the process (kill -9): nothing here is synced, because the
//! operating system keeps what was written. A line that was cut in the writing is no line.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use chordae_base::{DeviceId, Failure, Outcome};

use crate::spool::Kept;

/// What one device remembers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) births: BTreeMap<u64, Bytes>,
    pub(crate) frames: Vec<Kept>,
    pub(crate) orders: Vec<(String, Bytes)>,
}

/// See the module.
pub(crate) struct State {
    file: Mutex<File>,
    shown: String,
}

/// What all devices remember.
pub(crate) type Memory = BTreeMap<String, Remembered>;

impl State {
    /// Opens or creates the file; what the acknowledged list has is settled.
    pub(crate) fn open(path: &Path, acked: Option<&Path>) -> Outcome<(Self, Memory)> {
        let shown = path.display().to_string();
        let os = |e: std::io::Error| Failure::os(format!("the state in {shown}"), &e);
        let text = |path: &Path| match fs::read_to_string(path) {
            Ok(text) => Ok(text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(e) => Err(os(e)),
        };
        let listed = listed(&acked.map(text).transpose()?.unwrap_or_default());
        let memory = remember(&text(path)?, &listed);
        let fresh = path.with_extension("new");
        fs::write(&fresh, whole(&memory)).map_err(os)?;
        fs::rename(&fresh, path).map_err(os)?;
        let file = OpenOptions::new().append(true).open(path).map_err(os)?;
        Ok((
            Self {
                file: Mutex::new(file),
                shown: shown.clone(),
            },
            memory,
        ))
    }

    /// Adds lines; they are with the operating system when it returns.
    pub(crate) fn add(&self, lines: &str) -> Outcome<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(lines.as_bytes())
            .map_err(|e| Failure::os(format!("writing {}", self.shown), &e))
    }
}

pub(crate) fn born(device: &str, boot: u64, birth: &[u8]) -> String {
    format!("born {device} {boot} {}\n", hex::encode(birth))
}

pub(crate) fn frame(device: &str, f: &Kept) -> String {
    format!(
        "frame {device} {} {} {} {} {} {}\n",
        f.boot,
        f.seq,
        f.t0_ns,
        f.samples,
        hex::encode(f.digest),
        hex::encode(&f.payload)
    )
}

pub(crate) fn order(device: &str, id: &str, reply: &[u8]) -> String {
    format!(
        "order {device} {} {}\n",
        hex::encode(id),
        hex::encode(reply)
    )
}

pub(crate) fn done(device: &str, f: &Kept) -> String {
    format!("done {device} {} {} {}\n", f.boot, f.seq, f.t0_ns)
}

/// Which frames the acknowledged list has: device, boot, seq, t0.
fn listed(text: &str) -> BTreeSet<(String, u64, u64, i64)> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let device = words.next()?.to_owned();
        let boot = words.nth(1)?.parse().ok()?;
        Some((
            device,
            boot,
            words.next()?.parse().ok()?,
            words.next()?.parse().ok()?,
        ))
    };
    text.lines().filter_map(line).collect()
}

fn remember(text: &str, listed: &BTreeSet<(String, u64, u64, i64)>) -> Memory {
    let mut memory = Memory::new();
    let whole = text
        .rfind('\n')
        .map_or("", |end| text.get(..end).unwrap_or(""));
    for line in whole.lines() {
        // A line that says nothing sensible is not ours.
        read(line, listed, &mut memory);
    }
    for device in memory.values_mut() {
        let Remembered { births, frames, .. } = device;
        births.retain(|boot, _| frames.iter().any(|f| f.boot == *boot));
    }
    memory
}

fn read(line: &str, listed: &BTreeSet<(String, u64, u64, i64)>, memory: &mut Memory) -> Option<()> {
    let mut words = line.split(' ');
    let what = words.next()?;
    let name = words.next()?;
    DeviceId::new(name).ok()?;
    let device = memory.entry(name.to_owned()).or_default();
    match what {
        "born" => {
            let boot = words.next()?.parse().ok()?;
            let birth = hex::decode(words.next()?).ok()?;
            device.births.insert(boot, birth.into());
        }
        "frame" => {
            let (boot, seq) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            let t0_ns = words.next()?.parse().ok()?;
            if listed.contains(&(name.to_owned(), boot, seq, t0_ns)) {
                return Some(());
            }
            device.frames.push(Kept {
                boot,
                seq,
                t0_ns,
                samples: words.next()?.parse().ok()?,
                digest: hex::decode(words.next()?).ok()?.try_into().ok()?,
                payload: hex::decode(words.next()?).ok()?.into(),
                again: false,
            });
        }
        "order" => {
            let id = String::from_utf8(hex::decode(words.next()?).ok()?).ok()?;
            let reply = hex::decode(words.next()?).ok()?;
            device.orders.push((id, reply.into()));
        }
        "done" => {
            let (boot, seq) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            let t0_ns: i64 = words.next()?.parse().ok()?;
            let same = |f: &Kept| (f.boot, f.seq, f.t0_ns) == (boot, seq, t0_ns);
            let at = device.frames.iter().position(same)?;
            device.frames.remove(at);
        }
        _ => {}
    }
    Some(())
}

fn whole(memory: &Memory) -> String {
    let mut text = String::new();
    for (name, device) in memory {
        for (boot, birth) in &device.births {
            text += &born(name, *boot, birth);
        }
        for kept in &device.frames {
            text += &frame(name, kept);
        }
        for (id, reply) in &device.orders {
            text += &order(name, id, reply);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(seq: u64) -> Kept {
        Kept {
            boot: 7,
            seq,
            t0_ns: -5 + seq as i64,
            samples: 2,
            digest: [seq as u8; 32],
            payload: Bytes::from(vec![seq as u8; 3]),
            again: false,
        }
    }

    #[test]
    fn what_is_owed_survives_and_what_is_listed_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let (path, acked) = (dir.path().join("state"), dir.path().join("acked"));
        let (state, memory) = State::open(&path, None).unwrap();
        assert!(memory.is_empty());
        state.add(&born("a", 7, b"birth")).unwrap();
        state.add(&born("b", 9, b"other")).unwrap();
        for seq in 0..4 {
            state.add(&frame("a", &kept(seq))).unwrap();
        }
        state.add(&order("a", "x y", b"{}")).unwrap();
        state.add(&done("a", &kept(1))).unwrap();
        // The blow fell before `done` of frame 2, and in the middle of a line.
        fs::write(&acked, "a ecg 7 2 -3 2 00\n").unwrap();
        state.add("done a 7 0").unwrap();
        for _ in 0..2 {
            let (_, memory) = State::open(&path, Some(&acked)).unwrap();
            let a = &memory["a"];
            assert_eq!(a.frames, [kept(0), kept(3)]);
            assert_eq!(a.births[&7], "birth");
            assert_eq!(a.orders, [("x y".to_owned(), Bytes::from("{}"))]);
            let b = memory.get("b").is_none_or(|b| b.births.is_empty());
            assert!(b, "nothing is owed of that boot");
        }
    }
}
