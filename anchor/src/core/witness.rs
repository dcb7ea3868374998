//! What a witness says to a checkpoint (C2SP tlog-witness, `add-checkpoint`).
//!
//! ```text
//! old 20852014               the size that the asker believes the witness to remember
//! PlRNCrwHpqhGrupue0L7...    consistency proof from it, at most 63 hashes (RFC 6962 2.1.2)
//!                            an empty line, then the signed note
//! ```
//!
//! [`judge`] looks in this order; the first that applies is the answer:
//!
//! ```text
//! not a request of this form                        400
//! a log that is not followed                        404
//! no signature by a key of that log                 403
//! old is larger than the checkpoint                 400
//! old is not the remembered size                    409 and that size
//! the remembered size, but another root             409
//! the proof does not lead from old to new           422
//! none of these                                     200: remembered and synced, then cosigned
//! ```
//!
//! A checkpoint that its log has signed and that does not go with what is remembered is kept as
//! evidence, whatever the answer is: both notes bear the log's signature.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chordae_base::{
    Failure, FailureKind, Outcome,
    limits::{WITNESS_PROOF_MAX, WITNESS_REQUEST_BYTES_MAX},
};
use chordae_chain::{
    checkpoint::{Checkpoint, Claim, TrustedLog},
    merkle::{self, EMPTY_ROOT, NodeHash},
};

/// First line of a memory.
const MEMORY: &str = "chordae-witness v1";
/// What a memory says before the first cosignature.
const NOTHING: &str = "nothing cosigned yet\n";

/// The newest checkpoint of a log that was cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Its size and root.
    pub checkpoint: Checkpoint,
    /// The note that the log has signed, as it came.
    pub note: String,
}

/// A request to cosign, nothing of it believed.
#[derive(Debug, PartialEq)]
pub struct Request {
    /// The size that the asker believes the witness to remember.
    pub old: u64,
    /// Consistency proof from there to the checkpoint.
    pub proof: Vec<NodeHash>,
    /// The signed note, as it came.
    pub note: String,
    claim: Claim,
}

/// What is to be done with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This must be remembered, synced, and then be cosigned.
    Cosign(Memory),
    /// It is remembered already: cosign it again.
    Again(Checkpoint),
    /// The log is not followed.
    UnknownOrigin,
    /// No key of the log has signed it.
    Unsigned,
    /// It asks for the impossible.
    Bad,
    /// The asker is behind, or ahead: this size is remembered.
    Stale(u64),
    /// The log has signed two roots for one size.
    Conflict,
    /// It is not shown that the log only grew.
    Inconsistent,
}

/// How a signed checkpoint goes against the remembered one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// Two roots for one size: the two notes prove that the log equivocates.
    TwoRoots,
    /// A smaller tree than the remembered one. No proof: whoever has an old note can send it again.
    GoesBack,
    /// A larger tree, with a proof that does not hold. No proof either: the asker may have made it.
    NotShown,
}

/// Two notes that one log has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// What is odd about them.
    pub doubt: Doubt,
    /// The log.
    pub origin: String,
    /// Size of the submitted one.
    pub size: u64,
    /// The note that was cosigned last.
    pub remembered: String,
    /// The note that came.
    pub submitted: String,
}

impl Doubt {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::TwoRoots, Self::GoesBack, Self::NotShown];

    /// Its word, in names of files.
    pub fn word(self) -> &'static str {
        match self {
            Self::TwoRoots => "two-roots",
            Self::GoesBack => "goes-back",
            Self::NotShown => "not-shown",
        }
    }
}

impl Evidence {
    /// Both notes, the remembered one first, with an empty line between.
    pub fn text(&self) -> String {
        format!("{}\n{}", self.remembered, self.submitted)
    }
}

impl Memory {
    /// The text of a memory: of the newest cosigned checkpoint of an origin, or that there is none.
    pub fn encode(origin: &str, memory: Option<&Self>) -> String {
        match memory {
            None => format!("{MEMORY}\n{origin}\n{NOTHING}"),
            Some(memory) => format!("{MEMORY}\n{origin}\n\n{}", memory.note),
        }
    }

    /// Reads a memory; the log's own signature shows that no byte of the checkpoint has changed.
    ///
    /// # Errors
    /// `Damaged` for anything that was not written for this origin, or that none of its logs has signed.
    pub fn decode(text: &str, origin: &str, logs: &[TrustedLog]) -> Outcome<Option<Self>> {
        let damaged = |e: &str| Failure::damaged(format!("the memory of log {origin:?}: {e}"));
        let rest = text
            .strip_prefix(MEMORY)
            .and_then(|rest| rest.strip_prefix('\n')?.strip_prefix(origin))
            .and_then(|rest| rest.strip_prefix('\n'))
            .ok_or_else(|| damaged("it is of another log, or none"))?;
        if rest == NOTHING {
            return Ok(None);
        }
        let note = rest
            .strip_prefix('\n')
            .ok_or_else(|| damaged("it is cut or changed"))?;
        let claim = Claim::parse(note).map_err(|e| damaged(&e.why))?;
        if claim.origin() != origin {
            return Err(damaged("its checkpoint is of another log"));
        }
        let checkpoint = signed(&claim, logs).ok_or_else(|| {
            damaged("no key that the witness was given for this log has signed its checkpoint")
        })?;
        let note = note.to_owned();
        Ok(Some(Self { checkpoint, note }))
    }
}

