//! chordae as it is measured: filled through its door, stopped (everything is sealed, linked, anchored), started
//! again, and read by a requester with sessions of a patient.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use chordae_base::{
    Did, Failure, Outcome, Span,
    seams::{
        Clock, Entropy as _,
        real::{OsClock, OsEntropy},
    },
    time::{SECOND_NS, slot_start},
};
use chordae_chain::{
    bundle::{Asked, BundleVerdict, ProofBundle, Verdict, verify},
    keys::{PublicIdentity, Role, SecretKeys},
    session::{self, Grant, SectionPlain},
    token::{self, Claims},
    trust::TrustFile,
};
use chordae_query::formats::{Format, read};
use hyper::header::LINK;
use serde::Deserialize;

use super::client::{Ask, Got, Site, Tongue, Wire, get, post};
use crate::{
    load::{
        Heard, Speech as _,
        frames::{Frames, HOUR, Stock},
        mqtt::Mqtt,
    },
    server::{Kind, Server},
};

/// File in which a server says where its readers find it.
pub const WHERE: &str = "where.json";
/// Seconds that a token of the bench lives.
const TOKEN_S: i64 = 60;
/// Publishes that wait for their acknowledgement.
const OPEN: usize = 128;

fn party(seed: u8) -> Outcome<SecretKeys> {
    SecretKeys::from_secrets(&[seed; 32], Some(&[seed; 32]))
}

/// Whose the streams are. A bench has no secrets.
///
/// # Errors
/// None.
pub fn patient() -> Outcome<SecretKeys> {
    party(41)
}

/// Who reads.
///
/// # Errors
/// None.
pub fn requester() -> Outcome<SecretKeys> {
    party(42)
}

/// Both, as the registry knows them.
///
/// # Errors
/// None.
pub fn parties() -> Outcome<[PublicIdentity; 2]> {
    Ok([
        patient()?.public("Ann", Role::Patient),
        requester()?.public("Roe", Role::Requester),
    ])
}

#[derive(Deserialize)]
struct Where {
    https: SocketAddr,
    dids: Vec<Did>,
}

/// The signals that were sent: what every answer is held against.
pub struct Source {
    streams: Vec<Frames>,
    /// Time of the first sample of each stream.
    pub start_ns: i64,
    /// Seconds of each stream.
    pub seconds: i64,
}

impl Source {
    /// So many streams of so many seconds, in the past.
    ///
    /// # Errors
    /// None that the shape allows.
    pub fn new(streams: usize, seconds: i64) -> Outcome<Self> {
        let stock = Stock::of(HOUR)?;
        let now_ns = slot_start(OsClock.wall_ns(), 3600 * SECOND_NS);
        let frames = |n: usize| Frames::new(Arc::clone(&stock), n as u64 + 1, now_ns);
        let streams: Vec<Frames> = (0..streams).map(frames).collect();
        let start_ns = streams.first().map_or(0, |f| f.peek().t0_ns);
        Ok(Self {
            streams,
            start_ns,
            seconds,
        })
    }

    /// How many.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// The window of an ask.
    pub fn span(&self, ask: Ask) -> Span {
        let from_ns = self.start_ns + ask.from_s * SECOND_NS;
        Span {
            from_ns,
            until_ns: from_ns + ask.seconds * SECOND_NS,
        }
    }

    /// Whether an Arrow answer holds exactly the samples that were sent.
    ///
    /// # Errors
    /// `Damaged` when it does not.
    pub fn check(&self, ask: Ask, body: &Bytes) -> Outcome<()> {
        let rows = read(Format::Arrow, body)?;
        let wrong = |what: &str| Err(Failure::damaged(format!("{ask:?}: {what}")));
        let Some(frames) = self.streams.get(ask.stream) else {
            return wrong("no such stream");
        };
        let (rate, step_ns) = (i64::from(HOUR.rate_hz), SECOND_NS / i64::from(HOUR.rate_hz));
        let from_ns = self.span(ask).from_ns;
        let times = (0..ask.seconds * rate).map(|k| from_ns + k * step_ns);
        if !times.eq(rows.times.iter().copied()) {
            return wrong("other times than were sent");
        }
        let per = HOUR.samples;
        for (n, second) in (ask.from_s..ask.from_s + ask.seconds).enumerate() {
            let codes = frames.codes(second.unsigned_abs());
            for (lead, sent) in rows.codes.iter().zip(codes.chunks(per)) {
                if lead.get(n * per..(n + 1) * per) != Some(sent) {
                    return wrong("other codes than were sent");
                }
            }
            if rows.codes.len() * per != codes.len() {
                return wrong("other leads than were sent");
            }
        }
        Ok(())
    }
}

