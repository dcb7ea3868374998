//! TLS for readers. One provider (ring), installed by `main`; the device doors' settings are ingest's.

use std::sync::Arc;

use chordae_base::{Failure, Outcome, limits};
use prometheus::IntGauge;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    sync::watch,
    task,
    time::{self, Duration},
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

/// Our certificate for readers, as its files are now; cloning shares it.
pub type Readers = watch::Receiver<Arc<ServerConfig>>;

/// What is read from the files of our certificate.
pub(crate) fn own_pair(home: &Folder) -> Outcome<PemPair> {
    Ok(PemPair {
        cert: folder::read_small(&home.key("server.crt"))?,
        key: folder::read_secret(&home.key("server.key"))?,
    })
}

/// Our certificate, and the work that follows its files until nobody uses it any more. `expiry` says when the one in
/// use ends.
///
/// # Errors
/// Those of [`for_readers`].
pub fn following(
    home: &Folder,
    first: PemPair,
    expiry: IntGauge,
) -> Outcome<(Readers, impl Future<Output = ()> + Send + use<>)> {
    expiry.set(ends_s(&first)?);
    let (sender, readers) = watch::channel(Arc::new(for_readers(&first)?));
    let work = follow(
        home.clone(),
        first,
        sender,
        expiry,
        limits::TLS_RELOAD_EVERY,
    );
    Ok((readers, work))
}

async fn follow(
    home: Folder,
    first: PemPair,
    sender: watch::Sender<Arc<ServerConfig>>,
    expiry: IntGauge,
    every: Duration,
) {
    let mut seen: Outcome<PemPair> = Ok(first);
    loop {
        tokio::select! {
            () = sender.closed() => return,
            () = time::sleep(every) => {}
        }
        let home = home.clone();
        let Ok(found) = task::spawn_blocking(move || own_pair(&home)).await else {
            continue;
        };
        if found == seen {
            continue;
        }
        let made = found
            .clone()
            .and_then(|pair| Ok((ends_s(&pair)?, for_readers(&pair)?)));
        seen = found;
        match made {
            Ok((ends_s, config)) => {
                expiry.set(ends_s);
                sender.send_replace(Arc::new(config));
                tracing::info!("our certificate for readers is read anew");
            }
            Err(failure) => {
                tracing::error!(%failure, "the changed certificate cannot be used; the old one stays");
            }
        }
    }
}

/// When a certificate ends, seconds since 1970.
fn ends_s(pair: &PemPair) -> Outcome<i64> {
    let bad = |why: String| Failure::bad_input(format!("keys/server.crt: {why}"));
    let (_, pem) =
        x509_parser::pem::parse_x509_pem(pair.cert.as_bytes()).map_err(|e| bad(e.to_string()))?;
    let cert = pem.parse_x509().map_err(|e| bad(e.to_string()))?;
    Ok(cert.validity().not_after.timestamp())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority;
    use chordae_base::time::SECOND_NS;

    const DAY_NS: i64 = 86_400 * SECOND_NS;

    fn put(home: &Folder, pair: &PemPair) {
        for name in ["server.crt", "server.key"] {
            std::fs::remove_file(home.key(name)).ok();
        }
        folder::write_public(&home.key("server.crt"), &pair.cert).unwrap();
        folder::write_secret(&home.key("server.key"), &pair.key).unwrap();
    }

    async fn comes_to(gauge: &IntGauge, want: i64) {
        for _ in 0..1_000 {
            if gauge.get() == want {
                return;
            }
            time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} is not {want}", gauge.get());
    }

    #[tokio::test]
    async fn the_expiry_follows_the_certificate_in_use() {
        // As `main` does; another test may have done it.
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let folder = tempfile::tempdir().unwrap();
        let home = Folder::new(folder.path());
        std::fs::create_dir(home.keys()).unwrap();
        let old = authority::make("one", 0).unwrap();
        let new = authority::make("two", 400 * DAY_NS).unwrap();
        put(&home, &old);
        let expiry = IntGauge::new("expiry", "expiry").unwrap();
        let first = own_pair(&home).unwrap();
        expiry.set(ends_s(&first).unwrap());
        let (sender, readers) = watch::channel(Arc::new(for_readers(&first).unwrap()));
        let every = Duration::from_millis(5);
        tokio::spawn(follow(home.clone(), first, sender, expiry.clone(), every));
        let ended = expiry.get();
        put(&home, &new);
        let ends = ends_s(&new).unwrap();
        assert_ne!(ends, ended);
        comes_to(&expiry, ends).await;
        assert!(
            readers.has_changed().unwrap(),
            "and the certificate is in use"
        );
        // One that cannot be used changes nothing.
        std::fs::write(home.key("server.crt"), "none").unwrap();
        for _ in 0..20 {
            time::sleep(every).await;
        }
        assert_eq!(expiry.get(), ends);
        put(&home, &old);
        comes_to(&expiry, ended).await;
    }
}
