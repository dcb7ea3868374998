//! What every request goes through: who signed it, on what ground, and its record in the trail.
//!
//! ```text
//! authenticate ──▶ (parse) ──▶ ground, decide ──▶ settle: trail synced ──▶ answer
//!   no disk                     directory and ledger, each time
//! ```
//!
//! A request that nobody known has signed is not in the trail, which is about parties: it costs no
//! sync, is counted, and every reason looks the same from outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    http::{HeaderMap, Method, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use chordae_base::{
    Digest, Failure, KeyId, Outcome, limits,
    seams::{Clock, Threads},
    time::SECOND_NS,
};
use chordae_chain::{
    event::{self, Event},
    keys::{self, PublicIdentity, SecretKeys},
    link::Link,
    session::{Reader, SectionPlain, SessionRecord, open_section},
    token::{self, Claims},
};
use chordae_chunk::ChunkFile;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, oneshot};

use super::{hot::Hot, problem::Problem};
use crate::{
    core::{
        access::{self, Allowed, Asker, Grant, Ground, Session, Terms, Want},
        high_water::{HighWater, Now},
        jti::{JtiMemory, Once},
        pace::Pace,
        ports::{Aside, ChunkSource, Inventories, Ledger, Parties, Sessions, Tail},
        request::{self, Request},
    },
    metrics::QueryMetrics,
    trail::{Deed, Recall, Trail},
};

/// Sessions that were found good, by id, with the digest of the record that said so.
type Opened = BTreeMap<[u8; 32], (Digest, Session)>;

/// Units of the memory semaphore.
const MEMORY_UNIT: u64 = 64 * 1024;

/// What the service is made of; the node fills it in.
pub struct Parts {
    /// Linked chunks.
    pub chunks: Arc<dyn ChunkSource>,
    /// The newest frames; `None` where nothing new is taken.
    pub tail: Option<Arc<dyn Tail>>,
    /// Quarantine; `None` where nothing new is taken.
    pub aside: Option<Arc<dyn Aside>>,
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// Session records.
    pub sessions: Arc<dyn Sessions>,
    /// Inventories.
    pub inventories: Arc<dyn Inventories>,
    /// Who is known, whose a stream is.
    pub parties: Arc<dyn Parties>,
    /// The provider's keys; sections are sealed to them.
    pub provider: SecretKeys,
    /// Origin of the log: what tokens name as `aud`.
    pub origin: String,
    /// Wall and monotonic time.
    pub clock: Arc<dyn Clock>,
    /// Where it runs and waits.
    pub threads: Threads,
    /// The trail.
    pub trail: Trail,
    /// What the trail remembers from before.
    pub recall: Recall,
    /// Metrics.
    pub metrics: QueryMetrics,
    /// Whether `/ledger/tile/entries` may be read (formats.md 5).
    pub entries_public: bool,
}

/// Who sent a request, by a verified token that will not be taken again.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Key that signed it.
    pub kid: KeyId,
    /// What the registry knows of the key.
    pub identity: PublicIdentity,
    /// The session it relies on.
    pub sid: Option<Digest>,
    /// Id of the token.
    pub jti: String,
}

/// The query service: shared by all requests. The node's admin routes use [`Service::authenticate`] and
/// [`Service::settle`] too, so that they are signed and recorded like any other request.
pub struct Service {
    pub(super) chunks: Arc<dyn ChunkSource>,
    pub(super) tail: Option<Arc<dyn Tail>>,
    pub(super) aside: Option<Arc<dyn Aside>>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) sessions: Arc<dyn Sessions>,
    pub(super) inventories: Arc<dyn Inventories>,
    pub(super) parties: Arc<dyn Parties>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) threads: Threads,
    pub(super) trail: Trail,
    pub(super) metrics: QueryMetrics,
    pub(super) entries_public: bool,
    /// Answers that may be at work.
    pub(super) answers: Arc<Semaphore>,
    /// Live readers that there may be.
    pub(super) live: Arc<Semaphore>,
    /// Memory that they may hold, in units.
    memory: Arc<Semaphore>,
    /// Sessions and inventories that are being changed right now.
    pub(super) changing: Mutex<BTreeSet<[u8; 32]>>,
    hot: Hot,
    opened: Mutex<Opened>,
    pub(super) provider: SecretKeys,
    origin: String,
    high: Mutex<HighWater>,
    jtis: Mutex<JtiMemory>,
    pace: Mutex<Pace>,
    /// A good signature, verified when the key of a token is unknown: the same work either way.
    decoy: ([u8; 32], [u8; 64]),
}

