//! The registry over a disk that loses power.

use std::{io, path::Path, sync::Arc};

use chordae_base::{
    DeviceId, Did, FailureKind, KeyId, Outcome, StreamKey,
    plan::SlotRule,
    seams::{
        Disk,
        fake::{FakeDisk, FakeEntropy},
        faulty::{Fault, FaultyDisk, How, Op},
    },
};
use chordae_chain::keys::{PublicIdentity, Role, SecretKeys};

use super::{Certificate, Device, DeviceKind, Registry};

const S: i64 = 1_000_000_000;
const DIR: &str = "/data/registry";

fn open_on(disk: Arc<dyn Disk>, seed: u64) -> Outcome<Registry> {
    Registry::open(
        disk,
        Path::new(DIR),
        Arc::new(FakeEntropy::new(seed)),
        60 * S,
    )
}

fn open(disk: &FakeDisk, seed: u64) -> Registry {
    open_on(Arc::new(disk.clone()), seed).unwrap()
}

fn id(text: &str) -> DeviceId {
    text.parse().unwrap()
}

fn key(text: &str) -> StreamKey {
    text.parse().unwrap()
}

fn identity(seed: u8, role: Role) -> PublicIdentity {
    let keys = SecretKeys::from_secrets(&[seed; 32], Some(&[seed; 32])).unwrap();
    keys.public(format!("party {seed}"), role)
}

fn kid(seed: u8) -> KeyId {
    identity(seed, Role::Patient).key_id()
}

fn kind<T: std::fmt::Debug>(outcome: Outcome<T>) -> FailureKind {
    outcome.unwrap_err().kind
}

/// Everything that can be seen from outside.
fn seen(r: &Registry) -> String {
    let dids: Vec<Did> = r
        .streams()
        .iter()
        .flat_map(|(_, plan)| plan.dids().collect::<Vec<_>>())
        .collect();
    let patients: Vec<_> = dids
        .iter()
        .map(|d| (r.stream_of(d), r.patient_of(d)))
        .collect();
    format!(
        "{:?} {:?} {:?} {patients:?}",
        r.devices(),
        r.parties(),
        r.streams()
    )
}

type Step = fn(&Registry) -> Outcome<()>;

/// One step per kind of record, each building on those before.
fn steps() -> Vec<(&'static str, Step)> {
    fn newest(r: &Registry) -> Did {
        r.plan(&key("bed-1/ecg")).unwrap().newest()
    }
    vec![
        ("gateway", |r| {
            r.add_device(Device::new(id("ward"), DeviceKind::Gateway))
        }),
        ("device", |r| {
            let gateway = Some(id("ward"));
            r.add_device(Device {
                gateway,
                ..Device::new(id("bed-1"), DeviceKind::Device)
            })
        }),
        ("certificate", |r| {
            let (serial, fingerprint) = ("0a1b".to_owned(), "00".repeat(32));
            r.set_certificate(
                &id("bed-1"),
                Certificate {
                    serial,
                    fingerprint,
                    given_ns: 1,
                    not_after_ns: 5,
                    revoked_ns: None,
                },
            )
        }),
        ("revoke", |r| r.revoke_device(&id("bed-1"), 2)),
        ("disable", |r| r.enable_device(&id("ward"), false)),
        ("enable", |r| r.enable_device(&id("ward"), true)),
        ("patient", |r| {
            r.add_party(identity(3, Role::Patient)).map(drop)
        }),
        ("requester", |r| {
            r.add_party(identity(4, Role::Requester)).map(drop)
        }),
        ("another patient", |r| {
            r.add_party(identity(6, Role::Patient)).map(drop)
        }),
        ("disable a party", |r| r.enable_party(&kid(4), false)),
        ("enable a party", |r| {
            r.add_party(identity(4, Role::Requester)).map(drop)
        }),
        ("stream", |r| r.open_stream(&key("bed-1/ecg")).map(drop)),
        ("patient of it", |r| r.set_patient(newest(r), kid(3))),
        ("tenure", |r| {
            r.add_tenure(&key("bed-1/ecg"), r.fresh_did(), 1000 * S, Some(kid(6)))
                .map(drop)
        }),
        ("slots", |r| {
            let rule = SlotRule {
                from_ns: 1200 * S,
                len_ns: 300 * S,
            };
            r.add_slot_rule(&key("bed-1/ecg"), rule).map(drop)
        }),
    ]
}

