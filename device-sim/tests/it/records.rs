//! WFDB records against pins made with Python's `wfdb` 4.3 (`rdrecord(..., physical=False)`, invalid
//! samples set to -2147483648): SHA-256 of each lead's codes as little-endian i32.

use std::{fs, path::Path};

use chordae_base::{FailureKind, wire::NO_VALUE};
use chordae_device_sim::wfdb::read;
use sha2::{Digest, Sha256};

use crate::shared;

struct Pin {
    record: &'static str,
    rate: u32,
    samples: usize,
    /// Name, gain, baseline, digest.
    leads: &'static [(&'static str, f64, i32, &'static str)],
}

#[rustfmt::skip]
const PINS: &[Pin] = &[
    Pin { record: "100", rate: 360, samples: 650000, leads: &[
        ("MLII", 200.0, 1024, "7f727a48cd2466f5b0f13447db81924b9f00dc63e3d63e6813acb0a7cee93da5"),
        ("V5", 200.0, 1024, "614c40c406217dd78e6d75c17ce75c729e057f24a5c7ecc21f3a838c9edb3b41"),
    ] },
    Pin { record: "s0010_re", rate: 1000, samples: 38400, leads: &[
        ("i", 2000.0, 0, "24ce2c11df881244dd9267afd57b5095f491439b294b875d1ac64a2fc226a6f9"),
        ("ii", 2000.0, 0, "90594c6cbd975980ab15f12ff0f1fcef73b7a0c7e251e0aaa26fc6c21de244e5"),
        ("iii", 2000.0, 0, "8b3b3e6320b6fccab771377899c150a2a688ec10993600d980851207bacf3bb6"),
        ("avr", 2000.0, 0, "b74abb52d938b8320390e05f28d4574774475c78b09beac4e69604a9f3f293e7"),
        ("avl", 2000.0, 0, "da4f521a43b5956380b1b73d4b5de09bc2054bc37264792c4cacf5424414b1a1"),
        ("avf", 2000.0, 0, "2d09e56c339889d128304a91113fd1595be666e90879236e9c324421b5dd4117"),
        ("v1", 2000.0, 0, "ca2f477525eb684a6d9d34a284e2bbda49cb7170d6caa83dc3b6c4ba953ccce6"),
        ("v2", 2000.0, 0, "94400a36d33fb1b5226fb16543b0523255599a5131c963a12020df2e06c17831"),
        ("v3", 2000.0, 0, "9e8a9d60860f8762ffca5e5a193416c4bef70cbee737f0ec67eeb817bb107ec4"),
        ("v4", 2000.0, 0, "6363f8c7943d55ca46330eb5ed15869aded0df10831e17637aa39f385136ea9d"),
        ("v5", 2000.0, 0, "bd50d47cdd4313525469cc92b8ebc289a60b298b47a64b141e95e613b38cf512"),
        ("v6", 2000.0, 0, "bd4de6f8cfa6e7eda6ee9622c79005f4173fdcb2dd5de587ebb7599b62f82b7a"),
        ("vx", 2000.0, 0, "6bc786239e65783b7ec2e7ea8a9efc530bb855353503ad785ba89a0ab8da3521"),
        ("vy", 2000.0, 0, "515ab49627134a7c2a5625a233685246586744b5d3510148a921e6f51faba23a"),
        ("vz", 2000.0, 0, "a0536fb746370bb8a75bad46081c1ef173865ae7a57d17e56d827f024663c6a0"),
    ] },
    Pin { record: "00001_lr", rate: 100, samples: 1000, leads: &[
        ("I", 1000.0, 0, "5e1ac6aee2cb13249dd023577fdee868cad6805effc0299db8a5af8c4304b693"),
        ("II", 1000.0, 0, "21d3363c145f338fb4744422ee7c58b5994738fbcca13658756b46405126a98a"),
        ("III", 1000.0, 0, "f45bd1ac78d5ad258af5481d712d9fbff5052d03462a7b1edd9e47c87502300e"),
        ("AVR", 1000.0, 0, "682e3fd873741cc2a4c811ff551ee2f522b261a6cccdcfc532e925454366f924"),
        ("AVL", 1000.0, 0, "57019c6797d343b37cc0befa8a3dcc0645f11c77a7b2f2a213386efac65e4720"),
        ("AVF", 1000.0, 0, "92d85f9e929386b6fab2bb66e80dc22b0729655a719b1eefebe89ce70edc76e4"),
        ("V1", 1000.0, 0, "ddb5c9a0b5debd203bc8726faa6be4242bc401d3fe5bbca6f04f4cfce3a2d4a4"),
        ("V2", 1000.0, 0, "99730e5453dbf67b584f664ec6c364652721d5e1d44bda917e68ff4098d9f734"),
        ("V3", 1000.0, 0, "1a4018a53508a5148d5a7f23edd4025850e0e7c7aa152c000a0af40168c22d9c"),
        ("V4", 1000.0, 0, "9b80cb28dca05eb33d5efbe47a5b3e2f04d416808838d750b61b8ee7471413a8"),
        ("V5", 1000.0, 0, "1b973c143185fe4730231847852c4a5703ff7070c8ab3e4b0e115abf6f49bb87"),
        ("V6", 1000.0, 0, "beef65f8093c7aa87586696430312b18decdc41b0958ef67abe4dd59b83fc520"),
    ] },
    Pin { record: "800", rate: 128, samples: 230400, leads: &[
        ("ECG", 200.0, 0, "0cbd1a72bb6e4fd8e36a99c0e927606215b4709c16de12c12694984fc9139b31"),
        ("ECG", 200.0, 0, "20acef7a1c8dcf4a84a08e5c7d41f4276aa1d6acdfb8ba77042d8c46407cf122"),
    ] },
    Pin { record: "v102s", rate: 250, samples: 75000, leads: &[
        ("II", 2281.0, 0, "9b4e8ac23cffc72966eabb4e09cb988388dc61a8a7aca607f859b3b75a50c2e9"),
        ("V", 1856.0, 0, "293298e003ef512eff0f0c144648e0322fc549fa92f56100573b7fd93cce5c2c"),
        ("PLETH", 1250.0, 0, "64e2ed4f27498338d0ebe2eeb30d743e5d3842744cab55558fe37364d0eedc05"),
        ("RESP", 38880.0, 0, "e0098c85cfb11fcfb141f833ebdd3bd779414fee1e39eb8c3dd420a14894afc8"),
    ] },
    Pin { record: "a103l", rate: 250, samples: 82500, leads: &[
        ("II", 7247.0, 0, "8c57d30f5d3f6999ef7a9963f7784b8ae4f26bf1e2405224d9848039f847dfb0"),
        ("V", 10520.0, 0, "6dff98987bd0812f456a94fe011915988c50f60c4dc8e4f21d8d0109f08485eb"),
        ("PLETH", 12530.0, 0, "c21834f941b86e2e2b9b5aac9bd1d2ca9f23479a0f15cb8c758e80bc50d9410b"),
    ] },
];

