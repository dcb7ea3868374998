//! Key files, public identities, sealed texts, sessions and request tokens (formats.md 1, 7, 8).

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chordae_base::{Did, Digest, FailureKind};
use chordae_chain::{
    event::{self, Event},
    keys::{PublicIdentity, Role, SecretKeys, strong_key, verify_strict},
    seal::{self, Purpose},
    session::{self, Grant, Reader, SectionPlain, SessionRecord},
    token::{self, Claims},
};
use ed25519_dalek::VerifyingKey;
use serde_json::json;

use crate::{
    bench_keys::{CountingEntropy, golden, party},
    shared,
};

#[test]
fn a_key_file_comes_back() {
    let entropy = CountingEntropy::new(1);
    for with_seal in [false, true] {
        let keys = SecretKeys::new(&entropy, with_seal).unwrap();
        let text = keys.to_pem().unwrap();
        assert_eq!(
            text.matches("BEGIN PRIVATE KEY").count(),
            1 + usize::from(with_seal)
        );
        let back = SecretKeys::from_pem(&text).unwrap();
        assert_eq!(
            back.public("x", Role::Patient),
            keys.public("x", Role::Patient)
        );
        assert!(!format!("{keys:?}").contains(&hex::encode(keys.sign.to_bytes())));
    }
}

#[test]
fn a_key_file_is_what_rfc_8410_says() {
    let text = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    let keys = SecretKeys::from_pem(text).unwrap();
    assert_eq!(
        hex::encode(keys.sign_public()),
        "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"
    );
    assert_eq!(*keys.to_pem().unwrap(), text);
    golden(
        "key-file.json",
        &json!({"pem": *party(3).to_pem().unwrap()}),
    );
}

#[test]
fn other_key_files_are_refused() {
    let both = party(3).to_pem().unwrap().to_string();
    let at = both.rfind("-----BEGIN").unwrap();
    let (sign, seal) = both.split_at(at);
    let twins = [
        ("empty", String::new()),
        ("seal first", format!("{seal}{sign}")),
        ("seal only", seal.to_owned()),
        ("sign twice", format!("{sign}{sign}")),
        ("three blocks", format!("{both}{seal}")),
        ("text between", format!("{sign}hello\n{seal}")),
        ("encrypted", sign.replace("PRIVATE", "ENCRYPTED PRIVATE")),
        ("cut", both[..both.len() - 30].to_owned()),
        ("changed algorithm", sign.replace("K2Vw", "K2Vx")),
        ("long", both.clone() + &" ".repeat(5000)),
    ];
    for (name, text) in twins {
        assert_eq!(
            SecretKeys::from_pem(&text).expect_err(name).kind,
            FailureKind::BadInput
        );
    }
}

