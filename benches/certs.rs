//! Certificates of a run: an authority, the server's, one per device; made anew each time.

use std::{fs, path::Path, sync::Arc};

use chordae::authority::{self, Leaf, PemPair};
use chordae_base::{Failure, Outcome};
use chordae_ingest::doors::tls::Material;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::load::mqtt::Mqtt;

const FILES: [&str; 3] = ["ca.crt", "server.crt", "server.key"];

fn os(e: std::io::Error) -> Failure {
    Failure::os("certificates of the run", &e)
}

/// Who signs the certificates of a run.
pub struct Authority {
    pair: PemPair,
    roots: Arc<RootCertStore>,
    now_ns: i64,
}

impl Authority {
    /// Makes one, and puts into `dir` what its server needs.
    ///
    /// # Errors
    /// `Io`; `Internal` when no key can be made.
    pub fn make(dir: &Path, now_ns: i64) -> Outcome<Self> {
        let pair = authority::make("bench", now_ns)?;
        let server = authority::sign(&pair, &Leaf::Server(&["localhost".to_owned()]), now_ns)?.pair;
        for (name, text) in FILES
            .into_iter()
            .zip([&pair.cert, &server.cert, &server.key])
        {
            fs::write(dir.join(name), text).map_err(os)?;
        }
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(pair.cert.as_bytes());
        let ca = ca.map_err(|e| Failure::internal(e.to_string()))?;
        roots
            .add(ca)
            .map_err(|e| Failure::internal(e.to_string()))?;
        let roots = Arc::new(roots);
        Ok(Self {
            pair,
            roots,
            now_ns,
        })
    }

    /// What the device of this number connects with. Without resumption: each handshake is a whole one.
    ///
    /// # Errors
    /// `Internal` when no key can be made.
    pub fn device(&self, number: usize) -> Outcome<Arc<ClientConfig>> {
        let urn = format!("urn:chordae:device:{}", Mqtt::device(number));
        let own = authority::sign(&self.pair, &Leaf::Client(&urn), self.now_ns)?.pair;
        let bad = |e: String| Failure::internal(format!("a device's certificate: {e}"));
        let cert =
            CertificateDer::from_pem_slice(own.cert.as_bytes()).map_err(|e| bad(e.to_string()))?;
        let key =
            PrivateKeyDer::from_pem_slice(own.key.as_bytes()).map_err(|e| bad(e.to_string()))?;
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| bad(e.to_string()))?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(vec![cert], key)
            .map_err(|e| bad(e.to_string()))?;
        config.alpn_protocols = vec![b"mqtt".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// What [`Authority::make`] put into `dir`, for the server.
///
/// # Errors
/// `Io` when it is not there.
pub fn material(dir: &Path) -> Outcome<Material> {
    let read = |name: &str| fs::read(dir.join(name)).map_err(os);
    let [ca, cert, key] = FILES;
    Ok(Material {
        ca: read(ca)?,
        cert: read(cert)?,
        key: read(key)?,
        crl: None,
    })
}
