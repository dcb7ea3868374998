//! The state of the registry: [`State::admit`] holds a change against the rules, [`State::fold`] makes
//! it. Both are pure, and the same for a change that is asked for and one that is read from the log.

use std::collections::BTreeMap;

use chordae_base::{
    DeviceId, Did, Failure, KeyId, Outcome, StreamKey, StreamPlan, limits,
    plan::{SlotRule, Tenure},
};
use chordae_chain::keys::{PublicIdentity, Role};

use super::record::{Certificate, Device, DeviceKind, Party, Record};

/// Parties in the registry.
const PARTIES_MAX: usize = 100_000;
/// Certificates of one device that have not expired.
const CERTIFICATES_MAX: usize = 64;
/// Host names of one gateway.
const HOSTS_MAX: usize = 32;
/// Plan changes of one stream: a plan travels as a whole.
const PLAN_CHANGES_MAX: usize = 1024;

#[derive(Debug, Default, PartialEq)]
pub(super) struct State {
    pub(super) devices: BTreeMap<DeviceId, Device>,
    pub(super) parties: BTreeMap<KeyId, Party>,
    pub(super) streams: BTreeMap<StreamKey, StreamPlan>,
    pub(super) dids: BTreeMap<Did, StreamKey>,
    pub(super) patients: BTreeMap<Did, KeyId>,
}

/// A slot is a multiple of a page, up to an hour.
pub(super) fn check_slot_len(len_ns: i64) -> Outcome<()> {
    let fits =
        (limits::PAGE_NS..=limits::SLOT_NS_MAX).contains(&len_ns) && len_ns % limits::PAGE_NS == 0;
    if fits {
        return Ok(());
    }
    Err(Failure::bad_input(format!(
        "slots of {len_ns} ns: must be a multiple of 10 s up to 1 h"
    )))
}

impl State {
    pub(super) fn admit(&self, record: &Record) -> Outcome<()> {
        match record {
            Record::DeviceAdded { device } => self.admit_device(device),
            Record::DeviceEnabled { id, .. } => self.known_device(id).map(drop),
            Record::DeviceCertificate { id, certificate } => {
                let device = self.known_device(id)?;
                check_certificate(certificate)?;
                admit_certificate(device, certificate)
            }
            Record::DeviceRevoked { id, .. } => {
                let device = self.known_device(id)?;
                match device.certificates().any(|c| c.revoked_ns.is_none()) {
                    true => Ok(()),
                    false => Err(Failure::not_found(format!(
                        "{id} has no certificate that could be revoked; to keep it out, disable it"
                    ))),
                }
            }
            Record::PartyAdded { identity } => self.admit_party(identity),
            Record::PartyEnabled { kid, .. } => match self.parties.get(kid) {
                Some(_) => Ok(()),
                None => Err(Failure::not_found(format!("no party has the key {kid}"))),
            },
            Record::DidGiven {
                stream,
                did,
                slot_ns,
            } => self.admit_did(stream, did, *slot_ns),
            Record::PatientSet { did, patient } => {
                if !self.dids.contains_key(did) {
                    return Err(Failure::not_found(format!("no stream has the did {did}")));
                }
                self.admit_patient(did, patient)
            }
            Record::TenureBegun {
                stream,
                tenure,
                patient,
            } => {
                self.admit_tenure(stream, tenure)?;
                patient
                    .as_ref()
                    .map_or(Ok(()), |kid| self.admit_patient(&tenure.did, kid))
            }
            Record::SlotRuled { stream, rule } => self.admit_rule(stream, rule),
        }
    }

