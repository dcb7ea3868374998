//! The servers of the stages, each in a process of its own, so that its processor time is its own.
//!
//! ```text
//! this program ──spawn──▶ this program "server KIND DEVICES DIR"
//!      │ ◀──── one line on stdout: its address
//!      └─closes its stdin──▶ orderly stop, exit 0
//! ```
//!
//! If this program dies, the stdin of its child closes too: nothing stays behind.

mod chordae;
mod foreign;
mod memory;
mod product;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::fd::AsFd,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use chordae_base::{Failure, Outcome};

use crate::peers::bare;

/// First argument of a child process.
pub const CHILD: &str = "server";
/// The file of the bare peer, in its folder.
pub const BARE_FILE: &str = "messages";
/// The log of chordae's door, in its folder.
pub const WAL_DIR: &str = "wal";

/// Who serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`bare`].
    Bare,
    /// chordae's MQTT door and its log.
    Chordae,
    /// The same behind TLS with client certificates.
    ChordaeTls,
    /// chordae's ZeroMQ door and its log.
    ChordaeZmq,
    /// All of chordae, as `chordae serve` starts it: also sealed, linked, anchored. Plain MQTT.
    Product,
    /// The same with the usual slots, and readers over TLS.
    Windows,
    /// Debian's Mosquitto with a persistent subscriber, saving after each change.
    Mosquitto,
    /// Debian's NATS with JetStream in files.
    Nats,
    /// Debian's Redis, streams, an append-only file synced at each command.
    Redis,
    /// The `rumqttd` crate.
    Rumqttd,
    /// The `zeromq` crate: a ROUTER that counts.
    Zeromq,
}

/// All that can serve, with the word that a child is started with.
const KINDS: &[(Kind, &str)] = &[
    (Kind::Bare, "bare"),
    (Kind::Chordae, "chordae"),
    (Kind::ChordaeTls, "chordae-tls"),
    (Kind::ChordaeZmq, "chordae-zmq"),
    (Kind::Product, "product"),
    (Kind::Windows, "windows"),
    (Kind::Mosquitto, "mosquitto"),
    (Kind::Nats, "nats"),
    (Kind::Redis, "redis"),
    (Kind::Rumqttd, "rumqttd"),
    (Kind::Zeromq, "zeromq"),
];

impl Kind {
    /// Its word.
    pub fn word(self) -> &'static str {
        let found = KINDS.iter().find(|(kind, _)| *kind == self);
        found.map_or("", |(_, word)| word)
    }

    /// Why it cannot be measured on this machine, if so.
    pub fn missing(self) -> Option<String> {
        foreign::missing(self)
    }
}

