//! Memory of idle connections: thousands of devices over TLS, each with its certificate and session, that say
//! nothing. What the server grows by, divided by their number.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use chordae_base::{Failure, Outcome};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

use super::ingest::Place;
use crate::{
    certs::Authority,
    load::mqtt::Mqtt,
    server::{Kind, Server},
    table::{grouped, short},
};

/// Devices, unless told otherwise.
pub const DEVICES: usize = 10_000;
/// Bytes that each may cost.
const GOAL: f64 = 64.0 * 1024.0;
/// Connections that are made before the memory is looked at first: what is needed once is there then.
const FIRST: usize = 50;

/// Measures and reports.
///
/// # Errors
/// `Io` when a device is not let in.
pub fn run(place: &Place<'_>, devices: usize) -> Outcome<String> {
    room_for(devices as u64 + 1000)?;
    let dir = tempfile::Builder::new()
        .prefix("idle-")
        .tempdir_in(place.dir);
    let dir = dir.map_err(|e| Failure::os("make a folder", &e))?;
    let authority = Authority::make(dir.path(), place.clock.wall_ns())?;
    let server = Server::start(place.program, Kind::ChordaeTls, devices + FIRST, dir.path())?;
    let mut open = Vec::with_capacity(devices + FIRST);
    for n in 0..FIRST {
        open.push(connect(&authority, &server, n)?);
    }
    thread::sleep(Duration::from_secs(2));
    let before = server.memory()?;
    for n in FIRST..FIRST + devices {
        open.push(connect(&authority, &server, n)?);
    }
    thread::sleep(Duration::from_secs(3));
    let after = server.memory()?;
    let alive = open.iter_mut().map(is_alive).filter(|alive| *alive).count();
    if alive != open.len() {
        return Err(Failure::io(format!(
            "only {alive} connections are still open"
        )));
    }
    let cpu = server.cpu()?;
    thread::sleep(Duration::from_secs(5));
    let idle_cores = server.cpu()?.saturating_sub(cpu).as_secs_f64() / 5.0;
    server.stop()?;
    let each = after.saturating_sub(before) as f64 / devices.max(1) as f64;
    let verdict = if each <= GOAL {
        "reached"
    } else {
        "NOT REACHED"
    };
    Ok(format!(
        "idle: {} TLS connections with client certificates, MQTT 5, in session\n  \
         server memory {} MB before, {} MB with them; idle they use {idle_cores:.2} cores\n\
         goal: at most 64 KB each, is {} KB: {verdict}\n",
        grouped(devices as f64),
        before / 1_000_000,
        after / 1_000_000,
        short(each / 1024.0)
    ))
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn connect(authority: &Authority, server: &Server, n: usize) -> Outcome<Stream> {
    let os = |e: std::io::Error| Failure::os(format_args!("connect device {n}"), &e);
    let bad = |e: String| Failure::internal(e);
    let name = ServerName::try_from("localhost").map_err(|e| bad(e.to_string()))?;
    let config = authority.device(n)?;
    let tls = ClientConnection::new(config, name).map_err(|e| bad(e.to_string()))?;
    let socket = TcpStream::connect(server.address()).map_err(os)?;
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .map_err(os)?;
    // Else our CONNECT waits 40 ms for an acknowledgement of the handshake's last bytes.
    socket.set_nodelay(true).map_err(os)?;
    let mut stream = StreamOwned::new(tls, socket);
    stream.write_all(&Mqtt::new(n).connect()).map_err(os)?;
    let mut head = [0; 2];
    stream.read_exact(&mut head).map_err(os)?;
    let [0x20, length] = head else {
        return Err(Failure::refused(format!(
            "device {n} was not let in: {head:02x?}"
        )));
    };
    let mut body = vec![0; usize::from(length)];
    stream.read_exact(&mut body).map_err(os)?;
    match body.get(1) {
        Some(0) => Ok(stream),
        code => Err(Failure::refused(format!(
            "device {n} was not let in: {code:02x?}"
        ))),
    }
}

fn is_alive(stream: &mut Stream) -> bool {
    let waits =
        |e: &std::io::Error| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    let quick = stream.sock.set_nonblocking(true).is_ok();
    let read = stream.read(&mut [0; 16]);
    quick && matches!(read, Err(e) if waits(&e))
}

/// Raises the bound of open files, here and for the children.
fn room_for(files: u64) -> Outcome<()> {
    let had = getrlimit(Resource::Nofile);
    if had.current.is_none_or(|n| n >= files) {
        return Ok(());
    }
    let maximum = had.maximum.map(|most| most.max(files));
    let current = Some(files);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).map_err(|e| {
        Failure::os(
            format_args!("have {files} files open (ulimit -n)"),
            &e.into(),
        )
    })
}