/// Sends all of it and stops the server in order.
///
/// # Errors
/// `Io` when the server does not take it.
pub fn fill(program: &Path, dir: &Path, source: &Source) -> Outcome<()> {
    let server = Server::start(program, Kind::Windows, source.streams(), dir)?;
    for (n, frames) in source.streams.iter().enumerate() {
        send(
            server.address(),
            Mqtt::new(n),
            frames.clone(),
            source.seconds,
        )?;
    }
    server.stop()
}

fn send(address: SocketAddr, mut speech: Mqtt, mut frames: Frames, count: i64) -> Outcome<()> {
    let os = |e: std::io::Error| Failure::os("fill the server", &e);
    let mut socket = TcpStream::connect(address).map_err(os)?;
    socket.set_nodelay(true).map_err(os)?;
    let (mut out, mut heard, mut part) = (Vec::new(), Vec::new(), vec![0; 64 * 1024]);
    speech.hello(&frames, &mut out);
    let (mut left, mut open, mut ready) = (count, 0_usize, false);
    while left > 0 || open > 0 {
        while ready && left > 0 && open < OPEN {
            speech.put(frames.next()?, &mut out);
            (left, open) = (left - 1, open + 1);
        }
        socket.write_all(&out).map_err(os)?;
        out.clear();
        let n = socket.read(&mut part).map_err(os)?;
        if n == 0 {
            return Err(Failure::io("the server hung up while it was filled"));
        }
        heard.extend_from_slice(part.get(..n).unwrap_or_default());
        while let Some((said, length)) = speech.hear(&heard)? {
            heard.drain(..length);
            match said {
                Heard::Nothing => {}
                Heard::Ready => ready = true,
                Heard::Acknowledged(a, b) => {
                    open = open.saturating_sub(usize::from(b - a) + 1);
                }
            }
        }
    }
    Ok(())
}

/// How our server is spoken to: every request is signed.
pub struct Signed {
    keys: SecretKeys,
    origin: String,
    dids: Vec<Did>,
    sessions: Vec<[u8; 32]>,
    start_ns: i64,
}

impl Signed {
    fn target(&self, what: &str, ask: Ask) -> Outcome<String> {
        let did = self.dids.get(ask.stream);
        let did = did.ok_or_else(|| Failure::bad_input("no such stream"))?;
        let from_ns = self.start_ns + ask.from_s * SECOND_NS;
        let until_ns = from_ns + ask.seconds * SECOND_NS;
        Ok(format!(
            "/v1/streams/{did}/{what}?from={from_ns}&until={until_ns}"
        ))
    }

    /// The value of `Authorization` for a request of this client.
    ///
    /// # Errors
    /// None for a target of usual length.
    pub fn sign(&self, target: &str, sid: [u8; 32]) -> Outcome<String> {
        let mut jti = [0; 16];
        OsEntropy.fill(&mut jti);
        let iat = OsClock.wall_ns() / SECOND_NS;
        let claims = Claims {
            aud: self.origin.clone(),
            sid: Some(chordae_base::Digest(sid)),
            htm: "GET".to_owned(),
            target: target.to_owned(),
            body: None,
            iat,
            exp: iat + TOKEN_S,
            jti: hex::encode(jti),
        };
        Ok(format!("Chordae {}", token::sign(&claims, &self.keys)?))
    }

    fn session(&self, client: usize) -> Outcome<[u8; 32]> {
        let of = client % self.sessions.len().max(1);
        let sid = self.sessions.get(of).copied();
        sid.ok_or_else(|| Failure::internal("no session"))
    }
}

impl Tongue for Signed {
    fn window(&self, ask: Ask, client: usize) -> Outcome<(String, Option<String>)> {
        let target = self.target("window", ask)?;
        let token = self.sign(&target, self.session(client)?)?;
        Ok((target, Some(token)))
    }
}

/// A verified pull, in parts.
pub struct Pulled {
    /// Nanoseconds of the window and of the proof, over the wire.
    pub fetch_ns: u64,
    /// Nanoseconds of reading and verifying both.
    pub verify_ns: u64,
    /// Bytes of the answer.
    pub answer_bytes: u64,
    /// Bytes of its proof.
    pub proof_bytes: u64,
}

