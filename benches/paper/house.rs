//! The ledger that is read: the product's own (every block synced before it counts), served over HTTP on loopback.
//!
//! ```text
//! GET /event/{leaf hash}        an entry and its receipt, as proof bundles carry them    one ledger read
//! GET /head/{did}/{at most}     the same of the newest anchored head of a stream, and its index    one ledger read
//! GET /directory/{name}         what a directory keeps: references to entries, links     one directory read
//! ```
//!
//! The product gives a reader `head` inside `/v1/streams/{did}/proof`, with the links and the page digests of a window;
//! here the look-up stands alone, so that all schemes ask through the same door and get the same kind of answer.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::{Arc, PoisonError, RwLock, mpsc},
};

use bytes::Bytes;
use chordae_anchor::{
    Ledger, LedgerKeys, Parties,
    ledger::{Cadence, Settings},
};
use chordae_base::{
    Did, Digest, Failure, FailureKind, KeyId, Outcome,
    seams::{
        Threads,
        real::{OsClock, OsDisk, OsEntropy},
    },
};
use chordae_chain::{
    bundle::BundleAnchor,
    event::{self, ContentDg, Event},
    keys::{Role, SecretKeys},
    link,
    seal::{self, Purpose},
    trust::{self, TrustFile},
};
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, runtime::Handle, task::spawn_blocking};

const ORIGIN: &str = "chordae.local/benches";
/// Entries that wait for the sequencer at one time: ten blocks.
const OPEN: usize = 4000;

/// The keys of a bench, which has no secrets.
pub struct Keys {
    /// Signs events of data.
    pub provider: SecretKeys,
    /// Signs sessions.
    pub patient: SecretKeys,
    /// Reads.
    pub requester: SecretKeys,
    log: SecretKeys,
    sequencer: SecretKeys,
}

impl Keys {
    fn new() -> Outcome<Self> {
        let keys = |seed: u8| SecretKeys::from_secrets(&[seed; 32], Some(&[seed; 32]));
        Ok(Self {
            provider: keys(1)?,
            sequencer: keys(2)?,
            log: keys(3)?,
            patient: keys(4)?,
            requester: keys(5)?,
        })
    }
}

struct Known([(KeyId, Role, [u8; 32]); 2]);

impl Parties for Known {
    fn role_key(&self, kid: &KeyId) -> Option<(Role, [u8; 32])> {
        let found = self.0.iter().find(|(known, ..)| known == kid);
        found.map(|(_, role, key)| (*role, *key))
    }
}

/// A head as it is answered.
#[derive(Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) index: u64,
    pub(super) anchor: BundleAnchor,
}

/// What the server answers from.
struct Shelf {
    ledger: Ledger,
    /// Index of the newest link of each stream; the product knows it from its link journal.
    newest: RwLock<BTreeMap<Did, u64>>,
    directory: RwLock<BTreeMap<String, Bytes>>,
}

/// A ledger, its directory, and where they are served.
pub struct House {
    /// Who signs.
    pub keys: Keys,
    /// What a reader trusts.
    pub trust: TrustFile,
    /// Where it is served.
    pub address: SocketAddr,
    shelf: Arc<Shelf>,
}

impl House {
    /// Opens a new ledger below `dir` and serves it.
    ///
    /// # Errors
    /// `Io`.
    pub fn open(dir: &Path, runtime: &Handle) -> Outcome<Self> {
        let keys = Keys::new()?;
        let settings = Settings {
            data_dir: dir.to_owned(),
            origin: ORIGIN.to_owned(),
            policy: None,
            cadence: Cadence::default(),
        };
        let known = |keys: &SecretKeys, role| (keys.key_id(), role, keys.sign_public());
        let ledger = Ledger::open(
            Arc::new(OsDisk),
            settings,
            LedgerKeys {
                log: keys.log.clone(),
                sequencer: keys.sequencer.clone(),
            },
            Arc::new(Known([
                known(&keys.provider, Role::Provider),
                known(&keys.patient, Role::Patient),
            ])),
            Arc::new(OsClock),
            &Threads::of_the_machine(),
            &prometheus::Registry::new(),
        )?;
        let trust = TrustFile {
            retired: Vec::new(),
            origin: ORIGIN.to_owned(),
            policy: trust::policy_text(ledger.trusted_log()),
            providers: vec![keys.provider.public("provider", Role::Provider)],
            sequencers: vec![keys.sequencer.public("sequencer", Role::Sequencer)],
            ca: None,
        };
        let shelf = Arc::new(Shelf {
            ledger,
            newest: RwLock::default(),
            directory: RwLock::default(),
        });
        let os = |e: std::io::Error| Failure::os("serve the ledger", &e);
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = listener.map_err(os)?;
        let address = listener.local_addr().map_err(os)?;
        runtime.spawn(serve(listener, Arc::clone(&shelf)));
        Ok(Self {
            keys,
            trust,
            address,
            shelf,
        })
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.shelf.ledger
    }

