//! What the exchange counts. No label names a client, a device or a topic.

use chordae_base::Outcome;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::{
    core::exchange::{board::Board, command::CommandState, effects::Effects},
    metrics::kept,
};

/// See the module.
pub(super) struct Metrics {
    sessions: IntGauge,
    connected: IntGauge,
    queued: IntGauge,
    queued_bytes: IntGauge,
    retained: IntGauge,
    dropped: IntCounterVec,
    commands: IntGaugeVec,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Outcome<Self> {
        let gauge = |name: &str, help: &str| kept(registry, IntGauge::new(name, help));
        Ok(Self {
            sessions: gauge("chordae_exchange_sessions", "Sessions, connected or not")?,
            connected: gauge("chordae_exchange_connected", "Sessions with a connection")?,
            queued: gauge(
                "chordae_exchange_queued_messages",
                "Messages that wait for a session or are in flight to one",
            )?,
            queued_bytes: gauge("chordae_exchange_queued_bytes", "Bytes of those messages")?,
            retained: gauge("chordae_exchange_retained_messages", "Retained messages")?,
            dropped: kept(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "chordae_exchange_dropped_total",
                        "Messages not delivered, and packets that meant nothing, by reason",
                    ),
                    &["reason"],
                ),
            )?,
            commands: kept(
                registry,
                IntGaugeVec::new(
                    Opts::new("chordae_commands", "Commands that are listed, by state"),
                    &["state"],
                ),
            )?,
        })
    }

    pub(super) fn count(&self, fx: &Effects) {
        for (reason, many) in &fx.dropped {
            self.dropped.with_label_values(&[reason]).inc_by(*many);
        }
    }

    /// After a turn.
    pub(super) fn show(&self, board: &Board, commands_changed: bool) {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.sessions.set(number(board.sessions()));
        self.connected.set(number(board.connected()));
        self.queued.set(number(board.queued().count));
        self.queued_bytes.set(number(board.queued().bytes));
        self.retained.set(number(board.retained_load().count));
        if commands_changed {
            for state in [
                CommandState::Waiting,
                CommandState::Delivered,
                CommandState::Replied,
                CommandState::Expired,
            ] {
                self.commands
                    .with_label_values(&[state.as_str()])
                    .set(number(board.commands_in(state)));
            }
        }
    }
}
