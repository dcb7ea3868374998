//! Who verifies: asks the ledger over connections that are kept, believes no answer before its receipt holds under the
//! trusted log, and counts questions and bytes (those of the sockets, both ways, HTTP included).

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use chordae_base::{Did, Digest, Failure, FailureKind, Outcome};
use chordae_chain::{
    bundle::BundleAnchor,
    event::{self, Event},
    link, receipt,
    stream::{Anchored, LedgerReads},
    trust::TrustFile,
};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request,
    client::conn::http1::{self, SendRequest},
    header::HOST,
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    runtime::Handle,
    task::JoinSet,
};

use super::house::Head;

/// Questions that a reader of independent records has open at one time: the paper's concurrency of a blockchain node
/// (Table 3).
pub const AT_ONCE: usize = 30;

/// What was asked, and what it cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Questions to the ledger.
    pub ledger: u64,
    /// Questions to the directory.
    pub directory: u64,
    /// Bytes of all of it, both ways.
    pub bytes: u64,
}

/// An event of data, verified.
pub struct Data {
    /// What it vouches for.
    pub digest: Digest,
    /// Its tag.
    pub tag: Digest,
    /// Its content.
    pub content: Vec<u8>,
}

/// See the module. Blocks; not for use on a thread of the runtime.
pub struct Reader {
    runtime: Handle,
    trust: Arc<TrustFile>,
    wires: Vec<Wire>,
    bytes: Arc<AtomicU64>,
    cost: Cost,
}

impl Reader {
    /// Connects to a ledger, [`AT_ONCE`] times, before anything is counted.
    ///
    /// # Errors
    /// `Io` when nobody is there.
    pub fn connect(runtime: &Handle, to: SocketAddr, trust: &TrustFile) -> Outcome<Self> {
        let bytes = Arc::new(AtomicU64::new(0));
        let connect = || runtime.block_on(Wire::connect(to, Arc::clone(&bytes)));
        let wires = (0..AT_ONCE).map(|_| connect()).collect::<Outcome<_>>()?;
        Ok(Self {
            runtime: runtime.clone(),
            trust: Arc::new(trust.clone()),
            wires,
            bytes,
            cost: Cost::default(),
        })
    }

    /// What was asked since the last time, and counts anew.
    pub fn take(&mut self) -> Cost {
        let mut cost = std::mem::take(&mut self.cost);
        cost.bytes = self.bytes.swap(0, Ordering::Relaxed);
        cost
    }

    fn ask(&mut self, path: &str) -> Outcome<Bytes> {
        let wire = self.wires.first_mut().ok_or_else(broken)?;
        self.runtime.block_on(wire.get(path))
    }

    /// The event with a leaf hash.
    ///
    /// # Errors
    /// `NotFound`; `Damaged` and `Refused` for what the trusted log does not hold.
    pub fn event(&mut self, leaf: &[u8; 32]) -> Outcome<Data> {
        self.cost.ledger += 1;
        let answer = self.ask(&event_path(leaf))?;
        judge(&read::<BundleAnchor>(&answer)?, &self.trust)
    }

    /// What many events vouch for, in their order, [`AT_ONCE`] questions open at one time.
    ///
    /// # Errors
    /// Those of [`Self::event`].
    pub fn events(&mut self, leaves: &[[u8; 32]]) -> Outcome<Vec<Digest>> {
        self.cost.ledger += leaves.len() as u64;
        let leaves: Arc<[[u8; 32]]> = leaves.into();
        let mut tasks = JoinSet::new();
        for (first, mut wire) in std::mem::take(&mut self.wires).into_iter().enumerate() {
            let (leaves, trust) = (Arc::clone(&leaves), Arc::clone(&self.trust));
            let work = async move {
                let mut found = Vec::new();
                for (at, leaf) in leaves.iter().enumerate().skip(first).step_by(AT_ONCE) {
                    let answer = wire.get(&event_path(leaf)).await?;
                    let data = judge(&read::<BundleAnchor>(&answer)?, &trust)?;
                    found.push((at, data.digest));
                }
                Ok::<_, Failure>((wire, found))
            };
            tasks.spawn_on(work, &self.runtime);
        }
        let mut all = Vec::with_capacity(leaves.len());
        while let Some(done) = self.runtime.block_on(tasks.join_next()) {
            let (wire, found) = done.map_err(|e| Failure::internal(e.to_string()))??;
            self.wires.push(wire);
            all.extend(found);
        }
        all.sort_unstable_by_key(|(at, _)| *at);
        Ok(all.into_iter().map(|(_, digest)| digest).collect())
    }