fn digest(codes: &[i32]) -> String {
    let bytes: Vec<u8> = codes.iter().flat_map(|c| c.to_le_bytes()).collect();
    hex::encode(Sha256::digest(bytes))
}

#[test]
fn real_records_give_the_pinned_samples() {
    for pin in PINS {
        let Some(path) = shared(&format!("{}.hea", pin.record)) else {
            return;
        };
        let record = read(&path).unwrap();
        assert_eq!(record.name, pin.record);
        assert_eq!(
            (record.rate.num(), record.rate.den()),
            (pin.rate, 1),
            "{}",
            pin.record
        );
        assert_eq!(record.samples(), pin.samples, "{}", pin.record);
        assert_eq!(record.leads.len(), pin.leads.len(), "{}", pin.record);
        for (i, (name, gain, baseline, sha)) in pin.leads.iter().enumerate() {
            let lead = &record.leads[i];
            let unique = record.leads[..i].iter().all(|l| l.name != *name);
            assert!(
                !unique || lead.name == *name,
                "{}: {} for {name}",
                pin.record,
                lead.name
            );
            assert_eq!(
                (lead.gain, lead.baseline),
                (*gain, *baseline),
                "{} {name}",
                pin.record
            );
            assert!((8..=31).contains(&lead.bits));
            assert_eq!(digest(&record.codes[i]), *sha, "{} {name}", pin.record);
        }
    }
}

