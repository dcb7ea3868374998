//! A running server: the house behind its sockets.

use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{Router, serve::Listener};
use chordae_base::{
    Failure, Outcome, limits,
    seams::{Clock, Threads, real},
};
use chordae_ingest::{
    core::ports::{Checkpoints, Registry},
    doors::{Door, DoorSettings, mqtt, tls::Tls, zmq},
    fanout::Fanout,
};
use chordae_query::http;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
    task::JoinHandle,
};

use crate::{
    adapters::Known,
    assemble::{self, Built, House, Seams, apart},
    authority::PemPair,
    bridge,
    control::{self, Control},
    cosigners::Cosigners,
    folder::{self, Folder},
    keyring,
    listen::{self, TlsListener},
    observe::{self, Readiness},
    reading::{Opening, ReadServer},
    revocations::Revocations,
    rotation,
    serving::{self, Hosts, Peer},
    settings::Settings,
    status::StatusSource,
    tls,
};

/// The seams of the product, with its way to bedside monitors.
pub fn real(fanout: Arc<dyn Fanout>) -> Seams {
    Seams {
        disk: Arc::new(real::OsDisk),
        clock: Arc::new(real::OsClock),
        entropy: Arc::new(real::OsEntropy),
        threads: Threads::of_the_machine(),
        fanout,
    }
}

/// See the module.
pub struct Server {
    home: Folder,
    house: House,
    doors: Vec<Door>,
    bridge: Option<chordae_ingest::bridge::Bridge>,
    serving: Vec<JoinHandle<()>>,
    stopping: watch::Sender<bool>,
    listening: Vec<(&'static str, SocketAddr)>,
    /// Held as long as the server lives: one server per folder.
    _held: std::fs::File,
}

/// Sockets are bound before anything is opened: a taken port costs nothing and touches nothing.
struct Sockets {
    http_tls: Option<TcpListener>,
    http_plain: Option<TcpListener>,
    metrics: TcpListener,
    control: UnixListener,
}

/// What the demonstration puts around the routes for readers on plain HTTP. `serve` puts nothing there.
pub(crate) type Around = Box<dyn FnOnce(Router) -> Router + Send>;

/// What a start came to.
pub enum Started {
    /// Doors are open, readers are served.
    Whole(Box<Server>),
    /// Readers are served, and nobody else.
    Reading(Box<ReadServer>),
}

impl Server {
    /// Starts everything; returns when the doors are open.
    ///
    /// # Errors
    /// `Busy` for a taken folder or port, `Refused` for unsafe key files, `Damaged` for contradicting logs,
    /// `Io` where only readers could be served.
    pub async fn start(home: Folder, settings: Settings, seams: Seams) -> Outcome<Self> {
        Self::start_around(home, settings, seams, Box::new(|readers| readers)).await
    }

    /// As [`Self::start`], with something around the routes for readers.
    ///
    /// # Errors
    /// Those of [`Self::start`].
    pub(crate) async fn start_around(
        home: Folder,
        settings: Settings,
        seams: Seams,
        around: Around,
    ) -> Outcome<Self> {
        let metrics = prometheus::Registry::new();
        match Self::begin(home, settings, seams, metrics, around).await? {
            Started::Whole(server) => Ok(*server),
            Started::Reading(reader) => {
                let why = reader.shut().why();
                reader.stop().await;
                Err(Failure::io(why))
            }
        }
    }

    /// As [`Self::start`]; where nothing new can be taken, what is stored is served to readers. All parts register
    /// their metrics on `metrics`, which are shown.
    ///
    /// # Errors
    /// `Busy` for a taken folder or port, `Refused` for unsafe key files, `Damaged` for contradicting logs.
    pub async fn start_or_read(
        home: Folder,
        settings: Settings,
        seams: Seams,
        metrics: prometheus::Registry,
    ) -> Outcome<Started> {
        let around: Around = Box::new(|readers| readers);
        Self::begin(home, settings, seams, metrics, around).await
    }

