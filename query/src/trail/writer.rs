//! The one thread that writes the trail: gives each deed its number and its `prev`, syncs many at once.

use std::{
    sync::{Mutex, PoisonError, mpsc},
    time::Duration,
};

use bytes::Bytes;
use chordae_base::{Failure, Outcome, journal::Journal, limits, seams::Mail};
use tokio::sync::oneshot;

use super::{Head, TrailRecord, record, record::Deed};

/// Deeds to write, at most [`DEEDS_MAX`], and who waits for them.
pub(super) struct Order {
    pub(super) deeds: Vec<Deed>,
    pub(super) reply: oneshot::Sender<Outcome<()>>,
}

/// Asked and answered.
const DEEDS_MAX: usize = 2;

/// How often an idle trail wakes up; a mark that is there already costs nothing.
const IDLE: Duration = limits::IDLE_MARK;

/// Runs until the last [`super::Trail`] is dropped or the journal fails.
pub(super) fn run(journal: Journal, orders: &Mail<Order>, head: &Mutex<Head>) {
    let mut journal = journal;
    loop {
        let first = match orders.recv_timeout(IDLE) {
            Ok(order) => order,
            Err(mpsc::RecvTimeoutError::Timeout) => match journal.mark() {
                Ok(same) => {
                    journal = same;
                    continue;
                }
                Err(e) => return fail(&e),
            },
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                if let Err(e) = journal.mark() {
                    fail(&e);
                }
                return;
            }
        };
        let more = orders
            .try_iter()
            .take(limits::COMMIT_RECORDS_MAX / DEEDS_MAX - 1);
        let batch: Vec<Order> = std::iter::once(first).chain(more).collect();
        match commit(journal, &batch, head) {
            Ok(same) => journal = same,
            Err(e) => {
                fail(&e);
                answer(batch, &Err(e));
                return;
            }
        }
        answer(batch, &Ok(()));
    }
}

fn commit(journal: Journal, batch: &[Order], head: &Mutex<Head>) -> Outcome<Journal> {
    let mut next = *head.lock().unwrap_or_else(PoisonError::into_inner);
    let mut records = Vec::with_capacity(batch.len() * DEEDS_MAX);
    for deed in batch.iter().flat_map(|order| &order.deeds) {
        let record = TrailRecord {
            n: next.count,
            deed: deed.clone(),
            prev: next.digest,
        };
        let bytes = record.encode()?;
        next = Head {
            digest: record::digest(&bytes),
            count: next.count + 1,
        };
        records.push(Bytes::from(bytes));
    }
    let done = if journal.wants_roll() {
        journal.roll(&records)
    } else {
        journal.commit(&records)
    };
    let (journal, _durable) = done?;
    *head.lock().unwrap_or_else(PoisonError::into_inner) = next;
    Ok(journal)
}

fn answer(batch: Vec<Order>, outcome: &Outcome<()>) {
    for order in batch {
        // Whoever no longer waits has gone away without an answer; the record stays.
        drop(order.reply.send(outcome.clone()));
    }
}

fn fail(failure: &Failure) {
    tracing::error!(%failure, "the trail has failed: no more answers");
}
