//! Cosignatures against golden ones, which were computed without any code of ours.

use chordae_chain::{
    checkpoint::{Claim, TrustedLog, open},
    cosignature::{self, TrustedWitness},
};

use crate::bundle_case::keys;

const GOLDEN: &str = include_str!("../golden/cosignatures.json");

#[test]
fn golden_cosignatures_are_made_and_read_byte_for_byte() {
    let golden: serde_json::Value = serde_json::from_str(GOLDEN).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let mut note = text(&golden["checkpoint"]);
    let log = TrustedLog::from_vkey(&text(&golden["log_vkey"])).unwrap();
    let checkpoint = open(&note, &log).unwrap();
    let cases = golden["cosignatures"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let seed = u8::try_from(case["seed"].as_u64().unwrap()).unwrap();
        let (name, time_s) = (text(&case["name"]), case["time_s"].as_u64().unwrap());
        let witness = TrustedWitness::new(&name, &keys(seed).sign_public()).unwrap();
        assert_eq!(witness.vkey(), text(&case["vkey"]));
        assert_eq!(TrustedWitness::from_vkey(&witness.vkey()).unwrap(), witness);
        let line = cosignature::sign(&checkpoint, &name, &keys(seed).sign, time_s).unwrap();
        assert_eq!(line, text(&case["line"]));
        note += &line;
    }
    // All of them under one note, which is still the log's.
    assert_eq!(open(&note, &log).unwrap(), checkpoint);
    let claim = Claim::parse(&note).unwrap();
    for case in cases {
        let witness = TrustedWitness::from_vkey(&text(&case["vkey"])).unwrap();
        let found = cosignature::find(&claim, &witness).unwrap();
        assert_eq!(found.time_s, case["time_s"].as_u64().unwrap());
        assert_eq!(found.line, text(&case["line"]));
    }
}
