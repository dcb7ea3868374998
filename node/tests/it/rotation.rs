//! The change of a key, cut at every operation of the disk: the old key is in force or the new one, and
//! key files, trust file and ledger agree on which.

use std::{io, path::Path, sync::Arc};

use chordae::{
    assemble::Seams,
    commands::init,
    folder::Folder,
    keyring::{self, Keyring},
    rotation::{self, WitnessChange},
    server,
};
use chordae_anchor::{Ledger, LedgerKeys, Parties};
use chordae_base::{
    FailureKind, KeyId, Outcome,
    seams::{
        Disk, Threads,
        faulty::{Fault, FaultyDisk, How},
        real::{OsClock, OsDisk, OsEntropy},
    },
};
use chordae_chain::{
    cosignature::TrustedWitness,
    keys::{Role, SecretKeys},
};
use chordae_ingest::fanout::NoFanout;

struct Nobody;

impl Parties for Nobody {
    fn role_key(&self, _: &KeyId) -> Option<(Role, [u8; 32])> {
        None
    }
}

fn seams(disk: Arc<dyn Disk>) -> Seams {
    Seams {
        disk,
        ..server::real(Arc::new(NoFanout))
    }
}

fn real() -> Seams {
    seams(Arc::new(OsDisk))
}

fn made() -> (tempfile::TempDir, Folder) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    init::make(&data, Some("chordae.local/test"), &[], &OsClock, &OsEntropy).unwrap();
    (dir, Folder::new(data))
}

fn change(home: &Folder, role: Role, seams: &Seams) -> Outcome<()> {
    rotation::begin(home, role, seams)?;
    rotation::finish(home, seams).map(drop)
}

fn of(ring: &Keyring, role: Role) -> &SecretKeys {
    match role {
        Role::Provider => &ring.provider,
        Role::Sequencer => &ring.sequencer,
        _ => &ring.log,
    }
}

/// The size at which the ledger of a folder retired a key. Opens it as a start does.
fn retired(home: &Folder, ring: &Keyring, role: Role, kid: KeyId) -> Option<u64> {
    let ledger = Ledger::open(
        Arc::new(OsDisk),
        chordae_anchor::ledger::Settings {
            data_dir: home.root().to_owned(),
            origin: ring.trust.origin.clone(),
            policy: Some(ring.trust.policy().unwrap()),
            cadence: chordae_anchor::ledger::Cadence::default(),
        },
        LedgerKeys {
            log: ring.log.clone(),
            sequencer: ring.sequencer.clone(),
        },
        Arc::new(Nobody),
        Arc::new(OsClock),
        &Threads::of_the_machine(),
        &prometheus::Registry::new(),
    )
    .unwrap();
    let size = ledger.retired(role, kid);
    ledger.stop();
    size
}

/// As the next start does: finishes what was begun, opens the keys; whether the new one is in force.
fn settled(home: &Folder, role: Role, old: &Keyring) -> bool {
    rotation::finish(home, &real()).unwrap();
    let ring = keyring::open(home).unwrap();
    let kid = of(old, role).key_id();
    let told = ring.trust.retired.iter().find(|r| r.key == kid);
    let changed = of(&ring, role).key_id() != kid;
    assert_eq!(told.map(|r| r.size), retired(home, &ring, role, kid));
    assert_eq!(
        told.is_some(),
        changed,
        "the trust file and the key files agree"
    );
    assert_eq!(of(&ring, role).seal_public(), of(old, role).seal_public());
    for other in [Role::Provider, Role::Sequencer, Role::Log] {
        let kept = of(&ring, other).key_id() == of(old, other).key_id();
        assert!(kept || other == role, "{other}");
    }
    changed
}

#[test]
fn a_crash_at_any_operation_leaves_the_old_key_or_the_new_one() {
    for role in [Role::Provider, Role::Sequencer, Role::Log] {
        let (mut olds, mut news) = (0, 0);
        for n in 0.. {
            let (_dir, home) = made();
            let old = keyring::open(&home).unwrap();
            let faulty = FaultyDisk::new(Arc::new(OsDisk));
            let kind = io::ErrorKind::Other;
            faulty.arm(Fault {
                op: None,
                path_has: String::new(),
                after: n / 2,
                for_ever: true,
                how: if n % 2 == 0 {
                    How::Fail(kind)
                } else {
                    How::FailAfter(kind)
                },
            });
            let done = change(&home, role, &seams(Arc::new(faulty))).is_ok();
            if settled(&home, role, &old) {
                news += 1;
            } else {
                olds += 1;
                // Again, and it goes through.
                change(&home, role, &real()).unwrap();
                assert!(settled(&home, role, &old));
            }
            if done {
                break;
            }
        }
        assert!(olds >= 4 && news >= 20, "{role}: {olds} old, {news} new");
    }
}

