//! TLS of the doors: certificates of our own authority on both sides, one provider, given explicitly.

use std::sync::Arc;

use chordae_base::{Failure, Outcome, time::SECOND_NS};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::core::identify::{self, Peer};

/// A configuration that demands a client certificate of `ca_pem`. No resumption: each connection shows
/// its certificate.
///
/// # Errors
/// `BadInput` for PEM that is none, or a key that does not fit its certificate.
pub fn server_config(ca_pem: &[u8], cert_pem: &[u8], key_pem: &[u8]) -> Outcome<Arc<ServerConfig>> {
    fn bad(what: &str, err: impl std::fmt::Display) -> Failure {
        Failure::bad_input(format!("{what}: {err}"))
    }
    let certs = |what: &str, pem: &[u8]| -> Outcome<Vec<CertificateDer<'static>>> {
        let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        match certs {
            Ok(certs) if certs.is_empty() => Err(bad(what, "no certificate in the PEM")),
            Ok(certs) => Ok(certs),
            Err(err) => Err(bad(what, err)),
        }
    };
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for root in certs("the certificate authority", ca_pem)? {
        roots
            .add(root)
            .map_err(|err| bad("the certificate authority", err))?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|err| bad("the certificate authority", err))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|err| bad("the server key", err))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|err| bad("TLS versions", err))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certs("the server certificate", cert_pem)?, key)
        .map_err(|err| bad("the server certificate", err))?;
    config.alpn_protocols = vec![b"mqtt".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Who a finished handshake proved, and when that proof expires.
///
/// # Errors
/// `Refused` for a certificate without exactly one identity of ours.
pub(crate) fn identity(tls: &ServerConnection) -> Outcome<(Peer, i64)> {
    let cert = tls.peer_certificates().and_then(<[_]>::first);
    let cert = cert.ok_or_else(|| Failure::refused("no client certificate"))?;
    let bad = |why: String| Failure::refused(format!("a client certificate: {why}"));
    let (_, parsed) = X509Certificate::from_der(cert).map_err(|err| bad(err.to_string()))?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|err| bad(err.to_string()))?;
    let uris: Vec<&str> =
        names
            .iter()
            .flat_map(|n| &n.value.general_names)
            .fold(Vec::new(), |mut uris, name| {
                if let GeneralName::URI(uri) = name {
                    uris.push(uri);
                }
                uris
            });
    let peer = identify::from_uris(&uris)?;
    let expires_s = parsed.validity().not_after.timestamp();
    Ok((peer, expires_s.saturating_mul(SECOND_NS)))
}
