//! The readers: HTTP/1.1 over TLS with connections that are kept, the same for every server.
//!
//! ```text
//! per client, one task:  ask ─▶ (sign) ─▶ request ─▶ status 200? ─▶ body to its end ─▶ time, bytes ─▶ next
//!                                                    every SAMPLED-th body is kept, and checked after the round
//! ```

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use chordae_base::{
    Failure, Outcome,
    seams::{Clock as _, real::OsClock},
};
use hdrhistogram::Histogram;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request,
    client::conn::http1::{self, SendRequest},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap},
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::TlsConnector;

/// One body of so many is kept and checked.
const SAMPLED: u64 = 64;
/// Bodies that one client keeps.
const SAMPLES_MAX: usize = 4;
/// An answer that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Of which stream.
    pub stream: usize,
    /// From when, in seconds after the first sample.
    pub from_s: i64,
    /// For how long.
    pub seconds: i64,
}

/// How a server is spoken to.
pub trait Tongue: Send + Sync {
    /// Path and query of a window, and the value of `Authorization`, if any. Client and count are for who
    /// signs: no two requests are the same.
    ///
    /// # Errors
    /// When a token cannot be signed.
    fn window(&self, ask: Ask, client: usize) -> Outcome<(String, Option<String>)>;
}

/// A server and how it is spoken to.
#[derive(Clone)]
pub struct Site {
    address: SocketAddr,
    tls: TlsConnector,
    pub(super) tongue: Arc<dyn Tongue>,
}

impl Site {
    /// A server whose certificate for `localhost` comes from this authority (PEM).
    ///
    /// # Errors
    /// `BadInput` for another PEM.
    pub fn new(address: SocketAddr, ca: &str, tongue: Arc<dyn Tongue>) -> Outcome<Self> {
        let bad = |e: String| Failure::bad_input(format!("the authority of a server: {e}"));
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(ca.as_bytes()).map_err(|e| bad(e.to_string()))?;
        roots.add(ca).map_err(|e| bad(e.to_string()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| bad(e.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = TlsConnector::from(Arc::new(config));
        Ok(Self {
            address,
            tls,
            tongue,
        })
    }

    /// A new connection.
    ///
    /// # Errors
    /// `Io` when nobody is there.
    pub async fn connect(&self) -> Outcome<Wire> {
        let os = |e: std::io::Error| Failure::os("connect to a server", &e);
        let socket = TcpStream::connect(self.address).await.map_err(os)?;
        socket.set_nodelay(true).map_err(os)?;
        let name = ServerName::try_from("localhost");
        let name = name.map_err(|e| Failure::internal(e.to_string()))?;
        let stream = self.tls.connect(name, socket).await.map_err(os)?;
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|e| lost(&e))?;
        // It ends with the sender.
        drop(tokio::spawn(connection));
        Ok(Wire { sender })
    }
}

fn lost(e: &hyper::Error) -> Failure {
    Failure::io(format!("a connection broke: {e}"))
}

/// A connection that is kept.
pub struct Wire {
    sender: SendRequest<Full<Bytes>>,
}

/// An answer, as far as it was wanted.
pub struct Got {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Bytes of the body.
    pub bytes: u64,
    /// The body, if it was to be kept.
    pub body: Bytes,
}

impl Wire {
    /// Sends a request and reads its answer to the end; keeps the body if that is wanted.
    ///
    /// # Errors
    /// `Io` when the connection breaks, also in the middle of an answer; `Busy` after `PATIENCE`.
    pub async fn send(&mut self, request: Request<Full<Bytes>>, keep: bool) -> Outcome<Got> {
        let answered = tokio::time::timeout(PATIENCE, self.exchange(request, keep)).await;
        answered.unwrap_or_else(|_| Err(Failure::busy("an answer did not end in two minutes")))
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>, keep: bool) -> Outcome<Got> {
        self.sender.ready().await.map_err(|e| lost(&e))?;
        let answer = self.sender.send_request(request).await;
        let (head, mut body) = answer.map_err(|e| lost(&e))?.into_parts();
        let (mut bytes, mut kept) = (0, BytesMut::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| lost(&e))?;
            if let Some(data) = frame.data_ref() {
                bytes += data.len() as u64;
                if keep {
                    kept.extend_from_slice(data);
                }
            }
        }
        Ok(Got {
            status: head.status.as_u16(),
            headers: head.headers,
            bytes,
            body: kept.freeze(),
        })
    }

    /// A window.
    ///
    /// # Errors
    /// Those of [`Self::send`]; `Refused` for any status but 200.
    pub async fn window(
        &mut self,
        site: &Site,
        ask: Ask,
        client: usize,
        keep: bool,
    ) -> Outcome<Got> {
        let (target, authorization) = site.tongue.window(ask, client)?;
        let got = self.send(get(&target, authorization)?, keep).await?;
        if got.status == 200 {
            return Ok(got);
        }
        let said = String::from_utf8_lossy(&got.body).into_owned();
        Err(Failure::refused(format!(
            "{ask:?}: status {} {said}",
            got.status
        )))
    }
}

/// A GET.
///
/// # Errors
/// `BadInput` for a target that is none.
pub fn get(target: &str, authorization: Option<String>) -> Outcome<Request<Full<Bytes>>> {
    let mut request = Request::get(target).header(HOST, "localhost");
    if let Some(value) = authorization {
        request = request.header(AUTHORIZATION, value);
    }
    request
        .body(Full::default())
        .map_err(|e| Failure::bad_input(format!("{target}: {e}")))
}

/// A POST of CBOR.
///
/// # Errors
/// `BadInput` for a target that is none.
pub fn post(target: &str, body: Vec<u8>) -> Outcome<Request<Full<Bytes>>> {
    Request::post(target)
        .header(HOST, "localhost")
        .header(CONTENT_TYPE, "application/cbor")
        .body(Full::from(body))
        .map_err(|e| Failure::bad_input(format!("{target}: {e}")))
}

/// What a round came to.
pub struct Round {
    /// Nanoseconds from asking to the last byte.
    pub took_ns: Histogram<u64>,
    /// Seconds from the first request to the last byte.
    pub seconds: f64,
    /// Bytes of all bodies.
    pub bytes: u64,
    /// Some bodies, to be checked.
    pub samples: Vec<(Ask, Bytes)>,
}

impl Round {
    fn new() -> Outcome<Self> {
        let took_ns = Histogram::new_with_bounds(1000, 600_000_000_000, 3);
        let took_ns = took_ns.map_err(|e| Failure::internal(format!("histogram: {e}")))?;
        Ok(Self {
            took_ns,
            seconds: 0.0,
            bytes: 0,
            samples: Vec::new(),
        })
    }