    /// The entry that vouches for a digest of a stream. `before` is the reference of the published chain, the leaf
    /// hash of the event of the chunk before, in clear as in its Def. 1.
    ///
    /// # Errors
    /// Those of sealing and signing.
    pub fn add_data(
        &self,
        (did, index): (Did, u64),
        digest: Digest,
        before: Option<&[u8; 32]>,
    ) -> Outcome<Vec<u8>> {
        let content = ContentDg {
            did,
            index,
            slot_start_ns: 0,
            end_ns: 1,
            patient: Some(self.keys.patient.sign_public()),
        };
        let to = self.keys.patient.seal_public();
        let to = to.ok_or_else(|| Failure::internal("a patient without a sealing key"))?;
        let mut content = seal::seal(&to, Purpose::AddData, &content.encode()?, &OsEntropy)?;
        content.extend_from_slice(before.map_or(&[], |leaf| &leaf[..]));
        let event = Event::AddData {
            digest,
            tag: link::tag(&did, index),
            content,
        };
        event::sign(&event, &self.keys.provider)
    }

    /// Submits entries as fast as they are taken; each is under a durable checkpoint when this returns.
    ///
    /// # Errors
    /// The first that is not taken.
    pub fn enter(&self, entries: impl Iterator<Item = Vec<u8>>) -> Outcome<()> {
        let (done, answers) = mpsc::sync_channel(OPEN);
        let gone = || Failure::internal("the ledger answers no more");
        let mut open = 0_usize;
        for entry in entries {
            if open == OPEN {
                answers.recv().map_err(|_| gone())??;
                open -= 1;
            }
            let done = done.clone();
            // There is room for as many answers as are open.
            let then = move |outcome: Outcome<u64>| drop(done.send(outcome));
            self.shelf.ledger.submit_then(entry, then);
            open += 1;
        }
        for _ in 0..open {
            answers.recv().map_err(|_| gone())??;
        }
        Ok(())
    }

    /// Tells the server the newest index of a stream.
    pub fn newest(&self, did: Did, index: u64) {
        let newest = self.shelf.newest.write();
        newest
            .unwrap_or_else(PoisonError::into_inner)
            .insert(did, index);
    }

    /// Puts something into the directory.
    pub fn keep(&self, name: impl Into<String>, what: impl Into<Bytes>) {
        let directory = self.shelf.directory.write();
        directory
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.into(), what.into());
    }
}

async fn serve(listener: TcpListener, shelf: Arc<Shelf>) {
    while let Ok((socket, _)) = listener.accept().await {
        let shelf = Arc::clone(&shelf);
        tokio::spawn(async move {
            socket.set_nodelay(true).ok();
            let answer = service_fn(move |request: Request<Incoming>| {
                let shelf = Arc::clone(&shelf);
                async move { Ok::<_, Infallible>(respond(shelf, request.uri().path().into()).await) }
            });
            // It ends with the reader's connection.
            http1::Builder::new()
                .serve_connection(TokioIo::new(socket), answer)
                .await
                .ok();
        });
    }
}

async fn respond(shelf: Arc<Shelf>, path: String) -> Response<Full<Bytes>> {
    let found = spawn_blocking(move || shelf.find(&path)).await;
    let found = found.unwrap_or_else(|e| Err(Failure::internal(e.to_string())));
    let (status, body) = match found {
        Ok(body) => (StatusCode::OK, body),
        Err(e) if e.kind == FailureKind::NotFound => (StatusCode::NOT_FOUND, e.why.into()),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string().into()),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
}

impl Shelf {
    fn find(&self, path: &str) -> Outcome<Bytes> {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let none = || Failure::not_found("there is nothing at this path");
        match parts.as_slice() {
            ["event", leaf] => {
                let mut hash = [0; 32];
                hex::decode_to_slice(leaf, &mut hash).map_err(|_| none())?;
                let at = self.ledger.place(&hash)?.ok_or_else(none)?;
                json(&self.anchor(at)?)
            }
            ["head", did, most] => {
                let did: Did = did.parse().map_err(|_| none())?;
                let most: u64 = most.parse().map_err(|_| none())?;
                json(&self.head(&did, most)?.ok_or_else(none)?)
            }
            ["directory", name] => {
                let directory = self.directory.read();
                let directory = directory.unwrap_or_else(PoisonError::into_inner);
                directory.get(*name).cloned().ok_or_else(none)
            }
            _ => Err(none()),
        }
    }

    fn head(&self, did: &Did, most: u64) -> Outcome<Option<Head>> {
        let newest = self.newest.read();
        let newest = newest.unwrap_or_else(PoisonError::into_inner);
        let Some(newest) = newest.get(did).copied() else {
            return Ok(None);
        };
        let anchored = |index| self.ledger.tagged(did, index).transpose();
        let newest_first = (0..=newest.min(most)).rev().find_map(anchored);
        let Some(found) = newest_first.transpose()? else {
            return Ok(None);
        };
        Ok(Some(Head {
            index: found.index,
            anchor: self.anchor(found.leaf_index)?,
        }))
    }

    fn anchor(&self, leaf: u64) -> Outcome<BundleAnchor> {
        Ok(BundleAnchor {
            entry: self.ledger.entry(leaf)?.to_vec(),
            proof: self.ledger.receipt(leaf)?,
            head: None,
        })
    }
}

fn json(what: &impl Serialize) -> Outcome<Bytes> {
    let text = serde_json::to_vec(what).map_err(|e| Failure::internal(e.to_string()))?;
    Ok(text.into())
}
