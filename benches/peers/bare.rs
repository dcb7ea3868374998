//! Bare TCP and fdatasync: the least that any server must do that acknowledges only what is on disk.
//!
//! ```text
//! poll ─▶ read every socket that has something ─▶ ONE write, ONE fdatasync ─▶ answer every message
//! ```
//!
//! One thread, no runtime, no decoding, no identity, no dedupe, no checksum, no index: a figure near this
//! one is near what the machine can do with its disk and its loopback. What waits while a sync runs is in
//! the next group. The file holds the messages as they came, their length in front of each.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use chordae_base::{Failure, Outcome, limits};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

/// Bytes read from a socket at a time: four full windows.
const READ: usize = 64 * 1024;

struct Peer {
    socket: TcpStream,
    got: Vec<u8>,
    answered: u32,
    owed: u32,
    gone: bool,
}

fn os(doing: &'static str) -> impl Fn(std::io::Error) -> Failure {
    move |e| Failure::os(doing, &e)
}

/// Serves until `quit` can be read or is closed.
///
/// # Errors
/// `Io`; `BadInput` for a message that no client of ours sends.
pub fn serve(listener: &TcpListener, path: &Path, quit: BorrowedFd<'_>) -> Outcome<()> {
    let mut file = OpenOptions::new()
        .append(true)
        .create_new(true)
        .open(path)
        .map_err(os("make the file"))?;
    let (mut peers, mut group, mut buffer) = (Vec::new(), Vec::new(), vec![0; READ]);
    loop {
        let (ends, comes, ready) = wait(listener, quit, &peers)?;
        if ends {
            return Ok(());
        }
        for peer in peers
            .iter_mut()
            .zip(ready)
            .filter_map(|(p, ready)| ready.then_some(p))
        {
            take(peer, &mut buffer, &mut group)?;
        }
        if !group.is_empty() {
            file.write_all(&group).map_err(os("write the file"))?;
            file.sync_data().map_err(os("sync the file"))?;
            group.clear();
        }
        peers.iter_mut().try_for_each(answer)?;
        peers.retain(|peer| !peer.gone);
        if comes {
            let (socket, _) = listener.accept().map_err(os("accept"))?;
            socket.set_nodelay(true).map_err(os("accept"))?;
            peers.push(Peer {
                socket,
                got: Vec::new(),
                answered: 0,
                owed: 0,
                gone: false,
            });
        }
    }
}

/// Whether to end, whether somebody connects, and which peers have something.
fn wait(
    listener: &TcpListener,
    quit: BorrowedFd<'_>,
    peers: &[Peer],
) -> Outcome<(bool, bool, Vec<bool>)> {
    let first = [quit, listener.as_fd()].into_iter();
    let all = first.chain(peers.iter().map(|peer| peer.socket.as_fd()));
    let mut fds: Vec<_> = all
        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
        .collect();
    match poll(&mut fds, None) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(e) => return Err(Failure::os("wait", &e.into())),
    }
    let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
    let (ends, comes) = (ready.next() == Some(true), ready.next() == Some(true));
    Ok((ends, comes, ready.collect()))
}

/// Reads once and moves whole messages into the group.
fn take(peer: &mut Peer, buffer: &mut [u8], group: &mut Vec<u8>) -> Outcome<()> {
    let read = match peer.socket.read(buffer) {
        Err(e) if e.kind() == ErrorKind::ConnectionReset => 0,
        read => read.map_err(os("read"))?,
    };
    peer.gone = read == 0;
    peer.got.extend(buffer.iter().take(read));
    let mut whole = 0;
    while let Some((length, rest)) = peer
        .got
        .get(whole..)
        .and_then(|rest| rest.split_first_chunk::<4>())
    {
        let length = u32::from_be_bytes(*length) as usize;
        if length > limits::PAYLOAD_BYTES_MAX {
            return Err(Failure::bad_input("a message of another protocol"));
        }
        if rest.len() < length {
            break;
        }
        if length > 0 {
            group.extend(peer.got.get(whole..whole + 4 + length).unwrap_or_default());
        }
        whole += 4 + length;
        peer.owed += 1;
    }
    peer.got.drain(..whole);
    Ok(())
}

/// Only after the sync.
fn answer(peer: &mut Peer) -> Outcome<()> {
    let mut answers = Vec::new();
    for _ in 0..std::mem::take(&mut peer.owed) {
        answers.extend_from_slice(&peer.answered.to_be_bytes());
        peer.answered += 1;
    }
    match peer.socket.write_all(&answers) {
        Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
            peer.gone = true;
            Ok(())
        }
        written => written.map_err(os("answer")),
    }
}
