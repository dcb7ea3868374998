//! Where the broker is, and how to reach it: an address as operators write it, TCP, TLS.

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

/// `mqtt://HOST[:PORT]` or `mqtts://HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name, or an address without brackets.
    pub host: String,
    /// 1883 or 8883 where none is given.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: bool,
}

impl FromStr for Address {
    type Err = Failure;

    fn from_str(url: &str) -> Outcome<Self> {
        let bad = || Failure::bad_input(format!("{url:?} is not mqtt[s]://HOST[:PORT]"));
        let (scheme, rest) = url.split_once("://").ok_or_else(bad)?;
        let (tls, usual) = match scheme {
            "mqtt" => (false, 1883),
            "mqtts" => (true, 8883),
            _ => return Err(bad()),
        };
        let (host, port) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(bad)?)),
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return Err(bad());
        }
        let port = port.map_or(Ok(usual), str::parse).map_err(|_| bad())?;
        Ok(Self {
            host: host.to_owned(),
            port,
            tls,
        })
    }
}

impl Address {
    /// Whether it can only be this machine.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }
}

/// What a broker with TLS needs from us, as PEM.
#[derive(Clone)]
pub struct TlsFiles {
    /// Who may vouch for the broker.
    pub ca: Vec<u8>,
    /// Our certificate and its key, if the broker asks for one.
    pub own: Option<(Vec<u8>, Vec<u8>)>,
}

/// Makes the configuration.
///
/// # Errors
/// `BadInput` for PEM that is none, or a key that does not fit its certificate.
pub fn client_config(files: &TlsFiles) -> Outcome<Arc<ClientConfig>> {
    fn bad(what: &str, err: impl std::fmt::Display) -> Failure {
        Failure::bad_input(format!("the bridge's {what}: {err}"))
    }
    let certs = |what: &str, pem: &[u8]| -> Outcome<Vec<CertificateDer<'static>>> {
        let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        match certs {
            Ok(certs) if certs.is_empty() => Err(bad(what, "no certificate in the PEM")),
            Ok(certs) => Ok(certs),
            Err(err) => Err(bad(what, err)),
        }
    };
    let mut roots = RootCertStore::empty();
    for root in certs("ca", &files.ca)? {
        roots.add(root).map_err(|err| bad("ca", err))?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|err| bad("TLS versions", err))?
        .with_root_certificates(roots);
    let config = match &files.own {
        None => config.with_no_client_auth(),
        Some((cert, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|err| bad("key", err))?;
            config
                .with_client_auth_cert(certs("cert", cert)?, key)
                .map_err(|err| bad("cert", err))?
        }
    };
    Ok(Arc::new(config))
}

/// A byte stream of either kind.
pub(super) trait Line: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Line for T {}

/// Connects; the caller bounds the time.
pub(super) async fn reach(
    address: &Address,
    tls: Option<&Arc<ClientConfig>>,
) -> Outcome<Box<dyn Line>> {
    let doing = || format!("connect to {}:{}", address.host, address.port);
    let socket = TcpStream::connect((address.host.as_str(), address.port))
        .await
        .map_err(|err| Failure::os(doing(), &err))?;
    // Acknowledgements are small and many: they must not wait for each other.
    socket.set_nodelay(true).ok();
    let Some(config) = tls else {
        return Ok(Box::new(socket));
    };
    let name = ServerName::try_from(address.host.clone())
        .map_err(|err| Failure::bad_input(format!("{}: {err}", address.host)))?;
    let stream = TlsConnector::from(Arc::clone(config))
        .connect(name, socket)
        .await
        .map_err(|err| Failure::os(doing(), &err))?;
    Ok(Box::new(stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_operators_write_them() {
        let read = |url: &str| url.parse::<Address>().unwrap();
        let plain = read("mqtt://127.0.0.1");
        assert_eq!(
            (plain.port, plain.tls, plain.is_loopback()),
            (1883, false, true)
        );
        let six = read("mqtts://[::1]:99");
        assert_eq!((six.host.as_str(), six.port, six.tls), ("::1", 99, true));
        assert!(six.is_loopback() && !read("mqtts://broker.ward:8883").is_loopback());
        for bad in [
            "",
            "broker",
            "http://a",
            "mqtt://",
            "mqtt://:1",
            "mqtt://a:b",
            "mqtt://a:70000",
            "mqtt://u@a",
            "mqtt://a/b",
            "mqtts://[::1",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