    async fn begin(
        home: Folder,
        settings: Settings,
        seams: Seams,
        metrics: prometheus::Registry,
        around: Around,
    ) -> Outcome<Started> {
        settings.check()?;
        if !home.keys().exists() {
            let data = home.root().display();
            return Err(Failure::not_found(format!(
                "{data} is no data folder; run: chordae init --data {data}"
            )));
        }
        let held = home.hold()?;
        let ca = PemPair {
            cert: folder::read_small(&home.key("ca.crt"))?,
            key: folder::read_secret(&home.key("ca.key"))?,
        };
        let upstream = settings.bridge.open(&home)?;
        let sockets = Sockets::bind(&home, &settings).await?;
        let expiry =
            observe::describe(&metrics).map_err(|e| Failure::internal(format!("metrics: {e}")))?;
        let pair = tls::own_pair(&home)?;
        let names = settings.http.hosts.iter().cloned();
        let hosts = Hosts::new(names.chain(tls::names(&pair)?));
        let (certificate, follow) = tls::following(&home, pair, expiry)?;
        let ready = Readiness::default();
        ready.set("start", Some("opening logs".into()));
        let (stopping, stop) = watch::channel(false);
        let mut running = Running {
            serving: Vec::new(),
            stop,
        };
        running.keep(follow);
        let mut listening = vec![("metrics", addr(&sockets.metrics)?)];
        // Probes answer while logs are opened: an operator sees why it is not ready yet.
        running.http(
            sockets.metrics,
            observe::router(metrics.clone(), ready.clone()),
        );
        let (home2, settings2, ready2) = (home.clone(), settings.clone(), ready.clone());
        let (clock, disk) = (Arc::clone(&seams.clock), Arc::clone(&seams.disk));
        let (entropy, metrics2) = (Arc::clone(&seams.entropy), metrics.clone());
        let built = apart(move || {
            // A change of a key that a crash cut off: nothing is signed before it is done.
            for changed in rotation::finish(&home2, &seams)? {
                tracing::info!(?changed, "finished the change of a key");
            }
            let keys = keyring::open(&home2)?;
            assemble::start(&home2, keys, &settings2, &seams, &metrics2, &ready2)
        })
        .await?;
        let house = match built {
            Built::Whole(house) => *house,
            Built::Reading(reading) => {
                let opening = Opening {
                    hosts,
                    home,
                    sockets: (sockets.http_tls, sockets.http_plain, sockets.control),
                    certificate,
                    listening,
                    ready,
                    running,
                    stopping,
                    held,
                };
                let reader = ReadServer::open(opening, reading)?;
                return Ok(Started::Reading(Box::new(reader)));
            }
        };

        // Before any door opens: a door that has no list asks for none.
        let revocations = Revocations::new(
            &home,
            disk,
            Arc::clone(&clock),
            Arc::clone(&house.registry),
            ca.clone(),
        );
        let list = revocations.clone();
        apart(move || list.sign()).await?;
        running.keep(revocations.clone().keep(ready.clone()));

        running.keep(sweeping(Arc::clone(&house.service)));
        let witnesses_ca = match settings.ledger.witness_ca.as_str() {
            "" => ca.cert.clone(),
            path => {
                folder::read_small(Path::new(path)).map_err(|e| e.during("ledger.witness-ca"))?
            }
        };
        if let Some(cosigners) = Cosigners::of(&house.ledger, &witnesses_ca, ready.clone())? {
            running.keep(cosigners.run());
        }

        let doors = open_doors(&settings, &home, &house, &clock).await?;
        listening.extend(doors.iter().map(|(what, door)| (*what, door.address())));
        let bridge = match upstream {
            Some(upstream) => Some(bridge::start(upstream, &house, &clock, entropy, &metrics)?),
            None => None,
        };

        let readers = http::router(&house.service);
        let control = Arc::new(Control {
            registry: Arc::clone(&house.registry),
            directory: Arc::clone(&house.directory),
            catalogue: Arc::clone(&house.catalogue),
            ingest: house.ingest.clone(),
            exchange: house.exchange.clone(),
            feed: house.feed.clone(),
            ca,
            revocations,
            clock,
            status: StatusSource::new(
                house.ledger.clone(),
                Arc::clone(&house.notary),
                ready.clone(),
            ),
        });
        let signed = control::over_http(Arc::clone(&control), Arc::clone(&house.service));
        let public = readers.clone().merge(signed);
        if let Some(socket) = sockets.http_tls {
            listening.push(("http-tls", addr(&socket)?));
            let tls = TlsListener::new(socket, certificate)?;
            running.public(tls, public.clone(), &hosts);
        }
        if let Some(socket) = sockets.http_plain {
            listening.push(("http-plain", addr(&socket)?));
            running.public(socket, around(public), &hosts);
        }
        control.status.listens(&listening);
        running.http(sockets.control, readers.merge(control::on_socket(control)));
        // A full disk is said before the start is over: `/readyz` says ready only of what was looked at.
        running.watch_admission(house.ingest.doors_open(), ready.clone());
        ready.set("start", None);
        let doors = doors.into_iter().map(|(_, door)| door).collect();
        Ok(Started::Whole(Box::new(Self {
            home,
            house,
            doors,
            bridge,
            serving: running.serving,
            stopping,
            listening,
            _held: held,
        })))
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

    /// Everything that runs.
    pub fn house(&self) -> &House {
        &self.house
    }

    /// Its folder.
    pub fn home(&self) -> &Folder {
        &self.home
    }

    /// Completes when ingest or the exchange has failed: nothing can be acknowledged any more.
    pub async fn failed(&self) {
        tokio::select! {
            () = self.house.ingest.ended() => {}
            () = self.house.exchange.ended() => {}
        }
    }

    /// Whether the windower answers: all that is acknowledged goes through it.
    pub async fn alive(&self) -> bool {
        let feed = self.house.feed.clone();
        apart(move || feed.status()).await.is_ok()
    }

    /// Completes when a gateway remembers what the ledger does not begin with, and says why: the process is to end
    /// as by a crash, without sealing or anchoring anything more.
    ///
    /// # Errors
    /// When that could not be written down.
    pub async fn set_back(&self) -> Outcome<String> {
        self.house.memory.set_back().await
    }

    /// The orderly stop: doors closed, everything acknowledged sealed, linked and anchored.
    ///
    /// # Errors
    /// The first failure.
    pub async fn stop(self) -> Outcome<()> {
        for door in self.doors {
            door.close().await;
        }
        if let Some(bridge) = self.bridge {
            bridge.stop().await;
        }
        let house = self.house;
        let sealed = apart(move || house.seal()).await;
        self.stopping.send_replace(true);
        for task in self.serving {
            // Readers in mid-answer get a moment; then the process ends.
            tokio::time::timeout(std::time::Duration::from_secs(5), task)
                .await
                .ok();
        }
        // Nobody answers there any more; a stale socket would only confuse.
        std::fs::remove_file(self.home.control()).ok();
        // The trail gets no more records: its head is the last thing that is anchored.
        let sealed = sealed?;
        apart(move || sealed.close()).await
    }
}

/// The doors for devices and gateways, each with what it is called.
async fn open_doors(
    settings: &Settings,
    home: &Folder,
    house: &House,
    clock: &Arc<dyn Clock>,
) -> Outcome<Vec<(&'static str, Door)>> {
    let registry = || Arc::new(Known(Arc::clone(&house.registry))) as Arc<dyn Registry>;
    let by_mqtt = mqtt::DoorParts::new(
        house.ingest.clone(),
        house.exchange.clone(),
        registry(),
        Arc::clone(clock),
        Arc::clone(&house.fanout),
        house.ingest_metrics.clone(),
    )
    .profile(settings.mqtt.profile())
    .origins(&settings.mqtt.origins);
    let by_zmq = zmq::DoorParts::new(
        house.ingest.clone(),
        house.exchange.clone(),
        registry(),
        Arc::clone(clock),
        house.ingest_metrics.clone(),
    )
    .remembering(Arc::clone(&house.memory) as Arc<dyn Checkpoints>);
    let secured = |listen| {
        let (keys, metrics) = (home.clone(), house.ingest_metrics.clone());
        let tls = Tls::reloading(move || tls::for_devices(&keys), metrics)?;
        Outcome::Ok(DoorSettings::new(listen, Some(tls)))
    };
    let mut doors = Vec::new();
    if let Some(listen) = settings.mqtt.tls {
        let door = mqtt::open(secured(listen)?, by_mqtt.clone()).await?;
        doors.push(("mqtt-tls", door));
    }
    if let Some(listen) = settings.mqtt.plain {
        let door = mqtt::open(DoorSettings::new(listen, None), by_mqtt).await?;
        doors.push(("mqtt-plain", door));
    }
    if let Some(listen) = settings.zmq.tls {
        let door = zmq::open(secured(listen)?, by_zmq.clone()).await?;
        doors.push(("zmq-tls", door));
    }
    if let Some(listen) = settings.zmq.plain {
        let door = zmq::open(DoorSettings::new(listen, None), by_zmq).await?;
        doors.push(("zmq-plain", door));
    }
    Ok(doors)
}

/// Looks through the directory for sessions that expired long ago, for ever.
async fn sweeping(service: Arc<http::Service>) {
    loop {
        let of = Arc::clone(&service);
        match apart(move || of.sweep_expired()).await {
            Ok(0) => {}
            Ok(swept) => tracing::info!(swept, "removed records of sessions that expired long ago"),
            Err(why) => tracing::warn!(%why, "the directory cannot be looked through"),
        }
        tokio::time::sleep(limits::EXPIRED_LOOK_EVERY).await;
    }
}

/// HTTP servers as tasks that end together.
pub(crate) struct Running {
    pub(crate) serving: Vec<JoinHandle<()>>,
    stop: watch::Receiver<bool>,
}

impl Running {
    fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stop = self.stop.clone();
        async move {
            // It fails only when the server is gone, which ends the task as well.
            stop.wait_for(|stop| *stop).await.ok();
        }
    }

