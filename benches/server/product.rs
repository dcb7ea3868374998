//! All of chordae, as `chordae serve` assembles it: doors, log, windower, sealer, notary, ledger, with its
//! threads and its queues, over a data folder of its own. Slots of ten seconds, so that it seals all the time.

use std::{net::SocketAddr, path::Path, sync::Arc};

use chordae::{
    assemble::apart,
    commands::init,
    folder::Folder,
    server::{Server, real},
    settings::Settings,
};
use chordae_base::{
    DeviceId, Failure, Outcome,
    seams::real::{OsClock, OsEntropy},
};
use chordae_ingest::fanout::RouterFanout;
use chordae_storage::registry::{Device, DeviceKind};

use super::{tell, until_told};
use crate::load::mqtt::Mqtt;

const SETTINGS: &str = "\
[mqtt]
tls = \"off\"
plain = \"127.0.0.1:0\"
[zmq]
tls = \"off\"
[http]
tls = \"off\"
[metrics]
listen = \"127.0.0.1:0\"
[chunks]
slot-seconds = 10
";

/// Serves until stdin closes; at the orderly stop everything is sealed, linked and anchored.
pub(super) fn serve(dir: &Path, devices: usize) -> Outcome<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| Failure::internal("a TLS provider is there already"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::os("start threads", &e))?;
    let data = dir.join("data");
    init::make(&data, Some("bench.example"), &[], &OsClock, &OsEntropy)?;
    let settings = Settings::parse(SETTINGS, &[])?;
    runtime.block_on(async {
        let server = Server::start(
            Folder::new(&data),
            settings,
            real(Arc::new(RouterFanout::start()?)),
        )
        .await?;
        let registry = std::sync::Arc::clone(&server.house().registry);
        apart(move || {
            (0..devices).try_for_each(|n| {
                let id = DeviceId::new(Mqtt::device(n))?;
                registry.add_device(Device::new(id, DeviceKind::Device))
            })
        })
        .await?;
        let address: Option<SocketAddr> = server.address("mqtt-plain");
        tell(address.ok_or_else(|| Failure::internal("no door"))?)?;
        apart(until_told).await?;
        server.stop().await
    })
}
