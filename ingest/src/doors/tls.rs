//! TLS of the doors: certificates of our own authority on both sides, one provider, given explicitly.
//!
//! ```text
//! files ──every 5 s──▶ changed? ──▶ a new configuration ──▶ handshakes from now on
//!                          └ broken: the old one stays, logged and counted
//! ```
//!
//! A revocation list, where there is one, is asked in every handshake, and one whose time is over refuses
//! all (nobody knows whom it would name). Connections that stand are looked up again by their door: in
//! the registry, and in the list by [`Tls::revoked`]. There is no resumption: each connection shows its
//! certificate.

use std::{collections::BTreeSet, sync::Arc};

use chordae_base::{Failure, Outcome, limits, time::SECOND_NS};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection,
    crypto::ring,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use tokio::{sync::watch, task, time};
use tokio_rustls::TlsAcceptor;
use x509_parser::{
    prelude::{FromDer, GeneralName, X509Certificate},
    revocation_list::CertificateRevocationList,
};

use crate::{
    core::identify::{self, Peer},
    metrics::Metrics,
};

/// The names of the protocols behind our doors (ALPN): MQTT, and HTTP for its upgrade to WebSocket. A
/// client may name none.
pub const MQTT: &[u8] = b"mqtt";
/// See [`MQTT`].
pub const HTTP: &[u8] = b"http/1.1";

/// What a door's TLS is made of, as PEM. The key is in it: it is neither printed nor logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// Whom we believe.
    pub ca: Vec<u8>,
    /// Our own chain.
    pub cert: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
    /// Whom we believe no more.
    pub crl: Option<Vec<u8>>,
}

/// The TLS of a door; cloning shares it.
#[derive(Clone)]
pub struct Tls {
    current: watch::Receiver<Current>,
}

#[derive(Clone)]
struct Current {
    config: Arc<ServerConfig>,
    revoked: Arc<BTreeSet<String>>,
}

impl Current {
    fn new(material: &Material) -> Outcome<Self> {
        let Material { ca, cert, key, crl } = material;
        Ok(Self {
            config: server_config(ca, cert, key, crl.as_deref())?,
            revoked: Arc::new(revoked_serials(crl.as_deref())?),
        })
    }
}

impl Tls {
    /// One that stays as it is.
    ///
    /// # Errors
    /// Those of [`server_config`].
    pub fn fixed(material: &Material) -> Outcome<Self> {
        let (_, current) = watch::channel(Current::new(material)?);
        Ok(Self { current })
    }

    /// One that follows its files: `read` is asked every [`limits::TLS_RELOAD_EVERY`], on a thread that may
    /// block. Called within a tokio runtime.
    ///
    /// # Errors
    /// Those of the first `read`, and of [`server_config`].
    pub fn reloading(
        read: impl Fn() -> Outcome<Material> + Send + Sync + 'static,
        metrics: Metrics,
    ) -> Outcome<Self> {
        let first = read()?;
        let (sender, current) = watch::channel(Current::new(&first)?);
        tokio::spawn(follow(Arc::new(read), first, sender, metrics));
        Ok(Self { current })
    }

    /// For the next handshake.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.borrow().config))
    }

    /// Whether the revocation list names a certificate; serials as [`Identity::serial`] has them.
    pub fn revoked(&self, serial: &str) -> bool {
        self.current.borrow().revoked.contains(serial)
    }
}

type Read = dyn Fn() -> Outcome<Material> + Send + Sync;

/// Until nobody uses the [`Tls`] any more.
async fn follow(
    read: Arc<Read>,
    first: Material,
    sender: watch::Sender<Current>,
    metrics: Metrics,
) {
    let had_list = first.crl.is_some();
    let mut seen: Outcome<Material> = Ok(first);
    loop {
        tokio::select! {
            () = sender.closed() => return,
            () = time::sleep(limits::TLS_RELOAD_EVERY) => {}
        }
        let read = Arc::clone(&read);
        let Ok(found) = task::spawn_blocking(move || read()).await else {
            continue;
        };
        if found == seen {
            continue;
        }
        let made = found.clone().and_then(|material| match material.crl {
            // Whoever removes the list must not let in whom it names.
            None if had_list => Err(Failure::bad_input("the revocation list is gone")),
            _ => Current::new(&material),
        });
        seen = found;
        let outcome = match made {
            Ok(current) => {
                sender.send_replace(current);
                tracing::info!("TLS: certificates and revocations are read anew");
                "loaded"
            }
            Err(failure) => {
                tracing::error!(%failure, "TLS: the changed files cannot be used; the old ones stay");
                "failed"
            }
        };
        metrics.tls_reloads.with_label_values(&[outcome]).inc();
    }
}

