//! The ward of the demo: a gateway at the bedside and the device behind it, MQTT in, ZeroMQ with TLS out.

use std::{sync::Arc, time::Duration};

use chordae_base::{DeviceId, Failure, Outcome};
use chordae_ingest::fanout::NoFanout;
use serde_json::json;

use super::{say, stage::Stage};
use crate::{
    client::control,
    control::DeviceMade,
    folder,
    gateway::{
        Gateway,
        settings::{GatewaySettings, Keys, Mqtt, Spool, Uplink},
    },
    server,
    settings::Metrics,
};

/// The gateway's name.
pub(super) const NAME: &str = "ward-1";
/// Its spool may grow to this, and the disk may shrink to this.
const SPOOL: u64 = 64 << 20;
/// How long the last frames may take to reach the server.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Ward {
    /// Runs until the streams are over.
    pub(super) gateway: Gateway,
    /// Who is behind it.
    pub(super) device: DeviceId,
}

impl Ward {
    /// Registers the gateway; its devices are registered after it, then it opens.
    pub(super) async fn register(stage: &Stage) -> Outcome<()> {
        let body = json!({"id": NAME, "kind": "gateway", "hosts": ["localhost", "127.0.0.1"]});
        let made: DeviceMade =
            control(&stage.far.place, "POST", "/v1/admin/devices", &body).await?;
        let keys = stage.work.join(NAME).join("keys");
        folder::write_public(&keys.join("gateway.crt"), &made.cert)?;
        folder::write_secret(&keys.join("gateway.key"), &made.key)?;
        folder::write_public(&keys.join("ca.crt"), &made.ca)
    }

    /// Opens the gateway for `device`.
    pub(super) async fn open(stage: &Stage, device: DeviceId) -> Outcome<Self> {
        let node = stage.server.address("zmq-tls");
        let node = node.ok_or_else(|| Failure::internal("no ZeroMQ door"))?;
        let data = stage.work.join(NAME);
        let keys = data.join("keys");
        let any = ([127, 0, 0, 1], 0).into();
        let settings = GatewaySettings {
            mqtt: Mqtt {
                tls: Some(any),
                plain: None,
            },
            uplink: Uplink {
                url: format!("zmq+tls://127.0.0.1:{}", node.port()),
                name: NAME.into(),
            },
            keys: Keys {
                cert: keys.join("gateway.crt"),
                key: keys.join("gateway.key"),
                ca: keys.join("ca.crt"),
            },
            spool: Spool {
                max_bytes: SPOOL,
                min_free_bytes: SPOOL,
            },
            metrics: Metrics { listen: any },
        };
        let gateway = Gateway::start(data, settings, server::real(Arc::new(NoFanout))).await?;
        say(format!(
            "gateway     {NAME}: mqtts://127.0.0.1:{}, upstream by ZeroMQ with TLS; {device} is behind it",
            gateway.address("mqtt-tls").map_or(0, |a| a.port())
        ));
        Ok(Self { gateway, device })
    }

    /// Waits until the server has all that the gateway acknowledged, then closes the gateway.
    pub(super) async fn close(self) -> Outcome<()> {
        let spooled = self.gateway.metrics().spool_frames.clone();
        let drained = async {
            while spooled.get() > 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let drained = tokio::time::timeout(DRAIN_MAX, drained).await.is_ok();
        let left = spooled.get();
        self.gateway.stop().await?;
        if drained {
            return Ok(());
        }
        Err(Failure::io(format!(
            "{left} frames are still in the gateway's spool; its node did not take them"
        )))
    }
}
