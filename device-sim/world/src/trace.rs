//! What happened, as a hash and, when asked for, as lines: every change of the disk, every turn that was
//! given, every verdict and answer. The same seed has the same trace; if not, something in the house does
//! not go through the seams.

use std::sync::{Arc, Mutex, PoisonError};

use xxhash_rust::xxh3::Xxh3;

/// See the module. Clones share it.
#[derive(Clone)]
pub(crate) struct Trace(Arc<Mutex<Inside>>);

struct Inside {
    hash: Xxh3,
    events: u64,
    lines: bool,
}

impl Trace {
    /// An empty trace; `lines`: to stderr as well.
    pub(crate) fn new(lines: bool) -> Self {
        Self(Arc::new(Mutex::new(Inside {
            hash: Xxh3::new(),
            events: 0,
            lines,
        })))
    }

    /// Notes one event: what, on what, and two numbers that tell it from others.
    #[expect(clippy::print_stderr, reason = "asked for")]
    pub(crate) fn note(&self, what: &str, on: &str, a: u64, b: u64) {
        let mut inside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inside.events += 1;
        inside.hash.update(what.as_bytes());
        inside.hash.update(on.as_bytes());
        inside.hash.update(&a.to_le_bytes());
        inside.hash.update(&b.to_le_bytes());
        if inside.lines {
            eprintln!("{:6} {what:10} {on} {a} {b:x}", inside.events);
        }
    }

    /// A line for people; no part of the hash.
    #[expect(clippy::print_stderr, reason = "asked for")]
    pub(crate) fn say(&self, line: impl FnOnce() -> String) {
        let inside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inside.lines {
            eprintln!("       {}", line());
        }
    }

    /// The hash of all so far, and how many.
    pub(crate) fn end(&self) -> (u64, u64) {
        let inside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (inside.hash.digest(), inside.events)
    }
}