#[test]
fn a_public_identity_is_strict() {
    let identity = party(3).public("Ann", Role::Patient);
    let text = identity.to_json();
    golden("identity.json", &serde_json::from_str(&text).unwrap());
    assert_eq!(PublicIdentity::from_json(&text).unwrap(), identity);
    let none = party(3).public("Ann", Role::Auditor);
    let without = PublicIdentity { seal: None, ..none };
    assert_eq!(
        PublicIdentity::from_json(&without.to_json()).unwrap(),
        without
    );
    let twins = [
        text.replace("\"Ann\"", &format!("{:?}", "x".repeat(129))),
        text.replace("\"name\"", "\"more\":1,\"name\""),
        text.replace("\"name\"", "\"name\":\"B\",\"name\""),
        text.replace("patient", "Patient"),
        text.replace(
            &URL_SAFE_NO_PAD.encode(identity.sign),
            "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ),
        text.replace(&URL_SAFE_NO_PAD.encode(identity.sign), "AQAA"),
    ];
    for twin in twins {
        assert_ne!(twin, text);
        assert!(PublicIdentity::from_json(&twin).is_err(), "{twin}");
    }
    for role in ["patient", "sequencer", "witness"] {
        assert_eq!(role.parse::<Role>().unwrap().to_string(), role);
    }
    assert!("".parse::<Role>().is_err());
}

#[test]
fn one_point_has_one_text() {
    let mut compared = 0;
    for y in 2u8..19 {
        let mut plain = [0; 32];
        plain[0] = y;
        // y + p, which decompresses to the same point.
        let mut other = [0xff; 32];
        (other[0], other[31]) = (0xed + y, 0x7f);
        if strong_key(&plain).is_ok() {
            assert!(VerifyingKey::from_bytes(&other).is_ok(), "negative control");
            assert!(strong_key(&other).is_err());
            compared += 1;
        }
    }
    assert!(compared > 3);
}

#[test]
fn a_signature_is_verified_whole() {
    let keys = party(1);
    let signature = keys.sign(b"text");
    verify_strict(&keys.sign_public(), b"text", &signature).unwrap();
    assert!(verify_strict(&keys.sign_public(), b"texts", &signature).is_err());
    assert!(verify_strict(&party(2).sign_public(), b"text", &signature).is_err());
    assert!(verify_strict(&keys.sign_public(), b"text", &signature[..63]).is_err());
}

#[test]
fn a_sealed_text_opens_for_its_reader_and_purpose_only() {
    let (reader, other) = (party(3).seal.unwrap(), party(4).seal.unwrap());
    let entropy = CountingEntropy::new(2);
    let sealed = seal::seal(&reader.public(), Purpose::AddData, b"text", &entropy).unwrap();
    golden(
        "sealed.json",
        &json!({"to": hex::encode(reader.public()), "secret": hex::encode([3; 32]),
        "purpose": "add-data", "plaintext": hex::encode(b"text"), "sealed": hex::encode(&sealed)}),
    );
    assert_eq!(sealed.len(), 4 + seal::OVERHEAD);
    assert_eq!(
        seal::open(&reader, Purpose::AddData, &sealed).unwrap(),
        b"text"
    );
    assert!(seal::open(&other, Purpose::AddData, &sealed).is_err());
    for purpose in [Purpose::CreateSession, Purpose::Sdata, Purpose::Ksec] {
        assert!(seal::open(&reader, purpose, &sealed).is_err());
    }
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(
            seal::open(&reader, Purpose::AddData, &changed).is_err(),
            "byte {at}"
        );
        assert!(
            seal::open(&reader, Purpose::AddData, &sealed[..at]).is_err(),
            "cut at {at}"
        );
    }
    // A key of small order would make the shared secret known to all.
    assert!(seal::seal(&[0; 32], Purpose::AddData, b"text", &entropy).is_err());
}

fn plain() -> SectionPlain {
    let grant = Grant {
        did: Did([0x42; 16]),
        metadata: BTreeMap::from([("device".into(), "bed-7".into()), ("a".into(), "b".into())]),
        url: "https://node.example:8443".into(),
        st_ns: Some(-10),
        et_ns: Some(1_700_000_000_000_000_000),
        leads: Some(vec!["I".into(), "II".into()]),
    };
    let open = Grant {
        st_ns: None,
        et_ns: None,
        leads: None,
        metadata: BTreeMap::new(),
        ..grant.clone()
    };
    SectionPlain {
        patient: party(3).sign_public(),
        requester: party(4).sign_public(),
        expires_ns: None,
        purpose: "second opinion".into(),
        grants: vec![grant, open],
    }
}

fn made() -> session::Made {
    let (provider, requester) = (
        party(1).seal_public().unwrap(),
        party(4).seal_public().unwrap(),
    );
    let entropy = CountingEntropy::new(3);
    session::make(&party(3), &provider, &requester, &[plain()], &entropy).unwrap()
}

