//! Where the node upstream is, and how its socket is reached: TLS with the gateway's certificate, or plain
//! on loopback.

use std::{net::IpAddr, str::FromStr, sync::Arc};

use chordae_base::{Failure, Outcome};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// `zmq+tls://HOST:PORT`, or `zmq://ADDRESS:PORT` on loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// With TLS.
    pub tls: bool,
}

impl FromStr for Target {
    type Err = Failure;

    fn from_str(url: &str) -> Outcome<Self> {
        let bad = || {
            Failure::bad_input(format!(
                "{url:?} is no uplink; use zmq+tls://HOST:5556, or zmq://127.0.0.1:5555 on this machine"
            ))
        };
        let (tls, rest) = match url.split_once("://") {
            Some(("zmq+tls", rest)) => (true, rest),
            Some(("zmq", rest)) => (false, rest),
            _ => return Err(bad()),
        };
        let (host, port) = rest.rsplit_once(':').ok_or_else(bad)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().map_err(|_| bad())?;
        let address: Option<IpAddr> = host.parse().ok();
        let named = !host.is_empty() && ServerName::try_from(host.to_owned()).is_ok();
        if !named || port == 0 {
            return Err(bad());
        }
        let here = host == "localhost" || address.is_some_and(|a| a.is_loopback());
        if !(tls || here) {
            return Err(Failure::refused(format!(
                "{url:?}: without TLS only this machine may be reached; use zmq+tls://"
            )));
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            tls,
        })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "zmq{}://{}:{}",
            if self.tls { "+tls" } else { "" },
            self.host,
            self.port
        )
    }
}

/// A configuration that shows the gateway's certificate and believes only `ca_pem`.
///
/// # Errors
/// `BadInput` for PEM that is none, or a key that does not fit its certificate.
pub fn client_config(ca_pem: &[u8], cert_pem: &[u8], key_pem: &[u8]) -> Outcome<Arc<ClientConfig>> {
    fn bad(what: &str, err: impl std::fmt::Display) -> Failure {
        Failure::bad_input(format!("{what}: {err}"))
    }
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(ca_pem) {
        let root = root.map_err(|err| bad("uplink.ca", err))?;
        roots.add(root).map_err(|err| bad("uplink.ca", err))?;
    }
    if roots.is_empty() {
        return Err(bad("uplink.ca", "no certificate in the PEM"));
    }
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert_pem).collect();
    let chain = chain.map_err(|err| bad("the gateway's certificate", err))?;
    let key =
        PrivateKeyDer::from_pem_slice(key_pem).map_err(|err| bad("the gateway's key", err))?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|err| bad("TLS versions", err))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|err| bad("the gateway's certificate", err))?;
    Ok(Arc::new(config))
}

/// A connected socket, whatever it is.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

/// Connects. Whoever calls it sets the deadline.
///
/// # Errors
/// `Busy` when the node cannot be reached, `Refused` when TLS fails.
pub async fn connect(target: &Target, tls: Option<&Arc<ClientConfig>>) -> Outcome<Box<dyn Socket>> {
    let socket = TcpStream::connect((target.host.as_str(), target.port))
        .await
        .map_err(|err| Failure::busy(format!("{target} cannot be reached: {err}")))?;
    // Items are batched by us; what is written is to leave.
    socket.set_nodelay(true).ok();
    let config = match (target.tls, tls) {
        (false, _) => return Ok(Box::new(socket)),
        (true, Some(config)) => Arc::clone(config),
        (true, None) => return Err(Failure::internal("an uplink with TLS without certificates")),
    };
    let name = ServerName::try_from(target.host.clone())
        .map_err(|err| Failure::bad_input(format!("{target}: {err}")))?;
    let stream = TlsConnector::from(config)
        .connect(name, socket)
        .await
        .map_err(|err| Failure::refused(format!("{target}: TLS failed: {err}")))?;
    Ok(Box::new(stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uplink_is_tls_or_on_this_machine() {
        for good in [
            "zmq+tls://ecg.example.org:5556",
            "zmq+tls://10.0.0.7:5556",
            "zmq://127.0.0.1:5555",
        ] {
            let target: Target = good.parse().unwrap();
            assert_eq!(target.to_string(), good);
        }
        assert!(
            "zmq://[::1]:5555"
                .parse::<Target>()
                .is_ok_and(|t| t.host == "::1")
        );
        for bad in [
            "zmq://10.0.0.7:5555",
            "zmq://ecg.example.org:5555",
            "tcp://127.0.0.1:5555",
            "zmq://127.0.0.1",
            "zmq+tls://:5556",
            "zmq+tls://a b:5556",
            "zmq+tls://host:0",
            "zmq+tls://host:70000",
            "",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