#[test]
fn every_change_is_there_after_a_power_loss() {
    let disk = FakeDisk::new();
    for (i, (what, step)) in (0u64..).zip(steps()) {
        let registry = open(&disk, i);
        let before = seen(&registry);
        step(&registry).unwrap();
        let after = seen(&registry);
        assert_ne!(before, after, "{what} changed nothing");
        drop(registry);
        disk.crash();
        assert_eq!(seen(&open(&disk, 99)), after, "{what} was lost");
    }
    let registry = open(&disk, 99);
    let plan = registry.plan(&key("bed-1/ecg")).unwrap();
    assert_eq!(registry.patient_of(&plan.did_at(999 * S)), Some(kid(3)));
    assert_eq!(registry.patient_of(&plan.did_at(1000 * S)), Some(kid(6)));
    assert_eq!(registry.dids_of(&kid(6)), vec![plan.newest()]);
    assert_eq!(
        (plan.slot_len_at(1199 * S), plan.slot_len_at(1200 * S)),
        (60 * S, 300 * S)
    );
    assert_eq!(registry.stream_of(&plan.newest()), Some(key("bed-1/ecg")));
}

#[test]
fn a_change_that_fails_is_not_seen_and_ends_all_changes() {
    // Fail the n-th change of the disk during each step, for every n.
    for stop in 0..steps().len() {
        for after in 0..8 {
            let disk = FakeDisk::new();
            let faulty = FaultyDisk::new(Arc::new(disk.clone()));
            let registry = open_on(Arc::new(faulty.clone()), 1).unwrap();
            for (_, step) in steps().iter().take(stop) {
                step(&registry).unwrap();
            }
            let before = seen(&registry);
            let how = How::Fail(io::ErrorKind::Other);
            faulty.arm(Fault {
                op: None,
                path_has: "log".into(),
                after,
                for_ever: true,
                how,
            });
            let (what, step) = steps()[stop];
            let done = step(&registry);
            assert_eq!(done.is_ok(), seen(&registry) != before, "{what}, {after}");
            let after_it = seen(&registry);
            if faulty.struck() > 0 {
                let next = registry.add_device(Device::new(id("later"), DeviceKind::Device));
                assert_eq!(kind(next), FailureKind::Busy, "{what}, {after}");
            }
            disk.crash_torn(after);
            let found = seen(&open(&disk, 99));
            assert!(
                done.is_err() || found == after_it,
                "{what}, {after}: was lost"
            );
        }
    }
}

#[test]
fn a_disk_that_lies_about_syncs_loses_changes_and_the_test_can_see_it() {
    let disk = FakeDisk::new();
    let faulty = FaultyDisk::new(Arc::new(disk.clone()));
    let registry = open_on(Arc::new(faulty.clone()), 1).unwrap();
    faulty.arm(Fault {
        for_ever: true,
        ..Fault::next(Op::Sync, How::Lie)
    });
    registry
        .add_device(Device::new(id("bed-1"), DeviceKind::Device))
        .unwrap();
    disk.crash();
    assert!(open(&disk, 2).devices().is_empty());
}

