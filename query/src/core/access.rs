//! Who may read (formats.md 8), as one pure function over plain values.
//!
//! ```text
//!             grant        [st ─────────────────────── et)     one grant must cover all of it:
//!             window            [from ──────── until)          st <= from, until <= et, all leads
//!             rows sent         [from ──── now]                and none later than now
//! ```
//!
//! Invariants:
//! - Spans are half-open; `None` is no bound. Two grants that touch, or leave a hole, do not add up:
//!   a window is answered from *one* grant or not at all.
//! - A stream that is unknown, another patient's or not granted is [`Denied::Hidden`]; nothing in the
//!   decision tells these apart, so nothing in the answer can.
//! - The session counts only while it is in the log, its record matches, nobody revoked it, its signer
//!   is *now* the patient of the stream, and a section that is made out to this key has not expired.

use chordae_base::{Did, KeyId, Span};
use chordae_chain::keys::Role;

use super::high_water::Now;

/// Which leads are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leads {
    /// Every lead that the stream has or will have.
    All,
    /// These, in this order; none at all asks for links and metadata only.
    Named(Vec<String>),
}

/// What a patient allows, of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The stream.
    pub did: Did,
    /// First instant allowed, if there is a bound.
    pub from_ns: Option<i64>,
    /// First instant no longer allowed, if there is a bound.
    pub until_ns: Option<i64>,
    /// The leads allowed, `None` for all.
    pub leads: Option<Vec<String>>,
}

/// One section of a session record, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Key of the patient that the section names.
    pub patient: KeyId,
    /// Key of the requester that it is made out to.
    pub requester: KeyId,
    /// First instant at which it no longer holds.
    pub expires_ns: Option<i64>,
    /// What it allows.
    pub grants: Vec<Grant>,
}

/// What ledger and directory say about a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Who signed its `create-session` event, if that is in the log.
    pub signer: Option<KeyId>,
    /// Whether the directory's record matches the event's `sections`.
    pub matches: bool,
    /// Whether the signer revoked it.
    pub revoked: bool,
    /// Its sections.
    pub terms: Vec<Terms>,
}

/// On what ground a party asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ground {
    /// On a session; `None` when the directory has no record of it.
    Session(Option<Session>),
    /// For herself.
    Own,
}

/// Who asks, by a verified signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// Key that signed the request.
    pub kid: KeyId,
    /// What the registry says the key's holder is.
    pub role: Role,
    /// On what ground.
    pub ground: Ground,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// The stream.
    pub did: Did,
    /// The window.
    pub window: Span,
    /// The leads.
    pub leads: Leads,
    /// Whether the allowed part will do.
    pub clip: bool,
}

/// A token: this much may be shown. Made only by [`decide`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    window: Span,
    leads: Leads,
    bounds: Span,
    last_ns: i64,
}

impl Allowed {
    /// The window answered: the one asked for, or its allowed part when clipped.
    pub fn window(&self) -> Span {
        self.window
    }

    /// The span of the grant that this relies on, whatever was asked for.
    pub fn bounds(&self) -> Span {
        self.bounds
    }

    /// The leads answered.
    pub fn leads(&self) -> &Leads {
        &self.leads
    }

    /// The rows that may be sent: the window without what is later than now.
    pub fn rows(&self) -> Span {
        let until_ns = self.window.until_ns.min(self.last_ns.saturating_add(1));
        Span {
            from_ns: self.window.from_ns,
            until_ns: until_ns.max(self.window.from_ns),
        }
    }

    /// The same, widened to whole cells of `page_ns` at each end where the grant allows the whole cell.
    #[must_use]
    pub fn snapped(mut self, page_ns: i64) -> Self {
        let from = self.window.from_ns;
        let floor = from.checked_sub(from.rem_euclid(page_ns));
        if let Some(floor) = floor.filter(|f| *f >= self.bounds.from_ns) {
            self.window.from_ns = floor;
        }
        let until = self.window.until_ns;
        let ceil = until.checked_add((-i128::from(until)).rem_euclid(i128::from(page_ns)) as i64);
        if let Some(ceil) = ceil.filter(|c| *c <= self.bounds.until_ns) {
            self.window.until_ns = ceil;
        }
        self
    }
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// The session is unknown, not in the log, altered, revoked, expired or made out to another key.
    SessionNotLive,
    /// The stream does not exist for this party.
    Hidden,
    /// The stream is granted, but not all that was asked for; this is what is.
    Exceeds(Vec<Grant>),
}

