//! A ledger in a folder, signed events for it, and ways to submit them.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, mpsc::sync_channel},
    thread,
};

use bytes::Bytes;
use chordae_anchor::{
    Ledger, LedgerKeys, Parties,
    ledger::{Cadence, Settings},
};
use chordae_base::{
    Did, Digest, Failure, KeyId, Outcome,
    seams::{
        Clock, Threads,
        real::{OsClock, OsDisk},
    },
};
use chordae_chain::{
    event::{self, Event},
    keys::{Role, SecretKeys},
    link,
};

use super::until;

/// Events that a submitter has open.
const WINDOW: usize = 1024;
/// Submitters, and threads that sign.
const SUBMITTERS: u64 = 2;
/// Streams that the events are of.
const STREAMS: u64 = 1000;
/// Bytes of an event's sealed content: about those of an HPKE box around did, index, times and a key.
const CONTENT: usize = 130;

/// Signs `add-data` events: the n-th is link n / 1,000 of stream n % 1,000.
#[derive(Clone)]
pub(super) struct Source {
    provider: SecretKeys,
    seed: u64,
}

impl Source {
    pub(super) fn new(seed: u64) -> Outcome<Self> {
        let provider = SecretKeys::from_secrets(&[1; 32], None)?;
        Ok(Self { provider, seed })
    }

    /// Stream and link of the n-th.
    pub(super) fn link(&self, n: u64) -> (Did, u64) {
        let mut did = [0; 16];
        did[..8].copy_from_slice(&self.seed.to_be_bytes());
        did[8..].copy_from_slice(&(n % STREAMS).to_be_bytes());
        (Did(did), n / STREAMS)
    }

    /// Digest that the n-th anchors.
    pub(super) fn digest(n: u64) -> Digest {
        Digest(*blake3::hash(&n.to_be_bytes()).as_bytes())
    }

    pub(super) fn sign(&self, n: u64) -> Outcome<Bytes> {
        let (did, index) = self.link(n);
        let mut content = vec![0; CONTENT];
        blake3::Hasher::new()
            .update(&n.to_be_bytes())
            .finalize_xof()
            .fill(&mut content);
        let event = Event::AddData {
            digest: Self::digest(n),
            tag: link::tag(&did, index),
            content,
        };
        event::sign(&event, &self.provider).map(Bytes::from)
    }

    /// A range of them, signed before anything is measured.
    pub(super) fn signed(&self, range: std::ops::Range<u64>) -> Outcome<Vec<Bytes>> {
        let half = range.start.midpoint(range.end);
        let sign = |range: std::ops::Range<u64>| range.map(|n| self.sign(n)).collect();
        thread::scope(|scope| {
            let later = scope.spawn(|| sign(half..range.end));
            let mut all: Vec<Bytes> = sign(range.start..half)?;
            let later: Outcome<Vec<Bytes>> = later
                .join()
                .map_err(|_| Failure::internal("signing failed"))?;
            all.extend(later?);
            Ok(all)
        })
    }
}

impl Parties for Source {
    fn role_key(&self, kid: &KeyId) -> Option<(Role, [u8; 32])> {
        let known = self.provider.key_id() == *kid;
        known.then(|| (Role::Provider, self.provider.sign_public()))
    }
}

/// See the module.
pub(super) struct Log {
    pub(super) ledger: Ledger,
    pub(super) dir: PathBuf,
}

impl Log {
    pub(super) fn open(dir: &Path, source: &Source) -> Outcome<Self> {
        let settings = Settings {
            data_dir: dir.join("data"),
            origin: "chordae.local/bench".into(),
            policy: None,
            cadence: Cadence::default(),
        };
        let keys = LedgerKeys {
            log: SecretKeys::from_secrets(&[2; 32], None)?,
            sequencer: SecretKeys::from_secrets(&[3; 32], None)?,
        };
        let ledger = Ledger::open(
            Arc::new(OsDisk),
            settings,
            keys,
            Arc::new(source.clone()),
            Arc::new(OsClock),
            &Threads::of_the_machine(),
            &prometheus::Registry::new(),
        )?;
        let dir = dir.join("data");
        Ok(Self { ledger, dir })
    }

    pub(super) fn stop(&self) {
        self.ledger.stop();
    }

    /// Submits signed events from two threads and waits until all are answered.
    pub(super) fn feed(&self, signed: &[Bytes]) -> Outcome<()> {
        let half = signed.len().div_ceil(SUBMITTERS as usize).max(1);
        self.both(
            signed
                .chunks(half)
                .map(|part| part.iter().map(|e| Ok(e.clone()))),
        )
    }

    /// Signs and submits a range from two threads and waits until all are answered.
    pub(super) fn sign_and_feed(
        &self,
        source: &Source,
        range: std::ops::Range<u64>,
    ) -> Outcome<()> {
        let part = |k| range.clone().skip(k).step_by(SUBMITTERS as usize);
        self.both((0..SUBMITTERS as usize).map(|k| part(k).map(move |n| source.sign(n))))
    }

    fn both<I>(&self, parts: impl Iterator<Item = I>) -> Outcome<()>
    where
        I: Iterator<Item = Outcome<Bytes>> + Send,
    {
        thread::scope(|scope| {
            let all: Vec<_> = parts
                .map(|part| scope.spawn(move || self.one(part)))
                .collect();
            let died = |_| Failure::internal("a submitter died");
            all.into_iter()
                .try_for_each(|one| one.join().map_err(died)?)
        })
    }

    fn one(&self, entries: impl Iterator<Item = Outcome<Bytes>>) -> Outcome<()> {
        let gone = |_| Failure::internal("the ledger forgot an answer");
        let (answer, answers) = sync_channel(WINDOW);
        let mut open = 0;
        for entry in entries {
            if open == WINDOW {
                let answered: Outcome<u64> = answers.recv().map_err(gone)?;
                answered?;
                open -= 1;
            }
            let answer = answer.clone();
            // There is room for every answer that can be open.
            let then = move |outcome| drop(answer.try_send(outcome));
            self.ledger.submit_then(entry?, then);
            open += 1;
        }
        for _ in 0..open {
            answers.recv().map_err(gone)??;
        }
        Ok(())
    }

    /// Submits at so many a second; nanoseconds of each from when it was due to its answer.
    pub(super) fn paced(
        &self,
        signed: &[Bytes],
        pace: u64,
        clock: &dyn Clock,
    ) -> Outcome<Vec<u64>> {
        let (answer, answers) = sync_channel(signed.len());
        let begun = clock.mono_ns();
        for (n, entry) in (0..).zip(signed) {
            let due = until(clock, begun, n, pace);
            let answer = answer.clone();
            let then = move |outcome: Outcome<u64>| {
                let took = OsClock.mono_ns().saturating_sub(due);
                drop(answer.try_send(outcome.map(|_| took)));
            };
            self.ledger.submit_then(entry.clone(), then);
        }
        drop(answer);
        answers.iter().collect()
    }

    /// Whether the log has these entries, some of them looked up and read, and so many entries in all.
    pub(super) fn holds(&self, signed: &[Bytes], size: u64) -> Outcome<()> {
        let step = (signed.len() / 500).max(1);
        for entry in signed.iter().step_by(step) {
            let at = self.ledger.place(&event::leaf_hash(entry))?;
            let at =
                at.ok_or_else(|| Failure::damaged("an event that was answered is not there"))?;
            if self.ledger.entry(at)? != *entry {
                return Err(Failure::damaged("another event is in its place"));
            }
        }
        if self.ledger.size() != size {
            return Err(Failure::damaged(
                "the log has another length than was answered",
            ));
        }
        Ok(())
    }
}
