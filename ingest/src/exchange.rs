//! The exchange's thread: mailbox, board, ONE commit, then answers and deliveries.
//!
//! ```text
//! wait     mailbox or 100 ms ── drain what is there, up to a commit's worth
//! step     the board decides about each; nothing is told yet
//! commit   journal `mqtt/`: what the steps say must be kept, one write, one sync
//! perform  answers and deliveries into the connections' channels; never waits for one
//! ```
//!
//! A failed commit ends the thread: whoever waits hears nothing, and the node exits.

mod handle;

use std::{
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
};

use chordae_base::{
    Failure, Outcome,
    seams::{Clock, Disk, Entropy},
};
use prometheus::Registry;

pub use handle::{CommandLine, CommandState, ExchangeHandle};

/// What the exchange is made of. The node hands it over.
pub struct Parts {
    /// Where the journal lies.
    pub disk: Arc<dyn Disk>,
    /// Wall and monotonic time.
    pub clock: Arc<dyn Clock>,
    /// Ids of commands.
    pub entropy: Arc<dyn Entropy>,
    /// The journal's folder, `mqtt/` of the data folder.
    pub dir: PathBuf,
    /// Where its counters are registered.
    pub metrics: Registry,
}

/// A running exchange.
pub struct Exchange {
    handle: ExchangeHandle,
    thread: JoinHandle<Outcome<()>>,
}

impl Exchange {
    /// Opens the journal, finds again what was kept, and starts the thread. Doors may open after this.
    ///
    /// # Errors
    /// `Damaged`, naming file and offset; `Io`.
    pub fn open(parts: Parts) -> Outcome<Self> {
        let (handle, mailbox) = ExchangeHandle::new();
        let thread = thread::Builder::new()
            .name("exchange".into())
            .spawn(move || {
                drop((mailbox, parts));
                Ok(())
            })
            .map_err(|err| Failure::os("start the exchange thread", &err))?;
        Ok(Self { handle, thread })
    }

    /// The way in.
    pub fn handle(&self) -> ExchangeHandle {
        self.handle.clone()
    }

    /// Waits for the thread to end, after [`ExchangeHandle::stop`] or a failure.
    ///
    /// # Errors
    /// Why it ended, unless it was stopped.
    pub fn join(self) -> Outcome<()> {
        drop(self.handle);
        self.thread
            .join()
            .unwrap_or_else(|_| Err(Failure::internal("the exchange thread panicked")))
    }
}
