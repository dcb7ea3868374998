//! The stage: keys and certificates, a server with embedded parts, devices, a patient, a clinician.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use chordae_base::{
    DeviceId, Did, Failure, Outcome,
    seams::{Clock, Entropy, real},
};
use chordae_chain::keys::Role;
use chordae_chunker::Status;
use chordae_ingest::fanout::RouterFanout;
use serde_json::{Value, json};

use super::{
    DemoArgs,
    broken::{self, Clinician, Workshop},
    page, say,
    ward::{self, Ward},
};
use crate::{
    assemble::apart,
    cli,
    client::control,
    commands::{
        init,
        session::{self, Far},
        socket,
    },
    control::{DeviceMade, StreamLine},
    folder::{self, Folder},
    keyfile,
    server::{self, Server},
    settings::Settings,
};

/// Ports tried above a default before giving up.
const PORTS_TRIED: u16 = 50;
/// How long the devices may take to say what they send.
const BIRTHS_MAX: Duration = Duration::from_secs(10);

/// Everything the demo plays with.
pub(super) struct Stage {
    pub(super) server: Server,
    pub(super) far: Far,
    /// `DATA/demo`: keys, certificates, results.
    pub(super) work: PathBuf,
    pub(super) patient: PathBuf,
    pub(super) doctor: PathBuf,
    /// What a browser may break.
    pub(super) workshop: Arc<Workshop>,
    /// Those that speak to the server itself.
    pub(super) devices: Vec<DeviceId>,
    /// The last of several speaks through a gateway.
    pub(super) ward: Option<Ward>,
}

impl Stage {
    pub(super) async fn set(args: &DemoArgs) -> Outcome<Self> {
        if !(0.01..=10_000.0).contains(&args.speed) {
            return Err(Failure::bad_input("--speed must be between 0.01 and 10000"));
        }
        let (data, kept) = match &args.data {
            Some(data) => (data.clone(), ""),
            None => (fresh_folder()?, "  (kept; remove it when you are done)"),
        };
        let home = Folder::new(&data);
        folder::make_private(&data)?;
        folder::write_public(&home.settings(), &settings_text()?)?;
        let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let seams = server::real(Arc::new(RouterFanout::start()?));
        let trust = init::make(&data, None, &hosts, &*seams.clock, &*seams.entropy)?;
        say(format!("data        {}{kept}", data.display()));
        say(format!(
            "keys        made on the spot; trust file {}",
            home.key("trust.json").display()
        ));
        let settings = Settings::read(&home.settings(), &[])?;
        let workshop = Arc::new(Workshop::default());
        let shown = Arc::clone(&workshop);
        let around = Box::new(|readers| page::around(shown, readers));
        let server = Server::start_around(home, settings.clone(), seams, around).await?;
        workshop.open(server.home(), settings, server.house())?;
        for (what, addr) in server.listening() {
            let scheme = match *what {
                "mqtt-tls" => "mqtts",
                "zmq-tls" => "zmq+tls",
                _ => "http",
            };
            say(format!("{what:11} {scheme}://{addr}"));
        }
        let work = data.join("demo");
        let far = Far {
            place: socket(&data),
            trust,
        };
        let count = if args.record.is_some() {
            1
        } else {
            args.devices
        };
        let ids = (1..=count).map(|n| DeviceId::new(format!("bed-{n}")));
        let mut stage = Self {
            server,
            far,
            patient: work.join("ann.pem"),
            doctor: work.join("roe.pem"),
            work,
            workshop,
            devices: ids.collect::<Outcome<_>>()?,
            ward: None,
        };
        stage.people().await?;
        let warded = (count > 1).then(|| stage.devices.pop()).flatten();
        if warded.is_some() {
            Ward::register(&stage).await?;
        }
        stage.beds(warded.as_ref()).await?;
        if let Some(device) = warded {
            stage.ward = Some(Ward::open(&stage, device).await?);
        }
        Ok(stage)
    }

    /// The windower's state.
    pub(super) async fn chunker(&self) -> Outcome<Status> {
        let feed = self.server.house().feed.clone();
        apart(move || feed.status()).await
    }

    /// Ann, whose ECG it is, and Dr. Roe, who wants to see some of it.
    async fn people(&self) -> Outcome<()> {
        for (path, name, role) in [
            (&self.patient, "Ann", Role::Patient),
            (&self.doctor, "Dr. Roe", Role::Requester),
        ] {
            keyfile::make(path, name, role, &real::OsEntropy)?;
            let identity = keyfile::read_public(&keyfile::public_path(path))?;
            let body = json!({"identity": identity, "role": role.as_str()});
            let _: Value = control(&self.far.place, "POST", "/v1/admin/parties", &body).await?;
        }
        Ok(())
    }