/// The rule. `patient` is the patient of the wanted stream, if it exists and has one.
///
/// # Errors
/// See [`Denied`].
pub fn decide(
    asker: &Asker,
    patient: Option<KeyId>,
    want: &Want,
    now: Now,
) -> Result<Allowed, Denied> {
    let grants = grants_of(asker, now)?;
    let (signer, grants) = match grants {
        Held::All(kid) => {
            let all = Grant {
                did: want.did,
                from_ns: None,
                until_ns: None,
                leads: None,
            };
            (kid, vec![all])
        }
        Held::These(signer, grants) => (signer, grants),
    };
    let mut named: Vec<Grant> = grants.into_iter().filter(|g| g.did == want.did).collect();
    // Looked at last and together, so that an unknown stream and a forbidden one take the same path.
    if patient != Some(signer) || named.is_empty() {
        return Err(Denied::Hidden);
    }
    let allowed = |(window, leads, grant): (Span, Leads, &Grant)| Allowed {
        window,
        leads,
        bounds: bounds(grant),
        last_ns: now.wall_ns,
    };
    if let Some(grant) = named.iter().find(|g| covers(g, want)) {
        return Ok(allowed((want.window, want.leads.clone(), grant)));
    }
    let best = named.iter().filter_map(|g| clip(g, want)).reduce(wider);
    match best.filter(|_| want.clip) {
        Some(part) => Ok(allowed(part)),
        None => Err(Denied::Exceeds(std::mem::take(&mut named))),
    }
}

/// What a party holds, of whichever streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// Everything of the patient with this key.
    All(KeyId),
    /// These grants by the patient with this key.
    These(KeyId, Vec<Grant>),
}

/// The grants a party may rely on now, whatever the stream.
///
/// # Errors
/// [`Denied::SessionNotLive`]; [`Denied::Hidden`] for a party that asks for herself and is no patient
/// (operators read no rows).
pub fn grants_of(asker: &Asker, now: Now) -> Result<Held, Denied> {
    let session = match &asker.ground {
        Ground::Own if asker.role == Role::Patient => return Ok(Held::All(asker.kid)),
        Ground::Own => return Err(Denied::Hidden),
        Ground::Session(session) => session.as_ref().ok_or(Denied::SessionNotLive)?,
    };
    let signer = session.signer.ok_or(Denied::SessionNotLive)?;
    if session.revoked || !session.matches {
        return Err(Denied::SessionNotLive);
    }
    let live = |t: &&Terms| {
        t.requester == asker.kid
            && t.patient == signer
            && t.expires_ns.is_none_or(|expires| now.high_ns < expires)
    };
    let mut sections = session.terms.iter().filter(live).peekable();
    if sections.peek().is_none() {
        return Err(Denied::SessionNotLive);
    }
    Ok(Held::These(
        signer,
        sections.flat_map(|t| t.grants.iter().cloned()).collect(),
    ))
}

fn bounds(grant: &Grant) -> Span {
    let from_ns = grant.from_ns.unwrap_or(i64::MIN);
    Span {
        from_ns,
        until_ns: grant.until_ns.unwrap_or(i64::MAX),
    }
}

fn covers(grant: &Grant, want: &Want) -> bool {
    let bounds = bounds(grant);
    let leads = match (&grant.leads, &want.leads) {
        (None, _) => true,
        (Some(_), Leads::All) => false,
        (Some(granted), Leads::Named(asked)) => asked.iter().all(|a| granted.contains(a)),
    };
    leads && bounds.from_ns <= want.window.from_ns && want.window.until_ns <= bounds.until_ns
}

/// What of the wish one grant allows, if anything.
fn clip<'g>(grant: &'g Grant, want: &Want) -> Option<(Span, Leads, &'g Grant)> {
    let bounds = bounds(grant);
    let from_ns = bounds.from_ns.max(want.window.from_ns);
    let until_ns = bounds.until_ns.min(want.window.until_ns);
    let leads = match (&grant.leads, &want.leads) {
        (None, asked) => asked.clone(),
        (Some(granted), Leads::All) => Leads::Named(granted.clone()),
        (Some(granted), Leads::Named(asked)) => {
            let both: Vec<String> = asked
                .iter()
                .filter(|a| granted.contains(a))
                .cloned()
                .collect();
            if both.is_empty() && !asked.is_empty() {
                return None;
            }
            Leads::Named(both)
        }
    };
    (from_ns < until_ns).then_some((Span { from_ns, until_ns }, leads, grant))
}

/// Of two allowed parts the longer one, then the one with more leads, then the first.
fn wider<'g>(a: (Span, Leads, &'g Grant), b: (Span, Leads, &'g Grant)) -> (Span, Leads, &'g Grant) {
    let size = |(span, leads, _): &(Span, Leads, &Grant)| {
        let width = i128::from(span.until_ns) - i128::from(span.from_ns);
        let leads = match leads {
            Leads::All => usize::MAX,
            Leads::Named(names) => names.len(),
        };
        (width, leads)
    };
    if size(&b) > size(&a) { b } else { a }
}
