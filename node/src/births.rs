//! Births that are durable, on their way to the monitors: the newest of each stream is retained in the
//! exchange, whatever door it came through.
//!
//! ```text
//! ingest ─records─▶ Births ─▶ windower
//!                     └─births─▶ [bounded] ─▶ a task: retained already? else published
//! ```
//!
//! A crash between log and exchange loses nothing: the state that every start writes hands all known
//! births down again.

use std::collections::BTreeMap;

use chordae_base::{
    Failure, Outcome, StreamKey, limits,
    record::{BirthRecord, WalRecord},
};
use chordae_ingest::{
    core::{exchange::message::Message, ports::Downstream},
    exchange::ExchangeHandle,
};
use tokio::{runtime::Handle, sync::mpsc, task::JoinHandle};

/// See the module.
pub(crate) struct Births<D> {
    below: D,
    out: mpsc::Sender<Message>,
    /// Receive time of the newest birth of each stream.
    newest: BTreeMap<StreamKey, i64>,
}

impl<D: Downstream> Births<D> {
    /// In front of `below`; the task ends when this is dropped. Called within a tokio runtime.
    ///
    /// # Errors
    /// `Internal` outside of a runtime.
    pub(crate) fn new(below: D, exchange: ExchangeHandle) -> Outcome<(Self, JoinHandle<()>)> {
        let runtime = Handle::try_current()
            .map_err(|_| Failure::internal("births are announced within a runtime"))?;
        let (out, births) = mpsc::channel(limits::BIRTHS_QUEUE);
        let announcing = runtime.spawn(announce(births, exchange));
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
        // The task ends only with its runtime.
        self.out.blocking_send(message).ok();
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

async fn announce(mut births: mpsc::Receiver<Message>, exchange: ExchangeHandle) {
    while let Some(message) = births.recv().await {
        let retained = exchange.retained(&message.topic).await;
        if retained.is_ok_and(|there| there.as_ref() == Some(&message.payload)) {
            continue;
        }
        if let Err(failure) = exchange.publish(message).await {
            tracing::warn!(%failure, "a birth is not retained for monitors; the next start tries again");
        }
    }
}
