//! What a row came to: one line `SCORE {json}` for the scorecard.
//!
//! The keys are those of all rows of the campaign; for damage, `cycles` are the damages done,
//! `acknowledged` those that change what is said, `stored` those of them that were found, `lost` those that
//! nobody found, and `phantom` those whose bytes were served.

use serde::Serialize;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Score {
    /// The row.
    pub row: &'static str,
    /// Damages done.
    pub cycles: u64,
    /// Of them, those that change what is said.
    pub acknowledged: u64,
    /// Of those, found.
    pub stored: u64,
    /// Of those, found by nobody.
    pub lost: u64,
    /// Always 0 here.
    pub duplicate: u64,
    /// Of those, served.
    pub phantom: u64,
    /// Found without the right object's name.
    pub unnamed: u64,
    /// Damages that change nothing of what is said.
    pub harmless: u64,
    /// What the control came to.
    pub control: String,
    /// Where the randomness came from.
    pub seed: u64,
    /// Whether the row is green.
    pub ok: bool,
    /// The first things that went wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub wrong: Vec<String>,
}

/// Wrong things that a score keeps.
const WRONG_MAX: usize = 20;

impl Score {
    /// An empty score of a row.
    pub fn new(row: &'static str, seed: u64) -> Self {
        Self {
            row,
            seed,
            ..Self::default()
        }
    }

    /// A damage was found, and its object named or not.
    pub fn found(&mut self, named: bool, why: impl FnOnce() -> String) {
        self.cycles += 1;
        self.acknowledged += 1;
        self.stored += 1;
        if !named {
            self.unnamed += 1;
            self.complain(why());
        }
    }

    /// A damage changed nothing of what is said.
    pub fn harmless(&mut self) {
        self.cycles += 1;
        self.harmless += 1;
    }

    /// Nobody found a damage.
    pub fn missed(&mut self, why: String) {
        self.cycles += 1;
        self.acknowledged += 1;
        self.lost += 1;
        self.complain(why);
    }

    /// Damaged bytes were served.
    pub fn served(&mut self, why: String) {
        self.phantom += 1;
        self.complain(why);
    }

    /// Something else that must not be.
    pub fn complain(&mut self, why: String) {
        if self.wrong.len() < WRONG_MAX {
            self.wrong.push(why);
        }
    }

    /// Closes the score: green if nothing was missed or served, at most one in a hundred was found without
    /// its name, and the control failed as it must.
    #[must_use]
    pub fn judged(mut self, control_failed: bool) -> Self {
        self.ok = control_failed
            && self.cycles > 0
            && self.lost == 0
            && self.phantom == 0
            && self.unnamed * 100 <= self.acknowledged;
        self
    }

    /// The line.
    pub fn line(&self) -> String {
        // Numbers and strings: nothing in it can fail to be written.
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("SCORE {json}")
    }
}
