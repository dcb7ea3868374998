//! The driver's side: where to cut the power, what to lose, what to break. One line in, one line out.
//!
//! | line | what |
//! |---|---|
//! | `cut OP PLACE N before\|after` | the N-th (1, 2, ...) operation OP (or `any`) from now on whose place contains PLACE (`-`: any) is the last |
//! | `wait MS` | waits for the cut: `cut OP PLACE`, or `on` |
//! | `lose keep\|drop\|torn SEED` | the power is back, with what is left |
//! | `settle` | everything so far is durable |
//! | `failsync PLACE N` | the N-th sync of a file there fails, as Linux fails it |
//! | `lie on\|off` | syncs do nothing and say done |
//! | `short on\|off` | every other write takes only half of its bytes |
//! | `points` | how often each operation happened at each place, then `.` |
//! | `quit` | ends; what is mounted must be unmounted first |

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    luck::Luck,
    state::{Op, State, Wrong},
};

/// Where the power is to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cut {
    op: Option<Op>,
    place: String,
    left: u64,
    after: bool,
}

/// The disk and what the driver wants of it.
#[derive(Debug, Default)]
pub struct Disk {
    /// What is stored.
    pub state: State,
    cut: Option<Cut>,
    /// What the power was cut at; with it off, every operation fails.
    off: Option<String>,
    fail_sync: Option<(String, u64)>,
    lie: bool,
    short: Option<bool>,
    points: BTreeMap<(Op, String), u64>,
}

/// What is to become of an operation that changes the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is done.
    Do,
    /// A sync that fails and loses its pages.
    FailSync,
    /// It does nothing and succeeds.
    Lie,
}

impl Disk {
    /// Whether the machine is on.
    ///
    /// # Errors
    /// `Dead` while it is not.
    pub fn alive(&self) -> Result<(), Wrong> {
        match self.off {
            None => Ok(()),
            Some(_) => Err(Wrong::Dead),
        }
    }

    /// Counts an operation and says what is to become of it.
    ///
    /// # Errors
    /// `Dead`: the power is off, or fails before this operation.
    fn judge(&mut self, op: Op, place: &str) -> Result<Verdict, Wrong> {
        self.alive()?;
        *self.points.entry((op, place.to_owned())).or_default() += 1;
        if let Some(cut) = &mut self.cut
            && cut.op.is_none_or(|wanted| wanted == op)
            && place.contains(&cut.place)
        {
            cut.left = cut.left.saturating_sub(1);
            if cut.left == 0 && !cut.after {
                self.off = Some(format!("{op} {place}"));
                return Err(Wrong::Dead);
            }
        }
        if let (Op::Sync, Some((wanted, left))) = (op, &mut self.fail_sync)
            && place.contains(wanted.as_str())
        {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.fail_sync = None;
                return Ok(Verdict::FailSync);
            }
        }
        match self.lie && matches!(op, Op::Sync | Op::SyncDir) {
            true => Ok(Verdict::Lie),
            false => Ok(Verdict::Do),
        }
    }

    /// The operation is done: the power may fail now.
    fn done(&mut self, op: Op, place: &str) {
        if self.cut.as_ref().is_some_and(|cut| cut.left == 0) {
            self.off = Some(format!("{op} {place}"));
        }
    }

    /// Runs an operation that changes the disk, as the driver wants it.
    ///
    /// # Errors
    /// `Dead`, and those of the operation.
    pub fn change<T>(
        &mut self,
        op: Op,
        place: &str,
        run: impl FnOnce(&mut State, Verdict) -> Result<T, Wrong>,
    ) -> Result<T, Wrong> {
        let verdict = self.judge(op, place)?;
        let done = run(&mut self.state, verdict);
        self.done(op, place);
        done
    }

    /// How many of the bytes of a write are taken.
    pub fn takes(&mut self, bytes: usize) -> usize {
        match &mut self.short {
            Some(half) if bytes > 1 => {
                *half = !*half;
                if *half { bytes / 2 } else { bytes }
            }
            _ => bytes,
        }
    }
}

/// The disk as its threads share it.
#[derive(Debug, Default)]
pub struct Shared {
    disk: Mutex<Disk>,
    went_off: Condvar,
}

impl Shared {
    /// The disk.
    pub fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Told after each operation: whoever waits for the cut looks.
    pub fn look(&self, disk: &Disk) {
        if disk.off.is_some() {
            self.went_off.notify_all();
        }
    }

    fn wait(&self, ms: u64) -> String {
        let disk = self.lock();
        let waited = self
            .went_off
            .wait_timeout_while(disk, Duration::from_millis(ms), |d| d.off.is_none());
        let (disk, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match &disk.off {
            Some(at) => format!("cut {at}"),
            None => "on".to_owned(),
        }
    }

    /// Answers one line.
    pub fn command(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["wait", ms] = words.as_slice() {
            return self.wait(ms.parse().unwrap_or(0));
        }
        let mut disk = self.lock();
        disk.command(&words)
            .unwrap_or_else(|| format!("what? {line}"))
    }
}

impl Disk {
    fn command(&mut self, words: &[&str]) -> Option<String> {
        match words {
            ["cut", op, place, n, when] => {
                let op = match *op {
                    "any" => None,
                    word => Some(Op::ALL.into_iter().find(|op| op.word() == word)?),
                };
                self.cut = Some(Cut {
                    op,
                    place: any(place),
                    left: n.parse().ok().filter(|n| *n > 0)?,
                    after: *when == "after",
                });
            }
            ["lose", how, seed] => {
                self.cut = None;
                self.off = None;
                self.fail_sync = None;
                let seed = seed.parse().ok()?;
                let loss = match *how {
                    "keep" => return Some("kept".to_owned()),
                    "drop" => self.state.lose(None),
                    "torn" => self.state.lose(Some(Luck::new(seed))),
                    _ => return None,
                };
                return Some(format!("unsynced {} names {}", loss.bytes, loss.names));
            }
            ["settle"] => self.state.settle(),
            ["failsync", place, n] => {
                self.fail_sync = Some((any(place), n.parse().ok().filter(|n| *n > 0)?));
            }
            ["lie", how] => self.lie = *how == "on",
            ["short", how] => self.short = (*how == "on").then_some(false),
            ["points"] => {
                let lines = self
                    .points
                    .iter()
                    .map(|((op, place), n)| format!("{op} {place} {n}\n"));
                return Some(lines.collect::<String>() + ".");
            }
            _ => return None,
        }
        Some("done".to_owned())
    }
}

fn any(place: &str) -> String {
    if place == "-" {
        String::new()
    } else {
        place.to_owned()
    }
}

/// Answers drivers, one at a time, until one says `quit`.
///
/// # Errors
/// Those of the socket.
pub fn serve(socket: &UnixListener, shared: &Arc<Shared>) -> io::Result<()> {
    loop {
        let (stream, _) = socket.accept()?;
        // A driver that goes away in mid-sentence is no reason to end.
        if let Ok(true) = talk(stream, shared) {
            return Ok(());
        }
    }
}

fn talk(stream: UnixStream, shared: &Shared) -> io::Result<bool> {
    let mut answers = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if line.trim() == "quit" {
            answers.write_all(b"done\n")?;
            return Ok(true);
        }
        let answer = shared.command(&line);
        answers.write_all(answer.as_bytes())?;
        answers.write_all(b"\n")?;
    }
    Ok(false)
}
