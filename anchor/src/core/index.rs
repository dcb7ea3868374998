//! What the log says, by key: a fold over its entries.
//!
//! ```text
//! leaf hash                      -> where the entry is            every entry; of a create-session, the SID
//! tag of a head                  -> the first entry that anchors it, an add-data or an add-heads
//! SID of a revoke-session event  -> the entry that ended it
//! ```
//!
//! Here are the keys of the newest entries and what follows from all of them; older keys lie in
//! [`super::run`]s. An index only leads to an entry: whoever looks something up reads the entry, checks it
//! against the root of the log and goes by what it says.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use chordae_base::{Digest, Failure, KeyId, Outcome, limits};
use chordae_chain::{
    event::{Event, SignedEvent},
    heads::{Head, HeadSet},
    keys::{Role, key_id},
    merkle::NodeHash,
};

use super::run::Key;

/// The newest block leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastBlock {
    /// Where it is.
    pub leaf_index: u64,
    /// Its number.
    pub height: u64,
    /// Its leaf hash.
    pub leaf: NodeHash,
    /// Its time.
    pub time_ms: u64,
}

/// The head of the trail with the highest count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audit {
    /// Where it is.
    pub leaf_index: u64,
    /// Records of the trail.
    pub count: u64,
    /// Digest of the newest.
    pub digest: Digest,
}

/// When a key was retired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retired {
    /// Where the event is.
    pub leaf_index: u64,
    /// The size at which its batch ended; none while that is at work.
    pub until: Option<u64>,
}

/// What follows from all entries, apart from their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The newest block.
    pub block: Option<LastBlock>,
    /// The newest head of the trail.
    pub audit: Option<Audit>,
    /// Keys that were retired in a role, at most [`limits::RETIRED_KEYS_MAX`]. In the role alone: else a
    /// provider could silence a patient, or another provider, by calling it a log.
    pub retired: BTreeMap<(Role, KeyId), Retired>,
}

impl State {
    fn gone(&self, role: Role, kid: KeyId) -> bool {
        self.retired.contains_key(&(role, kid))
    }
}

/// An entry that a look-up led to, read and checked.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where it is.
    pub leaf_index: u64,
    /// Its leaf hash.
    pub leaf: NodeHash,
    /// Its bytes.
    pub entry: Bytes,
    /// What it says.
    pub signed: SignedEvent,
    /// What it anchors, of an `add-heads` event that was found by a tag.
    pub heads: Option<Arc<HeadSet>>,
}

impl Found {
    /// The digest that it anchors under a tag.
    pub fn digest(&self, wanted: &Digest) -> Option<Digest> {
        match &self.signed.event {
            Event::AddData { digest, tag, .. } if tag == wanted => Some(*digest),
            Event::AddHeads { .. } => self.heads.as_ref()?.digest(wanted),
            _ => None,
        }
    }
}

/// Where entries are looked up.
pub trait Entries {
    /// The first entry under a key.
    ///
    /// # Errors
    /// When index or log cannot be read, or do not fit each other.
    fn find(&self, key: &Key) -> Outcome<Option<Found>>;
}

/// What becomes of an entry that is submitted.
#[derive(Debug)]
pub enum Verdict {
    /// The same bytes are in the log, here.
    There(u64),
    /// It fits.
    Fits,
    /// It may not enter.
    Not(Failure),
}

/// The keys that an entry is found under; `heads` are those of an `add-heads` event.
pub fn keys(leaf: &NodeHash, event: &Event, heads: Option<&HeadSet>) -> Vec<Key> {
    let mut keys = vec![Key::leaf(leaf)];
    keys.extend(anchored(event, heads).iter().map(|(tag, _)| Key::tag(tag)));
    if let Event::RevokeSession { sid, .. } = event {
        keys.push(Key::revoked(sid));
    }
    keys
}