impl Service {
    /// Puts the parts together.
    ///
    /// # Errors
    /// Those of listing the sessions.
    pub fn new(parts: Parts) -> Outcome<Arc<Self>> {
        let count = parts.sessions.list(&[0; 32], usize::MAX)?.len();
        parts.metrics.sessions(count);
        let held = parts.metrics.chunks_held();
        let memory = usize::try_from(limits::ANSWERS_MEMORY_BYTES / MEMORY_UNIT);
        let memory = memory
            .unwrap_or(Semaphore::MAX_PERMITS)
            .min(Semaphore::MAX_PERMITS);
        let decoy = (parts.provider.sign_public(), parts.provider.sign(DECOY));
        Ok(Arc::new(Self {
            chunks: parts.chunks,
            tail: parts.tail,
            aside: parts.aside,
            ledger: parts.ledger,
            sessions: parts.sessions,
            inventories: parts.inventories,
            parties: parts.parties,
            clock: parts.clock,
            threads: parts.threads,
            trail: parts.trail,
            metrics: parts.metrics,
            entries_public: parts.entries_public,
            answers: Arc::new(Semaphore::new(limits::ANSWERS_AT_ONCE)),
            live: Arc::new(Semaphore::new(limits::LIVE_READERS_MAX)),
            memory: Arc::new(Semaphore::new(memory)),
            changing: Mutex::new(BTreeSet::new()),
            hot: Hot::new(held),
            opened: Mutex::default(),
            provider: parts.provider,
            origin: parts.origin,
            high: Mutex::new(HighWater::new(parts.recall.newest_ns)),
            jtis: Mutex::new(parts.recall.jtis),
            pace: Mutex::default(),
            decoy,
        }))
    }

    /// The times to decide by.
    pub fn now(&self) -> Now {
        let mut high = self.high.lock().unwrap_or_else(PoisonError::into_inner);
        high.observe(self.clock.wall_ns())
    }

