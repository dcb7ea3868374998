//! One connection of the client: a socket that never blocks, a window, and what is open in it.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
};

use chordae_base::{Failure, Outcome};
use rustix::event::PollFlags;

use super::{Heard, Speech, frames::Frames};

/// Bytes read at a time: many acknowledgements.
const READ: usize = 4096;

pub(super) struct Connection<S> {
    socket: TcpStream,
    speech: S,
    frames: Frames,
    window: usize,
    ready: bool,
    /// Number and time of each frame that is not acknowledged.
    open: VecDeque<(u16, u64)>,
    out: Vec<u8>,
    written: usize,
    heard: Vec<u8>,
    acknowledged: u64,
    payload_bytes: u64,
}

impl<S: Speech> Connection<S> {
    pub(super) fn open(
        address: SocketAddr,
        mut speech: S,
        frames: Frames,
        window: usize,
    ) -> Outcome<Self> {
        let os = |e: std::io::Error| Failure::os(format_args!("connect to {address}"), &e);
        let socket = TcpStream::connect(address).map_err(os)?;
        socket.set_nodelay(true).map_err(os)?;
        socket.set_nonblocking(true).map_err(os)?;
        let mut out = Vec::new();
        speech.hello(&frames, &mut out);
        Ok(Self {
            socket,
            speech,
            frames,
            window,
            ready: false,
            open: VecDeque::new(),
            out,
            written: 0,
            heard: Vec::new(),
            acknowledged: 0,
            payload_bytes: 0,
        })
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(super) fn interest(&self) -> PollFlags {
        match self.written < self.out.len() {
            true => PollFlags::IN | PollFlags::OUT,
            false => PollFlags::IN,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    pub(super) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub(super) fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// Puts frames until the window is full.
    pub(super) fn fill(&mut self, now_ns: u64) -> Outcome<()> {
        while self.open.len() < self.window {
            let payload = self.frames.next()?;
            self.payload_bytes += payload.len() as u64;
            let id = self.speech.put(payload, &mut self.out);
            self.open.push_back((id, now_ns));
        }
        Ok(())
    }

    /// Writes what the socket takes.
    pub(super) fn write(&mut self) -> Outcome<()> {
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.socket.write(rest) {
                Ok(0) => return Err(self.gone()),
                Ok(n) => self.written += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Failure::os("write to the server", &e)),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads once; shows the time at which each acknowledged frame was put.
    pub(super) fn read(&mut self, acknowledged: &mut dyn FnMut(u64)) -> Outcome<()> {
        let mut buffer = [0; READ];
        match self.socket.read(&mut buffer) {
            Ok(0) => return Err(self.gone()),
            Ok(n) => self.heard.extend(buffer.iter().take(n)),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(e) => return Err(Failure::os("read from the server", &e)),
        }
        let mut used = 0;
        while let Some((heard, length)) = self
            .speech
            .hear(self.heard.get(used..).unwrap_or_default())?
        {
            used += length;
            match heard {
                Heard::Nothing => {}
                Heard::Ready => self.ready = true,
                Heard::Acknowledged(id) => {
                    let place = self.open.iter().position(|(open, _)| *open == id);
                    let (_, sent_ns) =
                        place.and_then(|p| self.open.remove(p)).ok_or_else(|| {
                            Failure::bad_input(format!("{id} was acknowledged and is not open"))
                        })?;
                    self.acknowledged += 1;
                    acknowledged(sent_ns);
                }
            }
        }
        self.heard.drain(..used);
        Ok(())
    }

    fn gone(&self) -> Failure {
        Failure::io(format!(
            "the server closed a connection after {} frames",
            self.acknowledged
        ))
    }
}
