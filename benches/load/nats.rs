//! What is spoken to a NATS server with JetStream: publishes with a reply subject of their own; the stream's
//! answer to it is the acknowledgement.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use chordae_base::{Failure, Outcome};

use super::{
    Heard, Speech,
    frames::{Frames, Payload},
};

/// The stream that holds everything.
const STREAM: &str = "ECG";

/// See the module.
#[derive(Debug, Clone)]
pub struct Nats {
    subject: String,
    inbox: String,
    id: u16,
}

impl Nats {
    /// The device of this number.
    pub fn new(number: usize) -> Self {
        Self {
            subject: format!("ecg.{number}"),
            inbox: format!("_INBOX.{number}"),
            id: 0,
        }
    }
}

impl Speech for Nats {
    fn hello(&mut self, _frames: &Frames, out: &mut Vec<u8>) {
        let connect = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";
        let hello = format!("{connect}SUB {}.* 1\r\nPING\r\n", self.inbox);
        out.extend_from_slice(hello.as_bytes());
    }

    fn put(&mut self, payload: Payload<'_>, out: &mut Vec<u8>) -> u16 {
        self.id = self.id.wrapping_add(1);
        let (subject, inbox, id) = (&self.subject, &self.inbox, self.id);
        let head = format!("PUB {subject} {inbox}.{id} {}\r\n", payload.len());
        out.extend_from_slice(head.as_bytes());
        payload.put(out);
        out.extend_from_slice(b"\r\n");
        self.id
    }

    fn hear(&mut self, bytes: &[u8]) -> Outcome<Option<(Heard, usize)>> {
        let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else {
            return Ok(None);
        };
        let line = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            // A PING may stay unanswered for longer than a round.
            ["INFO", ..] | ["PING"] => Ok(Some((Heard::Nothing, end + 2))),
            ["PONG"] => Ok(Some((Heard::Ready, end + 2))),
            ["MSG", subject, _, length] => {
                let odd = || Failure::bad_input(format!("not an answer: {line}"));
                let length: usize = length.parse().map_err(|_| odd())?;
                let Some(body) = bytes.get(end + 2..end + 2 + length + 2) else {
                    return Ok(None);
                };
                let body = String::from_utf8_lossy(body);
                if body.contains("\"error\"") || !body.contains("\"seq\"") {
                    return Err(Failure::refused(format!("not acknowledged: {body}")));
                }
                let id = subject.rsplit('.').next().and_then(|id| id.parse().ok());
                let id: u16 = id.ok_or_else(odd)?;
                Ok(Some((Heard::Acknowledged(id, id), end + 4 + length)))
            }
            _ => Err(Failure::refused(format!("NATS says: {line}"))),
        }
    }
}

/// Makes the stream, in files.
///
/// # Errors
/// `Io`; `Refused` when the server does not make it.
pub fn prepare(address: SocketAddr) -> Outcome<()> {
    let os = |e: std::io::Error| Failure::os("make a stream of NATS", &e);
    let mut socket = TcpStream::connect(address).map_err(os)?;
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .map_err(os)?;
    let make = format!(
        "{{\"name\":\"{STREAM}\",\"subjects\":[\"ecg.>\"],\"storage\":\"file\",\"retention\":\"limits\"}}"
    );
    let said = format!(
        "CONNECT {{\"verbose\":false}}\r\nSUB _INBOX.make 1\r\n\
         PUB $JS.API.STREAM.CREATE.{STREAM} _INBOX.make {}\r\n{make}\r\n",
        make.len()
    );
    socket.write_all(said.as_bytes()).map_err(os)?;
    let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let n = socket.read(&mut buffer).map_err(os)?;
        heard.extend(buffer.iter().take(n));
        let text = String::from_utf8_lossy(&heard);
        if text.contains("\"created\"") {
            return Ok(());
        }
        if n == 0 || text.contains("\"error\"") {
            return Err(Failure::refused(format!("no stream of NATS: {text}")));
        }
    }
}
