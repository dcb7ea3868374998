//! The published operation counts (MedChain, Table 2), counted where the operations are done.
//!
//! ```text
//! TQb  a question to the ledger        TE   something encrypted      TD  a digest computed
//! TQd  a question to the directory     TE'  something decrypted      TB  an event brought onto the ledger
//! ```
//!
//! Each operation is done here for good, over HTTP where it asks, with a durable block where it enters; what the table
//! leaves out is left out too (writing the directory, opening an inventory to copy from it). Everybody seals with the
//! same primitives. `k` is the number of sections of a session, `n` that of the entries in each.

use std::collections::BTreeMap;

use bytes::Bytes;
use chordae_base::{
    Did, Digest, Failure, Outcome,
    seams::{Clock, real::OsEntropy},
};
use chordae_chain::{
    event::{self, Event},
    link::Link,
    seal::{self, Purpose},
    session::{self, Grant, Reader as Who, SectionPlain, SessionRecord},
    stream::{ChunkClaim, verify_stream},
};
use sha2::{Digest as _, Sha256};

use super::{
    house::House,
    reader::{Data, Reader},
    schemes,
};

/// How often each operation was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ops {
    /// TQb.
    pub ledger: u64,
    /// TQd.
    pub directory: u64,
    /// TE.
    pub encrypted: u64,
    /// TE'.
    pub decrypted: u64,
    /// TD.
    pub digests: u64,
    /// TB.
    pub entered: u64,
}

/// An action of the table, as it was counted.
pub struct Counted {
    /// Whose.
    pub who: &'static str,
    /// Which action.
    pub what: &'static str,
    /// What the table says of it; of ours, what we say.
    pub formula: &'static str,
    /// That, for the numbers at hand.
    pub expected: Ops,
    /// What was done.
    pub done: Ops,
    /// How long it took, in milliseconds.
    pub ms: f64,
}

const PAPER: &str = "published";
const BEFORE: &str = "existing (as published)";
const OURS: &str = "ours";

/// Does every action with `k` sections of `n` entries and counts.
///
/// # Errors
/// The first that fails, or does not find what was stored.
pub fn count(
    house: &House,
    reader: &mut Reader,
    (k, n): (u64, u64),
    clock: &dyn Clock,
) -> Outcome<Vec<Counted>> {
    let mut desk = Desk {
        house,
        reader,
        ops: Ops::default(),
        clock,
        all: Vec::new(),
    };
    desk.published(k, n)?;
    desk.existing(k, n)?;
    desk.ours(k, n)?;
    Ok(desk.all)
}

/// What adding costs everybody.
const ADD: Ops = Ops {
    ledger: 0,
    directory: 0,
    encrypted: 1,
    decrypted: 0,
    digests: 1,
    entered: 1,
};

/// What a session of `k` sections costs.
fn session_ops(k: u64) -> Ops {
    Ops {
        directory: k,
        encrypted: k,
        ..ADD
    }
}

struct Desk<'a> {
    house: &'a House,
    reader: &'a mut Reader,
    ops: Ops,
    clock: &'a dyn Clock,
    all: Vec<Counted>,
}

/// The content of an entry; small, for here it is counted and not timed.
fn datum(section: u64, entry: u64) -> Vec<u8> {
    format!("section {section} entry {entry}").into_bytes()
}

/// A did of this table: a party of it, a section, an entry.
fn did(of: u8, section: u64, entry: u64) -> Did {
    super::numbered(of, section << 32 | entry)
}

