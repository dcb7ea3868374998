//! HTTP on a listener: every connection and every request has an end, whatever the peer does.
//!
//! ```text
//! accept ─▶ room, room of the address ─▶ head (10 s) ─▶ refused here? ─▶ body (10 s) ─▶ router ─▶ answer
//!            else closed                  431, 408      400 414 415 421   408, 413                  │
//!                     idle for a minute, or an hour old: goodbye   ◀──── least rate (paced.rs) ◀────┘
//! ```
//!
//! What is refused before the router needs no token and reaches no handler: framing that two parsers could
//! read in two ways, a name that is not ours (a browser that was led here by a name of somebody else's),
//! encoded bodies. HTTP/2 is bounded in streams, header bytes, resets and pings. A crash loses nothing.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, HttpBody},
    extract::Request,
    http::{HeaderValue, StatusCode, Version, header},
    response::{IntoResponse, Response},
    serve::Listener,
};
use chordae_base::limits;
use chordae_query::http::Problem;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tower::ServiceExt;

use crate::paced::Paced;

/// How often a connection is looked at for its age and idleness.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A connection that was told goodbye is cut after this, if nothing is being answered on it.
const GOODBYE: Duration = Duration::from_secs(5);

/// Where a connection comes from.
pub(crate) trait Peer {
    /// Its address; none on this machine's own sockets.
    fn ip(&self) -> Option<IpAddr>;
}

impl Peer for SocketAddr {
    fn ip(&self) -> Option<IpAddr> {
        Some(Self::ip(self).to_canonical())
    }
}

impl Peer for tokio::net::unix::SocketAddr {
    fn ip(&self) -> Option<IpAddr> {
        None
    }
}

/// The names under which we are asked for. Addresses always are, and so is this machine for itself; a
/// name that is not among them is another host's, whoever made it point here.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosts(Arc<Vec<String>>);

impl Hosts {
    pub(crate) fn new(names: impl IntoIterator<Item = String>) -> Self {
        let lower = |n: String| n.to_ascii_lowercase();
        Self(Arc::new(names.into_iter().map(lower).collect()))
    }

    /// Whether `authority` (name or address, with or without a port) is one of ours.
    fn has(&self, authority: &str) -> bool {
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => authority,
        };
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        if bare.unwrap_or(host).parse::<IpAddr>().is_ok() {
            return true;
        }
        let host = host.to_ascii_lowercase();
        host == "localhost" || self.0.contains(&host)
    }
}

/// Serves until `stopped`; then nothing new is accepted, and what is being answered is finished.
pub(crate) async fn serve<L>(
    mut listener: L,
    router: Router,
    hosts: Option<Hosts>,
    stop: watch::Receiver<bool>,
) where
    L: Listener,
    L::Addr: Peer,
{
    let room = Arc::new(Semaphore::new(limits::HTTP_CONNECTIONS_MAX));
    let seats = Arc::new(Seats::default());
    let mut stopping = pin!(stopped(stop.clone()));
    loop {
        let place = tokio::select! {
            () = &mut stopping => break,
            place = Arc::clone(&room).acquire_owned() => place,
        };
        let Ok(place) = place else { break };
        let (io, addr) = tokio::select! {
            () = &mut stopping => break,
            accepted = listener.accept() => accepted,
        };
        let Some(seat) = seats.take(addr.ip()) else {
            continue;
        };
        let (router, hosts, stop) = (router.clone(), hosts.clone(), stop.clone());
        tokio::spawn(async move {
            connection(io, router, hosts, stopped(stop)).await;
            drop((place, seat));
        });
    }
    drop(listener);
    // The caller bounds this.
    let all = u32::try_from(limits::HTTP_CONNECTIONS_MAX).unwrap_or(u32::MAX);
    drop(room.acquire_many(all).await);
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // It fails only when the server is gone, which is the same.
    stop.wait_for(|stop| *stop).await.ok();
}

/// Connections of each address.
#[derive(Default)]
struct Seats(Mutex<BTreeMap<IpAddr, usize>>);

struct Seat(Arc<Seats>, Option<IpAddr>);

