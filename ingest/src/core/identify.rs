//! Who a peer is, and what it may speak for (formats.md 2, "Identity over TLS").
//!
//! The certificate decides: exactly one URI SAN, `urn:chordae:{device|gateway|monitor}:{name}`. Client
//! id, topic and message must agree with it. On a plain loopback listener there is none, and the device
//! of the topic is believed if it is registered.

use chordae_base::{DeviceId, Failure, Outcome};

use super::ports::{DeviceEntry, DeviceKind, Registry};

/// What the transport says of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A plain loopback connection: nothing.
    Plain,
    /// Its certificate names it.
    Certified(DeviceKind, DeviceId),
}

/// Reads the one URI of a certificate.
///
/// # Errors
/// `Refused` when there is not exactly one, or it is not ours.
pub fn from_uris(uris: &[&str]) -> Outcome<Peer> {
    let [uri] = uris else {
        let why = format!(
            "the certificate must carry exactly one URI name, not {}",
            uris.len()
        );
        return Err(Failure::refused(why));
    };
    let parts = uri
        .strip_prefix("urn:chordae:")
        .and_then(|rest| rest.split_once(':'));
    let kind = match parts {
        Some(("device", _)) => Some(DeviceKind::Device),
        Some(("gateway", _)) => Some(DeviceKind::Gateway),
        Some(("monitor", _)) => Some(DeviceKind::Monitor),
        _ => None,
    };
    match (kind, parts) {
        (Some(kind), Some((_, name))) => {
            let id = DeviceId::new(name).map_err(|f| Failure::refused(f.why))?;
            Ok(Peer::Certified(kind, id))
        }
        _ => Err(Failure::refused(format!(
            "{uri:?} is not urn:chordae:device:NAME or the like"
        ))),
    }
}

/// The entry of `id` if it is registered as `kind` and enabled.
pub fn entry(registry: &dyn Registry, kind: DeviceKind, id: &DeviceId) -> Option<DeviceEntry> {
    registry.device(id).filter(|e| e.kind == kind && e.enabled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_name_of_ours() {
        let device = DeviceId::new("bed-7").unwrap();
        let certified = Peer::Certified(DeviceKind::Device, device);
        assert_eq!(from_uris(&["urn:chordae:device:bed-7"]), Ok(certified));
        for bad in [
            &[][..],
            &["urn:chordae:device:a", "urn:chordae:device:b"],
            &["urn:chordae:device:"],
            &["urn:chordae:device:A"],
            &["urn:chordae:device:a\0"],
            &["urn:chordae:device:a:b"],
            &["urn:chordae:patient:a"],
            &["URN:chordae:device:a"],
            &["https://a"],
        ] {
            assert!(from_uris(bad).is_err(), "{bad:?}");
        }
    }
}