#[test]
fn leads_are_named_for_a_birth() {
    let Some(path) = shared("800.hea") else {
        return;
    };
    let names: Vec<_> = read(&path)
        .unwrap()
        .leads
        .into_iter()
        .map(|l| l.name)
        .collect();
    assert_eq!(names, ["ECG", "ECG 2"]);
    let Some(path) = shared("v102s.hea") else {
        return;
    };
    let record = read(&path).unwrap();
    let units: Vec<_> = record.leads.iter().map(|l| l.unit.as_str()).collect();
    assert_eq!(units, ["mV", "mV", "1", "1"]);
    let none = |i: usize| record.codes[i].iter().filter(|c| **c == NO_VALUE).count();
    assert_eq!([none(0), none(1), none(2), none(3)], [3, 2, 17, 1]);
    assert!(record.keep_leads(5).is_err());
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (file, word) in [
        ("03700181.hea", "samples per frame"),
        ("p000878/3269321_0001.hea", "Format80"),
        ("p000878/p000878-2137-10-26-16-57.hea", ""),
    ] {
        let Some(path) = shared(file) else { return };
        let failure = read(&path).unwrap_err();
        assert_eq!(failure.kind, FailureKind::BadInput, "{failure}");
        assert!(failure.why.contains(word), "{file}: {failure}");
    }
}

/// A record of two leads in format 16 whose checksums are right.
fn made(dir: &Path, header: &str) -> std::path::PathBuf {
    let codes: [i16; 8] = [5, -5, 6, -6, i16::MIN, 7, 8, -8];
    let bytes: Vec<u8> = codes.iter().flat_map(|c| c.to_le_bytes()).collect();
    fs::write(dir.join("r.dat"), bytes).unwrap();
    fs::write(dir.join("r.hea"), header).unwrap();
    dir.join("r")
}

#[test]
fn a_made_record_is_read_and_every_lie_in_its_header_is_found() {
    let dir = tempfile::tempdir().unwrap();
    // 5 + 6 - 32768 + 8 and -5 - 6 + 7 - 8.
    let good =
        "r 2 250 4\nr.dat 16 200(-3)/mV 16 0 5 -32749 0 I\nr.dat 16 0.5/uV 16 0 -5 -12 0 II\n";
    let record = read(&made(dir.path(), good)).unwrap();
    assert_eq!(record.codes, [vec![5, 6, NO_VALUE, 8], vec![-5, -6, 7, -8]]);
    assert_eq!((record.leads[0].baseline, record.leads[1].gain), (-3, 0.5));
    assert_eq!(
        (record.leads[0].mdc, record.leads[1].unit.as_str()),
        (131_329, "uV")
    );

    let refused = |header: String| {
        let failure = read(&made(dir.path(), &header)).unwrap_err();
        (failure.kind, failure.why)
    };
    for (from, to, kind, word) in [
        ("-32749", "-32748", FailureKind::Damaged, "checksum"),
        ("250 4", "250 5", FailureKind::Damaged, "samples"),
        (
            "r.dat 16 200",
            "r.dat 80 200",
            FailureKind::BadInput,
            "Format80",
        ),
        (
            "r.dat 16 200(-3)",
            "r.dat 16 0(-3)",
            FailureKind::BadInput,
            "gain 0",
        ),
        (
            "r.dat 16 200(-3)/mV",
            "r.dat 16 0",
            FailureKind::BadInput,
            "gain 0",
        ),
        (
            "r.dat 16 200",
            "r.dat 16:3 200",
            FailureKind::BadInput,
            "skew",
        ),
        (
            "r.dat 16 200",
            "r.dat 16+2 200",
            FailureKind::BadInput,
            "offset",
        ),
        (
            "r.dat 16 200",
            "../r.dat 16 200",
            FailureKind::BadInput,
            "name of a file",
        ),
        (
            "r.dat 16 200",
            "/r.dat 16 200",
            FailureKind::BadInput,
            "name of a file",
        ),
        ("r 2 250", "r 2 0.25", FailureKind::BadInput, "Hz"),
        ("r 2 250", "r 3 250", FailureKind::BadInput, "header"),
    ] {
        let (found, why) = refused(good.replacen(from, to, 1));
        assert_eq!(found, kind, "{to}: {why}");
        assert!(why.contains(word), "{to}: {why}");
    }
    let (kind, why) = refused(good.replace("r.dat", "s.dat"));
    assert_eq!((kind, why.contains("s.dat")), (FailureKind::NotFound, true));
    let (kind, _) = refused(String::new());
    assert_eq!(kind, FailureKind::BadInput);
}
