//! The client's end of a connection, plain or TLS; it never blocks.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    sync::Arc,
};

use chordae_base::{Failure, Outcome};
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};

/// How a device connects.
#[derive(Debug, Clone)]
pub enum Dial {
    /// TCP.
    Plain,
    /// TLS, as this client of a server named `localhost`.
    Tls(Arc<ClientConfig>),
}

pub(super) struct Pipe {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    out: Vec<u8>,
    written: usize,
}

impl Pipe {
    pub(super) fn new(socket: TcpStream, dial: Dial) -> Outcome<Self> {
        let os = |e: io::Error| Failure::os("connect", &e);
        socket.set_nodelay(true).map_err(os)?;
        socket.set_nonblocking(true).map_err(os)?;
        let tls = match dial {
            Dial::Plain => None,
            Dial::Tls(config) => {
                let bad = |e| Failure::internal(format!("TLS: {e}"));
                let name = ServerName::try_from("localhost")
                    .map_err(|e| Failure::internal(e.to_string()))?;
                let mut tls = ClientConnection::new(config, name).map_err(bad)?;
                tls.set_buffer_limit(None);
                Some(Box::new(tls))
            }
        };
        Ok(Self {
            socket,
            tls,
            out: Vec::new(),
            written: 0,
        })
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Where what is to be sent is appended.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Whether something waits for room in the socket.
    pub(super) fn is_full(&self) -> bool {
        self.written < self.out.len() || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Writes what the socket takes.
    pub(super) fn write(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
                match self.socket.write(rest) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(n) => self.written += n,
                    Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
            self.out.clear();
            self.written = 0;
            return Ok(());
        };
        if !self.out.is_empty() {
            tls.writer().write_all(&self.out)?;
            self.out.clear();
        }
        while tls.wants_write() {
            match tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Reads once and appends what has come. `false`: the server has closed.
    pub(super) fn read(&mut self, heard: &mut Vec<u8>) -> io::Result<bool> {
        // Many acknowledgements.
        let mut buffer = [0; 4096];
        let later =
            |e: &io::Error| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
        let Some(tls) = &mut self.tls else {
            return match self.socket.read(&mut buffer) {
                Ok(n) => {
                    heard.extend(buffer.iter().take(n));
                    Ok(n > 0)
                }
                Err(e) if later(&e) => Ok(true),
                Err(e) => Err(e),
            };
        };
        match tls.read_tls(&mut self.socket) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(e) if later(&e) => {}
            Err(e) => return Err(e),
        }
        tls.process_new_packets().map_err(io::Error::other)?;
        loop {
            match tls.reader().read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(n) => heard.extend(buffer.iter().take(n)),
                Err(e) if later(&e) => break,
                Err(e) => return Err(e),
            }
        }
        // The handshake has something to say.
        self.write()?;
        Ok(true)
    }
}