#[test]
fn every_flipped_byte_of_the_log_is_refused() {
    let disk = FakeDisk::new();
    let registry = open(&disk, 1);
    steps()
        .iter()
        .for_each(|(_, step)| step(&registry).unwrap());
    drop(registry);
    let log = Path::new(DIR).join("log/00000000000000000000.log");
    let good = disk.peek(&log).unwrap();
    let end = good.iter().rposition(|b| *b != 0).unwrap() + 1;
    for at in (0..end).step_by(7) {
        let disk = disk.copy();
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        disk.put(&log, &bad);
        // The idle mark at the very end protects the last record; it alone may be cut as torn.
        let opened = open_on(Arc::new(disk), 2);
        let last_mark = at + 16 >= end;
        assert!(opened.is_err() || last_mark, "byte {at} of {end}");
    }
}

#[test]
fn a_record_that_no_registry_writes_is_damage() {
    use chordae_base::journal::{Journal, Settings};
    let bad = [
        r#"{"change":"device-enabled","id":"nobody","enabled":true}"#,
        r#"{"change":"party-added"}"#,
        r#"{"change":"unknown"}"#,
        r#"{"change":"patient-set","did":"0b5f6c1e-8a37-4a52-9d0e-6f1c2b3a4d5e","patient":"00"}"#,
        "not JSON",
    ];
    for text in bad {
        let disk = FakeDisk::new();
        let dir = Path::new(DIR).join("log");
        let settings = Settings {
            dir,
            segment_bytes: 1 << 20,
            room_bytes: 0,
            record_bytes_max: 1 << 16,
        };
        let journal = Journal::open(Arc::new(disk.clone()), settings)
            .unwrap()
            .journal;
        assert!(journal.commit(&[text.into()]).is_ok());
        assert_eq!(
            kind(open_on(Arc::new(disk), 1).map(drop)),
            FailureKind::Damaged,
            "{text}"
        );
    }
}

#[test]
fn identities_lie_where_checkers_look_and_are_guarded() {
    let disk = FakeDisk::new();
    let registry = open(&disk, 1);
    registry.add_party(identity(3, Role::Patient)).unwrap();
    let path = Path::new(DIR).join(format!("keys/{}.json", kid(3)));
    let text = String::from_utf8(disk.peek(&path).unwrap()).unwrap();
    assert_eq!(
        PublicIdentity::from_json(&text).unwrap(),
        identity(3, Role::Patient)
    );
    // One key, one identity.
    assert_eq!(
        kind(registry.add_party(identity(3, Role::Requester))),
        FailureKind::Refused
    );
    registry.add_party(identity(3, Role::Patient)).unwrap();
    drop(registry);
    disk.put(&path, identity(3, Role::Operator).to_json().as_bytes());
    assert_eq!(
        kind(open_on(Arc::new(disk.clone()), 1).map(drop)),
        FailureKind::Damaged
    );
    disk.remove(&path).unwrap();
    drop(open(&disk, 1));
    assert_eq!(
        disk.peek(&path).unwrap(),
        text.as_bytes(),
        "a lost one is written again"
    );
}

