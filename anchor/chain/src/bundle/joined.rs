//! Several proofs in one text, each thing that they share in it once (formats.md 6, decision 0048).
//!
//! ```text
//!  bundle ─┐               checkpoints   one for all that were proven against the same size of the log
//!  bundle ─┼─▶ tables of   entries       one for all dids that an add-heads event anchors
//!  bundle ─┘               nodes         of the ways to the log's root and to a root of heads
//! ```
//!
//! The dids of a patient are anchored together, so the ways from their entries to the root are the same but for
//! their first steps. Nothing is verified here: what is read is the bundles as they were, and each is judged as
//! it would be alone.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chordae_base::{Failure, Outcome, limits};
use serde::{Deserialize, Serialize};

use super::{BundleAnchor, ProofBundle};
use crate::{heads::HeadPath, merkle::NodeHash, receipt};

const KIND: &str = "chordae-proofs";

/// Of a text: the tables, and the bundles with places in them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Joined {
    v: u32,
    kind: String,
    checkpoints: Vec<String>,
    entries: Vec<String>,
    nodes: Vec<String>,
    proofs: Vec<Part>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    /// Its `anchor` is left out.
    bundle: ProofBundle,
    anchor: Option<Places>,
}

/// An anchor, by places in the tables.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Places {
    entry: usize,
    checkpoint: usize,
    leaf_index: u64,
    path: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    head: Option<HeadPlaces>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadPlaces {
    at: u64,
    path: Vec<usize>,
}

/// What is written once.
struct Table<T>(Vec<String>, BTreeMap<T, usize>);

impl<T: Ord> Table<T> {
    fn new() -> Self {
        Self(Vec::new(), BTreeMap::new())
    }

    fn put(&mut self, item: T, text: impl FnOnce(&T) -> String) -> usize {
        if let Some(place) = self.1.get(&item) {
            return *place;
        }
        let place = self.0.len();
        self.0.push(text(&item));
        self.1.insert(item, place);
        place
    }
}

/// Whether a text says of itself that it is one of these; what it holds is another question.
pub fn is_joined(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Kind {
        kind: String,
    }
    serde_json::from_str::<Kind>(text).is_ok_and(|kind| kind.kind == KIND)
}

/// The text of several bundles, in their order.
///
/// # Errors
/// `BadInput` for none, for more than [`limits::JOINED_PROOFS_MAX`], and for a bundle whose receipt cannot be read.
pub fn join(bundles: &[ProofBundle]) -> Outcome<String> {
    if bundles.is_empty() || bundles.len() > limits::JOINED_PROOFS_MAX {
        return Err(Failure::bad_input(format!(
            "1 to {} proofs can be joined, not {}",
            limits::JOINED_PROOFS_MAX,
            bundles.len()
        )));
    }
    let (mut checkpoints, mut entries, mut nodes) = (Table::new(), Table::new(), Table::new());
    let mut way = |path: Vec<NodeHash>| -> Vec<usize> {
        let place = |hash| nodes.put(hash, |hash: &NodeHash| STANDARD.encode(hash));
        path.into_iter().map(place).collect()
    };
    let mut proofs = Vec::new();
    for bundle in bundles {
        let mut bundle = bundle.clone();
        let mut places = None;
        if let Some(anchor) = bundle.anchor.take() {
            let proof = receipt::Proof::parse(&anchor.proof)?;
            places = Some(Places {
                entry: entries.put(anchor.entry, |entry| STANDARD.encode(entry)),
                checkpoint: checkpoints.put(proof.checkpoint, String::clone),
                leaf_index: proof.leaf_index,
                path: way(proof.path),
                head: anchor.head.map(|head| HeadPlaces {
                    at: head.at,
                    path: way(head.path),
                }),
            });
        }
        proofs.push(Part {
            bundle,
            anchor: places,
        });
    }
    let joined = Joined {
        v: 1,
        kind: KIND.into(),
        checkpoints: checkpoints.0,
        entries: entries.0,
        nodes: nodes.0,
        proofs,
    };
    serde_json::to_string(&joined).map_err(|e| Failure::internal(format!("joined proofs: {e}")))
}

/// The bundles of a text, in their order.
///
/// # Errors
/// `BadInput` for what [`join`] would not write.
pub fn parse(text: &str) -> Outcome<Vec<ProofBundle>> {
    let bad = |why: &str| Failure::bad_input(format!("not joined proofs: {why}"));
    let joined: Joined = serde_json::from_str(text).map_err(|e| bad(&e.to_string()))?;
    if joined.kind != KIND || joined.v != 1 {
        return Err(bad("another kind, or another version than 1"));
    }
    if joined.proofs.is_empty() || joined.proofs.len() > limits::JOINED_PROOFS_MAX {
        return Err(bad("none, or too many"));
    }
    let base64 = |text: &String| STANDARD.decode(text).map_err(|_| bad("no base64"));
    let node = |text: &String| -> Outcome<NodeHash> {
        base64(text)?
            .try_into()
            .map_err(|_| bad("a node is 32 bytes"))
    };
    let long = |text: &String| text.len() > limits::CHECKPOINT_BYTES_MAX;
    if joined.checkpoints.iter().any(long) {
        return Err(bad("a checkpoint that is too long"));
    }
    let entry = |text: &String| {
        let fits = |entry: &Vec<u8>| entry.len() <= limits::ENTRY_BYTES_MAX;
        let entry = Some(base64(text)?).filter(fits);
        entry.ok_or_else(|| bad("an entry that is too long"))
    };
    let entries: Vec<_> = joined.entries.iter().map(entry).collect::<Outcome<_>>()?;
    let nodes: Vec<_> = joined.nodes.iter().map(node).collect::<Outcome<_>>()?;
    let beyond = || bad("a place beyond its table");
    let way = |places: &[usize]| -> Outcome<Vec<NodeHash>> {
        // No tree is higher, and a short text must not become a long one.
        if places.len() > u64::BITS as usize {
            return Err(bad("a way of over 64 steps"));
        }
        let step = |at: &usize| nodes.get(*at).copied().ok_or_else(beyond);
        places.iter().map(step).collect()
    };
    let unfold = |places: &Places| -> Outcome<BundleAnchor> {
        let entry = entries.get(places.entry).ok_or_else(beyond)?;
        let checkpoint = joined.checkpoints.get(places.checkpoint);
        let checkpoint = checkpoint.ok_or_else(beyond)?;
        let path = way(&places.path)?;
        let head = places.head.as_ref().map(|head| -> Outcome<HeadPath> {
            let path = way(&head.path)?;
            Ok(HeadPath { at: head.at, path })
        });
        Ok(BundleAnchor {
            entry: entry.clone(),
            proof: receipt::make(places.leaf_index, &path, checkpoint),
            head: head.transpose()?,
        })
    };
    let part = |Part { bundle, anchor }: &Part| -> Outcome<ProofBundle> {
        if bundle.anchor.is_some() {
            return Err(bad("an anchor in a bundle"));
        }
        let anchor = anchor.as_ref().map(unfold).transpose()?;
        let bundle = bundle.clone();
        ProofBundle { anchor, ..bundle }.checked()
    };
    joined.proofs.iter().map(part).collect()
}