/// The running server.
pub struct House {
    /// Its process.
    pub server: Server,
    /// How it is reached.
    pub site: Site,
    /// Where its chunks lie.
    pub data: PathBuf,
    /// Its streams.
    pub dids: Vec<Did>,
    signed: Arc<Signed>,
    trust: TrustFile,
    /// A session for the first stream's first half hour.
    narrow: [u8; 32],
}

impl House {
    /// Starts it on a folder that was filled, and has the patient grant so many sessions.
    ///
    /// # Errors
    /// `Io` when it does not start; what it says to a grant.
    pub async fn open(
        program: &Path,
        dir: &Path,
        source: &Source,
        sessions: usize,
    ) -> Outcome<Self> {
        let server = Server::start(program, Kind::Windows, source.streams(), dir)?;
        let os = |e: std::io::Error| Failure::os("read what the server says", &e);
        let told = fs::read_to_string(dir.join(WHERE)).map_err(os)?;
        let told: Where = serde_json::from_str(&told).map_err(|e| Failure::io(e.to_string()))?;
        let data = dir.join("data");
        let trust = fs::read_to_string(data.join("keys/trust.json")).map_err(os)?;
        let trust = TrustFile::parse(&trust)?;
        let ca = trust.ca.clone().unwrap_or_default();
        let mut signed = Signed {
            keys: requester()?,
            origin: trust.origin.clone(),
            dids: told.dids.clone(),
            sessions: Vec::new(),
            start_ns: source.start_ns,
        };
        // Granted over a connection whose tongue is not used yet.
        let bare = Site::new(told.https, &ca, Arc::new(Mute))?;
        let half = Span {
            from_ns: source.start_ns,
            until_ns: source.start_ns + 1800 * SECOND_NS,
        };
        let first: Vec<Did> = told.dids.iter().take(1).copied().collect();
        let narrow = grant(&bare, &trust, &first, Some(half)).await?;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..sessions {
            let (bare, trust, dids) = (bare.clone(), trust.clone(), told.dids.clone());
            tasks.spawn(async move { grant(&bare, &trust, &dids, None).await });
        }
        while let Some(done) = tasks.join_next().await {
            let sid = done.map_err(|e| Failure::internal(e.to_string()))??;
            signed.sessions.push(sid);
        }
        let signed = Arc::new(signed);
        let tongue: Arc<dyn Tongue> = Arc::clone(&signed) as Arc<dyn Tongue>;
        Ok(Self {
            server,
            site: Site::new(told.https, &ca, tongue)?,
            data,
            dids: told.dids,
            signed,
            trust,
            narrow,
        })
    }

    /// Refused are: nobody's request, one sent twice, a window beyond its grant. And a changed code is found.
    ///
    /// # Errors
    /// `Internal` naming what was let through.
    pub async fn control(&self, source: &Source) -> Outcome<()> {
        let ask = Ask {
            stream: 0,
            from_s: 1790,
            seconds: 10,
        };
        let later = Ask {
            from_s: 1800,
            ..ask
        };
        let mut wire = self.site.connect().await?;
        let target = self.signed.target("window", ask)?;
        let token = self.signed.sign(&target, self.narrow)?;
        let beyond = self.signed.target("window", later)?;
        let beyond_token = self.signed.sign(&beyond, self.narrow)?;
        for (what, target, token, want) in [
            ("a request that nobody signed", &target, None, 401),
            ("a granted window", &target, Some(token.clone()), 200),
            ("the same token again", &target, Some(token), 401),
            (
                "a window beyond its grant",
                &beyond,
                Some(beyond_token),
                403,
            ),
        ] {
            let got = wire.send(get(target, token)?, true).await?;
            if got.status != want {
                return Err(Failure::internal(format!("{what}: status {}", got.status)));
            }
            if got.status == 200 {
                source.check(ask, &got.body)?;
            }
        }
        let (answer, proof) = self.both(&mut wire, ask, 0).await?;
        let whole = self.judge(source, ask, &answer.body, &proof.body)?;
        let mut broken = answer.body.to_vec();
        let middle = broken.len() / 2;
        if let Some(byte) = broken.get_mut(middle) {
            *byte ^= 1;
        }
        let changed = self.judge(source, ask, &broken.into(), &proof.body)?;
        match (whole.verdict, changed.verdict) {
            (Verdict::Anchored, Verdict::Damaged) => Ok(()),
            other => Err(Failure::internal(format!(
                "the verification does not work: {other:?}"
            ))),
        }
    }

