//! TLS for readers. One provider (ring), installed by `main`; the device doors' settings are ingest's.

use chordae_base::{Failure, Outcome};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use chordae_ingest::doors::tls::Material;
use x509_parser::extensions::GeneralName;

use crate::{
    authority::PemPair,
    folder::{self, Folder},
};

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

/// For devices: what lies in `keys/` now. A revocation list is used if there is one.
///
/// # Errors
/// `Refused` for a key that others can read; `NotFound`, `Io`.
pub fn for_devices(home: &Folder) -> Outcome<Material> {
    let crl = home.key("ca.crl");
    Ok(Material {
        ca: folder::read_small(&home.key("ca.crt"))?.into_bytes(),
        cert: folder::read_small(&home.key("server.crt"))?.into_bytes(),
        key: folder::read_secret(&home.key("server.key"))?.into_bytes(),
        crl: match crl.exists() {
            true => Some(folder::read_small(&crl)?.into_bytes()),
            false => None,
        },
    })
}

/// The names that our certificate carries.
///
/// # Errors
/// `BadInput` when it cannot be read.
pub fn names(server: &PemPair) -> Outcome<Vec<String>> {
    let bad = |why: String| Failure::bad_input(format!("keys/server.crt: {why}"));
    let (_, pem) =
        x509_parser::pem::parse_x509_pem(server.cert.as_bytes()).map_err(|e| bad(e.to_string()))?;
    let cert = pem.parse_x509().map_err(|e| bad(e.to_string()))?;
    let names = cert.subject_alternative_name();
    let names = names.map_err(|e| bad(e.to_string()))?;
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    };
    let all = names.iter().flat_map(|n| &n.value.general_names);
    Ok(all.filter_map(dns).collect())
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