    /// Makes an admitted change.
    pub(super) fn fold(&mut self, record: Record) {
        match record {
            Record::DeviceAdded { device } => {
                self.devices.insert(device.id.clone(), device);
            }
            Record::DeviceEnabled { id, enabled } => {
                if let Some(device) = self.devices.get_mut(&id) {
                    device.enabled = enabled;
                }
            }
            Record::DeviceCertificate { id, certificate } => {
                if let Some(device) = self.devices.get_mut(&id) {
                    let now_ns = certificate.given_ns;
                    device.earlier.extend(device.certificate.take());
                    device.earlier.retain(|c| c.not_after_ns > now_ns);
                    device.certificate = Some(certificate);
                }
            }
            Record::DeviceRevoked { id, at_ns } => {
                if let Some(device) = self.devices.get_mut(&id) {
                    let all = device.certificate.iter_mut().chain(&mut device.earlier);
                    all.for_each(|c| c.revoked_ns = c.revoked_ns.or(Some(at_ns)));
                }
            }
            Record::PartyAdded { identity } => {
                self.parties.insert(
                    identity.key_id(),
                    Party {
                        identity,
                        enabled: true,
                    },
                );
            }
            Record::PartyEnabled { kid, enabled } => {
                if let Some(party) = self.parties.get_mut(&kid) {
                    party.enabled = enabled;
                }
            }
            Record::DidGiven {
                stream,
                did,
                slot_ns,
            } => {
                self.dids.insert(did, stream.clone());
                self.streams.insert(stream, StreamPlan::new(did, slot_ns));
            }
            Record::PatientSet { did, patient } => {
                self.patients.insert(did, patient);
            }
            Record::TenureBegun {
                stream,
                tenure,
                patient,
            } => {
                if let Some(plan) = self.streams.get_mut(&stream) {
                    plan.tenures.push(tenure);
                }
                self.dids.insert(tenure.did, stream);
                if let Some(patient) = patient {
                    self.patients.insert(tenure.did, patient);
                }
            }
            Record::SlotRuled { stream, rule } => {
                if let Some(plan) = self.streams.get_mut(&stream) {
                    plan.slots.push(rule);
                }
            }
        }
    }

    fn known_device(&self, id: &DeviceId) -> Outcome<&Device> {
        self.devices
            .get(id)
            .ok_or_else(|| Failure::not_found(format!("no device is registered as {id}")))
    }

    fn admit_device(&self, device: &Device) -> Outcome<()> {
        if self.devices.contains_key(&device.id) {
            return Err(Failure::refused(format!(
                "{} is registered already",
                device.id
            )));
        }
        if self.devices.len() >= limits::DEVICES_MAX {
            return Err(Failure::busy("the registry holds no more devices"));
        }
        if let Some(gateway) = &device.gateway {
            let known = self.known_device(gateway)?;
            if known.kind != DeviceKind::Gateway || device.kind != DeviceKind::Device {
                return Err(Failure::bad_input(format!(
                    "only a device lies behind a gateway, and {gateway} must be one"
                )));
            }
        }
        let streams_fit = device.streams.len() <= limits::STREAMS_PER_DEVICE_MAX
            && (device.streams.is_empty() || device.kind == DeviceKind::Device);
        let watches_fit = device.watches.is_empty() || device.kind == DeviceKind::Monitor;
        let hosts_fit = device.hosts.len() <= HOSTS_MAX
            && (device.hosts.is_empty() || device.kind == DeviceKind::Gateway);
        if !streams_fit || !watches_fit || !hosts_fit {
            return Err(Failure::bad_input(
                "streams are listed for a device (at most 64), watched devices for a monitor, host \
                 names for a gateway (at most 32)",
            ));
        }
        device
            .certificate
            .as_ref()
            .map_or(Ok(()), check_certificate)
    }

    fn admit_party(&self, identity: &PublicIdentity) -> Outcome<()> {
        let kid = identity.key_id();
        if let Some(known) = self.parties.get(&kid) {
            return Err(Failure::refused(format!(
                "the key {kid} is known already, as {} {:?}",
                known.identity.role, known.identity.name
            )));
        }
        if self.parties.len() >= PARTIES_MAX {
            return Err(Failure::busy("the registry holds no more parties"));
        }
        Ok(())
    }

