//! What the sequencer is sent, and how it answers.

use chordae_base::{Failure, Outcome};

use crate::core::admit::Admitted;

/// What a submission is answered to; unanswered, it says so itself.
pub(crate) struct Reply(Option<Box<dyn FnOnce(Outcome<u64>) + Send>>);

impl Reply {
    pub(crate) fn new(then: impl FnOnce(Outcome<u64>) + Send + 'static) -> Self {
        Self(Some(Box::new(then)))
    }

    pub(crate) fn answer(mut self, outcome: Outcome<u64>) {
        if let Some(then) = self.0.take() {
            then(outcome);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(then) = self.0.take() {
            then(Err(stopped()));
        }
    }
}

pub(crate) fn stopped() -> Failure {
    Failure::busy("the ledger has stopped; the entry may or may not be in it: submit it again")
}

/// Mail to the sequencer.
pub(crate) enum Mail {
    Submit(Box<Admitted>, Reply),
    /// Answered when `ledger/` holds everything that was answered before.
    Settle(Reply),
    Stop,
}