impl Request {
    /// The body that asks a witness to cosign a note.
    pub fn compose(old: u64, proof: &[NodeHash], note: &str) -> String {
        let mut body = format!("old {old}\n");
        for hash in proof {
            body.push_str(&STANDARD.encode(hash));
            body.push('\n');
        }
        body.push('\n');
        body.push_str(note);
        body
    }

    /// Reads a body.
    ///
    /// # Errors
    /// `BadInput` for anything that [`Self::compose`] would not write.
    pub fn parse(body: &[u8]) -> Outcome<Self> {
        let bad = |why: &str| Failure::bad_input(format!("not a request to a witness: {why}"));
        if body.len() > WITNESS_REQUEST_BYTES_MAX {
            return Err(bad("it is too long"));
        }
        let text = std::str::from_utf8(body).map_err(|_| bad("it is not text"))?;
        let (head, note) = text
            .split_once("\n\n")
            .ok_or_else(|| bad("there is no empty line"))?;
        let mut lines = head.split('\n');
        let digits = lines.next().and_then(|line| line.strip_prefix("old "));
        let digits = digits.ok_or_else(|| bad("it does not begin with the old size"))?;
        let old: u64 = digits.parse().map_err(|_| bad("the old size is none"))?;
        if old.to_string() != digits {
            return Err(bad("the old size has a second spelling"));
        }
        let mut proof: Vec<NodeHash> = Vec::new();
        for line in lines {
            let hash = STANDARD.decode(line).ok().and_then(|h| h.try_into().ok());
            proof.push(hash.ok_or_else(|| bad("a line is not the base64 of a hash"))?);
            if proof.len() > WITNESS_PROOF_MAX {
                return Err(bad("the proof has more than 63 hashes"));
            }
        }
        let claim = Claim::parse(note).map_err(|e| bad(&e.why))?;
        let note = note.to_owned();
        Ok(Self {
            old,
            proof,
            note,
            claim,
        })
    }

    /// The log that the checkpoint says it is of.
    pub fn origin(&self) -> &str {
        self.claim.origin()
    }
}

/// Judges a request by what is remembered of its log, and says what must be kept as evidence. A log
/// may have several keys; those of other logs are passed over.
pub fn judge(
    logs: &[TrustedLog],
    memory: Option<&Memory>,
    request: &Request,
) -> (Verdict, Option<Evidence>) {
    if !logs.iter().any(|log| log.origin() == request.origin()) {
        return (Verdict::UnknownOrigin, None);
    }
    let Some(new) = signed(&request.claim, logs) else {
        return (Verdict::Unsigned, None);
    };
    let verdict = answer(memory, request, &new);
    let doubt = memory.and_then(|m| doubt(m, &new, &verdict).map(|doubt| (m, doubt)));
    let evidence = doubt.map(|(memory, doubt)| Evidence {
        doubt,
        size: new.size,
        origin: new.origin,
        remembered: memory.note.clone(),
        submitted: request.note.clone(),
    });
    (verdict, evidence)
}

fn answer(memory: Option<&Memory>, request: &Request, new: &Checkpoint) -> Verdict {
    let (size, root) = memory.map_or((0, EMPTY_ROOT), |m| (m.checkpoint.size, m.checkpoint.root));
    if request.old > new.size {
        return Verdict::Bad;
    }
    if request.old != size {
        return Verdict::Stale(size);
    }
    if memory.is_some() && new.size == size && new.root != root {
        return Verdict::Conflict;
    }
    if merkle::check_consistency((size, root), (new.size, new.root), &request.proof).is_err() {
        return Verdict::Inconsistent;
    }
    match memory {
        Some(memory) if memory.checkpoint == *new => Verdict::Again(new.clone()),
        _ => Verdict::Cosign(Memory {
            checkpoint: new.clone(),
            note: request.note.clone(),
        }),
    }
}

/// Two roots are evidence in whatever request they come; a proof is looked at only if it begins where
/// the memory ends.
fn doubt(memory: &Memory, new: &Checkpoint, verdict: &Verdict) -> Option<Doubt> {
    let old = &memory.checkpoint;
    if new.size == old.size {
        return (new.root != old.root).then_some(Doubt::TwoRoots);
    }
    if new.size < old.size {
        return Some(Doubt::GoesBack);
    }
    (*verdict == Verdict::Inconsistent).then_some(Doubt::NotShown)
}

/// The checkpoint, if a key of its log has signed it.
fn signed(claim: &Claim, logs: &[TrustedLog]) -> Option<Checkpoint> {
    let of_it = logs.iter().filter(|log| log.origin() == claim.origin());
    of_it.map(|log| claim.signed_by(log)).find_map(Result::ok)
}

impl Verdict {
    /// The HTTP status of its answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::Cosign(_) | Self::Again(_) => 200,
            Self::Bad => 400,
            Self::Unsigned => 403,
            Self::UnknownOrigin => 404,
            Self::Stale(_) | Self::Conflict => 409,
            Self::Inconsistent => 422,
        }
    }

    /// Why it is not cosigned, for people.
    pub fn why(&self) -> &'static str {
        match self {
            Self::Cosign(_) | Self::Again(_) => "",
            Self::Bad => "the old size is larger than the checkpoint's",
            Self::Unsigned => "no key that is trusted for this log has signed the checkpoint",
            Self::UnknownOrigin => "this log is not followed here",
            Self::Stale(_) => "another size is remembered",
            Self::Conflict => "another root is remembered for this size",
            Self::Inconsistent => "the proof does not show that the log only grew",
        }
    }
}

/// The status of a request that could not be read, or could not be served.
pub fn status_of(failure: &Failure) -> u16 {
    match failure.kind {
        FailureKind::BadInput => 400,
        _ => 500,
    }
}
