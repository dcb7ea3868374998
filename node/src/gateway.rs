//! A running gateway: door, exchange, spool and uplink over one folder (docs/decisions/0018).
//!
//! ```text
//! start  devices.json, exchange, spool ─▶ doors ─▶ uplink
//! stop   doors ─▶ the spool drains for a moment, if the node takes ─▶ uplink ─▶ spool, exchange
//! ```
//!
//! A crash anywhere is an ordinary crash: what was acknowledged is in the spool, and what the node has not
//! acknowledged is sent again.

pub mod settings;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::Router;
use chordae_base::{DeviceId, Failure, Outcome};
use chordae_ingest::{
    core::{
        identify::Peer,
        ports::{DeviceKind, Registry},
    },
    doors::{
        Door, DoorSettings,
        mqtt::{self, DoorParts},
        tls::{Material, Tls, peer_of},
    },
    exchange::{self, Exchange},
    fanout::NoFanout,
    gateway::{
        devices::Devices,
        keepsake::Keepsake,
        link,
        metrics::GatewayMetrics,
        spool::{self, Spool},
        uplink,
    },
    metrics::Metrics,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time};

use crate::{
    assemble::{Seams, apart},
    folder::{self, Folder},
    listen,
    observe::{self, Readiness},
};
use settings::{GatewaySettings, Keys};

/// How long an orderly stop waits for the node to take what is in the spool.
const DRAIN: Duration = Duration::from_secs(5);

