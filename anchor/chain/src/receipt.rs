//! Receipts: the proof that an entry lies under a checkpoint (formats.md 6; C2SP tlog-proof).
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! index 73894
//! gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=      inclusion path, leaf's sibling first
//! ...
//!                                                    empty line, then the checkpoint, verbatim
//! ```
//!
//! An `extra` line (application-specific) may stand behind the first; a proof that brings its entry along has it there
//! ([`with_entry`]). Making and parsing believe nothing; [`verify`] is the only way to a [`Receipt`] that means something.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chordae_base::{Failure, Outcome, limits};

use crate::{
    checkpoint::Checkpoint,
    merkle::{self, NodeHash},
    policy::Cosigned,
    trust::TrustFile,
};

/// What a receipt begins with.
pub const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Bytes of a receipt.
const TEXT_MAX: usize = 256 * 1024;

/// A receipt as read, nothing of it verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Leaf index of the entry.
    pub leaf_index: u64,
    /// Inclusion path, leaf's sibling first.
    pub path: Vec<NodeHash>,
    /// The signed checkpoint, verbatim.
    pub checkpoint: String,
    /// The data of an `extra` line.
    pub extra: Option<Vec<u8>>,
}

/// What [`verify`] established.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Leaf index of the entry.
    pub leaf_index: u64,
    /// The checkpoint that covers it, signed by a trusted log and by as many witnesses as the policy
    /// demands.
    pub checkpoint: Checkpoint,
    /// Those witnesses of the policy that have cosigned it.
    pub cosigned: Vec<Cosigned>,
}

/// The receipt text.
pub fn make(leaf_index: u64, path: &[NodeHash], checkpoint_text: &str) -> String {
    let mut text = format!("{HEADER}\nindex {leaf_index}\n");
    for hash in path {
        text.push_str(&STANDARD.encode(hash));
        text.push('\n');
    }
    text.push('\n');
    text.push_str(checkpoint_text);
    text
}

/// A receipt text that brings its entry along, as the extra data of its format.
pub fn with_entry(text: &str, entry: &[u8]) -> String {
    let extra = format!("{HEADER}\nextra {}\n", STANDARD.encode(entry));
    text.replacen(&format!("{HEADER}\n"), &extra, 1)
}

impl Proof {
    /// Reads a receipt text.
    ///
    /// # Errors
    /// `BadInput` for what is not tlog-proof text.
    pub fn parse(text: &str) -> Outcome<Self> {
        let bad = |why: &str| Failure::bad_input(format!("not a receipt: {why}"));
        if text.len() > TEXT_MAX {
            return Err(bad("longer than 256 KiB"));
        }
        let (head, checkpoint) = text
            .split_once("\n\n")
            .ok_or_else(|| bad("no checkpoint"))?;
        let mut lines = head.split('\n');
        if lines.next() != Some(HEADER) {
            return Err(bad("it does not begin with c2sp.org/tlog-proof@v1"));
        }
        let mut line = lines.next();
        let mut extra = None;
        if let Some(data) = line.and_then(|l| l.strip_prefix("extra ")) {
            let data = STANDARD.decode(data);
            extra = Some(data.map_err(|_| bad("extra data that is not base64"))?);
            line = lines.next();
        }
        let digits = line
            .and_then(|l| l.strip_prefix("index "))
            .ok_or_else(|| bad("no index"))?;
        let leaf_index: u64 = digits.parse().map_err(|_| bad("no index"))?;
        if leaf_index.to_string() != digits {
            return Err(bad("the index has a second spelling"));
        }
        let hash = |line: &str| -> Outcome<NodeHash> {
            let bytes = STANDARD.decode(line).ok().and_then(|b| b.try_into().ok());
            bytes.ok_or_else(|| bad("a path line is not the base64 of 32 bytes"))
        };
        let path = lines.map(hash).collect::<Outcome<Vec<_>>>()?;
        Ok(Self {
            leaf_index,
            path,
            checkpoint: checkpoint.to_owned(),
            extra,
        })
    }

    /// Whether this path leads from the entry to the checkpoint's root.
    ///
    /// # Errors
    /// `Damaged` if not, `BadInput` for an entry no log holds.
    pub fn check_entry(&self, entry: &[u8], checkpoint: &Checkpoint) -> Outcome<()> {
        if entry.len() > limits::ENTRY_BYTES_MAX {
            return Err(Failure::bad_input(
                "the entry is longer than any of a log's",
            ));
        }
        let leaf = merkle::leaf_hash(entry);
        merkle::check_inclusion(
            checkpoint.size,
            checkpoint.root,
            self.leaf_index,
            leaf,
            &self.path,
        )
    }
}

