//! How a process that serves is asked to end: SIGTERM, or Ctrl-C.

use chordae_base::{Failure, Outcome};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears it from the moment that it is made on: make it before "ready" is said, because whoever has read that may
/// ask at once, and the stop must be an orderly one.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Begins to listen.
    ///
    /// # Errors
    /// `Io` when the system does not let us.
    pub(super) fn listen() -> Outcome<Self> {
        let heard = |kind| signal(kind).map_err(|e| Failure::os("signals", &e));
        Ok(Self {
            terminate: heard(SignalKind::terminate())?,
            interrupt: heard(SignalKind::interrupt())?,
        })
    }

    /// Completes when somebody asks.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
