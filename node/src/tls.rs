//! TLS settings of the doors: one provider (ring), installed by `main`; device doors demand client
//! certificates of our authority.

use std::sync::Arc;

use chordae_base::{Failure, Outcome};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use crate::authority::PemPair;

fn bad(what: &'static str) -> impl Fn(rustls::pki_types::pem::Error) -> Failure {
    move |e| Failure::bad_input(format!("{what}: {e}"))
}

fn own(server: &PemPair) -> Outcome<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let certs = CertificateDer::pem_slice_iter(server.cert.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(bad("server certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes()).map_err(bad("server key"))?;
    Ok((certs, key))
}

/// For readers: no client certificate, HTTP/2 and HTTP/1.1.
///
/// # Errors
/// `BadInput` when certificate and key cannot be read or do not fit.
pub fn for_readers(server: &PemPair) -> Outcome<ServerConfig> {
    let (certs, key) = own(server)?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certs, key)
        .map_err(|e| Failure::bad_input(format!("server certificate: {e}")))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// For devices: a client certificate of `authority` is demanded.
///
/// # Errors
/// `BadInput` when a certificate or key cannot be read.
pub fn for_devices(server: &PemPair, authority: &str) -> Outcome<ServerConfig> {
    let (certs, key) = own(server)?;
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots
            .add(cert.map_err(bad("authority"))?)
            .map_err(|e| Failure::bad_input(format!("authority: {e}")))?;
    }
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
        .build()
        .map_err(|e| Failure::bad_input(format!("authority: {e}")))?;
    ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(certs, key)
        .map_err(|e| Failure::bad_input(format!("server certificate: {e}")))
}
