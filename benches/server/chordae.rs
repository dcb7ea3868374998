//! chordae's ingest as the node assembles it, from the socket to the synced log: a door (MQTT plain or TLS,
//! or ZeroMQ plain), session machine, decoding, identity, dedupe, group commit. Behind it nothing: records
//! go nowhere, there is no monitor, and the registry is a map.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc};

use chordae_base::{
    DeviceId, Failure, Outcome, RangeSet, StreamKey, limits,
    record::WalRecord,
    seams::{
        Threads,
        real::{OsClock, OsDisk, OsEntropy},
    },
    wire::Frame,
};
use chordae_ingest::{
    core::{
        admission::AdmissionLimits,
        ports::{DeviceEntry, DeviceKind, Downstream, History, Registry},
    },
    doors::{DoorSettings, mqtt, tls::Tls, zmq},
    exchange::{self, Exchange},
    fanout::NoFanout,
    metrics::Metrics,
    service::{Ingest, Parts},
    wal::WalSettings,
};

use super::{Kind, WAL_DIR, tell, until_told};
use crate::{certs, load::mqtt::Mqtt};

struct Known(BTreeMap<DeviceId, DeviceEntry>);

impl Registry for Known {
    fn device(&self, id: &DeviceId) -> Option<DeviceEntry> {
        self.0.get(id).cloned()
    }

    fn behind(&self, _gateway: &DeviceId) -> Vec<(DeviceId, DeviceEntry)> {
        Vec::new()
    }

    fn changes(&self) -> u64 {
        0
    }

    fn open_stream(&self, _key: &StreamKey) -> Outcome<()> {
        Ok(())
    }
}

struct Nothing;

impl Downstream for Nothing {
    fn record(&mut self, _position: u64, _record: WalRecord) -> Outcome<()> {
        Ok(())
    }

    fn tick(&mut self, _now_ns: i64) -> Outcome<()> {
        Ok(())
    }
}

impl History for Nothing {
    fn covered(&self, _stream: &StreamKey) -> BTreeMap<u64, RangeSet> {
        BTreeMap::new()
    }

    fn same_rows(&self, _: &StreamKey, _: i64, _: &Frame) -> Outcome<Option<bool>> {
        Ok(None)
    }
}

fn known(devices: usize) -> Outcome<Known> {
    let device = |n| {
        let entry = DeviceEntry::new(DeviceKind::Device);
        Ok((DeviceId::new(Mqtt::device(n))?, entry))
    };
    Ok(Known((0..devices).map(device).collect::<Outcome<_>>()?))
}

/// Serves until stdin closes.
pub(super) fn serve(kind: Kind, listen: SocketAddr, dir: &Path, devices: usize) -> Outcome<()> {
    let registry: Arc<dyn Registry> = Arc::new(known(devices)?);
    let metrics = Metrics::register(&prometheus::Registry::new())?;
    let recovered = Ingest::open(Parts {
        disk: Arc::new(OsDisk),
        clock: Arc::new(OsClock),
        threads: Threads::of_the_machine(),
        wal: WalSettings::new(dir.join(WAL_DIR)),
        quarantine_dir: dir.join("quarantine"),
        registry: Arc::clone(&registry),
        history: Arc::new(Nothing),
        fanout: Arc::new(NoFanout),
        admission: AdmissionLimits::default(),
        past_ns_max: limits::PAST_NS_MAX,
        metrics: metrics.clone(),
    })?;
    let ingest = recovered.run(Box::new(Nothing))?;
    let handle = ingest.handle();
    // As many workers as the product has: one per core.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::os("start threads", &e))?;
    let tls = match kind {
        Kind::ChordaeTls => Some(Tls::fixed(&certs::material(dir)?)?),
        _ => None,
    };
    let exchange = Exchange::open(exchange::Parts {
        disk: Arc::new(OsDisk),
        clock: Arc::new(OsClock),
        entropy: Arc::new(OsEntropy),
        threads: Threads::of_the_machine(),
        dir: dir.join("mqtt"),
        metrics: prometheus::Registry::new(),
    })?;
    let clock = Arc::new(OsClock);
    let (talk, way) = (exchange.handle(), handle.clone());
    let settings = DoorSettings::new(listen, tls);
    let door = match kind {
        Kind::ChordaeZmq => {
            let parts = zmq::DoorParts::new(way, talk, registry, clock, metrics);
            runtime.block_on(zmq::open(settings, parts))?
        }
        _ => {
            let fanout = Arc::new(NoFanout);
            let parts = mqtt::DoorParts::new(way, talk, registry, clock, fanout, metrics);
            runtime.block_on(mqtt::open(settings, parts))?
        }
    };
    tell(door.address())?;
    until_told()?;
    runtime.block_on(async {
        door.close().await;
        handle.stop().await
    })?;
    drop(handle);
    drop(exchange);
    ingest.join()
}
