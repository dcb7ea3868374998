//! Servers of other projects, as Debian packages them, started directly: loopback, a free port, a folder of
//! their own, never as a service of the system.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use chordae_base::{Failure, Outcome};

use super::Kind;

/// Tries, each a twentieth of a second apart, until it must listen.
const TRIES: usize = 200;

fn program(kind: Kind) -> Option<(&'static str, &'static str)> {
    match kind {
        Kind::Mosquitto => Some(("mosquitto", "mosquitto")),
        Kind::Nats => Some(("nats-server", "nats-server")),
        Kind::Redis => Some(("redis-server", "redis-server")),
        _ => None,
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    dirs.map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// Why a server of this kind cannot be started here.
pub(super) fn missing(kind: Kind) -> Option<String> {
    let (name, package) = program(kind)?;
    let told = format!("{name} is not installed (apt-get install {package})");
    find(name).is_none().then_some(told)
}

/// Starts it, if it is another project's.
pub(super) fn start(kind: Kind, dir: &Path) -> Outcome<Option<(Child, SocketAddr)>> {
    let Some((name, _)) = program(kind) else {
        return Ok(None);
    };
    let os = |e: std::io::Error| Failure::os(format_args!("start {name}"), &e);
    let path = find(name).ok_or_else(|| Failure::not_found(format!("{name} is not here")))?;
    // Free now; somebody else may take it before the server does, and then the round fails.
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(os)?;
    let address = socket.local_addr().map_err(os)?;
    drop(socket);
    let port = address.port().to_string();
    let mut command = Command::new(path);
    match kind {
        Kind::Mosquitto => {
            let config = dir.join("mosquitto.conf");
            fs::write(&config, mosquitto(dir, &port)).map_err(os)?;
            command.arg("-c").arg(config);
        }
        Kind::Nats => {
            command.args(["-a", "127.0.0.1", "-p", &port, "-js", "-sd"]);
            command.arg(dir);
        }
        _ => {
            let args = ["--bind", "127.0.0.1", "--port", &port, "--save", ""];
            let log = ["--appendonly", "yes", "--appendfsync", "always"];
            let rest = ["--auto-aof-rewrite-percentage", "0", "--dir"];
            command.args(args).args(log).args(rest).arg(dir);
        }
    }
    let quiet = || Stdio::null();
    let mut child = command
        .stdin(quiet())
        .stdout(quiet())
        .stderr(quiet())
        .spawn()
        .map_err(os)?;
    for _ in 0..TRIES {
        if TcpStream::connect(address).is_ok() {
            return Ok(Some((child, address)));
        }
        thread::sleep(Duration::from_millis(50));
    }
    child.kill().ok();
    child.wait().ok();
    Err(Failure::io(format!("{name} does not listen")))
}

/// Everything that it holds is saved after each change.
fn mosquitto(dir: &Path, port: &str) -> String {
    let dir = dir.display();
    format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest none\n\
         persistence true\npersistence_location {dir}/\nautosave_interval 1\n\
         autosave_on_changes true\nmax_queued_messages 0\nmax_inflight_messages 0\n"
    )
}