impl Seats {
    fn take(self: &Arc<Self>, ip: Option<IpAddr>) -> Option<Seat> {
        if let Some(ip) = ip {
            let mut seats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let taken = seats.entry(ip).or_insert(0);
            if *taken >= limits::HTTP_CONNECTIONS_PER_ADDRESS_MAX {
                return None;
            }
            *taken += 1;
        }
        Some(Seat(Arc::clone(self), ip))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(ip) = self.1 else { return };
        let mut seats = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = seats.get_mut(&ip) {
            *taken -= 1;
            if *taken == 0 {
                seats.remove(&ip);
            }
        }
    }
}

/// What a connection is at.
struct At {
    begun: Instant,
    /// Answers that are being made or taken.
    answers: AtomicUsize,
    /// Requests so far.
    requests: AtomicU64,
    /// Of the last end of an answer, ms since `begun`.
    rested_ms: AtomicU64,
}

struct Answering(Arc<At>);

impl At {
    fn begin(self: &Arc<Self>) -> Answering {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.answers.fetch_add(1, Ordering::Relaxed);
        Answering(Arc::clone(self))
    }

    fn since_begun_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether the peer has had nothing to do here for too long.
    fn idle(&self) -> bool {
        let first = self.requests.load(Ordering::Relaxed) == 0;
        let most = match first {
            true => limits::HTTP_HEAD_DEADLINE,
            false => limits::HTTP_IDLE,
        };
        let rested_ms = self.rested_ms.load(Ordering::Relaxed);
        let for_ms = self.since_begun_ms().saturating_sub(rested_ms);
        self.answers.load(Ordering::Relaxed) == 0 && u128::from(for_ms) > most.as_millis()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let now_ms = self.0.since_begun_ms();
        self.0.rested_ms.store(now_ms, Ordering::Relaxed);
        self.0.answers.fetch_sub(1, Ordering::Relaxed);
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HTTP_HEAD_DEADLINE)
        .max_headers(limits::HTTP_HEADERS_MAX)
        .max_buf_size(limits::HTTP1_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::HTTP2_STREAMS_MAX)
        .max_header_list_size(limits::HTTP_HEAD_BYTES_MAX)
        .max_pending_accept_reset_streams(limits::HTTP2_RESETS_MAX)
        .max_local_error_reset_streams(limits::HTTP2_RESETS_MAX)
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW)
        .keep_alive_interval(limits::HTTP2_PING_EVERY)
        .keep_alive_timeout(limits::HTTP2_PING_TIMEOUT);
    builder
}