    /// Answers a second.
    pub fn rate(&self) -> f64 {
        self.took_ns.len() as f64 / self.seconds
    }

    /// Milliseconds that this part of the answers took at most.
    pub fn ms(&self, part: f64) -> f64 {
        self.took_ns.value_at_quantile(part) as f64 / 1e6
    }

    /// Megabytes (10^6) a second.
    pub fn mb_s(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.seconds
    }

    fn add(&mut self, other: Self) -> Outcome<()> {
        self.bytes += other.bytes;
        self.samples.extend(other.samples);
        self.took_ns
            .add(other.took_ns)
            .map_err(|e| Failure::internal(format!("histogram: {e}")))
    }
}

/// What the clients of a round ask for: client and count to window, `None` when one has asked enough.
pub type Wish = Arc<dyn Fn(usize, u64) -> Option<Ask> + Send + Sync>;

/// So many clients ask one window after the other for so long, each over a connection of its own that is there
/// before the first request.
///
/// # Errors
/// The first answer that is none.
pub async fn crowd(site: &Site, clients: usize, until: Duration, wish: Wish) -> Outcome<Round> {
    let mut wires = Vec::new();
    for _ in 0..clients {
        wires.push(site.connect().await?);
    }
    let began_ns = OsClock.mono_ns();
    let until_ns = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
    let elapsed_ns = move || OsClock.mono_ns().saturating_sub(began_ns);
    let all = Arc::new(Mutex::new(Round::new()?));
    let mut tasks = JoinSet::new();
    for (client, mut wire) in wires.into_iter().enumerate() {
        let (site, wish, all) = (site.clone(), Arc::clone(&wish), Arc::clone(&all));
        tasks.spawn(async move {
            let mut own = Round::new()?;
            let mut count = 0;
            while elapsed_ns() < until_ns {
                let Some(ask) = wish(client, count) else {
                    break;
                };
                let keep = count % SAMPLED == client as u64 % SAMPLED
                    && own.samples.len() < SAMPLES_MAX
                    && ask.seconds <= 60;
                let asked_ns = OsClock.mono_ns();
                let got = wire.window(&site, ask, client, keep).await?;
                let took = OsClock.mono_ns().saturating_sub(asked_ns);
                own.took_ns.saturating_record(took);
                own.bytes += got.bytes;
                if keep {
                    own.samples.push((ask, got.body));
                }
                count += 1;
            }
            all.lock().unwrap_or_else(PoisonError::into_inner).add(own)
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|e| Failure::internal(format!("a client: {e}")))??;
    }
    let all = Arc::into_inner(all).ok_or_else(|| Failure::internal("a client is left"))?;
    let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.seconds = elapsed_ns() as f64 / 1e9;
    Ok(all)
}
