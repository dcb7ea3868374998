//! Births that are durable, on their way to the monitors: the newest of each stream is retained in the
//! exchange, whatever door it came through.
//!
//! ```text
//! ingest ─records─▶ Births ─▶ windower
//!                     └─births─▶ [bounded] ─▶ a thread: retained already? else published
//! ```
//!
//! A crash between log and exchange loses nothing: the state that every start writes hands all known
//! births down again.

use std::collections::BTreeMap;

use chordae_base::{
    Outcome, StreamKey, limits,
    record::{BirthRecord, WalRecord},
    seams::{Mail, Mailbox, Thread, Threads},
};
use chordae_ingest::{
    core::{exchange::message::Message, ports::Downstream},
    exchange::ExchangeHandle,
};

/// See the module.
pub(crate) struct Births<D> {
    below: D,
    out: Mailbox<Message>,
    /// Receive time of the newest birth of each stream.
    newest: BTreeMap<StreamKey, i64>,
}

impl<D: Downstream> Births<D> {
    /// In front of `below`; the thread ends when this is dropped.
    ///
    /// # Errors
    /// `Io` when the machine has no thread to give.
    pub(crate) fn new(
        below: D,
        exchange: ExchangeHandle,
        threads: &Threads,
    ) -> Outcome<(Self, Thread<()>)> {
        let (out, births) = threads.mailbox(limits::BIRTHS_QUEUE);
        let waiting = threads.clone();
        let announcing = threads.spawn("births", move || announce(&births, &exchange, &waiting))?;
        let newest = BTreeMap::new();
        let births = Self { below, out, newest };
        Ok((births, announcing))
    }

    fn born(&mut self, record: &BirthRecord) {
        let newest = self.newest.entry(record.stream.clone()).or_insert(i64::MIN);
        if record.recv_ns < *newest {
            return;
        }
        *newest = record.recv_ns;
        let message = Message {
            topic: format!(
                "chordae/v1/{}/{}/birth",
                record.stream.device, record.stream.stream
            ),
            payload: record.birth.encode().into(),
            qos: 1,
            retain: true,
            ..Message::default()
        };
        // The thread ends after this.
        self.out.send(message).ok();
    }
}

impl<D: Downstream> Downstream for Births<D> {
    fn record(&mut self, position: u64, record: WalRecord) -> Outcome<()> {
        match &record {
            WalRecord::Birth(birth) => self.born(birth),
            WalRecord::State(state) => {
                let mut newest: BTreeMap<&StreamKey, &BirthRecord> = BTreeMap::new();
                for birth in &state.births {
                    let known = newest.entry(&birth.stream).or_insert(birth);
                    if birth.recv_ns >= known.recv_ns {
                        *known = birth;
                    }
                }
                newest.into_values().for_each(|birth| self.born(birth));
            }
            _ => {}
        }
        self.below.record(position, record)
    }

    fn tick(&mut self, now_ns: i64) -> Outcome<()> {
        self.below.tick(now_ns)
    }
}

fn announce(births: &Mail<Message>, exchange: &ExchangeHandle, threads: &Threads) {
    for message in births.iter() {
        let retained = threads.wait(exchange.retained(&message.topic));
        if retained.is_ok_and(|there| there.as_ref() == Some(&message.payload)) {
            continue;
        }
        if let Err(failure) = threads.wait(exchange.publish(message)) {
            tracing::warn!(%failure, "a birth is not retained for monitors; the next start tries again");
        }
    }
}
