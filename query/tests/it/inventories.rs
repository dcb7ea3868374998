//! Inventories over HTTP, and the scheme's promises about them (its properties F17 and F22 to F24), each
//! with its positive control.

use std::collections::BTreeMap;

use axum::http::{Request, StatusCode};
use chordae_base::{Did, Digest};
use chordae_chain::{
    inventory::{self, Entry, Reader},
    keys::{Role, SecretKeys},
    session::{self, Made, SectionPlain},
};
use chordae_query::core::ports::Party;

use crate::world::*;

fn entry(did: Did, url: &str) -> Entry {
    Entry {
        did,
        metadata: BTreeMap::from([("place".to_owned(), "ward 3".to_owned())]),
        url: url.to_owned(),
    }
}

fn create(w: &World, by: &SecretKeys, entries: &[Entry]) -> Vec<u8> {
    let provider = w.provider.seal_public().unwrap();
    inventory::create(by, &provider, entries, &w.entropy).unwrap()
}

fn update(w: &World, by: &SecretKeys, before: &[u8], entries: &[Entry]) -> Vec<u8> {
    let provider = w.provider.seal_public().unwrap();
    inventory::update(before, by, &provider, entries, &w.entropy).unwrap()
}

fn id(record: &[u8]) -> [u8; 32] {
    inventory::decode(record).unwrap().record.id
}

fn target(id: [u8; 32]) -> String {
    format!("/v1/inventories/{}", Digest(id))
}

async fn put(w: &World, id: [u8; 32], record: &[u8]) -> Answer {
    let request = Request::put(target(id)).body(record.to_vec().into());
    w.send(request.unwrap()).await
}

async fn remove(w: &World, id: [u8; 32], record: &[u8]) -> Answer {
    let request = Request::delete(target(id)).body(record.to_vec().into());
    w.send(request.unwrap()).await
}

fn stored(w: &World) -> BTreeMap<[u8; 32], Vec<u8>> {
    let all = w.inventories.0.lock().unwrap();
    all.iter().map(|(id, f)| (*id, f.1.to_vec())).collect()
}

/// A session with one section of an inventory.
fn session_of(w: &World, inventory: [u8; 32], did: Did) -> Made {
    let plain = SectionPlain {
        patient: w.ann.sign_public(),
        requester: w.clinician.sign_public(),
        expires_ns: None,
        purpose: String::new(),
        grants: vec![grant(did, None, None)],
    };
    let provider = w.provider.seal_public().unwrap();
    let to = w.clinician.seal_public().unwrap();
    let sections = [(inventory, &plain)];
    session::make_of(&w.ann, &provider, &to, &sections, &w.entropy).unwrap()
}

#[tokio::test]
async fn f17_metadata_and_addresses_change_without_the_ledger() {
    let w = World::new();
    let first = create(&w, &w.ann, &[entry(ANNS, "https://old.example")]);
    let id = id(&first);
    let logged = || w.ledger.entries.lock().unwrap().len();
    let before = logged();
    assert_eq!(put(&w, id, &first).await.status, StatusCode::OK);
    assert_eq!(logged(), before, "made");

    // The control: a grant is an event. It names the inventory, and what it lists only.
    let made = session_of(&w, id, ANNS);
    assert_eq!(w.post(&made).await.status, StatusCode::CREATED);
    assert_eq!(logged(), before + 1, "granted");
    let other = session_of(&w, id, BIG);
    assert_eq!(w.post(&other).await.status, StatusCode::FORBIDDEN);
    let unknown = session_of(&w, [9; 32], ANNS);
    assert_eq!(w.post(&unknown).await.status, StatusCode::FORBIDDEN);

    let sid = Some(Digest(made.sid));
    let look = format!("/v1/sessions/{}", Digest(made.sid));
    let now = || async {
        let shown = w.get(&w.clinician, sid, &look).await.json();
        assert_eq!(shown["sections"][0]["inventory"], Digest(id).to_string());
        shown["sections"][0]["grants"][0]["now"].clone()
    };
    assert_eq!(now().await["url"], "https://old.example");
    let moved = update(&w, &w.ann, &first, &[entry(ANNS, "https://new.example")]);
    assert_eq!(put(&w, id, &moved).await.status, StatusCode::OK);
    let told = now().await;
    assert_eq!(
        (&told["url"], &told["version"]),
        (&"https://new.example".into(), &2.into())
    );
    let gone = inventory::remove(&moved, &w.ann).unwrap();
    assert_eq!(remove(&w, id, &gone).await.status, StatusCode::OK);
    assert!(now().await.is_null());
    assert_eq!(logged(), before + 1, "changed and removed");
    // The grant goes on: it was never the inventory's to give.
    let ask = window(ANNS, T0, T0 + 1, "&format=csv");
    assert_eq!(w.get(&w.clinician, sid, &ask).await.status, StatusCode::OK);
}

