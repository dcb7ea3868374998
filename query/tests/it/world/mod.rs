//! A small house in memory: two patients, two requesters, an operator; real chunks, a real log with
//! signed checkpoints, real tokens; only disk and clock are fakes.

mod ports;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode},
    response::Response,
};
use bytes::Bytes;
use chordae_base::{
    Did, Digest,
    seams::{
        Clock, Threads,
        fake::{FakeClock, FakeDisk, FakeEntropy},
    },
    time::SECOND_NS as S,
    wire::{Lead, NO_VALUE},
};
use chordae_chain::{
    checkpoint::TrustedLog,
    event::{self, Event},
    keys::{Role, SecretKeys, key_id},
    meta::Lane,
    session::{self, Grant, Made, SectionPlain, encode_post},
    token::{self, Claims},
    trust::{TrustFile, policy_text},
};
use chordae_chunk::ChunkRows;
use chordae_query::{
    core::ports::Party,
    http::{Parts, Service, router},
    metrics::QueryMetrics,
    trail::{Looked, Trail},
};
use tower::ServiceExt;

pub(crate) use ports::{
    Draft, MemAside, MemChunks, MemInventories, MemLedger, MemParties, MemSessions, MemTail,
};

pub(crate) const ORIGIN: &str = "chordae.test/1";
/// A multiple of the slot.
pub(crate) const T0: i64 = 1_700_000_040 * S;
/// Now, when the world begins.
pub(crate) const NOW: i64 = T0 + 150 * S;
pub(crate) const SLOT: i64 = 60 * S;

/// Patient Ann's stream; Bob's; Ann's big one; and one that is nobody's at all.
pub(crate) const ANNS: Did = did(1);
pub(crate) const BOBS: Did = did(2);
pub(crate) const BIG: Did = did(3);
pub(crate) const NOBODYS: Did = did(9);

const fn did(n: u8) -> Did {
    Did([n, 0, 0, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, n])
}

/// All records about a stream.
pub(crate) fn all(did: Did) -> Looked {
    Looked {
        did,
        before: u64::MAX,
        from_ns: i64::MIN,
        until_ns: i64::MAX,
    }
}

/// What a restart does not change.
pub(crate) struct House {
    pub(crate) clock: FakeClock,
    pub(crate) disk: FakeDisk,
    pub(crate) chunks: Arc<MemChunks>,
    pub(crate) ledger: Arc<MemLedger>,
    pub(crate) tail: Arc<MemTail>,
    pub(crate) sessions: Arc<MemSessions>,
    pub(crate) inventories: Arc<MemInventories>,
    pub(crate) parties: Arc<MemParties>,
    pub(crate) provider: SecretKeys,
    threads: Threads,
}

impl House {
    /// A service over this house and a trail on `disk`.
    fn serve(
        &self,
        disk: FakeDisk,
        registry: &prometheus::Registry,
        entries_public: bool,
    ) -> (Arc<Service>, Trail) {
        let (trail, recall) =
            Trail::open(Arc::new(disk), Path::new("/trail"), &self.threads).unwrap();
        let parts = Parts {
            chunks: Arc::<MemChunks>::clone(&self.chunks),
            tail: Some(Arc::<MemTail>::clone(&self.tail)),
            aside: Some(Arc::new(MemAside)),
            ledger: Arc::<MemLedger>::clone(&self.ledger),
            sessions: Arc::<MemSessions>::clone(&self.sessions),
            inventories: Arc::<MemInventories>::clone(&self.inventories),
            parties: Arc::<MemParties>::clone(&self.parties),
            provider: SecretKeys::from_pem(&self.provider.to_pem().unwrap()).unwrap(),
            origin: ORIGIN.to_owned(),
            clock: Arc::new(self.clock.clone()),
            threads: self.threads.clone(),
            trail: trail.clone(),
            recall,
            metrics: QueryMetrics::new(registry).unwrap(),
            entries_public,
        };
        (Service::new(parts).unwrap(), trail)
    }
}

