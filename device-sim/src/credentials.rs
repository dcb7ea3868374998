//! Who a device is over TLS: the authority it trusts, its own certificate and key.
//!
//! One rustls provider (ring), named explicitly, so that no other can slip in through a feature.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use chordae_base::{DeviceId, Failure, Outcome};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// Where the certificates are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// PEM of the authority that signed the server's certificate.
    pub ca: PathBuf,
    /// PEM of the device's certificate chain, or a folder that holds `{device}.crt`.
    pub cert: PathBuf,
    /// PEM of its private key, or a folder that holds `{device}.key`.
    pub key: PathBuf,
}

impl Credentials {
    /// The TLS settings of one device.
    ///
    /// # Errors
    /// `NotFound` or `BadInput` naming the file that is missing or no PEM of its kind.
    pub fn config(&self, device: &DeviceId) -> Outcome<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        for cert in certificates(&self.ca)? {
            roots.add(cert).map_err(|e| bad(&self.ca, &e))?;
        }
        let cert = of_device(&self.cert, device, "crt");
        let key = of_device(&self.key, device, "key");
        let chain = certificates(&cert)?;
        let secret = PrivateKeyDer::from_pem_file(&key).map_err(|e| bad(&key, &e))?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| Failure::internal(format!("TLS: {e}")))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, secret)
            .map_err(|e| bad(&cert, &e))?;
        Ok(Arc::new(config))
    }
}

/// With several devices a folder is given; device ids hold no path separator.
fn of_device(path: &Path, device: &DeviceId, ending: &str) -> PathBuf {
    if path.is_dir() {
        path.join(format!("{device}.{ending}"))
    } else {
        path.to_path_buf()
    }
}

fn certificates(path: &Path) -> Outcome<Vec<CertificateDer<'static>>> {
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e| bad(path, &e))?;
    if found.is_empty() {
        return Err(Failure::bad_input(format!(
            "{} holds no certificate",
            path.display()
        )));
    }
    Ok(found)
}

fn bad(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::bad_input(format!("{}: {why}", path.display()))
}
