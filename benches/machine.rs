//! What the figures were measured on. Printed first: without it they mean nothing.

use std::{fs, path::Path, thread};

use chordae_base::{
    Failure, Outcome,
    seams::{Clock, Disk},
};

use crate::table::Rounds;

/// Appends of the sync probe, and bytes of each.
const SYNCS: u64 = 200;
const BLOCK: usize = 4096;
/// File systems by the number that `statfs` gives.
const FILE_SYSTEMS: &[(u64, &str)] = &[
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0x794c_7630, "overlayfs"),
    (TMPFS, "tmpfs (NOT A DISK: a sync costs nothing here)"),
];
const TMPFS: u64 = 0x0102_1994;

/// Facts of this machine, and of the disk that `dir` lies on: one line each.
///
/// # Errors
/// `Io` when the disk cannot be probed.
pub fn facts(dir: &Path, disk: &dyn Disk, clock: &dyn Clock) -> Outcome<String> {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let build = if cfg!(debug_assertions) {
        "DEBUG BUILD: these figures mean nothing, run with --release"
    } else {
        "release build"
    };
    let syncs = syncs(dir, disk, clock)?;
    let ms = |part| syncs.quantile(part) / 1e6;
    Ok(format!(
        "machine: {cores} cores ({}), {} GB of memory, {build}, load {}\n\
         disk: {}, {SYNCS} appends of {BLOCK} bytes, each with fdatasync: p50 {:.2} ms, p99 {:.2} ms\n",
        model(),
        memory_gb(),
        load(),
        file_system(dir)?,
        ms(0.5),
        ms(0.99),
    ))
}

/// Runnable processes over the last one, five and fifteen minutes. Beside more than one per core, all
/// rates are too low and all times too long.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let words: Vec<&str> = text.split_whitespace().take(3).collect();
    if words.is_empty() {
        "unknown".to_owned()
    } else {
        words.join(" ")
    }
}

fn model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("model name"));
    let name = line
        .and_then(|l| l.split_once(':'))
        .map_or("unknown", |(_, name)| name.trim());
    name.to_owned()
}

/// What is there, used or not: files of a run that are more than this come from the disk.
fn memory_gb() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let kb = line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
    kb.map_or_else(|| "unknown".to_owned(), |kb| format!("{:.0}", kb / 1e6))
}

fn file_system(dir: &Path) -> Outcome<String> {
    let stat = rustix::fs::statfs(dir)
        .map_err(|e| Failure::os(format_args!("look at {}", dir.display()), &e.into()))?;
    let kind = u64::try_from(stat.f_type).unwrap_or(0);
    let name = FILE_SYSTEMS.iter().find(|(number, _)| *number == kind);
    Ok(name.map_or_else(
        || format!("file system {kind:#x}"),
        |(_, name)| (*name).to_owned(),
    ))
}

/// Nanoseconds of each synced append.
fn syncs(dir: &Path, disk: &dyn Disk, clock: &dyn Clock) -> Outcome<Rounds> {
    let os = |e: std::io::Error| Failure::os("probe the disk", &e);
    let path = dir.join("sync-probe");
    let mut file = disk.create_new(&path).map_err(os)?;
    let block = [7; BLOCK];
    let mut took = Rounds::default();
    for n in 0..SYNCS {
        let began = clock.mono_ns();
        file.write_all_at(&block, n * BLOCK as u64).map_err(os)?;
        file.sync().map_err(os)?;
        took.0.push(clock.mono_ns().saturating_sub(began) as f64);
    }
    drop(file);
    disk.remove(&path).map_err(os)?;
    Ok(took)
}