#[test]
fn a_retired_key_file_is_refused_at_the_start() {
    let (_dir, home) = made();
    let file = home.key("provider.pem");
    let old = std::fs::read(&file).unwrap();
    change(&home, Role::Provider, &real()).unwrap();
    let new = std::fs::read(&file).unwrap();
    std::fs::write(&file, old).unwrap();
    let refused = keyring::open(&home).map(drop).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Refused);
    assert!(
        refused.why.contains("provider.pem") && refused.why.contains("retired"),
        "{refused}"
    );
    std::fs::write(&file, new).unwrap();
    keyring::open(&home).unwrap();
}

#[test]
fn keys_change_again_and_again() {
    let (_dir, home) = made();
    let first = keyring::open(&home).unwrap();
    for _ in 0..2 {
        for role in [Role::Provider, Role::Sequencer, Role::Log] {
            let old = keyring::open(&home).unwrap();
            change(&home, role, &real()).unwrap();
            assert!(settled(&home, role, &old));
        }
    }
    let ring = keyring::open(&home).unwrap();
    assert_eq!(
        (ring.trust.providers.len(), ring.trust.retired.len()),
        (3, 6)
    );
    assert_eq!(ring.trust.policy().unwrap().logs.len(), 3);
    assert_eq!(ring.trust.origin, first.trust.origin);
}

fn vkey(seed: u8) -> String {
    let keys = SecretKeys::from_secrets(&[seed; 32], None).unwrap();
    TrustedWitness::new("w.example", &keys.sign_public())
        .unwrap()
        .vkey()
}

fn demand_a_witness(home: &Folder) {
    let path = home.key("trust.json");
    let mut trust = keyring::open(home).unwrap().trust;
    let demands = format!("witness W {} https://w.example\nquorum W", vkey(11));
    trust.policy = trust.policy.replace("quorum none", &demands);
    std::fs::write(Path::new(&path), trust.to_json().unwrap()).unwrap();
}

#[test]
fn a_witness_gets_another_key_under_its_name() {
    let (_dir, home) = made();
    demand_a_witness(&home);
    let to = |name: &str, seed| WitnessChange {
        name: name.into(),
        vkey: vkey(seed),
        url: None,
    };
    let strange = rotation::begin_witness(&home, &to("V", 12), &real()).unwrap_err();
    assert_eq!(strange.kind, FailureKind::NotFound);
    rotation::begin_witness(&home, &to("W", 12), &real()).unwrap();
    let told = rotation::finish(&home, &real()).unwrap();
    let ring = keyring::open(&home).unwrap();
    assert_eq!(told[0].role, Role::Witness);
    assert_eq!(ring.trust.retired[0].size, told[0].size);
    assert_eq!(
        retired(&home, &ring, Role::Witness, told[0].old),
        Some(told[0].size)
    );
    let policy = ring.trust.policy().unwrap();
    assert!(policy.demands_witnesses() && policy.witnesses.len() == 2);
    assert!(rotation::finish(&home, &real()).unwrap().is_empty());
}

#[test]
fn a_crash_leaves_the_old_witness_or_the_new_one() {
    let mut both = [0, 0];
    for n in 0.. {
        let (_dir, home) = made();
        demand_a_witness(&home);
        let faulty = FaultyDisk::new(Arc::new(OsDisk));
        faulty.arm(Fault {
            op: None,
            path_has: String::new(),
            after: n,
            for_ever: true,
            how: How::Fail(io::ErrorKind::Other),
        });
        let to = WitnessChange {
            name: "W".into(),
            vkey: vkey(12),
            url: None,
        };
        let broken = seams(Arc::new(faulty));
        let done = rotation::begin_witness(&home, &to, &broken)
            .and_then(|()| rotation::finish(&home, &broken))
            .is_ok();
        rotation::finish(&home, &real()).unwrap();
        let ring = keyring::open(&home).unwrap();
        let witnesses = ring.trust.policy().unwrap().witnesses;
        let kid = chordae_chain::keys::key_id(&witnesses[0].witness.key());
        let changed = witnesses.len() == 2;
        assert_eq!(retired(&home, &ring, Role::Witness, kid).is_some(), changed);
        both[usize::from(changed)] += 1;
        if done {
            break;
        }
    }
    assert!(both[0] >= 3 && both[1] >= 10, "{both:?}");
}