    fn admit_did(&self, stream: &StreamKey, did: &Did, slot_ns: i64) -> Outcome<()> {
        let device = self.known_device(&stream.device)?;
        check_slot_len(slot_ns)?;
        if self.streams.contains_key(stream) || self.dids.contains_key(did) {
            return Err(Failure::refused(format!(
                "{stream} or {did} is in use already"
            )));
        }
        let listed = device.streams.is_empty() || device.streams.contains(&stream.stream);
        if device.kind != DeviceKind::Device || !listed {
            return Err(Failure::refused(format!(
                "{} may not publish {stream}",
                device.id
            )));
        }
        let of_device = self
            .streams
            .keys()
            .filter(|key| key.device == device.id)
            .count();
        if of_device >= limits::STREAMS_PER_DEVICE_MAX {
            return Err(Failure::refused(format!(
                "{} has 64 streams already",
                device.id
            )));
        }
        Ok(())
    }

    /// A did has at most one patient, set once; she is a known, enabled party of that role.
    fn admit_patient(&self, did: &Did, patient: &KeyId) -> Outcome<()> {
        if self.patients.get(did).is_some_and(|other| other != patient) {
            return Err(Failure::refused(format!(
                "{did} has another patient, and a did never mixes two; assign the stream anew"
            )));
        }
        match self.parties.get(patient) {
            Some(party) if party.enabled && party.identity.role == Role::Patient => Ok(()),
            _ => Err(Failure::not_found(format!(
                "{patient} is not the key of a known, enabled patient"
            ))),
        }
    }

    fn known_stream(&self, stream: &StreamKey) -> Outcome<&StreamPlan> {
        let plan = self.streams.get(stream);
        let plan = plan.ok_or_else(|| Failure::not_found(format!("{stream} has no did yet")))?;
        if plan.tenures.len() + plan.slots.len() > PLAN_CHANGES_MAX {
            return Err(Failure::refused(format!(
                "{stream} was changed too many times"
            )));
        }
        Ok(plan)
    }

    fn admit_tenure(&self, stream: &StreamKey, tenure: &Tenure) -> Outcome<()> {
        let plan = self.known_stream(stream)?;
        if self.dids.contains_key(&tenure.did) {
            return Err(Failure::refused(format!(
                "{} is in use already",
                tenure.did
            )));
        }
        let newest = plan.tenures.last().map_or(i64::MIN, |t| t.from_ns);
        if tenure.from_ns <= newest {
            return Err(Failure::refused(format!(
                "{stream} already has a tenure that begins then or later"
            )));
        }
        Ok(())
    }

    fn admit_rule(&self, stream: &StreamKey, rule: &SlotRule) -> Outcome<()> {
        let plan = self.known_stream(stream)?;
        check_slot_len(rule.len_ns)?;
        let newest = plan.slots.last().map_or(i64::MIN, |r| r.from_ns);
        if rule.from_ns <= newest {
            return Err(Failure::refused(format!(
                "{stream} already has a slot rule that begins then or later"
            )));
        }
        let before = plan.slot_len_at(rule.from_ns);
        if rule.from_ns.rem_euclid(before) != 0 || rule.from_ns.rem_euclid(rule.len_ns) != 0 {
            return Err(Failure::bad_input(format!(
                "slots of {stream} change only at a multiple of both lengths"
            )));
        }
        Ok(())
    }
}

/// As long as a certificate is in force it is remembered, so that it can be revoked.
fn admit_certificate(device: &Device, newest: &Certificate) -> Outcome<()> {
    let in_force = device
        .certificates()
        .filter(|c| c.not_after_ns > newest.given_ns)
        .count();
    if in_force < CERTIFICATES_MAX {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "{} has {in_force} certificates that have not expired; register it under another name",
        device.id
    )))
}

fn check_certificate(certificate: &Certificate) -> Outcome<()> {
    let hex = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
    };
    if hex(&certificate.serial, 64) && hex(&certificate.fingerprint, 64) {
        return Ok(());
    }
    Err(Failure::bad_input(
        "a certificate is noted by the hex of its serial and SHA-256",
    ))
}