#[test]
fn a_session_opens_for_its_three_readers() {
    let made = made();
    let post = session::encode_post(&made.entry, &made.record).unwrap();
    golden(
        "session.json",
        &json!({"entry": hex::encode(&made.entry), "sid": hex::encode(made.sid),
        "record": hex::encode(made.record.encode().unwrap()), "post": hex::encode(&post),
        "plain": hex::encode(plain().encode().unwrap())}),
    );
    let section = &made.record.sections[0];
    let readers = [
        (1, Reader::Provider),
        (4, Reader::Requester),
        (3, Reader::Patient),
    ];
    for (seed, who) in readers {
        assert_eq!(
            session::open_section(section, &party(seed), who).unwrap(),
            plain()
        );
        assert!(session::open_section(section, &party(9), who).is_err());
        let mut changed = section.clone();
        changed.ciphertext[0] ^= 1;
        assert!(session::open_section(&changed, &party(seed), who).is_err());
    }
    let signed = event::decode(&made.entry).unwrap();
    signed.verify(&party(3).sign_public()).unwrap();
    let Event::CreateSession {
        sections, content, ..
    } = signed.event
    else {
        panic!()
    };
    assert_eq!(sections, made.record.digest().unwrap());
    let own = party(3).seal.unwrap();
    assert_eq!(
        session::open_content(&content, &own).unwrap(),
        vec![plain()]
    );
    assert_eq!(
        session::decode_post(&post).unwrap(),
        (made.entry.clone(), made.record.clone())
    );
    assert_eq!(made.sid, event::leaf_hash(&made.entry));
}

#[test]
fn two_sessions_never_share_a_key() {
    let (provider, requester) = (
        party(1).seal_public().unwrap(),
        party(4).seal_public().unwrap(),
    );
    let entropy = CountingEntropy::new(4);
    let twice = [plain(), plain()];
    let made = session::make(&party(3), &provider, &requester, &twice, &entropy).unwrap();
    let [a, b] = made.record.sections.as_slice() else {
        panic!()
    };
    assert_ne!(
        a.ciphertext, b.ciphertext,
        "the nonce is zero, so the keys must differ"
    );
}

