//! One HTTP request to a server: over its control socket, or over TCP with or without TLS.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use chordae_base::{Failure, FailureKind, Outcome, limits};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap},
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// From connecting to the last byte of an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Where a server is.
#[derive(Debug, Clone)]
pub enum Place {
    /// A control socket.
    Socket(PathBuf),
    /// `http://` or `https://`, with the authority (PEM) that its certificate must come from.
    Url {
        /// Scheme is `https`.
        tls: bool,
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
        /// PEM of the trusted authority.
        ca: Option<String>,
    },
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Place {
    /// Reads `http(s)://host[:port]` of a chordae server; 8443 and 8080 are its ports.
    ///
    /// # Errors
    /// `BadInput` for anything else.
    pub fn url(text: &str, ca: Option<String>) -> Outcome<Self> {
        Ok(Self::read(text, ca, (8443, 8080))?.0)
    }

    /// Reads `http(s)://host[:port][/path]` of any server: the place, and the path without a slash at its end.
    ///
    /// # Errors
    /// `BadInput` for anything else.
    pub fn prefix(text: &str, ca: Option<String>) -> Outcome<(Self, String)> {
        Self::read(text, ca, (443, 80))
    }

    fn read(text: &str, ca: Option<String>, ports: (u16, u16)) -> Outcome<(Self, String)> {
        let uri: hyper::Uri = text
            .parse()
            .map_err(|_| Failure::bad_input(format!("{text:?} is not a URL")))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => {
                return Err(Failure::bad_input(format!(
                    "{text:?}: use https:// or http://"
                )));
            }
        };
        let host = uri
            .host()
            .ok_or_else(|| Failure::bad_input(format!("{text:?} has no host")))?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let port = uri
            .port_u16()
            .unwrap_or(if tls { ports.0 } else { ports.1 });
        let path = uri.path().trim_end_matches('/').to_owned();
        let place = Self::Url {
            tls,
            host,
            port,
            ca,
        };
        Ok((place, path))
    }
}

/// One request.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// Method, e.g. `GET`.
    pub method: String,
    /// Path and query, exactly as signed.
    pub target: String,
    /// Value of `Authorization`.
    pub authorization: Option<String>,
    /// Content type and body.
    pub body: Option<(&'static str, Vec<u8>)>,
}

/// Sends a request and reads the whole answer, at most `max` bytes.
///
/// # Errors
/// `Busy` when nobody answers there; `Io` when the connection breaks.
pub async fn send(place: &Place, call: Call, max: u64) -> Outcome<Answer> {
    match tokio::time::timeout(REQUEST_TIMEOUT, attempt(place, call, max)).await {
        Ok(answer) => answer,
        Err(_) => Err(Failure::busy(
            "the server did not answer within two minutes",
        )),
    }
}

async fn attempt(place: &Place, call: Call, max: u64) -> Outcome<Answer> {
    match place {
        Place::Socket(path) => {
            let nobody = |e: Failure| Failure::busy(format!("{}; is that a data folder?", e.why));
            let (_dir, near) = crate::server::near(path).map_err(nobody)?;
            let stream = UnixStream::connect(near).await.map_err(|e| {
                Failure::busy(format!(
                    "no server answers at {} ({e}); start it with: chordae serve",
                    path.display()
                ))
            })?;
            exchange(stream, "localhost", call, max).await
        }
        Place::Url {
            tls,
            host,
            port,
            ca,
        } => {
            let stream = TcpStream::connect((host.as_str(), *port))
                .await
                .map_err(|e| Failure::busy(format!("no server answers at {host}:{port}: {e}")))?;
            let authority = if host.contains(':') {
                format!("[{host}]:{port}")
            } else {
                format!("{host}:{port}")
            };
            if !tls {
                return exchange(stream, &authority, call, max).await;
            }
            let name = ServerName::try_from(host.clone())
                .map_err(|_| Failure::bad_input(format!("{host:?} is no server name")))?;
            let connector = tokio_rustls::TlsConnector::from(Arc::new(tls_config(ca.as_deref())?));
            let stream = connector
                .connect(name, stream)
                .await
                .map_err(|e| Failure::refused(format!("TLS with {authority}: {e}")))?;
            exchange(stream, &authority, call, max).await
        }
    }
}

