//! What travels on the uplink beside telemetry: commands down, replies and status up, the list of devices.
//!
//! ```text
//! cmd ─▶ exchange.issue (durable) ─▶ cmd-ack          device ─▶ exchange ─▶ reply ─▶ replied ─▶ settle
//! devices ─▶ file, then the door's registry           status topic (retained) ─▶ status
//! ```
//!
//! Nothing here is kept in memory beyond a connection: on each new one the courier looks at the exchange
//! and says everything again that has not been settled. The node knows what it has already.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use chordae_base::{DeviceId, FailureKind, Outcome, seams::Clock};

use super::{
    devices::Devices,
    keepsake::Keepsake,
    uplink::{Parts, apart},
};
use crate::{
    core::{
        gateway::wire::{self, Heard},
        zmtp,
    },
    exchange::{CommandState, ExchangeHandle},
};

/// How long a command is kept for its device where the node does not say.
const COMMAND_LIFE_NS: i64 = 86_400 * chordae_base::time::SECOND_NS;

/// See the module.
pub(super) struct Courier<'a> {
    exchange: &'a ExchangeHandle,
    devices: &'a Arc<Devices>,
    keepsake: &'a Arc<Keepsake>,
    clock: &'a dyn Clock,
    /// Replies that have gone out on this connection.
    replied: BTreeSet<String>,
    /// Statuses that have gone out on this connection.
    said: BTreeMap<DeviceId, Bytes>,
}

impl<'a> Courier<'a> {
    pub(super) fn new(parts: &'a Parts) -> Self {
        Self {
            exchange: &parts.exchange,
            devices: &parts.devices,
            keepsake: &parts.keepsake,
            clock: &*parts.clock,
            replied: BTreeSet::new(),
            said: BTreeMap::new(),
        }
    }

    /// Does what the node says; what is to be answered is appended to `out`.
    ///
    /// # Errors
    /// `Io` when the exchange or the disk fails: the connection ends, and the node says it again.
    pub(super) async fn hear(&mut self, heard: Heard, out: &mut BytesMut) -> Outcome<()> {
        match heard {
            Heard::Command {
                device,
                id,
                body,
                expires_ns,
            } => {
                let expires_ns = expires_ns
                    .unwrap_or_else(|| self.clock.wall_ns().saturating_add(COMMAND_LIFE_NS));
                let issued =
                    self.exchange
                        .issue(device.clone(), Some(id.clone()), body, expires_ns);
                match issued.await {
                    Ok(_) => zmtp::message(&wire::command_taken(&device, &id), out),
                    // It lapses here; the node, which is not told, sees it expire.
                    Err(err) if err.kind == FailureKind::BadInput => {
                        tracing::warn!(%device, id, why = %err, "a command cannot be taken");
                    }
                    Err(err) if err.kind == FailureKind::Busy => {
                        tracing::warn!(%device, id, why = %err, "a command must wait");
                    }
                    Err(err) => return Err(err),
                }
            }
            Heard::Replied { id } => {
                self.replied.remove(&id);
                self.exchange.settle(&id).await?;
            }
            Heard::Devices(listed) => {
                let devices = Arc::clone(self.devices);
                apart(move || devices.replace(listed)).await?;
                self.deliver(out).await?;
            }
            Heard::Checkpoint(text) => {
                let keepsake = Arc::clone(self.keepsake);
                // A full disk must not end the connection: it is by the node's taking that it heals.
                if let Err(why) = apart(move || keepsake.keep(text)).await {
                    tracing::warn!(%why, "the newest checkpoint of the node is not kept");
                }
            }
            Heard::Answer(_) | Heard::Other => {}
        }
        Ok(())
    }

    /// Replies and statuses that have not gone out on this connection.
    ///
    /// # Errors
    /// `Io` when the exchange has ended.
    pub(super) async fn deliver(&mut self, out: &mut BytesMut) -> Outcome<()> {
        for line in self.exchange.commands(None).await? {
            let (CommandState::Replied, Some(reply)) = (line.state, line.reply) else {
                continue;
            };
            if self.replied.insert(line.id.clone()) {
                zmtp::message(&wire::reply(&line.device, &line.id, reply), out);
            }
        }
        for device in self.devices.ids() {
            let status = self.exchange.retained(&wire::status_topic(&device)).await?;
            let Some(status) = status else { continue };
            if self.said.get(&device) != Some(&status) {
                zmtp::message(&wire::status(&device, status.clone()), out);
                self.said.insert(device, status);
            }
        }
        Ok(())
    }
}