async fn connection<I>(
    io: I,
    router: Router,
    hosts: Option<Hosts>,
    stopped: impl Future<Output = ()>,
) where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let at = Arc::new(At {
        begun: Instant::now(),
        answers: AtomicUsize::new(0),
        requests: AtomicU64::new(0),
        rested_ms: AtomicU64::new(0),
    });
    let seen = Arc::clone(&at);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (router, hosts, answering) = (router.clone(), hosts.clone(), seen.begin());
        async move {
            let response = answer(request.map(Body::new), router, hosts.as_ref()).await;
            // The body takes it along: it is over when the last byte is, or the peer has gone.
            let body = |body: Body| {
                Body::new(body.map_err(move |e| {
                    let _until_here = &answering;
                    e
                }))
            };
            Ok::<_, Infallible>(response.map(body))
        }
    });
    let builder = builder();
    let mut serving = pin!(builder.serve_connection(TokioIo::new(Paced::new(io)), service));
    let mut stopped = pin!(stopped);
    let mut goodbye: Option<Instant> = None;
    loop {
        tokio::select! {
            done = serving.as_mut() => {
                if let Err(error) = done {
                    tracing::debug!(%error, "a reader's connection");
                }
                return;
            }
            () = stopped.as_mut(), if goodbye.is_none() => {
                serving.as_mut().graceful_shutdown();
                goodbye = Some(Instant::now());
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let busy = at.answers.load(Ordering::Relaxed) > 0;
        match goodbye {
            None if at.idle() || at.begun.elapsed() > limits::HTTP_CONNECTION_AGE_MAX => {
                serving.as_mut().graceful_shutdown();
                goodbye = Some(Instant::now());
            }
            Some(since) if since.elapsed() > GOODBYE && !busy => return,
            // The total deadline of an answer: nobody holds one longer.
            Some(since) if since.elapsed() > limits::HTTP_CONNECTION_AGE_MAX => return,
            _ => {}
        }
    }
}

async fn answer(request: Request, router: Router, hosts: Option<&Hosts>) -> Response {
    let http1 = request.version() <= Version::HTTP_11;
    let whole = async {
        refuse(&request, hosts)?;
        with_body(request).await
    };
    match whole.await {
        Ok(request) => match router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        Err(problem) => {
            let mut response = problem.into_response();
            if http1 {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            response
        }
    }
}

/// What is wrong with a request, whatever it asks for.
fn refuse(request: &Request, hosts: Option<&Hosts>) -> Result<(), Problem> {
    let problem = |status, code, why: &str| Err(Problem::new(status, code, why));
    let (uri, headers) = (request.uri(), request.headers());
    let target = uri.path_and_query().map_or(0, |t| t.as_str().len());
    if target > limits::HTTP_TARGET_BYTES_MAX {
        return problem(StatusCode::URI_TOO_LONG, "target", "the path is too long");
    }
    let bytes: usize = headers
        .iter()
        .map(|(n, v)| n.as_str().len() + v.len() + 4)
        .sum();
    if bytes > limits::HTTP_HEAD_BYTES_MAX as usize {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return problem(status, "headers", "the headers are too long");
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        let why = "a body has a Content-Length here, and no transfer encoding";
        return problem(StatusCode::BAD_REQUEST, "framing", why);
    }
    if headers.contains_key(header::CONTENT_ENCODING) {
        let why = "the body is not to be encoded";
        return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", why);
    }
    let Some(hosts) = hosts else { return Ok(()) };
    let mut named = headers
        .get_all(header::HOST)
        .iter()
        .map(HeaderValue::to_str);
    let host = named.next().transpose().unwrap_or(Some(""));
    let authority = uri.authority().map(|a| a.as_str());
    let one =
        named.next().is_none() && (host.is_none() || authority.is_none() || host == authority);
    match authority.or(host).filter(|_| one) {
        None => problem(StatusCode::BAD_REQUEST, "host", "one Host is needed"),
        Some(name) if !hosts.has(name) => {
            let why = "nobody of this name is here; see http.hosts";
            problem(StatusCode::MISDIRECTED_REQUEST, "host", why)
        }
        Some(_) => Ok(()),
    }
}

/// The request with its body read, in time.
async fn with_body(request: Request) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return Ok(Request::from_parts(parts, Body::empty()));
    }
    let whole = Limited::new(body, limits::BODY_BYTES_MAX).collect();
    match tokio::time::timeout(limits::HTTP_BODY_DEADLINE, whole).await {
        Ok(Ok(body)) => Ok(Request::from_parts(parts, Body::from(body.to_bytes()))),
        Ok(Err(e)) if e.is::<LengthLimitError>() => {
            let why = "the body is too long, or broke off";
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body", why))
        }
        Ok(Err(_)) => {
            let why = "the body broke off";
            Err(Problem::new(StatusCode::BAD_REQUEST, "body", why))
        }
        Err(_) => {
            let why = "the body takes too long";
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body", why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h17_names_that_are_not_ours_are_another_hosts() {
        let hosts = Hosts::new(["Ward.Example".to_owned()]);
        let ours = [
            "127.0.0.1",
            "127.0.0.1:8080",
            "[::1]:8443",
            "[::1]",
            "localhost",
            "LOCALHOST:1",
            "ward.example:8443",
        ];
        for name in ours {
            assert!(hosts.has(name), "{name}");
        }
        let others = [
            "",
            "evil.example",
            "ward.example.evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:80",
            "ward.example:80:80",
            "ward.example ",
        ];
        for name in others {
            assert!(!hosts.has(name), "{name}");
        }
    }
}