#[tokio::test]
async fn f22_nobody_else_signs_for_a_patient() {
    let w = World::new();
    let hers = create(&w, &w.ann, &[entry(ANNS, "")]);
    let at = id(&hers);
    assert_eq!(
        put(&w, at, &hers).await.status,
        StatusCode::OK,
        "the control"
    );
    let before = stored(&w);

    // Another's signature under her name.
    let next = update(&w, &w.ann, &hers, &[entry(ANNS, "x")]);
    let mut forged = next.clone();
    let end = forged.len() - 64;
    forged[end..].copy_from_slice(&w.bob.sign(&next[..end]));
    assert_eq!(put(&w, at, &forged).await.status, StatusCode::FORBIDDEN);
    let gone = inventory::remove(&hers, &w.ann).unwrap();
    let mut forged = gone.clone();
    let end = forged.len() - 64;
    forged[end..].copy_from_slice(&w.bob.sign(&gone[..end]));
    assert_eq!(remove(&w, at, &forged).await.status, StatusCode::FORBIDDEN);
    // Their own records, for her id or of her streams; and those who are no patients.
    let bobs = create(&w, &w.bob, &[entry(BOBS, "")]);
    assert_eq!(put(&w, at, &bobs).await.status, StatusCode::BAD_REQUEST);
    for (by, did) in [
        (&w.bob, ANNS),
        (&w.bob, NOBODYS),
        (&w.clinician, ANNS),
        (&w.unknown, ANNS),
    ] {
        let theirs = create(&w, by, &[entry(did, "")]);
        assert_eq!(
            put(&w, id(&theirs), &theirs).await.status,
            StatusCode::FORBIDDEN
        );
    }
    // A body under the wrong method, a wrong id, no record at all.
    assert_eq!(remove(&w, at, &next).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(put(&w, at, &gone).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        put(&w, [9; 32], &next).await.status,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(put(&w, at, b"").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(stored(&w), before, "nothing has changed");
    assert_eq!(put(&w, at, &next).await.status, StatusCode::OK);
}

#[tokio::test]
async fn f23_who_intercepts_an_inventory_reads_nothing() {
    let w = World::new();
    let provider = w.provider.public("provider", Role::Provider);
    let known = Party {
        identity: provider,
        enabled: true,
    };
    w.parties
        .known
        .lock()
        .unwrap()
        .insert(w.provider.key_id(), known);
    let hers = create(&w, &w.ann, &[entry(ANNS, "https://secret.example")]);
    let at = id(&hers);
    put(&w, at, &hers).await;
    let target = target(at);
    for by in [&w.ann, &w.provider] {
        let got = w.get(by, None, &target).await;
        assert_eq!((got.status, &got.body[..]), (StatusCode::OK, &hers[..]));
    }
    let listed = w.get(&w.ann, None, "/v1/inventories").await.json();
    assert_eq!(listed["inventories"][0]["id"], Digest(at).to_string());
    // Asked for by others, it looks as if there were none.
    let unknown = w.get(&w.ann, None, &self::target([9; 32])).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    for by in [&w.bob, &w.clinician, &w.stranger, &w.operator] {
        let got = w.get(by, None, &target).await;
        assert_eq!((got.status, &got.body), (unknown.status, &unknown.body));
        let listed = w.get(by, None, "/v1/inventories").await.json();
        assert_eq!(listed["inventories"].as_array().unwrap().len(), 0);
    }
    // Taken off the wire, its bytes are nothing without one of two keys.
    let record = inventory::decode(&hers).unwrap().record;
    let opens = |by: &SecretKeys, who| {
        let seal = by.seal.as_ref().unwrap();
        record.open(&w.ann.sign_public(), seal, who).is_ok()
    };
    assert!(opens(&w.ann, Reader::Patient) && opens(&w.provider, Reader::Provider));
    for by in [&w.bob, &w.clinician, &w.stranger, &w.operator, &w.unknown] {
        assert!(!opens(by, Reader::Patient) && !opens(by, Reader::Provider));
    }
    let plain = b"secret.example";
    assert!(!hers.windows(plain.len()).any(|bytes| bytes == plain));
}

#[tokio::test]
async fn f24_no_old_update_and_no_altered_one_is_taken() {
    let w = World::new();
    let one = create(&w, &w.ann, &[entry(ANNS, "1")]);
    let two = update(&w, &w.ann, &one, &[entry(ANNS, "2")]);
    let beside = update(&w, &w.ann, &one, &[entry(ANNS, "beside")]);
    let three = update(&w, &w.ann, &two, &[entry(ANNS, "3")]);
    let at = id(&one);
    assert_eq!(
        put(&w, at, &two).await.status,
        StatusCode::NOT_FOUND,
        "of nothing"
    );
    assert_eq!(put(&w, at, &one).await.status, StatusCode::OK);
    assert_eq!(
        put(&w, at, &three).await.status,
        StatusCode::CONFLICT,
        "a step left out"
    );
    for byte in (0..two.len()).step_by(7) {
        let mut twin = two.clone();
        twin[byte] ^= 1;
        let status = put(&w, at, &twin).await.status;
        assert!(status.is_client_error(), "byte {byte}: {status}");
    }
    assert_eq!(stored(&w)[&at], one);
    // The controls: the same bytes unaltered, in their order, and the newest once more.
    for next in [&two, &two, &three] {
        assert_eq!(put(&w, at, next).await.status, StatusCode::OK);
    }
    for old in [&one, &two, &beside] {
        let answer = put(&w, at, old).await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
        assert_eq!(answer.json()["type"], "urn:chordae:problem:stale");
    }
    let early = inventory::remove(&two, &w.ann).unwrap();
    assert_eq!(remove(&w, at, &early).await.status, StatusCode::CONFLICT);
    assert_eq!(stored(&w)[&at], three);
    let gone = inventory::remove(&three, &w.ann).unwrap();
    for _ in 0..2 {
        assert_eq!(remove(&w, at, &gone).await.status, StatusCode::OK);
    }
    for old in [&one, &two, &three] {
        let answer = put(&w, at, old).await;
        assert_eq!(answer.json()["type"], "urn:chordae:problem:removed");
    }
    assert_eq!(
        w.get(&w.ann, None, &target(at)).await.status,
        StatusCode::NOT_FOUND
    );
}