impl Desk<'_> {
    fn ledger(&mut self, leaf: &[u8; 32]) -> Outcome<Data> {
        self.ops.ledger += 1;
        self.reader.event(leaf)
    }

    fn directory(&mut self, name: &str) -> Outcome<Bytes> {
        self.ops.directory += 1;
        self.reader.directory(name)
    }

    fn encrypt(&mut self, plain: &[u8]) -> Outcome<Vec<u8>> {
        self.ops.encrypted += 1;
        let to = self.house.keys.patient.seal_public();
        let to = to.ok_or_else(|| Failure::internal("no sealing key"))?;
        seal::seal(&to, Purpose::Ksec, plain, &OsEntropy)
    }

    /// Opens, and does not count it.
    fn peek(&self, sealed: &[u8]) -> Outcome<Vec<u8>> {
        let key = self.house.keys.patient.seal.as_ref();
        let key = key.ok_or_else(|| Failure::internal("no sealing key"))?;
        seal::open(key, Purpose::Ksec, sealed)
    }

    fn decrypt(&mut self, sealed: &[u8]) -> Outcome<Vec<u8>> {
        self.ops.decrypted += 1;
        self.peek(sealed)
    }

    fn digest(&mut self, data: &[u8], before: &[u8]) -> Digest {
        self.ops.digests += 1;
        let hash = Sha256::new().chain_update(data).chain_update(before);
        Digest(hash.finalize().into())
    }

    fn enter(&mut self, entry: Vec<u8>) -> Outcome<[u8; 32]> {
        self.ops.entered += 1;
        let leaf = event::leaf_hash(&entry);
        self.house.ledger().submit(entry)?;
        Ok(leaf)
    }

    /// Does an action and writes down what it cost.
    fn action<T>(
        &mut self,
        who: &'static str,
        what: &'static str,
        (formula, expected): (&'static str, Ops),
        act: impl FnOnce(&mut Self) -> Outcome<T>,
    ) -> Outcome<T> {
        self.ops = Ops::default();
        let began = self.clock.mono_ns();
        let done = act(self)?;
        let ns = self.clock.mono_ns().saturating_sub(began);
        self.all.push(Counted {
            who,
            what,
            formula,
            expected,
            done: self.ops,
            ms: ns as f64 / 1e6,
        });
        Ok(done)
    }

    fn add_data(&mut self, did: Did, index: u64, digest: Digest) -> Outcome<[u8; 32]> {
        // Its content is sealed inside, and counted by whoever asks.
        let entry = self.house.add_data((did, index), digest, None)?;
        self.enter(entry)
    }

    /// MedChain, 4.1 and 4.2.
    fn published(&mut self, k: u64, n: u64) -> Outcome<()> {
        let record = Ops {
            directory: 1,
            ..ADD
        };
        for section in 0..k {
            let inventory = format!("published-{section}");
            self.house.keep(&inventory, Bytes::new());
            for entry in 0..n {
                let record = ("TQd + TE + TD + TB", record);
                self.action(PAPER, "add a record", record, |desk| {
                    desk.published_add(&inventory, did(0x11, section, entry), 0, None)
                })?;
            }
        }
        let (stream, inventory) = (did(0x12, 0, 0), "published-stream");
        self.house.keep(inventory, Bytes::new());
        let first = self.published_add(inventory, stream, 0, None)?;
        let chunk = Ops {
            ledger: 1,
            ..record
        };
        let chunk = ("TQb + TQd + TE + TD + TB", chunk);
        self.action(PAPER, "add a chunk", chunk, |desk| {
            desk.published_add(inventory, stream, 1, Some(&first))
        })?;
        let session = ("k(TQd + TE) + TD + TB", session_ops(k));
        self.action(PAPER, "add a session", session, |desk| {
            desk.published_session(k)
        })?;
        let got = Ops {
            directory: 1,
            decrypted: k,
            ledger: k * n,
            digests: k * n,
            ..Ops::default()
        };
        let got = ("TQd + k(TE' + n(TQb + TD))", got);
        self.action(PAPER, "retrieve", got, Self::published_retrieve)
    }

    fn published_session(&mut self, k: u64) -> Outcome<()> {
        let mut sections = Vec::new();
        for section in 0..k {
            let inventory = self.directory(&format!("published-{section}"))?;
            let entries = self.peek(&inventory)?;
            sections.push(self.encrypt(&entries)?);
        }
        let digest = self.digest(&sections.concat(), b"");
        let event = Event::CreateSession {
            sections: digest.0,
            content: vec![0; 120],
            nonce: [1; 16],
        };
        let entry = event::sign(&event, &self.house.keys.patient)?;
        self.enter(entry)?;
        let text = serde_json::to_vec(&sections);
        let text = text.map_err(|e| Failure::internal(e.to_string()))?;
        self.house.keep("published-session", text);
        Ok(())
    }

    fn published_retrieve(&mut self) -> Outcome<()> {
        let text = self.directory("published-session")?;
        let sections: Vec<Vec<u8>> =
            serde_json::from_slice(&text).map_err(|e| Failure::internal(e.to_string()))?;
        for (section, sealed) in (0..).zip(&sections) {
            let references = self.decrypt(sealed)?;
            for (entry, reference) in (0..).zip(references.chunks_exact(32)) {
                self.compare(reference, &datum(section, entry))?;
            }
        }
        Ok(())
    }

    /// Adds to an inventory; `last`: the event of the chunk before, whose digest goes into this one's.
    fn published_add(
        &mut self,
        inventory: &str,
        did: Did,
        index: u64,
        last: Option<&[u8; 32]>,
    ) -> Outcome<[u8; 32]> {
        let before = match last {
            Some(leaf) => self.ledger(leaf)?.digest.0.to_vec(),
            None => Vec::new(),
        };
        let kept = self.directory(inventory)?;
        let mut entries = match kept.is_empty() {
            true => Vec::new(),
            false => self.peek(&kept)?,
        };
        // A record's content tells its place, which its did does, too.
        let place = u64::from_be_bytes(std::array::from_fn(|at| {
            did.0.get(at + 8).copied().unwrap_or(0)
        }));
        let data = datum(place >> 32, place & 0xffff_ffff);
        let digest = self.digest(&data, &before);
        let leaf = self.add_data(did, index, digest)?;
        entries.extend_from_slice(&leaf);
        let sealed = self.encrypt(&entries)?;
        self.house.keep(inventory, sealed);
        Ok(leaf)
    }

    /// An event against the data that it vouches for.
    fn compare(&mut self, reference: &[u8], data: &[u8]) -> Outcome<Data> {
        let leaf = reference.try_into();
        let leaf = leaf.map_err(|_| Failure::damaged("a reference of another length"))?;
        let event = self.ledger(&leaf)?;
        if event.digest == self.digest(data, b"") {
            return Ok(event);
        }
        Err(Failure::damaged(
            "what was stored is not what is on the ledger",
        ))
    }

    /// What the table says of schemes before it: no sessions, no directory; the description lies on the ledger.
    fn existing(&mut self, k: u64, n: u64) -> Outcome<()> {
        let mut leaves = Vec::new();
        for place in 0..k * n {
            let data = datum(0, place);
            let formula = ("TE + TD + TB", ADD);
            leaves.push(self.action(BEFORE, "add a record", formula, |desk| {
                let did = did(0x13, 0, place);
                let content = desk.encrypt(&did.0)?;
                let event = Event::AddData {
                    digest: desk.digest(&data, b""),
                    tag: chordae_chain::link::tag(&did, 0),
                    content,
                };
                desk.enter(event::sign(&event, &desk.house.keys.provider)?)
            })?);
        }
        let got = Ops {
            decrypted: k * n,
            ledger: k * n,
            digests: k * n,
            ..Ops::default()
        };
        self.action(BEFORE, "retrieve", ("kn(TE' + TQb + TD)", got), |desk| {
            for (place, leaf) in (0..).zip(&leaves) {
                let event = desk.compare(leaf, &datum(0, place))?;
                if desk.decrypt(&event.content)? != did(0x13, 0, place).0 {
                    return Err(Failure::damaged("another description"));
                }
            }
            Ok(())
        })
    }

    /// Ours: `k` streams of `n` chunks, each index anchored, a section for each.
    fn ours(&mut self, k: u64, n: u64) -> Outcome<()> {
        let mut streams = Vec::new();
        for section in 0..k {
            let files: Vec<Digest> = (0..n)
                .map(|entry| Digest(*blake3::hash(&datum(section, entry)).as_bytes()))
                .collect();
            let did = did(0x14, section, 0);
            let links = schemes::links(did, &files);
            for link in &links {
                self.action(OURS, "add a chunk", ("TE + TD + TB", ADD), |desk| {
                    desk.ops.digests += 1;
                    desk.ops.encrypted += 1;
                    desk.add_data(did, link.index, link.digest())
                })?;
            }
            self.house.newest(did, n.saturating_sub(1));
            self.house.keep(format!("ours-{section}"), did.0.to_vec());
            streams.push(links);
        }
        let session = ("k(TQd + TE) + TD + TB", session_ops(k));
        self.action(OURS, "add a session", session, |desk| desk.our_session(k))?;
        let got = Ops {
            directory: 1,
            decrypted: k,
            ledger: k,
            digests: k * n,
            ..Ops::default()
        };
        self.action(
            OURS,
            "retrieve",
            ("TQd + k(TE' + TQb + n TD)", got),
            |desk| desk.our_retrieve(&streams),
        )
    }

    fn our_session(&mut self, k: u64) -> Outcome<()> {
        let keys = &self.house.keys;
        let (patient, requester) = (keys.patient.sign_public(), keys.requester.sign_public());
        let [provider, reader] = [&keys.provider, &keys.requester].map(|keys| keys.seal_public());
        let (Some(provider), Some(reader)) = (provider, reader) else {
            return Err(Failure::internal("no sealing key"));
        };
        let mut plains = Vec::new();
        for section in 0..k {
            let kept = self.directory(&format!("ours-{section}"))?;
            let did = kept.as_ref().try_into();
            let did = Did(did.map_err(|_| Failure::damaged("no did"))?);
            let grant = Grant {
                did,
                metadata: BTreeMap::new(),
                url: String::new(),
                st_ns: None,
                et_ns: None,
                leads: None,
            };
            plains.push(SectionPlain {
                patient,
                requester,
                expires_ns: None,
                purpose: "to count".to_owned(),
                grants: vec![grant],
            });
        }
        let made = session::make(&keys.patient, &provider, &reader, &plains, &OsEntropy)?;
        // Each section once, and the digest of all.
        self.ops.encrypted += made.record.sections.len() as u64;
        self.ops.digests += 1;
        self.enter(made.entry)?;
        self.house.keep("ours-session", made.record.encode()?);
        Ok(())
    }

    fn our_retrieve(&mut self, streams: &[Vec<Link>]) -> Outcome<()> {
        let record = SessionRecord::decode(&self.directory("ours-session")?)?;
        for (number, (section, links)) in (0..).zip(record.sections.iter().zip(streams)) {
            self.ops.decrypted += 1;
            let plain = session::open_section(section, &self.house.keys.requester, Who::Requester)?;
            let did = plain.grants.first().map(|grant| grant.did);
            let did = did.ok_or_else(|| Failure::damaged("a section without a grant"))?;
            let mut claims = Vec::new();
            for link in links {
                self.ops.digests += 1;
                let file_root = Digest(*blake3::hash(&datum(number, link.index)).as_bytes());
                claims.push(ChunkClaim {
                    index: link.index,
                    link: Some(Link {
                        file_root,
                        ..link.clone()
                    }),
                });
            }
            let verdict = verify_stream(did, &claims, &mut self.reader.heads(did))?;
            self.ops.ledger += verdict.lookups;
            if !verdict.is_proven() {
                return Err(Failure::damaged("what was stored is not proven"));
            }
        }
        Ok(())
    }
}
