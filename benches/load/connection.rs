//! One connection of the client: a socket that never blocks, a window, and what is open in it.

use std::{
    collections::VecDeque,
    net::{SocketAddr, TcpStream},
};

use chordae_base::{Failure, Outcome};
use rustix::event::PollFlags;

use super::{
    Heard, Speech,
    frames::Frames,
    pipe::{Dial, Pipe},
};

pub(super) struct Connection<S> {
    pipe: Pipe,
    speech: S,
    frames: Frames,
    window: usize,
    ready: bool,
    /// Number and time of each frame that is not acknowledged.
    open: VecDeque<(u16, u64)>,
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
        dial: Dial,
    ) -> Outcome<Self> {
        let socket = TcpStream::connect(address)
            .map_err(|e| Failure::os(format_args!("connect to {address}"), &e))?;
        let mut pipe = Pipe::new(socket, dial)?;
        speech.hello(&frames, pipe.out());
        Ok(Self {
            pipe,
            speech,
            frames,
            window,
            ready: false,
            open: VecDeque::new(),
            heard: Vec::new(),
            acknowledged: 0,
            payload_bytes: 0,
        })
    }

    pub(super) fn socket(&self) -> &TcpStream {
        self.pipe.socket()
    }

    pub(super) fn interest(&self) -> PollFlags {
        match self.is_full() {
            true => PollFlags::IN | PollFlags::OUT,
            false => PollFlags::IN,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.pipe.is_full()
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
            self.put(now_ns)?;
        }
        Ok(())
    }

    /// Puts one frame, which counts from `since_ns` on.
    pub(super) fn put(&mut self, since_ns: u64) -> Outcome<()> {
        let payload = self.frames.next()?;
        self.payload_bytes += payload.len() as u64;
        let id = self.speech.put(payload, self.pipe.out());
        self.open.push_back((id, since_ns));
        Ok(())
    }

    /// Writes what the socket takes.
    pub(super) fn write(&mut self) -> Outcome<()> {
        self.pipe
            .write()
            .map_err(|e| Failure::os("write to the server", &e))
    }

    /// Reads once; shows the time at which each acknowledged frame was put.
    pub(super) fn read(&mut self, acknowledged: &mut dyn FnMut(u64)) -> Outcome<()> {
        let more = self.pipe.read(&mut self.heard);
        if !more.map_err(|e| Failure::os("read from the server", &e))? {
            return Err(self.gone());
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
                Heard::Acknowledged(first, last) => {
                    let mut id = first;
                    loop {
                        let place = self.open.iter().position(|(open, _)| *open == id);
                        let (_, sent_ns) =
                            place.and_then(|p| self.open.remove(p)).ok_or_else(|| {
                                Failure::bad_input(format!("{id} was acknowledged and is not open"))
                            })?;
                        self.acknowledged += 1;
                        acknowledged(sent_ns);
                        if id == last {
                            break;
                        }
                        id = id.wrapping_add(1);
                    }
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
