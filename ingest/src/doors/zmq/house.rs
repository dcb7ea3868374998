//! What a session wants of the exchange: statuses and replies kept, commands looked up.
//!
//! Only a lost exchange ends a connection. What it refuses (a quota, a bound) is counted; a reply that it
//! refuses is not confirmed, so that whoever sent it knows.

use bytes::Bytes;
use chordae_base::{DeviceId, FailureKind, Outcome};

use crate::{
    core::{
        exchange::{command::CommandLine, message::Message},
        zmq::session::Wants,
    },
    exchange::ExchangeHandle,
    metrics::Metrics,
};

/// See the module.
pub(super) struct House {
    pub(super) exchange: ExchangeHandle,
    pub(super) metrics: Metrics,
}

impl House {
    /// Keeps a device's status.
    pub(super) async fn status(&self, device: &DeviceId, online: bool) -> Outcome<()> {
        let status: &[u8] = if online { b"online" } else { b"offline" };
        let message = Message {
            topic: format!("chordae/v1/{device}/status"),
            payload: Bytes::from_static(status),
            qos: 1,
            retain: true,
            ..Message::default()
        };
        self.unless_lost(self.exchange.publish(message).await)
            .map(drop)
    }

    /// Keeps a reply; true if it may be confirmed: it is kept, or nobody waits for it.
    pub(super) async fn reply(&self, device: &DeviceId, id: &str, json: Bytes) -> Outcome<bool> {
        let kept = self.exchange.replied(device, id, json).await;
        Ok(self.unless_lost(kept)?.is_some())
    }

    pub(super) async fn delivered(&self, device: &DeviceId, id: &str) -> Outcome<()> {
        let known = self.exchange.delivered(device, id).await;
        self.unless_lost(known).map(drop)
    }

    pub(super) async fn commands(&self, wants: Wants) -> Outcome<Vec<CommandLine>> {
        match wants {
            Wants::Nothing => Ok(Vec::new()),
            Wants::Of(device) => self.exchange.commands(Some(device)).await,
            Wants::Several => self.exchange.commands(None).await,
        }
    }

    fn unless_lost<T>(&self, outcome: Outcome<T>) -> Outcome<Option<T>> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(failure) if failure.kind == FailureKind::Io => Err(failure),
            Err(failure) => {
                tracing::warn!(%failure, "ZeroMQ: the exchange refuses");
                self.metrics.refuse("exchange");
                Ok(None)
            }
        }
    }
}