/// A configuration that demands a client certificate of `ca_pem`, one that `crl_pem` does not name.
///
/// # Errors
/// `BadInput` for PEM that is none, or a key that does not fit its certificate.
pub fn server_config(
    ca_pem: &[u8],
    cert_pem: &[u8],
    key_pem: &[u8],
    crl_pem: Option<&[u8]>,
) -> Outcome<Arc<ServerConfig>> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for root in certs("the certificate authority", ca_pem)? {
        roots
            .add(root)
            .map_err(|err| bad("the certificate authority", err))?;
    }
    let mut verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    if let Some(pem) = crl_pem {
        let lists = lists(pem)?;
        verifier = verifier
            .with_crls(lists)
            .only_check_end_entity_revocation()
            .enforce_revocation_expiration();
    }
    let verifier = verifier
        .build()
        .map_err(|err| bad("the certificate authority", err))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|err| bad("the server key", err))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|err| bad("TLS versions", err))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certs("the server certificate", cert_pem)?, key)
        .map_err(|err| bad("the server certificate", err))?;
    config.alpn_protocols = vec![MQTT.to_vec(), HTTP.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn bad(what: &str, err: impl std::fmt::Display) -> Failure {
    Failure::bad_input(format!("{what}: {err}"))
}

fn certs(what: &str, pem: &[u8]) -> Outcome<Vec<CertificateDer<'static>>> {
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certs {
        Ok(certs) if certs.is_empty() => Err(bad(what, "no certificate in the PEM")),
        Ok(certs) => Ok(certs),
        Err(err) => Err(bad(what, err)),
    }
}

fn lists(pem: &[u8]) -> Outcome<Vec<CertificateRevocationListDer<'static>>> {
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    match lists {
        Ok(lists) if lists.is_empty() => Err(bad("the revocation list", "none in the PEM")),
        Ok(lists) => Ok(lists),
        Err(err) => Err(bad("the revocation list", err)),
    }
}

fn revoked_serials(crl_pem: Option<&[u8]>) -> Outcome<BTreeSet<String>> {
    let mut serials = BTreeSet::new();
    for der in crl_pem.map(lists).transpose()?.unwrap_or_default() {
        let (_, list) = CertificateRevocationList::from_der(&der)
            .map_err(|err| bad("the revocation list", err))?;
        let revoked = list.iter_revoked_certificates();
        serials.extend(revoked.map(|one| hex::encode(one.raw_serial())));
    }
    Ok(serials)
}

/// What a finished handshake proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who it is.
    pub peer: Peer,
    /// When that proof expires, ns since 1970.
    pub expires_ns: i64,
    /// The serial of the certificate: the bytes of its DER, lower-case hex.
    pub serial: String,
}

/// Who a finished handshake proved.
///
/// # Errors
/// `Refused` for a certificate without exactly one identity of ours.
pub fn identity(tls: &ServerConnection) -> Outcome<Identity> {
    let cert = tls.peer_certificates().and_then(<[_]>::first);
    identity_of(cert.ok_or_else(|| Failure::refused("no client certificate"))?)
}

/// Who a certificate of our own names: of the first in the PEM.
///
/// # Errors
/// `BadInput` for PEM that is none, `Refused` for a certificate without exactly one identity of ours.
pub fn peer_of(cert_pem: &[u8]) -> Outcome<Peer> {
    let chain = certs("the certificate", cert_pem)?;
    let cert = chain
        .first()
        .ok_or_else(|| bad("the certificate", "none"))?;
    identity_of(cert).map(|identity| identity.peer)
}

fn identity_of(cert: &[u8]) -> Outcome<Identity> {
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
    let expires_s = parsed.validity().not_after.timestamp();
    Ok(Identity {
        peer: identify::from_uris(&uris)?,
        expires_ns: expires_s.saturating_mul(SECOND_NS),
        serial: hex::encode(parsed.raw_serial()),
    })
}
