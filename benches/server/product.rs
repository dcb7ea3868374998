//! All of chordae, as `chordae serve` assembles it: doors, log, windower, sealer, notary, ledger, query service,
//! with its threads and its queues, over a data folder of its own.
//!
//! `product` has slots of ten seconds, so that it seals all the time. `windows` has the usual slots, its readers
//! come over TLS, and the parties of [`crate::peers::serve`] are known to it; it may be started again on its folder.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use chordae::{
    assemble::apart,
    commands::init,
    folder::Folder,
    server::{Server, real},
    settings::Settings,
};
use chordae_base::{
    DeviceId, Did, Failure, Outcome, StreamKey, StreamName,
    seams::real::{OsClock, OsEntropy},
};
use chordae_ingest::fanout::RouterFanout;
use chordae_storage::registry::{Device, DeviceKind, Registry};

use super::{Kind, tell, until_told};
use crate::{load::mqtt::Mqtt, peers::serve::house};

/// Doors on loopback, without TLS: not they are measured.
const DOORS: &str = "\
[mqtt]
tls = \"off\"
plain = \"127.0.0.1:0\"
[zmq]
tls = \"off\"
[metrics]
listen = \"127.0.0.1:0\"
";
const SEALING: &str = "\
[http]
tls = \"off\"
[chunks]
slot-seconds = 10
";
const WINDOWS: &str = "\
[http]
tls = \"127.0.0.1:0\"
";

/// Serves until stdin closes; at the orderly stop everything is sealed, linked and anchored.
pub(super) fn serve(kind: Kind, dir: &Path, devices: usize) -> Outcome<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| Failure::internal("a TLS provider is there already"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::os("start threads", &e))?;
    let data = dir.join("data");
    if !data.exists() {
        let hosts = ["localhost".to_owned()];
        init::make(&data, Some("bench.example"), &hosts, &OsClock, &OsEntropy)?;
    }
    let windows = kind == Kind::Windows;
    let settings = format!("{DOORS}{}", if windows { WINDOWS } else { SEALING });
    let settings = Settings::parse(&settings, &[])?;
    runtime.block_on(async {
        let server = Server::start(
            Folder::new(&data),
            settings,
            real(Arc::new(RouterFanout::start()?)),
        )
        .await?;
        let registry = Arc::clone(&server.house().registry);
        let dids = apart(move || known(&registry, devices, windows)).await?;
        if let Some(readers) = server.address("http-tls") {
            let told = serde_json::json!({ "https": readers, "dids": dids });
            let path = dir.join(house::WHERE);
            fs::write(&path, told.to_string()).map_err(|e| Failure::os("tell the address", &e))?;
        }
        let address: Option<SocketAddr> = server.address("mqtt-plain");
        tell(address.ok_or_else(|| Failure::internal("no door"))?)?;
        apart(until_told).await?;
        server.stop().await
    })
}

/// Makes devices known; with readers also who they are and whose the streams, whose dids are given.
fn known(registry: &Registry, devices: usize, windows: bool) -> Outcome<Vec<Did>> {
    let mut dids = Vec::new();
    let patient = house::patient()?;
    if windows {
        for identity in house::parties()? {
            if registry.party(&identity.key_id()).is_none() {
                registry.add_party(identity)?;
            }
        }
    }
    for n in 0..devices {
        let id = DeviceId::new(Mqtt::device(n))?;
        if registry.device(&id).is_none() {
            registry.add_device(Device::new(id.clone(), DeviceKind::Device))?;
        }
        if windows {
            let stream = StreamName::new(Mqtt::STREAM)?;
            let plan = registry.open_stream(&StreamKey { device: id, stream })?;
            for did in plan.dids() {
                registry.set_patient(did, patient.key_id())?;
                dids.push(did);
            }
        }
    }
    Ok(dids)
}
