//! What the server of a thief shows instead of what is stored: files that nobody compares with their links, and a
//! record of a session that its patient never signed.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use chordae_base::{
    Did, Failure, Outcome, Span,
    seams::{Stamp, real},
};
use chordae_chain::{
    keys::SecretKeys,
    link::{self, Link},
    session::{self, NO_INVENTORY, Reader, SessionRecord},
};
use chordae_query::core::ports::{ChunkSource, Sessions, Touched};

use super::broken::Clinician;
use crate::{
    adapters::{Chunks, Records},
    keyfile,
    keyring::Keyring,
};

/// Links as they are, files as the copy has them. [`ChunkSource::bytes`] vouches for the file's digest; this does not.
pub(super) struct Files {
    genuine: Chunks,
    copy: PathBuf,
}

impl Files {
    pub(super) fn new(genuine: Chunks, copy: &Path) -> Self {
        let copy = copy.to_owned();
        Self { genuine, copy }
    }
}

impl ChunkSource for Files {
    fn links(&self, did: &Did, from_index: u64, most: usize) -> Outcome<Vec<Link>> {
        self.genuine.links(did, from_index, most)
    }

    fn touching(&self, did: &Did, span: Span) -> Outcome<Vec<Touched>> {
        self.genuine.touching(did, span)
    }

    fn newest(&self, did: &Did) -> Option<u64> {
        self.genuine.newest(did)
    }

    fn bytes(&self, did: &Did, index: u64) -> Outcome<Bytes> {
        match std::fs::read(self.copy.join(link::object_name(did, index))) {
            Ok(bytes) => Ok(bytes.into()),
            // Sealed after the copy was made.
            Err(e) if e.kind() == ErrorKind::NotFound => self.genuine.bytes(did, index),
            Err(e) => Err(Failure::os("read a chunk of the copy", &e)),
        }
    }

    fn stamp(&self, _: &Did, _: u64) -> Option<Stamp> {
        None
    }
}

/// The records as they are, but for one session: there a record lies that grants everything.
pub(super) struct Widened {
    sid: [u8; 32],
    record: Bytes,
    genuine: Records,
}

impl Widened {
    /// Made with the patient's own key: not even she can change a session that the ledger has.
    pub(super) fn of(clinician: &Clinician, keys: &Keyring, genuine: Records) -> Outcome<Self> {
        let sid = clinician.sid.0;
        let gone =
            || Failure::not_found("the session of the demo is gone: its patient has revoked it");
        let record = SessionRecord::decode(&genuine.get(&sid)?.ok_or_else(gone)?)?;
        let [patient, requester] = &clinician.keys;
        let (patient, requester) = (keyfile::read(patient)?, keyfile::read(requester)?);
        let opened = record.sections.iter();
        let opened = opened.map(|s| session::open_section(s, &keys.provider, Reader::Provider));
        let mut plains = opened.collect::<Outcome<Vec<_>>>()?;
        for grant in plains.iter_mut().flat_map(|plain| &mut plain.grants) {
            (grant.st_ns, grant.et_ns) = (None, None);
        }
        let sections: Vec<_> = plains.iter().map(|plain| (NO_INVENTORY, plain)).collect();
        let seal = |keys: &SecretKeys| {
            let none = || Failure::internal("a key of the demo has no sealing half");
            keys.seal_public().ok_or_else(none)
        };
        let (to, reader) = (seal(&keys.provider)?, seal(&requester)?);
        let made = session::make_of(&patient, &to, &reader, &sections, &real::OsEntropy)?;
        let forged = SessionRecord {
            sid: Some(sid),
            sections: made.record.sections,
        };
        Ok(Self {
            sid,
            record: forged.encode()?.into(),
            genuine,
        })
    }
}

impl Sessions for Widened {
    fn put(&self, _: &[u8; 32], _: &[u8]) -> Outcome<()> {
        Err(Failure::refused("nothing is stored in a copy"))
    }

    fn get(&self, sid: &[u8; 32]) -> Outcome<Option<Bytes>> {
        match *sid == self.sid {
            true => Ok(Some(self.record.clone())),
            false => self.genuine.get(sid),
        }
    }

    fn remove(&self, _: &[u8; 32]) -> Outcome<()> {
        Err(Failure::refused("nothing is removed from a copy"))
    }

    fn list(&self, from: &[u8; 32], most: usize) -> Outcome<Vec<[u8; 32]>> {
        self.genuine.list(from, most)
    }
}