    /// Who signed this request; the token is used up. `uri` is that of the request as it came in,
    /// so routes that use this are merged, not nested.
    ///
    /// # Errors
    /// 401, the same for every reason; 429 for a party that sends too many.
    pub fn authenticate(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Caller, Problem> {
        self.authenticate_body(method, uri, headers, None)
    }

    /// The same, where the token must cover the body as well: `body` is the SHA-256 that it must claim
    /// (`None` for a request without one).
    ///
    /// # Errors
    /// 401, the same for every reason.
    pub fn authenticate_body(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Option<&Digest>,
    ) -> Result<Caller, Problem> {
        let caller = self.known(method, uri, headers, body).map_err(|why| {
            tracing::info!(why, "refused a token");
            self.metrics.denied(why);
            Problem::unknown_caller()
        })?;
        // Not in the trail: nothing is read, and a party that floods us is not to fill it.
        let paced = self.pace().request(caller.kid, self.clock.mono_ns());
        paced.map_err(|wait_ns| {
            self.metrics.denied("pace");
            Problem::slow_down(wait_ns)
        })?;
        Ok(caller)
    }

    pub(super) fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Option<&Digest>,
    ) -> Result<Caller, &'static str> {
        let text = bearer(headers).ok_or("no-token")?;
        let kid = token::peek_kid(text).map_err(|_| "malformed-token")?;
        let party = self.parties.party(&kid).filter(|p| p.enabled);
        let Some(party) = party else {
            let (key, signature) = &self.decoy;
            keys::verify_strict(key, DECOY, signature).map_err(|_| "decoy")?;
            return Err("unknown-key");
        };
        let claims: Claims =
            token::verify(text, &party.identity.sign).map_err(|_| "bad-signature")?;
        let now_s = self.now().high_ns.div_euclid(SECOND_NS);
        let target = uri.path_and_query().map_or("/", |p| p.as_str());
        let request = Request {
            origin: &self.origin,
            method: method.as_str(),
            target,
            body,
            now_s,
        };
        request::check(&claims, request)?;
        let mut jtis = self.jtis.lock().unwrap_or_else(PoisonError::into_inner);
        match jtis.take(kid, &claims.jti, claims.exp, now_s) {
            Once::First => {}
            Once::Again => return Err("token-again"),
            Once::Full => return Err("token-memory-full"),
        }
        Ok(Caller {
            kid,
            identity: party.identity,
            sid: claims.sid,
            jti: claims.jti,
        })
    }

    /// A deed of this caller, to be filled in.
    pub fn deed(&self, caller: &Caller, format: &str) -> Deed {
        Deed {
            time_ms: u64::try_from(self.clock.wall_ns() / 1_000_000).unwrap_or(0),
            jti: caller.jti.clone(),
            sid: caller.sid,
            kid: caller.kid,
            did: None,
            from_ns: None,
            until_ns: None,
            leads: None,
            format: format.to_owned(),
            outcome: "answered".to_owned(),
            rows: None,
        }
    }

    /// Writes what became of a request to the trail, and only then lets the answer go.
    pub async fn settle(&self, deed: Deed, answer: Result<Response, Problem>) -> Response {
        let mut deed = deed;
        if let Err(problem) = &answer {
            deed.outcome = problem.code().to_owned();
            self.metrics.denied(problem.code());
        }
        match self.trail.write(deed).await {
            Ok(()) => answer.unwrap_or_else(Problem::into_response),
            Err(failure) => Problem::from(failure).into_response(),
        }
    }

    /// Writes to the trail what is about to be done; synced when it returns.
    ///
    /// # Errors
    /// Those of the trail: what is not recorded is not done.
    pub async fn note(&self, deed: Deed) -> Result<(), Problem> {
        Ok(self.trail.write(deed).await?)
    }

    /// On what ground a caller asks, from directory and ledger as they are now. Blocks.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn asker(&self, caller: &Caller) -> Outcome<Asker> {
        let ground = match caller.sid {
            None => Ground::Own,
            Some(sid) => Ground::Session(self.terms(&sid.0)?),
        };
        Ok(Asker {
            kid: caller.kid,
            role: caller.identity.role,
            ground,
        })
    }

    /// A session as the rule sees it. Blocks. Who signed it and what its sections say follows from its record and
    /// its event, neither of which ever changes, and is kept; that the record is still there, the same to the byte,
    /// and that nobody has revoked the session is looked at each time.
    pub(super) fn terms(&self, sid: &[u8; 32]) -> Outcome<Option<Session>> {
        let Some(record) = self.sessions.get(sid)? else {
            return Ok(None);
        };
        let print = Digest(Sha256::digest(&record).into());
        let held = || self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, session)) = held().get(sid)
            && *of == print
        {
            let revoked = self.ledger.revoked(sid)?;
            let session = session.clone();
            return Ok(Some(Session { revoked, ..session }));
        }
        let small = record.len() <= limits::SESSION_HELD_BYTES_MAX;
        let (session, _) = self.opened(sid, record)?;
        // Only what may still be relied on: a session that is not in the log yet may be there the next time.
        if small && session.matches && !session.revoked {
            let mut held = held();
            while held.len() >= limits::SESSIONS_HELD_MAX && held.pop_first().is_some() {}
            held.insert(*sid, (print, session.clone()));
        }
        Ok(Some(session))
    }

    /// A session as the rule sees it, and its sections in plain text. Blocks.
    pub(super) fn session(&self, sid: &[u8; 32]) -> Outcome<Option<(Session, Vec<SectionPlain>)>> {
        match self.sessions.get(sid)? {
            Some(record) => self.opened(sid, record).map(Some),
            None => Ok(None),
        }
    }

    fn opened(&self, sid: &[u8; 32], record: Bytes) -> Outcome<(Session, Vec<SectionPlain>)> {
        let record = SessionRecord::decode(&record)
            .map_err(|e| Failure::damaged(format!("a stored session record: {}", e.why)))?;
        let created = self.created(sid)?;
        let digest = record.digest()?;
        let opened: Outcome<Vec<SectionPlain>> =
            record.sections.iter().map(|s| self.open(s)).collect();
        // Only sections that were opened at the POST are stored: one that no longer opens was altered.
        let matches = record.sid == Some(*sid)
            && created.is_some_and(|(_, sections)| sections == digest)
            && opened.is_ok();
        let plains = opened.unwrap_or_default();
        let session = Session {
            signer: created.map(|(signer, _)| signer),
            matches,
            revoked: self.ledger.revoked(sid)?,
            terms: plains.iter().map(terms).collect(),
        };
        Ok((session, plains))
    }

    /// Whether the page digests of a chunk are in memory.
    pub(super) fn is_hashed(&self, link: &Link) -> bool {
        self.hot.is_hashed(link)
    }

    /// The chunk of a link, compared with it when it was read. Blocks.
    ///
    /// # Errors
    /// `Damaged` when the file is missing or not the one that the link names.
    pub(super) fn chunk(&self, link: &Link) -> Outcome<Arc<ChunkFile>> {
        self.hot.chunk(&*self.chunks, &*self.clock, link)
    }

    /// Signer and `sections` of the `create-session` event of a session, if it is in the log.
    pub(super) fn created(&self, sid: &[u8; 32]) -> Outcome<Option<(KeyId, [u8; 32])>> {
        let Some(entry) = self.ledger.session(sid)? else {
            return Ok(None);
        };
        let signed = event::decode(&entry)
            .map_err(|e| Failure::damaged(format!("an entry of the log: {}", e.why)))?;
        let Event::CreateSession { sections, .. } = signed.event else {
            return Ok(None);
        };
        let Some(party) = self.parties.party(&signed.kid) else {
            return Ok(None);
        };
        let good = event::leaf_hash(&entry) == *sid && signed.verify(&party.identity.sign).is_ok();
        Ok(good.then_some((signed.kid, sections)))
    }

    /// Opens a section with the provider's key.
    pub(super) fn open(&self, section: &chordae_chain::session::Section) -> Outcome<SectionPlain> {
        open_section(section, &self.provider, Reader::Provider)
    }

    /// The rule, with the facts as they are now. Blocks.
    ///
    /// # Errors
    /// What the asker is told.
    pub(super) fn decide(
        &self,
        caller: &Caller,
        want: &Want,
        now: Now,
    ) -> Result<Allowed, Problem> {
        let asker = self.asker(caller)?;
        let patient = self.parties.patient_of(&want.did);
        Ok(access::decide(&asker, patient, want, now)?)
    }

    /// Runs what blocks where it may, and waits for it.
    ///
    /// # Errors
    /// That of the work; `Internal` when it panicked.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let (reply, done) = oneshot::channel();
        self.apart(move || {
            // Whoever asked may have gone.
            reply.send(work()).ok();
        });
        let panicked = |_| Problem::from(Failure::internal("a request's work failed"));
        done.await.map_err(panicked)?
    }

    /// Runs what blocks where it may, in the span of whoever asked, and does not wait for it.
    pub(super) fn apart(&self, work: impl FnOnce() + Send + 'static) {
        let span = tracing::Span::current();
        self.threads.apart(
            move || span.in_scope(work),
            |work| drop(tokio::task::spawn_blocking(work)),
        );
    }

    /// Takes memory for an answer, or says that there is none now.
    pub(super) fn room(&self, bytes: u64) -> Result<tokio::sync::OwnedSemaphorePermit, Problem> {
        let units = u32::try_from(bytes.div_ceil(MEMORY_UNIT)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.memory).try_acquire_many_owned(units);
        room.map_err(|_| Problem::busy("too many large answers at work: try again"))
    }

    /// Takes a place for an answer, or says that there is none now.
    pub(super) fn place(&self) -> Result<tokio::sync::OwnedSemaphorePermit, Problem> {
        let place = Arc::clone(&self.answers).try_acquire_owned();
        place.map_err(|_| Problem::busy("too many answers at work: try again"))
    }
}

const DECOY: &[u8] = b"chordae v1 decoy";

/// The token of the one `Authorization: Chordae` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (one, none) = (all.next()?, all.next());
    let (scheme, token) = one.to_str().ok()?.split_once(' ')?;
    (none.is_none() && scheme.eq_ignore_ascii_case("chordae")).then_some(token)
}

fn terms(plain: &SectionPlain) -> Terms {
    let grant = |g: &chordae_chain::session::Grant| Grant {
        did: g.did,
        from_ns: g.st_ns,
        until_ns: g.et_ns,
        leads: g.leads.clone(),
    };
    Terms {
        patient: keys::key_id(&plain.patient),
        requester: keys::key_id(&plain.requester),
        expires_ns: plain.expires_ns,
        grants: plain.grants.iter().map(grant).collect(),
    }
}