/// Verifies that an entry lies in the trusted log.
///
/// # Errors
/// `BadInput` for text that is no receipt or a trust file we cannot use; `Damaged` if the checkpoint
/// is not the trusted log's or the entry not under it; `Busy` if all of that holds and the policy's
/// quorum is not met yet: nothing is wrong, and nothing is proven.
pub fn verify(entry: &[u8], text: &str, trust: &TrustFile) -> Outcome<Receipt> {
    let proof = Proof::parse(text)?;
    let opened = trust.policy()?.open(&proof.checkpoint)?;
    proof.check_entry(entry, &opened.checkpoint)?;
    if let Some(lacks) = opened.lacks {
        return Err(Failure::busy(format!(
            "the checkpoint is not cosigned as the policy demands: it lacks {lacks}"
        )));
    }
    Ok(Receipt {
        leaf_index: proof.leaf_index,
        checkpoint: opened.checkpoint,
        cosigned: opened.cosigned,
    })
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::{
        checkpoint::TrustedLog,
        cosignature::{self, TrustedWitness},
        trust,
    };

    const ORIGIN: &str = "chordae.local/test";

    fn setting() -> (Vec<Vec<u8>>, String, TrustFile) {
        let key = SigningKey::from_bytes(&[5; 32]);
        let entries: Vec<Vec<u8>> = (0..11u8).map(|i| vec![i; 5]).collect();
        let leaves: Vec<NodeHash> = entries.iter().map(|e| merkle::leaf_hash(e)).collect();
        let checkpoint = Checkpoint {
            origin: ORIGIN.into(),
            size: 11,
            root: merkle::root(&leaves),
        };
        let path = merkle::inclusion_path(11, 6, &merkle::StoredHashes::of(&leaves)).unwrap();
        let text = make(6, &path, &checkpoint.sign(&key).unwrap());
        let log = TrustedLog::new(ORIGIN, &key.verifying_key().to_bytes()).unwrap();
        let policy = trust::policy_text(&log);
        let (providers, sequencers) = (Vec::new(), Vec::new());
        (
            entries,
            text,
            TrustFile {
                origin: ORIGIN.into(),
                policy,
                providers,
                sequencers,
                retired: Vec::new(),
                ca: None,
            },
        )
    }

    #[test]
    fn holds_for_its_entry_only_and_breaks_with_every_byte() {
        let (entries, text, trust) = setting();
        let receipt = verify(&entries[6], &text, &trust).unwrap();
        assert_eq!((receipt.leaf_index, receipt.checkpoint.size), (6, 11));
        for (i, entry) in entries.iter().enumerate().filter(|(i, _)| *i != 6) {
            assert!(verify(entry, &text, &trust).is_err(), "entry {i}");
        }
        for at in 0..text.len() {
            let mut bent = text.clone().into_bytes();
            bent[at] ^= 1;
            if let Ok(bent) = String::from_utf8(bent) {
                assert!(
                    verify(&entries[6], &bent, &trust).is_err(),
                    "byte {at}: {bent}"
                );
            }
        }
    }

    #[test]
    fn a_receipt_counts_once_its_quorum_has_cosigned() {
        let (entries, text, mut trust) = setting();
        let key = SigningKey::from_bytes(&[7; 32]);
        let witness = TrustedWitness::new("w.example", &key.verifying_key().to_bytes()).unwrap();
        let vkey = witness.vkey();
        trust.policy = trust
            .policy
            .replace("quorum none", &format!("witness W {vkey}\nquorum W"));
        let waits = verify(&entries[6], &text, &trust).unwrap_err();
        assert_eq!(waits.kind, chordae_base::FailureKind::Busy);
        assert!(waits.why.ends_with("it lacks W"), "{}", waits.why);
        // What is wrong stays wrong, cosigned or not.
        let wrong = verify(&entries[5], &text, &trust).unwrap_err();
        assert_eq!(wrong.kind, chordae_base::FailureKind::Damaged);
        let note = Proof::parse(&text).unwrap().checkpoint;
        let checkpoint = trust.policy().unwrap().open(&note).unwrap().checkpoint;
        let line = cosignature::sign(&checkpoint, "w.example", &key, 77).unwrap();
        let receipt = verify(&entries[6], &(text.clone() + &line), &trust).unwrap();
        assert_eq!(
            (receipt.cosigned.len(), receipt.cosigned[0].time_s),
            (1, 77)
        );
        // Control: the same line by another key.
        let other = SigningKey::from_bytes(&[8; 32]);
        let line = cosignature::sign(&checkpoint, "w.example", &other, 77).unwrap();
        assert!(verify(&entries[6], &(text + &line), &trust).is_err());
    }

    #[test]
    fn extra_data_proves_nothing_and_other_shapes_are_refused() {
        let (entries, text, trust) = setting();
        let check = |text: &str| verify(&entries[6], text, &trust);
        check(&text.replace("\nindex", "\nextra AAAA\nindex")).unwrap();
        let whole = with_entry(&text, &entries[6]);
        let proof = Proof::parse(&whole).unwrap();
        assert_eq!(proof.extra.as_deref(), Some(&*entries[6]));
        verify(&entries[6], &whole, &trust).unwrap();
        for (what, bad) in [
            (
                "extra that is no base64",
                text.replace("\nindex", "\nextra ?\nindex"),
            ),
            (
                "extra after the index",
                text.replace("index 6\n", "index 6\nextra AAAA\n"),
            ),
            ("a leading zero", text.replace("index 6", "index 06")),
            ("a plus", text.replace("index 6", "index +6")),
            ("another version", text.replace("proof@v1", "proof@v2")),
            ("carriage returns", text.replace('\n', "\r\n")),
            (
                "no checkpoint",
                text.split_once("\n\n").unwrap().0.to_owned(),
            ),
            ("nothing", String::new()),
        ] {
            assert!(check(&bad).is_err(), "{what} was accepted");
        }
    }
}
