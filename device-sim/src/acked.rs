//! The list of acknowledged frames: what a checker holds against the server after a crash.
//!
//! One line per frame, `device stream boot seq t0_ns samples blake3hex`. A line counts once it is
//! fsynced: the writer takes what has gathered, writes it, syncs once, then counts it. The file is
//! appended to, so a device that is started again goes on with the same list.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use chordae_base::{Failure, Outcome, StreamKey, limits};
use tokio::sync::mpsc;

use crate::spool::Kept;

/// The list, as the fleet holds it.
pub(crate) struct AckedList {
    lines: mpsc::Sender<String>,
    synced: Arc<AtomicU64>,
    writer: JoinHandle<Outcome<()>>,
}

impl AckedList {
    /// Opens the file and starts its writer.
    pub(crate) fn open(path: &Path) -> Outcome<Self> {
        let os = |e: std::io::Error| Failure::os(format!("opening {}", path.display()), &e);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(os)?;
        let (lines, inbox) = mpsc::channel(limits::SIM_ACKED_QUEUE);
        let synced = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&synced);
        let shown = path.display().to_string();
        let writer = thread::Builder::new()
            .name("acked-list".into())
            .spawn(move || {
                write(file, inbox, &count).map_err(|e| Failure::os(format!("writing {shown}"), &e))
            })
            .map_err(os)?;
        Ok(Self {
            lines,
            synced,
            writer,
        })
    }

    /// Where devices put their lines.
    pub(crate) fn lines(&self) -> mpsc::Sender<String> {
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

fn write(
    mut file: File,
    mut inbox: mpsc::Receiver<String>,
    synced: &AtomicU64,
) -> std::io::Result<()> {
    let mut text = String::new();
    while let Some(line) = inbox.blocking_recv() {
        text.clear();
        text.push_str(&line);
        let mut lines = 1;
        while let Ok(line) = inbox.try_recv() {
            text.push_str(&line);
            lines += 1;
        }
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        synced.fetch_add(lines, Ordering::Relaxed);
    }
    Ok(())
}

/// The line of one acknowledged frame.
pub fn line(key: &StreamKey, boot: u64, frame: &Kept) -> String {
    format!(
        "{} {} {boot} {} {} {} {}\n",
        key.device,
        key.stream,
        frame.seq,
        frame.t0_ns,
        frame.samples,
        hex::encode(frame.digest)
    )
}