    async fn both(&self, wire: &mut Wire, ask: Ask, client: usize) -> Outcome<(Got, Got)> {
        let answer = wire.window(&self.site, ask, client, true).await?;
        let target = answer.headers.get(LINK).and_then(|l| l.to_str().ok());
        let target = target.and_then(|l| Some(l.strip_prefix('<')?.split_once('>')?.0));
        let target = target.ok_or_else(|| Failure::io("an answer without a proof link"))?;
        let token = self.signed.sign(target, self.signed.session(client)?)?;
        let proof = wire.send(get(target, Some(token))?, true).await?;
        if proof.status == 200 {
            return Ok((answer, proof));
        }
        Err(Failure::io(format!("a proof: status {}", proof.status)))
    }

    fn judge(
        &self,
        source: &Source,
        ask: Ask,
        answer: &Bytes,
        proof: &[u8],
    ) -> Outcome<BundleVerdict> {
        let rows = read(Format::Arrow, answer)?;
        let text = std::str::from_utf8(proof).map_err(|e| Failure::damaged(e.to_string()))?;
        let bundle = ProofBundle::parse(text)?;
        let asked = Asked {
            did: self.dids.get(ask.stream).copied(),
            window: Some(source.span(ask)),
            leads: None,
        };
        Ok(verify(&bundle, &rows, &asked, Some(&self.trust)))
    }

    /// Window, proof, verification, over one connection.
    ///
    /// # Errors
    /// `Damaged` when it does not come out anchored, every row proven.
    pub async fn pull(
        &self,
        wire: &mut Wire,
        source: &Source,
        ask: Ask,
        client: usize,
    ) -> Outcome<Pulled> {
        let began = OsClock.mono_ns();
        let (answer, proof) = self.both(wire, ask, client).await?;
        let fetched = OsClock.mono_ns();
        let found = self.judge(source, ask, &answer.body, &proof.body)?;
        let verified = OsClock.mono_ns();
        if found.verdict != Verdict::Anchored || found.unproven_rows > 0 || !found.newer.is_empty()
        {
            return Err(Failure::damaged(format!("{ask:?} came out {found:?}")));
        }
        source.check(ask, &answer.body)?;
        Ok(Pulled {
            fetch_ns: fetched - began,
            verify_ns: verified - fetched,
            answer_bytes: answer.bytes,
            proof_bytes: proof.bytes,
        })
    }
}

struct Mute;

impl Tongue for Mute {
    fn window(&self, _: Ask, _: usize) -> Outcome<(String, Option<String>)> {
        Err(Failure::internal("nothing is asked here"))
    }
}

async fn grant(
    site: &Site,
    trust: &TrustFile,
    dids: &[Did],
    span: Option<Span>,
) -> Outcome<[u8; 32]> {
    let no_key = || Failure::internal("a party without a sealing key");
    let (patient, requester) = (patient()?, requester()?);
    let provider = trust
        .providers
        .first()
        .and_then(|p| p.seal)
        .ok_or_else(no_key)?;
    let grant = |did: &Did| Grant {
        did: *did,
        metadata: Default::default(),
        url: String::new(),
        st_ns: span.map(|s| s.from_ns),
        et_ns: span.map(|s| s.until_ns),
        leads: None,
    };
    let plain = SectionPlain {
        patient: patient.sign_public(),
        requester: requester.sign_public(),
        expires_ns: None,
        purpose: "bench".to_owned(),
        grants: dids.iter().map(grant).collect(),
    };
    let seal = requester.seal_public().ok_or_else(no_key)?;
    let made = session::make(&patient, &provider, &seal, &[plain], &OsEntropy)?;
    let body = session::encode_post(&made.entry, &made.record)?;
    let mut wire = site.connect().await?;
    let got = wire.send(post("/v1/sessions", body)?, true).await?;
    if (200..300).contains(&got.status) {
        return Ok(made.sid);
    }
    let said: Bytes = got.body;
    Err(Failure::refused(format!(
        "a grant: status {} {}",
        got.status,
        String::from_utf8_lossy(&said)
    )))
}
