//! The certificate authority of one installation: server certificates, certificates of devices and
//! their kin, and the list of those that count no more.
//!
//! A device's certificate carries exactly one URI SAN (`urn:chordae:device:{id}` and its kin,
//! formats.md 2); that SAN is its identity. A gateway has a door of its own, so its certificate names its
//! hosts as well and serves on both sides. The authority is made by `chordae init` and its key stays in
//! `keys/`; whoever has an authority of her own puts its certificate there instead.

use std::{net::IpAddr, time::Duration};

use chordae_base::{Failure, Outcome, time::SECOND_NS};
use chordae_storage::registry::Certificate;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::DnsName;
use sha2::{Digest, Sha256};

/// Years that the authority's own certificate lasts.
const AUTHORITY_YEARS: i16 = 10;
/// Years that server and device certificates last.
const LEAF_YEARS: i16 = 2;
/// Days that a signed list counts: it is signed anew every day, and a door whose list is older than this
/// lets nobody in.
pub const LIST_DAYS: i64 = 7;

/// A certificate and its private key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// A device or monitor: the URI SAN.
    Client(&'a str),
    /// A gateway, client upstream and server at the bedside: the URI SAN, names and addresses.
    Gateway(&'a str, &'a [String]),
}

/// A leaf and what the registry notes of it.
#[derive(Debug, Clone)]
pub struct Issued {
    /// For its owner; the key is kept nowhere else.
    pub pair: PemPair,
    /// For the registry.
    pub noted: Certificate,
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
pub fn sign(authority: &PemPair, leaf: &Leaf<'_>, now_ns: i64) -> Outcome<Issued> {
    let issuer = issuer(authority)?;
    let mut params = CertificateParams::new(Vec::new()).map_err(bad)?;
    let (urn, hosts) = match *leaf {
        Leaf::Server(hosts) => (None, hosts),
        Leaf::Client(urn) => (Some(urn), [].as_slice()),
        Leaf::Gateway(urn, hosts) => (Some(urn), hosts),
    };
    if let Some(urn) = urn {
        let uri = SanType::URI(urn.try_into().map_err(bad)?);
        params.subject_alt_names.push(uri);
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        params.extended_key_usages.push(usage);
    }
    if !matches!(leaf, Leaf::Client(_)) {
        let names: Outcome<Vec<SanType>> = hosts.iter().map(|n| server_name(n)).collect();
        params.subject_alt_names.extend(names?);
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        params.extended_key_usages.push(usage);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let common = urn.or(hosts.first().map(String::as_str));
    params
        .distinguished_name
        .push(DnType::CommonName, common.unwrap_or_default());
    params.use_authority_key_identifier_extension = true;
    dates(&mut params, now_ns, LEAF_YEARS)?;
    let key = KeyPair::generate().map_err(bad)?;
    let cert = params.signed_by(&key, &issuer).map_err(bad)?;
    let noted = noted(cert.der(), now_ns)?;
    let pair = PemPair {
        cert: cert.pem(),
        key: key.serialize_pem(),
    };
    Ok(Issued { pair, noted })
}

/// Signs the list of revoked certificates as it is at `now_ns`; those that have expired are left out, no
/// door would take them anyway. The list counts for [`LIST_DAYS`].
///
/// # Errors
/// `BadInput` for an authority that cannot be read or may not sign lists; `Internal` for a serial that is
/// none.
pub fn revocation_list(
    authority: &PemPair,
    revoked: &[Certificate],
    now_ns: i64,
) -> Outcome<String> {
    // To the second; a type of another crate that we need not name.
    let date = |ns: i64| {
        let since = Duration::from_secs(ns.max(0).unsigned_abs() / SECOND_NS.unsigned_abs());
        rcgen::date_time_ymd(1970, 1, 1) + since
    };
    let in_force = revoked.iter().filter(|c| c.not_after_ns > now_ns);
    let revoked: Outcome<Vec<RevokedCertParams>> = in_force
        .map(|c| {
            let serial = hex::decode(&c.serial)
                .map_err(|e| Failure::internal(format!("serial {}: {e}", c.serial)))?;
            Ok(RevokedCertParams {
                serial_number: SerialNumber::from_slice(&serial),
                revocation_time: date(c.revoked_ns.unwrap_or(now_ns)),
                reason_code: None,
                invalidity_date: None,
            })
        })
        .collect();
    // An hour before now, for a door whose clock is a little late.
    let list = CertificateRevocationListParams {
        this_update: date(now_ns.saturating_sub(3600 * SECOND_NS)),
        next_update: date(now_ns.saturating_add(LIST_DAYS * 86_400 * SECOND_NS)),
        // It must only grow, and the clock of the registry's changes does.
        crl_number: SerialNumber::from(now_ns.unsigned_abs()),
        issuing_distribution_point: None,
        revoked_certs: revoked?,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let signed = list.signed_by(&issuer(authority)?).map_err(bad)?;
    signed.pem().map_err(bad)
}

fn bad(e: rcgen::Error) -> Failure {
    Failure::bad_input(format!("certificate authority: {e}"))
}

fn issuer(authority: &PemPair) -> Outcome<Issuer<'static, KeyPair>> {
    let key = KeyPair::from_pem(&authority.key).map_err(bad)?;
    Issuer::from_ca_cert_pem(&authority.cert, key).map_err(bad)
}

/// Reads back what was signed: serial and end as every door will read them.
fn noted(der: &[u8], now_ns: i64) -> Outcome<Certificate> {
    let (_, cert) = x509_parser::parse_x509_certificate(der)
        .map_err(|e| Failure::internal(format!("a certificate of ours cannot be read: {e}")))?;
    let end_s = cert.validity().not_after.timestamp();
    Ok(Certificate {
        serial: hex::encode(cert.raw_serial()),
        fingerprint: hex::encode(Sha256::digest(der)),
        given_ns: now_ns,
        not_after_ns: end_s.saturating_mul(SECOND_NS),
        revoked_ns: None,
    })
}

fn server_name(name: &str) -> Outcome<SanType> {
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    let plain = name.strip_prefix("*.").unwrap_or(name);
    DnsName::try_from(plain)
        .map_err(|e| Failure::bad_input(format!("{name:?} is no host name: {e}")))?;
    let name = name
        .try_into()
        .map_err(|e| Failure::bad_input(format!("{name:?} is no host name: {e}")))?;
    Ok(SanType::DnsName(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000 * SECOND_NS;

    fn names(pem: &str) -> (Vec<String>, usize, bool, bool) {
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let cert = pem.parse_x509().unwrap();
        let san = cert.subject_alternative_name().unwrap().unwrap();
        let (mut uris, mut others) = (Vec::new(), 0);
        for name in &san.value.general_names {
            match name {
                x509_parser::extensions::GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                _ => others += 1,
            }
        }
        let usage = cert.extended_key_usage().unwrap().unwrap().value.clone();
        (uris, others, usage.client_auth, usage.server_auth)
    }

    #[test]
    fn each_leaf_is_for_its_own_side_and_a_gateways_for_both() {
        let ca = make("test", NOW).unwrap();
        let hosts = ["ward.example.org".to_owned(), "127.0.0.1".to_owned()];
        let of = |leaf: &Leaf<'_>| names(&sign(&ca, leaf, NOW).unwrap().pair.cert);
        assert_eq!(of(&Leaf::Server(&hosts)), (vec![], 2, false, true));
        let urn = "urn:chordae:device:bed-1".to_owned();
        let device = of(&Leaf::Client(&urn));
        assert_eq!(device, (vec![urn], 0, true, false));
        let urn = "urn:chordae:gateway:ward".to_owned();
        let gateway = of(&Leaf::Gateway(&urn, &hosts));
        assert_eq!(gateway, (vec![urn], 2, true, true));
        assert!(sign(&ca, &Leaf::Server(&["no name".to_owned()]), NOW).is_err());
    }

    #[test]
    fn the_list_names_what_is_revoked_and_not_expired() {
        use x509_parser::{pem::parse_x509_pem, revocation_list::CertificateRevocationList};
        let ca = make("test", NOW).unwrap();
        let revoked = |serial: &str, not_after_ns| Certificate {
            serial: serial.to_owned(),
            fingerprint: String::new(),
            given_ns: 0,
            not_after_ns,
            revoked_ns: Some(NOW - 5 * SECOND_NS),
        };
        let device = sign(&ca, &Leaf::Client("urn:chordae:device:a"), NOW).unwrap();
        let serial = device.noted.serial.clone();
        let all = [revoked(&serial, NOW + 1), revoked("0102", NOW)];
        for (all, want) in [(&all[..], vec![serial]), (&[], vec![])] {
            let text = revocation_list(&ca, all, NOW).unwrap();
            let (_, pem) = parse_x509_pem(text.as_bytes()).unwrap();
            use x509_parser::prelude::FromDer;
            let (_, list) = CertificateRevocationList::from_der(&pem.contents).unwrap();
            let serials = list.iter_revoked_certificates();
            let serials: Vec<_> = serials.map(|c| hex::encode(c.raw_serial())).collect();
            assert_eq!(serials, want);
            let (from, until) = (list.last_update(), list.next_update().unwrap());
            assert_eq!(from.timestamp(), NOW / SECOND_NS - 3600);
            assert_eq!(until.timestamp(), NOW / SECOND_NS + LIST_DAYS * 86_400);
        }
        let stranger = make("other", NOW).unwrap();
        let mixed = PemPair {
            cert: String::new(),
            ..stranger
        };
        assert!(revocation_list(&mixed, &[], NOW).is_err());
    }
}