    /// Lets Dr. Roe see the streams from now on for a day, for the browser. They have dids once their first births came.
    pub(super) async fn grant_for_the_browser(&self) -> Outcome<()> {
        let from_ns = broken::granted_from(real::OsClock.wall_ns());
        let begun = tokio::time::Instant::now();
        let all = self.devices.len() + usize::from(self.ward.is_some());
        let dids = loop {
            let dids = self.dids();
            if dids.len() == all || begun.elapsed() > BIRTHS_MAX {
                break dids;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let Some(&did) = dids.first() else {
            return Err(Failure::io("no device has said what it sends"));
        };
        let args = cli::GrantArgs {
            key: self.patient.clone(),
            to: keyfile::public_path(&self.doctor),
            stream: dids.iter().map(Did::to_string).collect(),
            inventory: Vec::new(),
            from: Some(from_ns.to_string()),
            until: Some(from_ns.saturating_add(broken::GRANTED_NS).to_string()),
            leads: None,
            expires: None,
            purpose: "demonstration in a browser".into(),
            exact: false,
            trust: None,
            server: cli::Remote {
                data: Some(self.server.home().root().to_owned()),
                url: None,
            },
        };
        let patient = keyfile::read(&self.patient)?;
        let sid = session::grant(&self.far, &patient, &args).await?;
        self.workshop.granted(Clinician {
            sid: sid.parse()?,
            keys: [self.patient.clone(), self.doctor.clone()],
            did,
        });
        Ok(())
    }

    /// The streams that have begun.
    fn dids(&self) -> Vec<Did> {
        let streams = self.server.house().registry.streams();
        streams.iter().map(|(_, plan)| plan.newest()).collect()
    }

    /// Registers the devices and says whose their streams are, before they flow.
    async fn beds(&self, warded: Option<&DeviceId>) -> Outcome<()> {
        let ann = keyfile::read_public(&keyfile::public_path(&self.patient))?.key_id();
        for id in self.devices.iter().chain(warded) {
            let gateway = (Some(id) == warded).then_some(ward::NAME);
            let body = json!({"id": id, "kind": "device", "streams": ["ecg"], "gateway": gateway});
            let made: DeviceMade =
                control(&self.far.place, "POST", "/v1/admin/devices", &body).await?;
            let certs = self.certs();
            folder::write_public(&certs.join(format!("{id}.crt")), &made.cert)?;
            folder::write_secret(&certs.join(format!("{id}.key")), &made.key)?;
            if !certs.join("ca.crt").exists() {
                folder::write_public(&certs.join("ca.crt"), &made.ca)?;
            }
            let body = json!({"stream": format!("{id}/ecg"), "patient": ann, "at_ns": null});
            let _: StreamLine =
                control(&self.far.place, "POST", "/v1/admin/streams/assign", &body).await?;
        }
        say(format!(
            "devices     {}, each with its certificate; their streams belong to Ann",
            self.devices.len() + usize::from(warded.is_some())
        ));
        Ok(())
    }

    pub(super) fn certs(&self) -> PathBuf {
        self.work.join("certs")
    }
}

fn fresh_folder() -> Outcome<PathBuf> {
    let mut tail = [0; 4];
    real::OsEntropy.fill(&mut tail);
    Ok(std::env::temp_dir().join(format!("chordae-demo-{}", hex::encode(tail))))
}

/// Ten-second slots and a small log: everything is quick to see, and a small disk will do.
fn settings_text() -> Outcome<String> {
    Ok(format!(
        "# Settings of a demonstration. `chordae init` writes the commented original.\n\
         [mqtt]\ntls = \"{}\"\nplain = \"off\"\n\
         [zmq]\ntls = \"{}\"\nplain = \"off\"\n\
         [http]\ntls = \"off\"\nplain = \"{}\"\n\
         [metrics]\nlisten = \"{}\"\n\
         [wal]\nmax-bytes = 268435456\nmin-free-bytes = 268435456\n\
         [chunks]\nslot-seconds = 10\n\
         [ledger]\nanchor-seconds = 2\n",
        free(8883)?,
        free(5556)?,
        free(8080)?,
        free(9464)?
    ))
}

/// The port, or the next one that nobody has.
fn free(port: u16) -> Outcome<SocketAddr> {
    let tried =
        (port..port.saturating_add(PORTS_TRIED)).map(|p| SocketAddr::from(([127, 0, 0, 1], p)));
    let mut free = tried.filter(|addr| TcpListener::bind(addr).is_ok());
    free.next()
        .ok_or_else(|| Failure::busy(format!("no free port from {port} on; close some servers")))
}