    /// Something out of the directory.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn directory(&mut self, name: &str) -> Outcome<Bytes> {
        self.cost.directory += 1;
        self.ask(&format!("/directory/{name}"))
    }

    /// The heads of a stream, for [`chordae_chain::stream::verify_stream`].
    pub fn heads(&mut self, did: Did) -> Heads<'_> {
        Heads { reader: self, did }
    }
}

/// The ledger as one stream's verification sees it.
pub struct Heads<'a> {
    reader: &'a mut Reader,
    did: Did,
}

impl LedgerReads for Heads<'_> {
    fn newest(&mut self, upto: u64) -> Outcome<Option<Anchored>> {
        self.reader.cost.ledger += 1;
        let answer = match self.reader.ask(&format!("/head/{}/{upto}", self.did)) {
            Err(e) if e.kind == FailureKind::NotFound => return Ok(None),
            answer => answer?,
        };
        let head: Head = read(&answer)?;
        let data = judge(&head.anchor, &self.reader.trust)?;
        if data.tag != link::tag(&self.did, head.index) {
            return Err(Failure::damaged("the head of another stream or index"));
        }
        Ok(Some((head.index, data.digest)))
    }
}

fn event_path(leaf: &[u8; 32]) -> String {
    format!("/event/{}", hex::encode(leaf))
}

fn read<T: DeserializeOwned>(answer: &[u8]) -> Outcome<T> {
    serde_json::from_slice(answer).map_err(|e| Failure::bad_input(e.to_string()))
}

/// What an entry says, if the trusted provider signed it and the trusted log holds it.
fn judge(anchor: &BundleAnchor, trust: &TrustFile) -> Outcome<Data> {
    let signed = event::decode(&anchor.entry)?;
    let provider = trust.provider(&signed.kid);
    let provider = provider.ok_or_else(|| Failure::refused("signed by nobody we trust"))?;
    signed.verify(&provider.sign)?;
    receipt::verify(&anchor.entry, &anchor.proof, trust)?;
    match signed.event {
        Event::AddData {
            digest,
            tag,
            content,
        } => Ok(Data {
            digest,
            tag,
            content,
        }),
        other => Err(Failure::bad_input(format!("a {} entry", other.kind()))),
    }
}

fn broken() -> Failure {
    Failure::io("a connection to the ledger broke")
}

/// A connection that is kept.
struct Wire(SendRequest<Empty<Bytes>>);

impl Wire {
    async fn connect(to: SocketAddr, bytes: Arc<AtomicU64>) -> Outcome<Self> {
        let os = |e: io::Error| Failure::os("connect to the ledger", &e);
        let socket = TcpStream::connect(to).await.map_err(os)?;
        socket.set_nodelay(true).map_err(os)?;
        let shaken = http1::handshake(TokioIo::new(Counted { socket, bytes })).await;
        let (sender, connection) = shaken.map_err(|_| broken())?;
        // It ends with the sender.
        drop(tokio::spawn(connection));
        Ok(Self(sender))
    }

    async fn get(&mut self, path: &str) -> Outcome<Bytes> {
        self.0.ready().await.map_err(|_| broken())?;
        let request = Request::get(path).header(HOST, "localhost");
        let request = request.body(Empty::new());
        let request = request.map_err(|e| Failure::bad_input(e.to_string()))?;
        let answer = self.0.send_request(request).await.map_err(|_| broken())?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|_| broken())?;
        let body = body.to_bytes();
        match status.as_u16() {
            200 => Ok(body),
            404 => Err(Failure::not_found(format!("{path} is not there"))),
            _ => {
                let said = String::from_utf8_lossy(&body);
                Err(Failure::io(format!("{path}: {status} {said}")))
            }
        }
    }
}

/// A socket whose bytes are counted.
struct Counted {
    socket: TcpStream,
    bytes: Arc<AtomicU64>,
}

impl Counted {
    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buf);
        self.add(buf.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = &polled {
            self.add(*written);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
