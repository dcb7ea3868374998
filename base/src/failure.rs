//! Failures, sorted by what the person or program that meets one must do.

use std::fmt;

/// What the caller must do about a failure; the message is for people and is not interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureKind {
    /// Send something else: the input breaks a written rule.
    BadInput,
    /// Ask somebody else: the rule forbids it to this party.
    Refused,
    /// There is no such thing, or none that this party may know of.
    NotFound,
    /// Try again later: a bound was reached or a peer is not there yet.
    Busy,
    /// Stop and look: stored bytes contradict each other. Never repaired in silence, never served.
    Damaged,
    /// The disk or the machine refused; the handle that met it is gone.
    Io,
    /// A bug of ours.
    Internal,
}

/// A failure: its kind, and one line that says why and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the caller must do.
    pub kind: FailureKind,
    /// Why, in one line.
    pub why: String,
}

/// A result whose error is a [`Failure`].
pub type Outcome<T> = Result<T, Failure>;

macro_rules! makers {
    ($($name:ident => $kind:ident),* $(,)?) => { impl Failure { $(
        #[doc = concat!("A failure of kind [`FailureKind::", stringify!($kind), "`].")]
        pub fn $name(why: impl Into<String>) -> Self {
            Self { kind: FailureKind::$kind, why: why.into() }
        }
    )* } };
}
makers! { bad_input => BadInput, refused => Refused, not_found => NotFound, busy => Busy,
damaged => Damaged, io => Io, internal => Internal }

impl Failure {
    /// The same failure with what was being done put in front.
    pub fn during(mut self, doing: impl fmt::Display) -> Self {
        self.why = format!("{doing}: {}", self.why);
        self
    }

    /// An operating-system error met while `doing`.
    pub fn os(doing: impl fmt::Display, err: &std::io::Error) -> Self {
        let kind = match err.kind() {
            std::io::ErrorKind::NotFound => FailureKind::NotFound,
            _ => FailureKind::Io,
        };
        Self {
            kind,
            why: format!("{doing}: {err}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Failure {}