/// See the module.
pub struct Gateway {
    spool: Spool,
    exchange: Exchange,
    doors: Vec<(&'static str, Door)>,
    uplink: JoinHandle<()>,
    serving: Vec<JoinHandle<()>>,
    stopping: watch::Sender<bool>,
    metrics: GatewayMetrics,
    listening: Vec<(&'static str, SocketAddr)>,
    /// Held as long as the gateway lives: one process per folder.
    _held: std::fs::File,
}

impl Gateway {
    /// Starts everything; returns when the doors are open. The uplink comes up when the node is there.
    ///
    /// # Errors
    /// `Busy` for a taken folder or port, `Refused` for unsafe key files or a certificate that is no
    /// gateway's, `Damaged` for contradicting logs.
    pub async fn start(data: PathBuf, settings: GatewaySettings, seams: Seams) -> Outcome<Self> {
        settings.check()?;
        let target = settings.target()?;
        folder::make_private(&data)?;
        let held = Folder::new(&data).hold()?;
        let name = match settings.mqtt.tls.is_some() || target.tls {
            true => identity(&settings.keys)?,
            false => settings.name()?,
        };
        let registry = prometheus::Registry::new();
        let ready = Readiness::default();
        ready.set("start", Some("opening the spool".into()));
        let metrics = listen::bind("metrics.listen", settings.metrics.listen).await?;
        let mut listening = vec![("metrics", address(&metrics)?)];
        let (stopping, stop) = watch::channel(false);
        let probes = observe::router(registry.clone(), ready.clone());
        let mut serving = vec![serve(metrics, probes, stop.clone())];

        let gateway = GatewayMetrics::register(&registry)?;
        let door_metrics = Metrics::register(&registry)?;
        let parts = spool::Parts {
            disk: Arc::clone(&seams.disk),
            clock: Arc::clone(&seams.clock),
            dir: data.clone(),
            bounds: settings.bounds(),
            metrics: door_metrics.clone(),
            gateway: gateway.clone(),
        };
        let exchange_parts = exchange::Parts {
            disk: Arc::clone(&seams.disk),
            clock: Arc::clone(&seams.clock),
            entropy: Arc::clone(&seams.entropy),
            threads: seams.threads.clone(),
            dir: data.join("mqtt"),
            metrics: registry,
        };
        let (disk, list) = (Arc::clone(&seams.disk), data.join("devices.json"));
        let kept = data.join("checkpoint");
        let (spool, exchange, devices, keepsake) = apart(move || {
            let devices = Devices::open(Arc::clone(&disk), list)?;
            let keepsake = Keepsake::open(disk, kept)?;
            Ok((
                Spool::open(parts)?,
                Exchange::open(exchange_parts)?,
                Arc::new(devices),
                Arc::new(keepsake),
            ))
        })
        .await?;

        let doors = open_doors(
            &settings,
            &spool,
            &exchange,
            &devices,
            &seams,
            &door_metrics,
        )
        .await?;
        listening.extend(doors.iter().map(|(what, door)| (*what, door.address())));
        let (trouble, troubled) = watch::channel(Some("not connected yet".to_owned()));
        let keys = settings.keys.clone();
        let certificates = move || {
            let Material { ca, cert, key, .. } = material(&keys)?;
            link::client_config(&ca, &cert, &key)
        };
        let certificates: Option<Arc<uplink::Certificates>> = match target.tls {
            true => Some(Arc::new(certificates)),
            false => None,
        };
        let parts = uplink::Parts {
            name,
            target,
            tls: certificates,
            spool: spool.uplink(),
            exchange: exchange.handle(),
            devices: Arc::clone(&devices),
            keepsake,
            clock: Arc::clone(&seams.clock),
            entropy: Arc::clone(&seams.entropy),
            metrics: gateway.clone(),
        };
        let uplink = tokio::spawn(uplink::run(parts, trouble, stop.clone()));
        let signs = Signs {
            ready,
            room: spool.handle().doors_open(),
            troubled,
            devices,
        };
        serving.push(tokio::spawn(signs.started().follow(stop)));
        Ok(Self {
            spool,
            exchange,
            doors,
            uplink,
            serving,
            stopping,
            metrics: gateway,
            listening,
            _held: held,
        })
    }

    /// What listens where.
    pub fn listening(&self) -> &[(&'static str, SocketAddr)] {
        &self.listening
    }

    /// The address of a listener, e.g. `mqtt-tls`.
    pub fn address(&self, what: &str) -> Option<SocketAddr> {
        self.listening
            .iter()
            .find(|(name, _)| *name == what)
            .map(|(_, addr)| *addr)
    }

    /// What it counts.
    pub fn metrics(&self) -> &GatewayMetrics {
        &self.metrics
    }

    /// Completes when a part has failed: nothing can be acknowledged any more.
    pub async fn failed(&self) {
        let (spool, exchange) = (self.spool.handle(), self.exchange.handle());
        tokio::select! { () = spool.ended() => {}, () = exchange.ended() => {} }
    }

    /// The orderly stop: doors closed, the spool drained as far as the node takes it at once; what is left
    /// is sent after the next start.
    ///
    /// # Errors
    /// The first failure.
    pub async fn stop(self) -> Outcome<()> {
        for (_, door) in self.doors {
            door.close().await;
        }
        let metrics = &self.metrics;
        let drained = async {
            while metrics.spool_frames.get() > 0 && metrics.connected.get() > 0 {
                time::sleep(Duration::from_millis(50)).await;
            }
        };
        time::timeout(DRAIN, drained).await.ok();
        self.stopping.send_replace(true);
        self.uplink.await.ok();
        for task in self.serving {
            time::timeout(Duration::from_secs(2), task).await.ok();
        }
        // A thread that has failed already cannot be stopped; its own error is the one to report.
        let spooled = self.spool.handle().stop().await;
        let exchanged = self.exchange.handle().stop().await;
        let (spool, exchange) = (self.spool, self.exchange);
        apart(move || {
            spool.join().and(spooled)?;
            exchange.join().and(exchanged)
        })
        .await
    }
}

async fn open_doors(
    settings: &GatewaySettings,
    spool: &Spool,
    exchange: &Exchange,
    devices: &Arc<Devices>,
    seams: &Seams,
    metrics: &Metrics,
) -> Outcome<Vec<(&'static str, Door)>> {
    let parts = DoorParts::new(
        spool.handle(),
        exchange.handle(),
        Arc::clone(devices) as Arc<dyn Registry>,
        Arc::clone(&seams.clock),
        // Monitors of a ward behind a gateway watch at the node.
        Arc::new(NoFanout),
        metrics.clone(),
    );
    let mut doors = Vec::new();
    if let Some(listen) = settings.mqtt.tls {
        let keys = settings.keys.clone();
        let tls = Tls::reloading(move || material(&keys), metrics.clone())?;
        let settings = DoorSettings::new(listen, Some(tls));
        doors.push(("mqtt-tls", mqtt::open(settings, parts.clone()).await?));
    }
    if let Some(listen) = settings.mqtt.plain {
        let settings = DoorSettings::new(listen, None);
        doors.push(("mqtt-plain", mqtt::open(settings, parts).await?));
    }
    Ok(doors)
}

/// What lies in the key files now. Whose certificates are revoked comes with the list of devices.
fn material(keys: &Keys) -> Outcome<Material> {
    Ok(Material {
        ca: folder::read_small(&keys.ca)?.into_bytes(),
        cert: folder::read_small(&keys.cert)?.into_bytes(),
        key: folder::read_secret(&keys.key)?.into_bytes(),
        crl: None,
    })
}

/// Who our certificate says we are.
fn identity(keys: &Keys) -> Outcome<DeviceId> {
    let Material { cert, .. } = material(keys)?;
    let path = keys.cert.display();
    match peer_of(&cert).map_err(|e| e.during(path))? {
        Peer::Certified(DeviceKind::Gateway, name) => Ok(name),
        _ => Err(Failure::refused(format!(
            "{} is no gateway's certificate; make one: chordae device add NAME --kind gateway",
            keys.cert.display()
        ))),
    }
}

/// What `/readyz` is told from.
struct Signs {
    ready: Readiness,
    room: watch::Receiver<bool>,
    troubled: watch::Receiver<Option<String>>,
    devices: Arc<Devices>,
}

impl Signs {
    /// The end of the start. What is missing is said first: there is no moment in which nothing is known and
    /// `/readyz` says ready.
    fn started(mut self) -> Self {
        self.look();
        self.ready.set("start", None);
        self
    }

    fn look(&mut self) {
        let full = "the spool is full; devices are refused until there is room";
        let room = *self.room.borrow_and_update();
        self.ready.set("spool", (!room).then(|| full.to_owned()));
        let nobody = "no devices are known; the node upstream has not told any";
        let nobody = self.devices.is_empty().then(|| nobody.to_owned());
        self.ready.set("devices", nobody);
        let trouble = self.troubled.borrow_and_update().clone();
        let kept = |why| format!("{why}; what devices send is kept in the spool");
        self.ready.note("uplink", trouble.map(kept));
    }

    /// Keeps `/readyz` true.
    async fn follow(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                changed = self.room.changed() => if changed.is_err() {
                    return self.ready.set("spool", Some("it has ended; see its first error".into()));
                },
                changed = self.troubled.changed() => if changed.is_err() { return },
                () = time::sleep(Duration::from_secs(1)) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            self.look();
        }
    }
}

fn serve(socket: TcpListener, router: Router, mut stop: watch::Receiver<bool>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let stopped = async move {
            // It fails only when the gateway is gone, which ends the task as well.
            stop.wait_for(|stop| *stop).await.ok();
        };
        axum::serve(socket, router)
            .with_graceful_shutdown(stopped)
            .await
            .ok();
    })
}

fn address(socket: &TcpListener) -> Outcome<SocketAddr> {
    socket.local_addr().map_err(|e| Failure::os("listener", &e))
}

#[cfg(test)]
mod tests {
    use chordae_base::seams::fake::FakeDisk;

    use super::*;

    #[test]
    fn what_is_missing_is_said_before_the_start_is_over() {
        let signs = |room, trouble: &str| Signs {
            ready: Readiness::default(),
            room: watch::channel(room).1,
            troubled: watch::channel(Some(trouble.to_owned())).1,
            devices: Arc::new(
                Devices::open(Arc::new(FakeDisk::new()), "devices.json".into()).unwrap(),
            ),
        };
        let began = signs(false, "not connected yet");
        began.ready.set("start", Some("opening the spool".into()));
        let reasons = began.started().ready.reasons();
        let of = |line: &String| line.split(':').next().map(str::to_owned);
        let parts: Vec<_> = reasons.iter().filter_map(of).collect();
        assert_eq!(parts, ["spool", "devices"]);
        let parts = signs(true, "").started().ready.reasons();
        assert_eq!(parts.len(), 1, "{parts:?}");
    }
}