#[test]
fn records_are_strict_and_bounded() {
    let made = made();
    let bytes = made.record.encode().unwrap();
    assert_eq!(SessionRecord::decode(&bytes).unwrap(), made.record);
    let record = |sections: usize| SessionRecord {
        sid: None,
        sections: vec![made.record.sections[0].clone(); sections],
    };
    assert!(SessionRecord::decode(&record(64).encode().unwrap()).is_ok());
    assert!(SessionRecord::decode(&record(65).encode().unwrap()).is_err());
    assert!(SessionRecord::decode(&record(0).encode().unwrap()).is_err());
    assert!(SessionRecord::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
    assert!(SessionRecord::decode(&bytes[..bytes.len() - 1]).is_err());
    let mut short = made.record.clone();
    short.sections[0].ksec_provider.pop();
    assert!(SessionRecord::decode(&short.encode().unwrap()).is_err());

    let changed = |change: fn(&mut SectionPlain)| {
        let mut plain = plain();
        change(&mut plain);
        plain.encode()
    };
    assert!(changed(|_| ()).is_ok());
    assert!(changed(|p| p.grants = vec![p.grants[1].clone(); 1024]).is_ok());
    assert!(changed(|p| p.grants = vec![p.grants[1].clone(); 1025]).is_err());
    assert!(changed(|p| p.grants.clear()).is_err());
    assert!(changed(|p| p.grants[0].et_ns = p.grants[0].st_ns).is_err());
    assert!(changed(|p| p.grants[0].leads = Some(vec![])).is_err());
    assert!(changed(|p| p.purpose = "x".repeat(1025)).is_err());
}

#[test]
fn nobody_grants_for_another_patient() {
    let (provider, requester) = (
        party(1).seal_public().unwrap(),
        party(4).seal_public().unwrap(),
    );
    let entropy = CountingEntropy::new(5);
    let refusal = session::make(&party(5), &provider, &requester, &[plain()], &entropy);
    assert_eq!(refusal.unwrap_err().kind, FailureKind::BadInput);
}

fn claims() -> Claims {
    Claims {
        aud: "chordae.local/x".into(),
        sid: None,
        htm: "GET".into(),
        target: "/v1/streams".into(),
        body: None,
        iat: 1,
        exp: 2,
        jti: "j".into(),
    }
}

#[test]
fn a_token_is_that_of_the_shared_vectors() {
    let Some(vectors) = shared::json("vectors/ledger.json") else {
        return;
    };
    let text = vectors["request_token"].as_str().unwrap();
    let key = party(4);
    assert_eq!(token::peek_kid(text).unwrap(), key.key_id());
    let claims = token::verify(text, &key.sign_public()).unwrap();
    assert_eq!(claims.aud, vectors["origin"].as_str().unwrap());
    assert_eq!(
        claims.sid.unwrap().to_string(),
        vectors["sid"].as_str().unwrap()
    );
    assert_eq!((claims.htm.as_str(), claims.exp - claims.iat), ("GET", 300));
    assert_eq!(token::sign(&claims, &key).unwrap(), text);
}

#[test]
fn nothing_in_a_token_chooses_how_it_is_verified() {
    let key = party(4);
    let text = token::sign(&claims(), &key).unwrap();
    assert_eq!(token::verify(&text, &key.sign_public()).unwrap(), claims());
    assert!(token::verify(&text, &party(3).sign_public()).is_err());
    let covering = Claims {
        body: Some(Digest([7; 32])),
        ..claims()
    };
    let text_of_it = token::sign(&covering, &key).unwrap();
    let read = token::verify(&text_of_it, &key.sign_public());
    assert_eq!(read.unwrap(), covering);
    let kid = key.key_id().to_string();
    let signed = |header: serde_json::Value, claims: serde_json::Value| {
        let part = |v: serde_json::Value| URL_SAFE_NO_PAD.encode(v.to_string());
        let text = format!("{}.{}", part(header), part(claims));
        format!(
            "{text}.{}",
            URL_SAFE_NO_PAD.encode(key.sign(text.as_bytes()))
        )
    };
    let typ = "chordae-request+jwt";
    let good = || serde_json::to_value(claims()).unwrap();
    let header = || json!({"alg": "EdDSA", "typ": typ, "kid": kid});
    assert!(token::verify(&signed(header(), good()), &key.sign_public()).is_ok());
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = good();
        claims[name] = value;
        claims
    };
    let mut twins = vec![
        (
            "alg none",
            signed(json!({"alg": "none", "typ": typ, "kid": kid}), good()),
        ),
        (
            "alg HS256",
            signed(json!({"alg": "HS256", "typ": typ, "kid": kid}), good()),
        ),
        (
            "typ JWT",
            signed(json!({"alg": "EdDSA", "typ": "JWT", "kid": kid}), good()),
        ),
        (
            "no typ",
            signed(json!({"alg": "EdDSA", "kid": kid}), good()),
        ),
        (
            "no kid",
            signed(json!({"alg": "EdDSA", "typ": typ}), good()),
        ),
        (
            "kid upper case",
            signed(
                json!({"alg": "EdDSA", "typ": typ, "kid": kid.to_uppercase()}),
                good(),
            ),
        ),
        (
            "jwk",
            signed(
                json!({"alg": "EdDSA", "typ": typ, "kid": kid, "jwk": {}}),
                good(),
            ),
        ),
        (
            "unknown claim",
            signed(header(), with("admin", json!(true))),
        ),
        ("exp a float", signed(header(), with("exp", json!(1e30)))),
        ("body short", signed(header(), with("body", json!("00")))),
        ("sid short", signed(header(), with("sid", json!("00")))),
        ("no jti", signed(header(), with("jti", json!(null)))),
    ];
    let dot = text.rfind('.').unwrap();
    twins.push(("no signature", text[..dot].to_owned()));
    twins.push(("empty signature", text[..=dot].to_owned()));
    twins.push(("padded", format!("{text}=")));
    twins.push(("four parts", format!("{text}.AA")));
    twins.push(("changed claims", text.replacen(".ey", ".fy", 1)));
    twins.push(("long", "a".repeat(9000)));
    for (name, twin) in twins {
        assert!(token::verify(&twin, &key.sign_public()).is_err(), "{name}");
    }
    golden(
        "token.json",
        &json!({"key": hex::encode(key.sign_public()), "token": text}),
    );
}
