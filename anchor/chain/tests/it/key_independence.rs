//! F26: sections, sessions and inventories do not share keys: who has one of them reads that one alone.

use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit, Nonce, aead::Aead};
use chordae_base::Did;
use chordae_chain::{
    seal::{self, Purpose},
    session::{self, Grant, SectionPlain},
};

use crate::bench_keys::{CountingEntropy, party};

#[test]
fn f26_a_key_opens_its_own_section_and_no_other() {
    let plain = SectionPlain {
        patient: party(3).sign_public(),
        requester: party(4).sign_public(),
        expires_ns: None,
        purpose: String::new(),
        grants: vec![Grant {
            did: Did([1; 16]),
            metadata: Default::default(),
            url: String::new(),
            st_ns: None,
            et_ns: None,
            leads: None,
        }],
    };
    let entropy = CountingEntropy::new(26);
    let (provider, to) = (party(1).seal_public(), party(4).seal_public());
    let (provider, to) = (provider.unwrap(), to.unwrap());
    // The same words every time: only the keys differ.
    let mut sections = Vec::new();
    for _ in 0..2 {
        let plains = [plain.clone(), plain.clone()];
        let made = session::make(&party(3), &provider, &to, &plains, &entropy).unwrap();
        sections.extend(made.record.sections);
    }
    for (mine, section) in sections.iter().enumerate() {
        let own = party(4).seal.unwrap();
        let ksec = seal::open(&own, Purpose::Ksec, &section.ksec_requester).unwrap();
        let opened = |ciphertext: &[u8]| {
            let cipher = ChaCha20Poly1305::new(Key::from_slice(&ksec));
            cipher.decrypt(&Nonce::default(), ciphertext).ok()
        };
        for (other, section) in sections.iter().enumerate() {
            let read = opened(&section.ciphertext);
            // The control is the diagonal.
            assert_eq!(read.is_some(), mine == other, "key {mine}, section {other}");
        }
    }
}