/// The child's side: serves in this process until its stdin closes. `args` follow [`CHILD`].
///
/// # Errors
/// `BadInput` for arguments that [`Server::start`] does not give; those of the servers.
pub fn serve(args: &[String]) -> Outcome<()> {
    let [word, devices, dir] = args else {
        return Err(Failure::bad_input("server KIND DEVICES DIR"));
    };
    let devices = devices
        .parse()
        .map_err(|_| Failure::bad_input("serve: not a number"))?;
    let (dir, here) = (Path::new(dir), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let kind = KINDS.iter().find(|(_, known)| *known == word.as_str());
    let os = |e: std::io::Error| Failure::os("serve", &e);
    match kind.map(|(kind, _)| *kind) {
        Some(Kind::Bare) => {
            let listener = TcpListener::bind(here).map_err(os)?;
            tell(listener.local_addr().map_err(os)?)?;
            bare::serve(&listener, &dir.join(BARE_FILE), std::io::stdin().as_fd())
        }
        Some(kind @ (Kind::Chordae | Kind::ChordaeTls | Kind::ChordaeZmq)) => {
            chordae::serve(kind, here, dir, devices)
        }
        Some(kind @ (Kind::Product | Kind::Windows)) => product::serve(kind, dir, devices),
        Some(Kind::Rumqttd) => memory::rumqttd(),
        Some(Kind::Zeromq) => memory::zeromq(),
        _ => Err(Failure::bad_input(format!(
            "serve: {word} is not ours to serve"
        ))),
    }
}

/// Waits for the end that this program's parent wishes.
fn until_told() -> Outcome<()> {
    let closed = std::io::stdin().read_to_end(&mut Vec::new());
    closed
        .map(drop)
        .map_err(|e| Failure::os("wait for the end", &e))
}

fn tell(address: SocketAddr) -> Outcome<()> {
    let mut out = std::io::stdout();
    let told = writeln!(out, "{address}").and_then(|()| out.flush());
    told.map_err(|e| Failure::os("tell the address", &e))
}

/// A running child.
pub struct Server {
    child: Child,
    address: SocketAddr,
    /// Another project's program: it knows nothing of our ways to stop.
    foreign: bool,
}

impl Server {
    /// Starts one that keeps its files in `dir` and knows so many devices. `program` is this program.
    ///
    /// # Errors
    /// `Io` when it does not start; it has said why on stderr.
    pub fn start(program: &Path, kind: Kind, devices: usize, dir: &Path) -> Outcome<Self> {
        if let Some((child, address)) = foreign::start(kind, dir)? {
            let foreign = true;
            return Ok(Self {
                child,
                address,
                foreign,
            });
        }
        let os = |e: std::io::Error| Failure::os("start a server", &e);
        let mut child = Command::new(program)
            .args([CHILD, kind.word(), &devices.to_string()])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(os)?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out.take(64))
                .read_line(&mut line)
                .map_err(os)?;
        }
        let address = line.trim().parse();
        let address = address.map_err(|_| Failure::io("the server did not start"))?;
        let foreign = false;
        Ok(Self {
            child,
            address,
            foreign,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Processor time that it has used, in user and kernel, all threads.
    ///
    /// # Errors
    /// `Io` when it is gone.
    pub fn cpu(&self) -> Outcome<Duration> {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = fs::read_to_string(&path).map_err(|e| Failure::os(&path, &e))?;
        cpu_ticks(&text)
            .map(|ticks| {
                let hz = rustix::param::clock_ticks_per_second() as f64;
                Duration::from_secs_f64(ticks as f64 / hz)
            })
            .ok_or_else(|| Failure::io(format!("{path} has another form")))
    }

    /// Bytes of memory that are in use by it.
    ///
    /// # Errors
    /// `Io` when it is gone.
    pub fn memory(&self) -> Outcome<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).map_err(|e| Failure::os(&path, &e))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kb = line.and_then(|rest| rest.trim().strip_suffix("kB"));
        let kb = kb.and_then(|kb| kb.trim().parse::<u64>().ok());
        kb.map(|kb| kb * 1024)
            .ok_or_else(|| Failure::io(format!("{path} has another form")))
    }

    /// Orderly stop.
    ///
    /// # Errors
    /// `Io` when it ends badly: what it acknowledged must not be believed then.
    pub fn stop(mut self) -> Outcome<()> {
        if self.foreign {
            // Dropped: killed, and waited for.
            return Ok(());
        }
        drop(self.child.stdin.take());
        let status = self
            .child
            .wait()
            .map_err(|e| Failure::os("stop a server", &e))?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::io(format!("the server ended with {status}")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone after a stop; after an error nobody waits for its end.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// utime and stime, the 14th and 15th field; the second is a name in brackets that may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "42 (a ) b) S 1 2 3 4 5 6 7 8 9 10 700 55 0 0 20 0";
        assert_eq!(cpu_ticks(stat), Some(755));
        assert_eq!(cpu_ticks("42 (a"), None);
        let own = fs::read_to_string("/proc/self/stat").unwrap();
        assert!(cpu_ticks(&own).is_some());
    }
}