/// The heads that an event anchors.
fn anchored(event: &Event, heads: Option<&HeadSet>) -> Vec<Head> {
    match event {
        Event::AddData { digest, tag, .. } => vec![(*tag, *digest)],
        Event::AddHeads { .. } => heads.into_iter().flat_map(HeadSet::iter).copied().collect(),
        _ => Vec::new(),
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Index {
    first: u64,
    size: u64,
    keys: BTreeMap<Key, u64>,
    state: State,
}

impl Index {
    /// Goes on after so many entries, whose keys are elsewhere.
    pub fn after(size: u64, state: State) -> Self {
        Self {
            first: size,
            size,
            keys: BTreeMap::new(),
            state,
        }
    }

    /// For the entries that follow, until it is known whether they become history.
    pub fn ahead(&self) -> Self {
        Self::after(self.size, self.state.clone())
    }

    /// Takes over what [`Self::ahead`] gathered.
    pub fn absorb(&mut self, ahead: Self) {
        for (key, at) in ahead.keys {
            self.keys.entry(key).or_insert(at);
        }
        (self.size, self.state) = (ahead.size, ahead.state);
    }

    /// Gives its keys away, in order: they are looked up elsewhere from now on.
    pub fn give(&mut self) -> BTreeMap<Key, u64> {
        self.first = self.size;
        std::mem::take(&mut self.keys)
    }

    /// Leaf index of the first entry whose keys are here.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Entries folded in.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Entries whose keys are here.
    pub fn fresh(&self) -> u64 {
        self.size - self.first
    }

    /// Whether it holds the keys of so many entries, or as many keys as those mostly have.
    pub fn holds(&self, entries: u64) -> bool {
        self.fresh() >= entries || self.keys.len() as u64 >= entries.saturating_mul(2)
    }

    /// What follows from all entries.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The newest block.
    pub fn last_block(&self) -> Option<LastBlock> {
        self.state.block
    }

    /// The size at which a key was retired in a role, if the log up to `size` says so.
    pub fn retired(&self, role: Role, kid: KeyId, size: u64) -> Option<u64> {
        let retired = self.state.retired.get(&(role, kid))?;
        retired.until.filter(|until| *until <= size)
    }

    /// Where the first entry under a key is, if the key is here.
    pub fn get(&self, key: &Key) -> Option<u64> {
        self.keys.get(key).copied()
    }

    /// Whether an entry, with the heads that it anchors if it is an `add-heads`, fits what the log says so far.
    ///
    /// [`Verdict::Not`] is `Damaged` for a fork (another digest under a known tag, or for a known count of the
    /// trail): evidence, and never by our own hand; `Refused` for a revocation of what is no session or
    /// another's, for a head of the trail older than one in the log, and for anything signed by a key
    /// that was retired.
    ///
    /// # Errors
    /// Those of the look-up.
    pub fn check(
        &self,
        leaf: &NodeHash,
        signed: &SignedEvent,
        heads: Option<&HeadSet>,
        entries: &dyn Entries,
    ) -> Outcome<Verdict> {
        let anchored = anchored(&signed.event, heads);
        // The same bytes would be under the same tag: one look-up for nearly all of them.
        let mut may_be_there = anchored.is_empty();
        for (tag, digest) in &anchored {
            let Some(first) = entries.find(&Key::tag(tag))? else {
                continue;
            };
            if first.leaf == *leaf {
                return Ok(Verdict::There(first.leaf_index));
            }
            if let Some(known) = first.digest(tag).filter(|known| known != digest) {
                return Ok(Verdict::Not(Failure::damaged(format!(
                    "fork: entry {} anchors digest {known} where {digest} is to be anchored now",
                    first.leaf_index
                ))));
            }
            may_be_there = true;
        }
        if may_be_there && let Some(same) = entries.find(&Key::leaf(leaf))? {
            return Ok(Verdict::There(same.leaf_index));
        }
        if self.state.gone(signed.event.signer(), signed.kid) {
            let (kind, kid) = (signed.event.kind(), signed.kid);
            return Ok(Verdict::Not(Failure::refused(format!(
                "{kind}: the key {kid} of its signer was retired"
            ))));
        }
        let rule = match &signed.event {
            Event::RevokeSession { sid, .. } => {
                let session = entries.find(&Key::leaf(sid))?;
                check_revocation(signed, session.as_ref())
            }
            Event::AuditHead { digest, count, .. } => self.check_audit(*count, digest),
            Event::RotateKey { role, old, new, .. } => {
                self.check_rotation(*role, old, new, &signed.kid)
            }
            _ => Ok(()),
        };
        Ok(rule.map_or_else(Verdict::Not, |()| Verdict::Fits))
    }

    /// A key goes once and never comes back, and a provider's only by its own word.
    fn check_rotation(&self, role: Role, old: &KeyId, new: &[u8; 32], by: &KeyId) -> Outcome<()> {
        let refused = |why: &str| Err(Failure::refused(format!("rotate-key: {why}")));
        if role == Role::Provider && old != by {
            return refused("a provider's key is retired by itself only");
        }
        if self.state.gone(role, *old) {
            return refused("the key that goes was retired before");
        }
        if self.state.gone(role, key_id(new)) {
            return refused("the key that comes was retired before");
        }
        if self.state.retired.len() >= limits::RETIRED_KEYS_MAX {
            return refused("so many keys were retired that no trust file holds another");
        }
        Ok(())
    }

    /// A trail only grows, and its head is one. The trail of no records has the digest of zeros.
    fn check_audit(&self, count: u64, digest: &Digest) -> Outcome<()> {
        if count == 0 && *digest != Digest([0; 32]) {
            return Err(Failure::refused(
                "an audit-head of no records must name the digest of zeros",
            ));
        }
        match self.state.audit {
            Some(known) if count < known.count => Err(Failure::refused(format!(
                "entry {} knows a trail of {} records, an audit-head of {count} is older",
                known.leaf_index, known.count
            ))),
            Some(known) if count == known.count && *digest != known.digest => {
                Err(Failure::damaged(format!(
                    "fork: entry {} names {} as the head of {count} records, {digest} is to be named now",
                    known.leaf_index, known.digest
                )))
            }
            _ => Ok(()),
        }
    }

    /// Folds in the next entry, with the heads that it anchors if it is an `add-heads`.
    pub fn append(&mut self, leaf: NodeHash, event: &Event, heads: Option<&HeadSet>) {
        let at = self.size;
        self.size += 1;
        for key in keys(&leaf, event, heads) {
            self.keys.entry(key).or_insert(at);
        }
        match event {
            Event::AuditHead { digest, count, .. }
                if self.state.audit.is_none_or(|known| known.count <= *count) =>
            {
                self.state.audit = Some(Audit {
                    leaf_index: at,
                    count: *count,
                    digest: *digest,
                });
            }
            Event::RotateKey { role, old, .. } => {
                let retired = Retired {
                    leaf_index: at,
                    until: None,
                };
                self.state.retired.entry((*role, *old)).or_insert(retired);
            }
            Event::Block {
                height, time_ms, ..
            } => {
                let end = self.size;
                let ended = self.state.retired.values_mut();
                ended.for_each(|retired| {
                    retired.until.get_or_insert(end);
                });
                self.state.block = Some(LastBlock {
                    leaf_index: at,
                    height: *height,
                    leaf,
                    time_ms: *time_ms,
                });
            }
            _ => {}
        }
    }
}

/// Only the patient who made a session ends it.
fn check_revocation(signed: &SignedEvent, session: Option<&Found>) -> Outcome<()> {
    let own = |found: &Found| {
        let made = matches!(found.signed.event, Event::CreateSession { .. });
        made && found.signed.kid == signed.kid
    };
    if session.is_some_and(own) {
        return Ok(());
    }
    // One answer for both: who is not the patient learns nothing about sessions.
    Err(Failure::refused(
        "there is no session of this signer to revoke",
    ))
}