    /// For readers on the network: a Host that is not among `hosts` is refused.
    pub(crate) fn public<L>(&mut self, socket: L, router: Router, hosts: &Hosts)
    where
        L: Listener,
        L::Addr: Peer,
    {
        let (hosts, stop) = (Some(hosts.clone()), self.stop.clone());
        let serving = serving::serve(socket, router, hosts, stop);
        self.serving.push(tokio::spawn(serving));
    }

    /// For this machine: whatever name it is called by.
    pub(crate) fn http<L>(&mut self, socket: L, router: Router)
    where
        L: Listener,
        L::Addr: Peer,
    {
        let serving = serving::serve(socket, router, None, self.stop.clone());
        self.serving.push(tokio::spawn(serving));
    }

    /// Runs until the server stops.
    fn keep(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        let stopped = self.stopped();
        self.serving.push(tokio::spawn(async move {
            tokio::select! { () = work => {}, () = stopped => {} }
        }));
    }

    /// A full disk or log is a reason not to be ready; it heals by itself. The first look is taken here.
    fn watch_admission(&mut self, mut open: watch::Receiver<bool>, ready: Readiness) {
        let full = |open: bool| {
            let why = "the disk or the log is full; devices are refused until there is room";
            (!open).then(|| why.to_owned())
        };
        ready.set("doors", full(*open.borrow_and_update()));
        self.keep(async move {
            while open.changed().await.is_ok() {
                ready.set("doors", full(*open.borrow_and_update()));
            }
            let ended = "ingest has ended; see its first error";
            ready.set("doors", Some(ended.into()));
        });
    }
}

impl Sockets {
    async fn bind(home: &Folder, settings: &Settings) -> Outcome<Self> {
        let bind = async |what, addr: Option<SocketAddr>| match addr {
            Some(addr) => listen::bind(what, addr).await.map(Some),
            None => Ok(None),
        };
        // The devices' doors bind when they open; a taken port is found here first.
        for (what, addr) in [
            ("mqtt.tls", settings.mqtt.tls),
            ("mqtt.plain", settings.mqtt.plain),
            ("zmq.tls", settings.zmq.tls),
            ("zmq.plain", settings.zmq.plain),
        ] {
            drop(bind(what, addr).await?);
        }
        Ok(Self {
            http_tls: bind("http.tls", settings.http.tls).await?,
            http_plain: bind("http.plain", settings.http.plain).await?,
            metrics: listen::bind("metrics.listen", settings.metrics.listen).await?,
            control: control_socket(home)?,
        })
    }
}

/// Binds the control socket; the folder is held, so a socket that lies there is a dead server's.
fn control_socket(home: &Folder) -> Outcome<UnixListener> {
    let (_dir, path) = near(&home.control())?;
    std::fs::remove_file(&path).ok();
    let doing = || format!("bind {}", home.control().display());
    let socket = UnixListener::bind(&path).map_err(|e| Failure::os(doing(), &e))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .map_err(|e| Failure::os(doing(), &e))?;
    Ok(socket)
}

/// A short name for a socket whose path may be longer than the 107 bytes that an address holds: through an
/// open descriptor of its folder, which must be kept until the name has been used.
///
/// # Errors
/// `NotFound` when there is no such folder.
pub fn near(path: &std::path::Path) -> Outcome<(std::fs::File, PathBuf)> {
    use std::os::fd::AsRawFd;
    let (dir, name) = (
        path.parent().unwrap_or(path),
        path.file_name().unwrap_or_default(),
    );
    let dir =
        std::fs::File::open(dir).map_err(|e| Failure::os(format!("open {}", dir.display()), &e))?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
    Ok((dir, short))
}

pub(crate) fn addr(socket: &TcpListener) -> Outcome<SocketAddr> {
    socket.local_addr().map_err(|e| Failure::os("listener", &e))
}
