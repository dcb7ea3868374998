//! The certificate authority of one installation: server certificates, and one certificate per device.
//!
//! A device's certificate carries exactly one URI SAN (`urn:chordae:device:{id}` and its kin,
//! formats.md 2); that SAN is its identity. The authority is made by `chordae init` and its key stays in
//! `keys/`; whoever has an authority of her own puts its certificate there instead.

use std::net::IpAddr;

use chordae_base::{Failure, Outcome};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

/// Years that the authority's own certificate lasts.
const AUTHORITY_YEARS: i16 = 10;
/// Years that server and device certificates last.
const LEAF_YEARS: i16 = 2;

/// A certificate and its private key, both PEM.
#[derive(Debug, Clone)]
pub struct PemPair {
    /// Certificate.
    pub cert: String,
    /// PKCS#8 private key.
    pub key: String,
}

/// What a leaf certificate is for.
#[derive(Debug, Clone)]
pub enum Leaf<'a> {
    /// Our doors and HTTP: names and addresses.
    Server(&'a [String]),
    /// A device, gateway or monitor: the URI SAN.
    Client(&'a str),
}

fn failed(doing: &str) -> impl Fn(rcgen::Error) -> Failure + '_ {
    move |e| Failure::internal(format!("{doing}: {e}"))
}

fn dates(params: &mut CertificateParams, now_ns: i64, years: i16) -> Outcome<()> {
    let stamp = jiff::Timestamp::from_nanosecond(i128::from(now_ns))
        .map_err(|e| Failure::internal(format!("the clock is out of range: {e}")))?;
    // A day before now: a peer whose clock is a little late still accepts it.
    let from = (stamp.as_second() - 86_400).max(0);
    let date = jiff::Timestamp::from_second(from)
        .map_err(|e| Failure::internal(format!("the clock is out of range: {e}")))?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date();
    let (month, day) = (
        date.month().unsigned_abs(),
        date.day().unsigned_abs().min(28),
    );
    params.not_before = rcgen::date_time_ymd(i32::from(date.year()), month, day);
    params.not_after = rcgen::date_time_ymd(i32::from(date.year() + years), month, day);
    Ok(())
}

/// Makes an authority that may sign leaves only.
///
/// # Errors
/// `Internal` when the key cannot be made.
pub fn make(name: &str, now_ns: i64) -> Outcome<PemPair> {
    let mut params = CertificateParams::new(Vec::new()).map_err(failed("authority"))?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params
        .distinguished_name
        .push(DnType::CommonName, format!("chordae authority {name}"));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    dates(&mut params, now_ns, AUTHORITY_YEARS)?;
    let key = KeyPair::generate().map_err(failed("authority key"))?;
    let cert = params
        .self_signed(&key)
        .map_err(failed("authority certificate"))?;
    Ok(PemPair {
        cert: cert.pem(),
        key: key.serialize_pem(),
    })
}

/// Signs a leaf with a fresh key.
///
/// # Errors
/// `BadInput` for a name that no certificate can carry or an authority that cannot be read.
pub fn sign(authority: &PemPair, leaf: &Leaf<'_>, now_ns: i64) -> Outcome<PemPair> {
    let bad = |e: rcgen::Error| Failure::bad_input(format!("certificate authority: {e}"));
    let key = KeyPair::from_pem(&authority.key).map_err(bad)?;
    let issuer = Issuer::from_ca_cert_pem(&authority.cert, key).map_err(bad)?;
    let mut params = CertificateParams::new(Vec::new()).map_err(bad)?;
    let (names, usage, common) = match leaf {
        Leaf::Server(names) => (
            names
                .iter()
                .map(|n| server_name(n))
                .collect::<Outcome<Vec<_>>>()?,
            ExtendedKeyUsagePurpose::ServerAuth,
            names.first().cloned().unwrap_or_default(),
        ),
        Leaf::Client(urn) => {
            let uri = (*urn).try_into().map_err(bad)?;
            (
                vec![SanType::URI(uri)],
                ExtendedKeyUsagePurpose::ClientAuth,
                (*urn).to_owned(),
            )
        }
    };
    params.subject_alt_names = names;
    params.extended_key_usages = vec![usage];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.distinguished_name.push(DnType::CommonName, common);
    params.use_authority_key_identifier_extension = true;
    dates(&mut params, now_ns, LEAF_YEARS)?;
    let key = KeyPair::generate().map_err(bad)?;
    let cert = params.signed_by(&key, &issuer).map_err(bad)?;
    Ok(PemPair {
        cert: cert.pem(),
        key: key.serialize_pem(),
    })
}

fn server_name(name: &str) -> Outcome<SanType> {
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    let name = name
        .try_into()
        .map_err(|e| Failure::bad_input(format!("{name:?} is no host name: {e}")))?;
    Ok(SanType::DnsName(name))
}
