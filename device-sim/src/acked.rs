//! The list of acknowledged frames: what a checker holds against the server after a crash.
//!
//! One line per frame, `device stream boot seq t0_ns samples blake3hex`. A line counts once it is
//! fsynced: the writer takes what has gathered, writes it, syncs once, then counts it and tells the
//! state, where there is one. The file is appended to, so a device that is started again goes on with
//! the same list; a line that a crash cut short is cut off first.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use chordae_base::{Failure, Outcome, StreamKey, limits};
use tokio::sync::mpsc;

use crate::{
    spool::Kept,
    state::{self, State},
};

/// The list, as the fleet holds it.
pub(crate) struct AckedList {
    lines: mpsc::Sender<Entry>,
    synced: Arc<AtomicU64>,
    writer: JoinHandle<Outcome<()>>,
}

/// A line of the list, and the line of the state that may follow once the list has it.
pub(crate) struct Entry {
    line: String,
    done: String,
}

impl Entry {
    pub(crate) fn new(key: &StreamKey, frame: &Kept) -> Self {
        Self {
            line: line(key, frame),
            done: state::done(key.device.as_str(), frame),
        }
    }
}

impl AckedList {
    /// Opens the file and starts its writer.
    pub(crate) fn open(path: &Path, state: Option<Arc<State>>) -> Outcome<Self> {
        let os = |e: std::io::Error| Failure::os(format!("opening {}", path.display()), &e);
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(path)
            .map_err(os)?;
        cut_torn_line(&mut file).map_err(os)?;
        let (lines, inbox) = mpsc::channel(limits::SIM_ACKED_QUEUE);
        let synced = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&synced);
        let shown = path.display().to_string();
        let writer = thread::Builder::new()
            .name("acked-list".into())
            .spawn(move || write(file, inbox, &count, state.as_deref(), &shown))
            .map_err(os)?;
        Ok(Self {
            lines,
            synced,
            writer,
        })
    }

    /// Where devices put their lines.
    pub(crate) fn lines(&self) -> mpsc::Sender<Entry> {
        self.lines.clone()
    }

    /// Lines synced so far.
    pub(crate) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Relaxed)
    }

    /// Waits until the last line is synced; every sender must be gone.
    pub(crate) fn close(self) -> Outcome<u64> {
        drop(self.lines);
        match self.writer.join() {
            Ok(written) => written.map(|()| self.synced.load(Ordering::Relaxed)),
            Err(_) => Err(Failure::internal(
                "the writer of the acknowledged list has failed",
            )),
        }
    }
}

/// Lines are far shorter than this.
const LINE_BYTES_MAX: u64 = 4096;

fn cut_torn_line(file: &mut File) -> std::io::Result<()> {
    let end = file.metadata()?.len();
    let from = end.saturating_sub(LINE_BYTES_MAX);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
    if whole < tail.len() {
        file.set_len(from + whole as u64)?;
    }
    Ok(())
}

fn write(
    mut file: File,
    mut inbox: mpsc::Receiver<Entry>,
    synced: &AtomicU64,
    state: Option<&State>,
    shown: &str,
) -> Outcome<()> {
    let os = |e: std::io::Error| Failure::os(format!("writing {shown}"), &e);
    let (mut text, mut done) = (String::new(), String::new());
    while let Some(first) = inbox.blocking_recv() {
        text.clear();
        done.clear();
        let mut lines = 0;
        let mut next = Some(first);
        while let Some(entry) = next {
            text.push_str(&entry.line);
            done.push_str(&entry.done);
            lines += 1;
            next = inbox.try_recv().ok();
        }
        file.write_all(text.as_bytes()).map_err(os)?;
        file.sync_data().map_err(os)?;
        synced.fetch_add(lines, Ordering::Relaxed);
        if let Some(state) = state {
            state.add(&done)?;
        }
    }
    Ok(())
}

/// The line of one acknowledged frame.
fn line(key: &StreamKey, frame: &Kept) -> String {
    format!(
        "{} {} {} {} {} {} {}\n",
        key.device,
        key.stream,
        frame.boot,
        frame.seq,
        frame.t0_ns,
        frame.samples,
        hex::encode(frame.digest)
    )
}