#[test]
fn rules_of_devices_streams_and_patients_hold() {
    let registry = open(&FakeDisk::new(), 1);
    steps()
        .iter()
        .for_each(|(_, step)| step(&registry).unwrap());
    let before = seen(&registry);
    let device = |name: &str| Device::new(id(name), DeviceKind::Device);
    let stream = key("bed-1/ecg");
    let first = registry.plan(&stream).unwrap().first;
    let rule = |from_ns, len_ns| registry.add_slot_rule(&stream, SlotRule { from_ns, len_ns });
    let tenure = |did, from_ns, who| registry.add_tenure(&stream, did, from_ns, who);
    let fresh = registry.fresh_did();
    use FailureKind::{BadInput, NotFound, Refused};
    let refusals = [
        (
            "a name twice",
            kind(registry.add_device(device("bed-1"))),
            Refused,
        ),
        (
            "no gateway",
            kind(registry.add_device(Device {
                gateway: Some(id("x")),
                ..device("b")
            })),
            NotFound,
        ),
        (
            "a device as gateway",
            kind(registry.add_device(Device {
                gateway: Some(id("bed-1")),
                ..device("b")
            })),
            BadInput,
        ),
        (
            "a device that watches",
            kind(registry.add_device(Device {
                watches: vec![id("bed-1")],
                ..device("b")
            })),
            BadInput,
        ),
        (
            "an unknown device",
            kind(registry.enable_device(&id("x"), true)),
            NotFound,
        ),
        (
            "an unknown party",
            kind(registry.enable_party(&kid(9), true)),
            NotFound,
        ),
        (
            "a stream of nobody",
            kind(registry.open_stream(&key("x/ecg"))),
            NotFound,
        ),
        (
            "a stream of a gateway",
            kind(registry.open_stream(&key("ward/ecg"))),
            Refused,
        ),
        (
            "a second patient",
            kind(registry.set_patient(first, kid(6))),
            Refused,
        ),
        (
            "an unknown did",
            kind(registry.set_patient(fresh, kid(3))),
            NotFound,
        ),
        (
            "a requester as patient",
            kind(tenure(fresh, 2000 * S, Some(kid(4)))),
            NotFound,
        ),
        (
            "a tenure in the past",
            kind(tenure(fresh, 1000 * S, None)),
            Refused,
        ),
        ("a did in use", kind(tenure(first, 2000 * S, None)), Refused),
        ("half a page", kind(rule(3000 * S, 5 * S)), BadInput),
        ("off the old grid", kind(rule(1260 * S, 60 * S)), BadInput),
        ("off the new grid", kind(rule(1500 * S, 420 * S)), BadInput),
        (
            "before the newest rule",
            kind(rule(1200 * S, 60 * S)),
            Refused,
        ),
    ];
    for (what, got, want) in refusals {
        assert_eq!(got, want, "{what}");
    }
    assert_eq!(
        seen(&registry),
        before,
        "a refused change changed something"
    );
    registry.set_patient(first, kid(3)).unwrap();
    assert_eq!(seen(&registry), before, "saying it again changes nothing");
}

#[test]
fn revoking_takes_every_certificate_given_so_far_and_none_given_later() {
    let registry = open(&FakeDisk::new(), 1);
    let bed = id("bed-1");
    let gone = kind(registry.revoke_device(&bed, 1));
    assert_eq!(gone, FailureKind::NotFound);
    registry
        .add_device(Device::new(bed.clone(), DeviceKind::Device))
        .unwrap();
    // Nothing was given to it: there is nothing to revoke, and saying "done" would be a lie.
    assert_eq!(kind(registry.revoke_device(&bed, 1)), FailureKind::NotFound);
    let give = |serial: u8, given_ns: i64, not_after_ns: i64| {
        let certificate = Certificate {
            serial: format!("{serial:02x}"),
            fingerprint: "00".repeat(32),
            given_ns,
            not_after_ns,
            revoked_ns: None,
        };
        registry.set_certificate(&bed, certificate)
    };
    let revoked = || -> Vec<(String, Option<i64>)> {
        let all = registry.revoked().into_iter();
        all.map(|c| (c.serial, c.revoked_ns)).collect()
    };
    give(1, 10, 100).unwrap();
    give(2, 20, 200).unwrap();
    assert!(revoked().is_empty());
    let changes = registry.changes();
    registry.revoke_device(&bed, 30).unwrap();
    assert!(registry.changes() > changes);
    let both = vec![("02".to_owned(), Some(30)), ("01".to_owned(), Some(30))];
    assert_eq!(revoked(), both);
    assert_eq!(
        kind(registry.revoke_device(&bed, 31)),
        FailureKind::NotFound
    );
    give(3, 40, 300).unwrap();
    assert_eq!(revoked(), both, "the new one counts");
    registry.revoke_device(&bed, 50).unwrap();
    assert_eq!(revoked().len(), 3);
    // Its first has expired by now and is forgotten; the others are still in force, so still revoked.
    give(4, 150, 400).unwrap();
    let serials: Vec<String> = revoked().into_iter().map(|(s, _)| s).collect();
    assert_eq!(serials, ["03", "02"]);
    for serial in 5..=65 {
        give(serial, 150, 400).unwrap();
    }
    assert_eq!(kind(give(66, 150, 400)), FailureKind::Refused);
    give(66, 450, 500).unwrap();
}