/// See the module.
pub(crate) struct World {
    house: House,
    pub(crate) registry: prometheus::Registry,
    pub(crate) service: Arc<Service>,
    pub(crate) trail: Trail,
    pub(crate) ann: SecretKeys,
    pub(crate) bob: SecretKeys,
    pub(crate) clinician: SecretKeys,
    pub(crate) stranger: SecretKeys,
    pub(crate) operator: SecretKeys,
    /// A key that nobody registered.
    pub(crate) unknown: SecretKeys,
    pub(crate) trust: TrustFile,
    pub(crate) entropy: FakeEntropy,
    jtis: AtomicU64,
}

impl std::ops::Deref for World {
    type Target = House;
    fn deref(&self) -> &House {
        &self.house
    }
}

/// An answer, collected.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// Path and query of the proof link.
    pub(crate) fn proof_target(&self) -> String {
        let link = self.header("link");
        assert!(link.ends_with("; rel=\"proof\""), "{link}");
        link[1..link.find('>').unwrap()].to_owned()
    }
}

pub(crate) fn lead(name: &str, gain: f64) -> Lead {
    Lead {
        name: name.to_owned(),
        mdc: 0,
        gain,
        baseline: 0,
        unit: "mV".to_owned(),
        bits: 16,
    }
}

/// Rows every 1/rate s over `[from, until)`, codes that tell where they come from.
pub(crate) fn rows(from: i64, until: i64, rate: u32, leads: usize, tint: i32) -> ChunkRows {
    let step = S / i64::from(rate);
    let times: Vec<i64> = (0..)
        .map(|k| from + k * step)
        .take_while(|t| *t < until)
        .collect();
    let code = |lead: usize, k: usize| {
        if (k + lead) % 97 == 5 {
            NO_VALUE
        } else {
            tint + (k as i32) * 3 + lead as i32
        }
    };
    let leads = (0..leads)
        .map(|l| (0..times.len()).map(|k| code(l, k)).collect())
        .collect();
    ChunkRows { times, leads }
}

fn three() -> Vec<Lead> {
    vec![lead("I", 200.0), lead("II", 200.0), lead("V1", 100.0)]
}

fn draft(did: Did, from: i64, until: i64, tint: i32) -> Draft {
    let seq = (
        (from - T0).div_euclid(S) as u64,
        ((until - T0).div_euclid(S) - 1) as u64,
    );
    Draft {
        did,
        lane: Lane::Live,
        boot: 1,
        seq,
        missing: Vec::new(),
        rate: 50,
        leads: three(),
        rows: rows(from, until, 50, 3, tint),
    }
}

/// Ann: 0 live slot 0 without seconds 20 and 21; 1 live slot 1; 2 late slot 0, second 20, boot 1;
/// 3 late slot 0, seconds 30-32 of boot 2 at the same instants, with leads II and X; 4 live slot 2,
/// which runs beyond now. Anchored up to 2.
fn fill(chunks: &MemChunks) {
    let mut first = draft(ANNS, T0, T0 + SLOT, 1000);
    first.missing = vec![(20, 21)];
    let gone: Vec<bool> = first
        .rows
        .times
        .iter()
        .map(|t| (T0 + 20 * S..T0 + 22 * S).contains(t))
        .collect();
    let keep = |k: &usize| !gone[*k];
    let kept: Vec<usize> = (0..gone.len()).filter(keep).collect();
    first.rows = ChunkRows {
        times: kept.iter().map(|k| first.rows.times[*k]).collect(),
        leads: first
            .rows
            .leads
            .iter()
            .map(|l| kept.iter().map(|k| l[*k]).collect())
            .collect(),
    };
    chunks.link(first);
    chunks.link(draft(ANNS, T0 + SLOT, T0 + 2 * SLOT, 2000));
    chunks.link(Draft {
        lane: Lane::Late,
        ..draft(ANNS, T0 + 20 * S, T0 + 21 * S, 3000)
    });
    chunks.link(Draft {
        lane: Lane::Late,
        boot: 2,
        seq: (0, 2),
        leads: vec![lead("II", 200.0), lead("X", 50.0)],
        rows: rows(T0 + 30 * S, T0 + 33 * S, 50, 2, 4000),
        ..draft(ANNS, T0 + 30 * S, T0 + 33 * S, 0)
    });
    chunks.link(draft(ANNS, T0 + 2 * SLOT, T0 + 3 * SLOT, 5000));
    chunks.link(draft(BOBS, T0, T0 + SLOT, 7000));
    let big = Draft {
        rate: 1000,
        rows: rows(T0, T0 + SLOT, 1000, 3, 0),
        ..draft(BIG, T0, T0 + SLOT, 0)
    };
    chunks.link(big);
}

