//! Keys that change in the log: who keeps the old trust file follows, and a retired key's new words are found.

use chordae_chain::{
    event::{self, Event},
    finding::Code,
    keys::{Role, SecretKeys},
    trust::Retired,
};
use chordae_checker::{Verdict, tamper::write_log};

use crate::house::{House, ORIGIN, add_data_by, chain, did, keys, log_keys, only};

/// Keys that come after those of the house.
const NEW_PROVIDER: u8 = 21;
const NEW_SEQUENCER: u8 = 22;
const NEW_LOG: u8 = 25;

fn rotation(role: Role, old: &SecretKeys, new: u8, by: u8) -> Vec<u8> {
    let event = Event::RotateKey {
        role,
        old: old.key_id(),
        new: keys(new).sign_public(),
        time_ms: 7,
    };
    event::sign(&event, &keys(by)).unwrap()
}

/// The house, then a batch with these entries, then one in which key `by` anchors a link again.
fn house(changes: &[Vec<u8>], by: u8) -> House {
    let mut house = House::new();
    house.batches.push(changes.to_vec());
    let last = chain(did(1), 5);
    house.batches.push(vec![add_data_by(last[3].link(), by)]);
    house.write_ledger();
    house
}

/// Leaf of the event of the newest batch.
fn newest(house: &House) -> String {
    format!("ledger entry {}", house.entries.len() - 2)
}

#[test]
fn a_change_is_followed_and_old_entries_hold() {
    let change = rotation(Role::Provider, &keys(1), NEW_PROVIDER, 1);
    let house = house(&[change], NEW_PROVIDER);
    let report = house.check();
    only(&report, &[]);
    assert_eq!(report.verdict, Verdict::Ok);
    assert!(
        report.notes.iter().any(|n| n.contains("new trust file")),
        "{:?}",
        report.notes
    );
    // The new trust file says the same, and where the old key ends.
    let mut trust = house.trust.clone();
    trust
        .providers
        .push(keys(NEW_PROVIDER).public("provider", Role::Provider));
    trust.retired = vec![Retired {
        key: keys(1).key_id(),
        size: house.entries.len() as u64 - 2,
    }];
    assert_eq!(house.check_with(Some(&trust)).verdict, Verdict::Ok);
    // A size that is too small would disown entries that were signed in time.
    trust.retired[0].size = 3;
    assert_eq!(house.check_with(Some(&trust)).verdict, Verdict::Damaged);
}

#[test]
fn a_retired_keys_new_entry_is_found() {
    let change = rotation(Role::Provider, &keys(1), NEW_PROVIDER, 1);
    let house = house(&[change], 1);
    only(&house.check(), &[(&newest(&house), Code::EntrySignature)]);
    // The control: without the change the same entry is as good as any.
    let house = self::house(&[add_data_by(chain(did(1), 5)[2].link(), 1)], 1);
    only(&house.check(), &[]);
}

#[test]
fn only_a_provider_in_force_changes_keys_and_its_own_only_itself() {
    let cases = [
        (
            "by a stranger",
            rotation(Role::Provider, &keys(1), NEW_PROVIDER, 9),
        ),
        (
            "by the sequencer",
            rotation(Role::Sequencer, &keys(2), NEW_SEQUENCER, 2),
        ),
        (
            "by the key that comes",
            rotation(Role::Provider, &keys(1), NEW_PROVIDER, NEW_PROVIDER),
        ),
        (
            "of another provider",
            rotation(Role::Provider, &keys(8), NEW_PROVIDER, 1),
        ),
    ];
    for (what, change) in cases {
        let house = house(&[change], 1);
        let at = format!("ledger entry {}", house.entries.len() - 4);
        let report = house.check();
        only(&report, &[(&at, Code::EntrySignature)]);
        assert_eq!(report.verdict, Verdict::Damaged, "{what}");
    }
    // Twice, and to a key that went before.
    let first = rotation(Role::Log, &keys(30), 31, 1);
    let second = rotation(Role::Log, &keys(30), 32, 1);
    let house = house(&[first, second], 1);
    let found = house.check();
    assert_eq!(found.findings.len(), 1, "{:?}", found.findings);
}

#[test]
fn a_retired_sequencer_closes_its_batch_and_no_later_one() {
    let change = rotation(Role::Sequencer, &keys(2), NEW_SEQUENCER, 1);
    let house = house(&[change], 1);
    // write_log closes all batches with the old key: the last block is one too many.
    let last = format!("ledger entry {}", house.entries.len() - 1);
    only(&house.check(), &[(&last, Code::EntrySignature)]);
}

#[test]
fn a_checkpoint_that_a_retired_log_key_signs_anew_is_found() {
    let change = rotation(Role::Log, &keys(5), NEW_LOG, 1);
    let mut house = house(&[change], 1);
    let checkpoint = "ledger/checkpoint";
    only(&house.check(), &[(checkpoint, Code::CheckpointSignature)]);
    // By the new key, and a trust file that names both.
    let mut trust = house.trust.clone();
    let log = |seed: u8| {
        chordae_chain::checkpoint::TrustedLog::new(ORIGIN, &keys(seed).sign_public()).unwrap()
    };
    trust.policy = format!(
        "log {}\nlog {}\nquorum none\n",
        log(5).vkey(),
        log(NEW_LOG).vkey()
    );
    trust.retired = vec![Retired {
        key: keys(5).key_id(),
        size: house.entries.len() as u64 - 2,
    }];
    only(
        &house.check_with(Some(&trust)),
        &[(checkpoint, Code::CheckpointSignature)],
    );
    let mut by = log_keys();
    by.log = keys(NEW_LOG);
    house.entries =
        write_log(&house.arc(), &house.root, ORIGIN, &by, &house.batches, 1000).unwrap();
    assert_eq!(house.check_with(Some(&trust)).verdict, Verdict::Ok);
    // With the old trust file it is told why.
    let report = house.check();
    only(&report, &[(checkpoint, Code::CheckpointSignature)]);
    assert!(
        report
            .notes
            .iter()
            .any(|n| n.contains("key of the log was changed")),
        "{:?}",
        report.notes
    );
    // A key is retired in its role only: nobody is silenced by being called a log or a witness.
    let called = [Role::Log, Role::Witness].map(|role| rotation(role, &keys(1), 31, 1));
    only(&self::house(&called, 1).check(), &[]);
    // The control: a change of somebody else's key leaves the checkpoint alone.
    let house = self::house(&[rotation(Role::Log, &keys(30), 31, 1)], 1);
    only(&house.check(), &[]);
}