#[test]
fn a_log_from_before_revocation_is_read() {
    use chordae_base::journal::{Journal, Settings};
    let disk = FakeDisk::new();
    let settings = Settings {
        dir: Path::new(DIR).join("log"),
        segment_bytes: 1 << 20,
        room_bytes: 0,
        record_bytes_max: 1 << 16,
    };
    let journal = Journal::open(Arc::new(disk.clone()), settings)
        .unwrap()
        .journal;
    let old = r#"{"change":"device-added","device":{"id":"bed-1","kind":"device","enabled":true,"gateway":null,"streams":[],"watches":[],"certificate":null}}"#;
    journal.commit(&[old.into()]).unwrap();
    assert_eq!(open(&disk, 1).devices().len(), 1);
}

#[test]
fn a_gateway_has_its_devices_and_its_names() {
    let registry = open(&FakeDisk::new(), 1);
    let ward = Device {
        hosts: vec!["ward.example.org".to_owned()],
        ..Device::new(id("ward"), DeviceKind::Gateway)
    };
    registry.add_device(ward).unwrap();
    let named = Device {
        hosts: vec!["bed.example.org".to_owned()],
        ..Device::new(id("bed-0"), DeviceKind::Device)
    };
    assert_eq!(kind(registry.add_device(named)), FailureKind::BadInput);
    for name in ["bed-2", "bed-1"] {
        let gateway = Some(id("ward"));
        let device = Device::new(id(name), DeviceKind::Device);
        registry.add_device(Device { gateway, ..device }).unwrap();
    }
    registry
        .add_device(Device::new(id("bed-3"), DeviceKind::Device))
        .unwrap();
    let behind: Vec<_> = registry
        .behind(&id("ward"))
        .into_iter()
        .map(|d| d.id)
        .collect();
    assert_eq!(behind, [id("bed-1"), id("bed-2")]);
    assert!(registry.behind(&id("bed-1")).is_empty());
}

#[test]
fn a_device_has_its_listed_streams_or_at_most_64() {
    let registry = open(&FakeDisk::new(), 1);
    let listed = Device {
        streams: vec!["ecg".parse().unwrap()],
        ..Device::new(id("a"), DeviceKind::Device)
    };
    registry.add_device(listed).unwrap();
    registry.open_stream(&key("a/ecg")).unwrap();
    assert_eq!(
        kind(registry.open_stream(&key("a/other"))),
        FailureKind::Refused
    );
    registry
        .add_device(Device::new(id("b"), DeviceKind::Device))
        .unwrap();
    for n in 0..64 {
        registry.open_stream(&key(&format!("b/s{n}"))).unwrap();
    }
    assert_eq!(
        kind(registry.open_stream(&key("b/s64"))),
        FailureKind::Refused
    );
    let plan = registry.open_stream(&key("b/s0")).unwrap();
    assert_eq!(
        Some(plan),
        registry.plan(&key("b/s0")),
        "asking again gives the same did"
    );
}

#[test]
fn threads_that_open_one_stream_at_once_get_one_did() {
    let registry = Arc::new(open(&FakeDisk::new(), 1));
    registry
        .add_device(Device::new(id("b"), DeviceKind::Device))
        .unwrap();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let registry = Arc::clone(&registry);
            std::thread::spawn(move || registry.open_stream(&key("b/ecg")).unwrap().first)
        })
        .collect();
    let plans: Vec<Did> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert!(plans.windows(2).all(|w| w[0] == w[1]));
}