impl World {
    /// A gauge of the service.
    pub(crate) fn gauge(&self, name: &str) -> i64 {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == name).unwrap();
        family.get_metric()[0].get_gauge().get_value() as i64
    }

    pub(crate) fn new() -> Self {
        Self::on(Threads::of_the_machine())
    }

    /// With these threads and their clock.
    pub(crate) fn on(threads: Threads) -> Self {
        let entropy = FakeEntropy::new(7);
        let keys = || SecretKeys::new(&entropy, true).unwrap();
        let (provider, log, unknown) = (keys(), keys(), keys());
        let (ann, bob) = (keys(), keys());
        let (clinician, stranger, operator) = (keys(), keys(), keys());
        let parties = Arc::new(MemParties::default());
        for (keys, name, role) in [
            (&ann, "Ann", Role::Patient),
            (&bob, "Bob", Role::Patient),
            (&clinician, "Dr. Who", Role::Requester),
            (&stranger, "Dr. No", Role::Requester),
            (&operator, "Op", Role::Operator),
        ] {
            let identity = keys.public(name, role);
            let party = Party {
                identity,
                enabled: true,
            };
            parties.known.lock().unwrap().insert(keys.key_id(), party);
        }
        let trusted = TrustedLog::new(ORIGIN, &log.sign_public()).unwrap();
        let trust = TrustFile {
            origin: ORIGIN.to_owned(),
            policy: policy_text(&trusted),
            providers: vec![provider.public("provider", Role::Provider)],
            sequencers: Vec::new(),
            retired: Vec::new(),
            ca: None,
        };
        let house = House {
            clock: FakeClock::new(NOW),
            disk: FakeDisk::new(),
            chunks: Arc::default(),
            ledger: Arc::new(MemLedger {
                entries: Mutex::default(),
                log,
            }),
            sessions: Arc::default(),
            tail: Arc::default(),
            inventories: Arc::default(),
            parties,
            provider,
            threads,
        };
        fill(&house.chunks);
        house
            .ledger
            .anchor_link(&house.chunks.of(ANNS)[2].link, &house.provider);
        let registry = prometheus::Registry::new();
        let (service, trail) = house.serve(house.disk.clone(), &registry, true);
        let jtis = AtomicU64::new(0);
        let world = Self {
            house,
            registry,
            service,
            trail,
            ann,
            bob,
            clinician,
            stranger,
            operator,
            unknown,
            trust,
            entropy,
            jtis,
        };
        world.assign(ANNS, Some(&world.ann));
        world.assign(BOBS, Some(&world.bob));
        world.assign(BIG, Some(&world.ann));
        world
    }

    /// The same house after a power loss: what is on disk, and nothing else.
    pub(crate) fn restarted(&self) -> Arc<Service> {
        let disk = self.disk.copy();
        disk.crash();
        self.serve(disk, &prometheus::Registry::new(), false).0
    }

    pub(crate) fn router(&self) -> Router {
        router(&self.service)
    }

    /// A grant by `patient` to `to`, not yet posted.
    pub(crate) fn made(&self, patient: &SecretKeys, to: &SecretKeys, grants: Vec<Grant>) -> Made {
        self.made_with(patient, to, grants, None)
    }

    pub(crate) fn made_with(
        &self,
        patient: &SecretKeys,
        to: &SecretKeys,
        grants: Vec<Grant>,
        expires_ns: Option<i64>,
    ) -> Made {
        let plain = SectionPlain {
            patient: patient.sign_public(),
            requester: to.sign_public(),
            expires_ns,
            purpose: "test".to_owned(),
            grants,
        };
        let (provider, to) = (
            self.provider.seal_public().unwrap(),
            to.seal_public().unwrap(),
        );
        session::make(patient, &provider, &to, &[plain], &self.entropy).unwrap()
    }

    pub(crate) async fn post(&self, made: &Made) -> Answer {
        let body = encode_post(&made.entry, &made.record).unwrap();
        self.send(Request::post("/v1/sessions").body(body.into()).unwrap())
            .await
    }

    /// A session that is live.
    pub(crate) async fn granted(&self, grants: Vec<Grant>) -> Digest {
        let made = self.made(&self.ann, &self.clinician, grants);
        let answer = self.post(&made).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        Digest(made.sid)
    }

    pub(crate) async fn revoke(&self, by: &SecretKeys, sid: Digest) -> Answer {
        let event = Event::RevokeSession {
            sid: sid.0,
            nonce: [5; 16],
        };
        let body = event::sign(&event, by).unwrap();
        let uri = format!("/v1/sessions/{sid}");
        self.send(Request::delete(uri).body(body.into()).unwrap())
            .await
    }

    /// Claims of a good token.
    pub(crate) fn claims(&self, sid: Option<Digest>, target: &str) -> Claims {
        let iat = self.clock.wall_ns() / S;
        let n = self.jtis.fetch_add(1, Ordering::SeqCst);
        Claims {
            aud: ORIGIN.to_owned(),
            sid,
            htm: "GET".to_owned(),
            target: target.to_owned(),
            body: None,
            iat,
            exp: iat + 60,
            jti: format!("jti-{n}"),
        }
    }

    /// A signed GET.
    pub(crate) async fn get(&self, by: &SecretKeys, sid: Option<Digest>, target: &str) -> Answer {
        let token = token::sign(&self.claims(sid, target), by).unwrap();
        self.get_with(target, &token).await
    }

    pub(crate) async fn get_with(&self, target: &str, token: &str) -> Answer {
        self.send(request(target, token)).await
    }

    pub(crate) async fn open(
        &self,
        by: &SecretKeys,
        sid: Option<Digest>,
        target: &str,
    ) -> Response {
        let token = token::sign(&self.claims(sid, target), by).unwrap();
        self.router()
            .oneshot(request(target, &token))
            .await
            .unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        send(self.router(), request).await
    }

    /// Says whose a stream is from now on.
    pub(crate) fn assign(&self, did: Did, patient: Option<&SecretKeys>) {
        let kid = patient.map(|k| key_id(&k.sign_public()));
        self.parties.patients.lock().unwrap().insert(did, kid);
    }
}

pub(crate) fn request(target: &str, token: &str) -> Request<Body> {
    let request = Request::get(target).header("authorization", format!("Chordae {token}"));
    request.body(Body::empty()).unwrap()
}

pub(crate) async fn send(router: Router, request: Request<Body>) -> Answer {
    let response = router.oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    Answer {
        status: head.status,
        headers: head.headers,
        body,
    }
}

/// All of a stream between two instants, all leads.
pub(crate) fn grant(did: Did, st_ns: Option<i64>, et_ns: Option<i64>) -> Grant {
    Grant {
        did,
        metadata: BTreeMap::new(),
        url: String::new(),
        st_ns,
        et_ns,
        leads: None,
    }
}

/// Target of a window.
pub(crate) fn window(did: Did, from: i64, until: i64, more: &str) -> String {
    format!("/v1/streams/{did}/window?from={from}&until={until}{more}")
}