fn tls_config(ca: Option<&str>) -> Outcome<rustls::ClientConfig> {
    let ca = ca.ok_or_else(|| {
        Failure::bad_input("https needs --trust FILE: it names the authority of the server")
    })?;
    let mut roots = rustls::RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let cert = cert.map_err(|e| Failure::bad_input(format!("ca of the trust file: {e}")))?;
        roots
            .add(cert)
            .map_err(|e| Failure::bad_input(format!("ca of the trust file: {e}")))?;
    }
    Ok(rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth())
}

async fn exchange<S>(stream: S, host: &str, call: Call, max: u64) -> Outcome<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let lost = |e: hyper::Error| Failure::io(format!("the connection broke: {e}"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(lost)?;
    let driver = tokio::spawn(connection);
    let mut request = Request::builder()
        .method(call.method.as_str())
        .uri(call.target.as_str())
        .header(HOST, host);
    if let Some(value) = &call.authorization {
        request = request.header(AUTHORIZATION, value);
    }
    let body = call.body.unwrap_or_default();
    if !body.0.is_empty() {
        request = request.header(CONTENT_TYPE, body.0);
    }
    let request = request
        .body(Full::new(Bytes::from(body.1)))
        .map_err(|e| Failure::bad_input(format!("request {}: {e}", call.target)))?;
    let answer = sender.send_request(request).await.map_err(lost)?;
    let (head, body) = answer.into_parts();
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let body = Limited::new(body, max)
        .collect()
        .await
        .map_err(|e| Failure::io(format!("the answer broke off or is too long: {e}")))?
        .to_bytes();
    driver.abort();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
    })
}

impl Answer {
    /// The body of a success, or the problem that the server named.
    ///
    /// # Errors
    /// The server's own words (`application/problem+json`), with the kind its status stands for.
    pub fn ok(self) -> Outcome<Self> {
        if self.status.is_success() {
            return Ok(self);
        }
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let text = |key: &str| {
            problem
                .get(key)
                .and_then(|v| v.as_str())
                .unwrap_or_default()
                .to_owned()
        };
        let kind = match self.status.as_u16() {
            400 | 413 | 415 | 422 => FailureKind::BadInput,
            401 | 403 => FailureKind::Refused,
            404 => FailureKind::NotFound,
            429 | 503 | 507 => FailureKind::Busy,
            _ => FailureKind::Internal,
        };
        let (title, detail) = (text("title"), text("detail"));
        let why = if detail.is_empty() {
            title
        } else {
            format!("{title}: {detail}")
        };
        let why = if why.is_empty() {
            format!("the server answered {}", self.status)
        } else {
            why
        };
        Err(Failure { kind, why })
    }

    /// The body of a success as JSON.
    ///
    /// # Errors
    /// As [`Self::ok`]; `Internal` when it is no JSON.
    pub fn json<T: serde::de::DeserializeOwned>(self) -> Outcome<T> {
        let answer = self.ok()?;
        serde_json::from_slice(&answer.body)
            .map_err(|e| Failure::internal(format!("the server's answer is not as expected: {e}")))
    }
}

/// A control request with a JSON body (`null` for none) and a JSON answer.
///
/// # Errors
/// Those of [`send`] and of the server.
pub async fn control<T: serde::de::DeserializeOwned>(
    place: &Place,
    method: &str,
    target: &str,
    body: &serde_json::Value,
) -> Outcome<T> {
    let body = (!body.is_null()).then(|| ("application/json", body.to_string().into_bytes()));
    let call = Call {
        method: method.into(),
        target: target.into(),
        authorization: None,
        body,
    };
    send(place, call, limits::ANSWER_BYTES_MAX).await?.json()
}
