//! Patients who grant, and clinicians who read: through the router, with signed requests, as from outside.
//!
//! What a grant allows is answered with exactly the rows that lie in linked chunks, in order; anything
//! else is refused. A grant that was answered holds after every death, and a revocation too.

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
};
use bytes::Bytes;
use chordae::keyring::Keyring;
use chordae_base::{
    Did, Digest, Failure, KeyId, Outcome, Span,
    seams::fake::{FakeDisk, FakeEntropy},
    time::SECOND_NS,
};
use chordae_chain::{
    event::{self, Event},
    keys::{Role, SecretKeys},
    session::{self, Grant, SectionPlain},
    token::{self, Claims},
};
use chordae_query::http;
use chordae_storage::registry::Registry;
use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::{
    dice::Dice,
    drive::{Life, died},
    fleet::Fleet,
    run::{ROOT, random},
    stored::Stored,
    trace::Trace,
    wards::Wards,
};

/// Seconds a request token lives.
const TOKEN_S: i64 = 60;

/// A session, as those know it who made it.
struct Session {
    sid: [u8; 32],
    did: Did,
    span: Span,
    standing: Standing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Answered: it holds.
    Granted,
    /// Answered: it never holds again.
    Revoked,
    /// The machine died before an answer.
    Unknown,
}

/// See the module.
pub(crate) struct Readers {
    dice: Dice,
    entropy: FakeEntropy,
    patient: SecretKeys,
    /// Another patient, who grants nothing.
    other: SecretKeys,
    doctor: SecretKeys,
    sessions: Vec<Session>,
    tokens: u64,
    /// Newest wall time at which anybody asked: the house does not go back behind it.
    high_ns: i64,
}

impl Readers {
    pub(crate) fn new(mut dice: Dice) -> Outcome<Self> {
        // The same people in every world.
        let people = FakeEntropy::new(2);
        Ok(Self {
            entropy: FakeEntropy::new(dice.next()),
            dice,
            patient: SecretKeys::new(&people, true)?,
            doctor: SecretKeys::new(&people, true)?,
            other: SecretKeys::new(&people, true)?,
            sessions: Vec::new(),
            tokens: 0,
            high_ns: 0,
        })
    }

    /// Ann, who grants, and Ben.
    pub(crate) fn patients(&self) -> [KeyId; 2] {
        [self.patient.key_id(), self.other.key_id()]
    }

    /// The registry knows patients and doctor, and whose the streams are.
    pub(crate) fn introduce(
        &self,
        registry: &Registry,
        fleet: &Fleet,
        wards: &mut Wards,
    ) -> Outcome<()> {
        for (keys, name, role) in [
            (&self.patient, "Ann", Role::Patient),
            (&self.other, "Ben", Role::Patient),
            (&self.doctor, "Dr. Roe", Role::Requester),
        ] {
            if registry.party(&keys.key_id()).is_none() {
                registry.add_party(keys.public(name, role))?;
            }
        }
        wards.introduce(registry, fleet, self.patient.key_id())
    }

    /// Grants, revokes or reads; how many windows were compared.
    pub(crate) fn read(
        &mut self,
        life: &Life,
        medium: &FakeDisk,
        keys: &Keyring,
        wall_ns: i64,
        trace: &Trace,
    ) -> Outcome<u64> {
        // A clock that was set back makes every token one of the future: nobody can ask.
        if wall_ns < self.high_ns.saturating_sub(50 * SECOND_NS) {
            return Ok(0);
        }
        self.high_ns = self.high_ns.max(wall_ns);
        let mut desk = Desk {
            life,
            keys,
            router: http::router(&life.house.service),
            now_s: self.high_ns.div_euclid(SECOND_NS),
            trace,
        };
        let mut dids = life.house.catalogue.dids();
        let ann = self.patient.key_id();
        dids.retain(|did| life.house.registry.patient_of(did) == Some(ann));
        let did = self.dice.pick(&dids);
        match self.dice.below(6) {
            0 => self.revoke(&mut desk),
            1 => did.map_or(Ok(()), |did| self.grant(&mut desk, did, wall_ns)),
            _ => {
                if let Some(did) = did.filter(|d| !self.sessions.iter().any(|s| s.did == *d)) {
                    self.grant(&mut desk, did, wall_ns)?;
                }
                return self.window(&mut desk, medium, wall_ns);
            }
        }
        .map(|()| 0)
    }

    fn grant(&mut self, desk: &mut Desk<'_>, did: Did, wall_ns: i64) -> Outcome<()> {
        let span = Span {
            from_ns: wall_ns.saturating_sub(self.dice.below(120) as i64 * SECOND_NS),
            until_ns: wall_ns.saturating_add((1 + self.dice.below(600)) as i64 * SECOND_NS),
        };
        let plain = SectionPlain {
            patient: self.patient.sign_public(),
            requester: self.doctor.sign_public(),
            expires_ns: None,
            purpose: "care".to_owned(),
            grants: vec![Grant {
                did,
                metadata: Default::default(),
                url: String::new(),
                st_ns: Some(span.from_ns),
                et_ns: Some(span.until_ns),
                leads: None,
            }],
        };
        let none = || Failure::internal("a key without its sealing half");
        let provider = desk.keys.provider.seal_public().ok_or_else(none)?;
        let doctor = self.doctor.seal_public().ok_or_else(none)?;
        let made = session::make(&self.patient, &provider, &doctor, &[plain], &self.entropy)?;
        self.sessions.push(Session {
            sid: made.sid,
            did,
            span,
            standing: Standing::Unknown,
        });
        let body = session::encode_post(&made.entry, &made.record)?;
        let (status, text) = desk.ask("POST", "/v1/sessions", None, Some(body))?;
        expect(status, StatusCode::CREATED, "a grant", &text)?;
        if let Some(session) = self.sessions.last_mut() {
            session.standing = Standing::Granted;
        }
        Ok(())
    }

    fn revoke(&mut self, desk: &mut Desk<'_>) -> Outcome<()> {
        let count = self.sessions.len() as u64;
        let at = usize::try_from(self.dice.below(count)).unwrap_or(0);
        let Some(session) = self
            .sessions
            .get_mut(at)
            .filter(|s| s.standing == Standing::Granted)
        else {
            return Ok(());
        };
        session.standing = Standing::Unknown;
        let nonce = random(&self.entropy);
        let entry = event::sign(
            &Event::RevokeSession {
                sid: session.sid,
                nonce,
            },
            &self.patient,
        )?;
        let target = format!("/v1/sessions/{}", Digest(session.sid));
        let (status, text) = desk.ask("DELETE", &target, None, Some(entry))?;
        expect(status, StatusCode::OK, "a revocation", &text)?;
        session.standing = Standing::Revoked;
        Ok(())
    }

    /// One window on one session.
    fn window(&mut self, desk: &mut Desk<'_>, medium: &FakeDisk, wall_ns: i64) -> Outcome<u64> {
        let count = self.sessions.len() as u64;
        let at = usize::try_from(self.dice.below(count)).unwrap_or(0);
        let Some(session) = self.sessions.get(at) else {
            return Ok(0);
        };
        let outside = self.dice.one_in(4);
        let until_ns = session.span.until_ns.min(wall_ns);
        let length = until_ns.saturating_sub(session.span.from_ns);
        if length < 2 {
            return Ok(0);
        }
        let from_ns = session
            .span
            .from_ns
            .saturating_add(self.dice.below(length as u64 - 1) as i64);
        let left = until_ns.saturating_sub(from_ns) as u64;
        let window = Span {
            from_ns: if outside {
                session.span.from_ns.saturating_sub(1)
            } else {
                from_ns
            },
            until_ns: from_ns
                .saturating_add(1 + self.dice.below(left) as i64)
                .min(until_ns),
        };
        let (did, standing) = (session.did, session.standing);
        let target = format!(
            "/v1/streams/{did}/window?from={}&until={}&format=csv",
            window.from_ns, window.until_ns
        );
        self.tokens += 1;
        let claims = Claims {
            aud: desk.keys.trust.origin.clone(),
            sid: Some(Digest(session.sid)),
            htm: "GET".to_owned(),
            target: target.clone(),
            body: None,
            iat: desk.now_s,
            exp: desk.now_s + TOKEN_S,
            jti: format!("{}", self.tokens),
        };
        let token = token::sign(&claims, &self.doctor)?;
        let (status, text) = desk.ask("GET", &target, Some(token), None)?;
        match (status, standing, outside) {
            (StatusCode::OK, Standing::Granted | Standing::Unknown, false) => {}
            (StatusCode::FORBIDDEN | StatusCode::NOT_FOUND, Standing::Granted, true)
            | (
                StatusCode::FORBIDDEN | StatusCode::NOT_FOUND,
                Standing::Revoked | Standing::Unknown,
                _,
            ) => {
                return Ok(1);
            }
            _ => {
                let text = String::from_utf8_lossy(&text);
                return Err(Failure::internal(format!("{status} for {target}: {text}")));
            }
        }
        same(&text, &expected(medium, did, window)?)
            .map_err(|why| Failure::internal(format!("{target}: {why}")))?;
        Ok(1)
    }
}

/// Rows of a did in a window, as the chunks on the disk hold them: by time, then by index.
fn expected(medium: &FakeDisk, did: Did, window: Span) -> Outcome<Vec<(i64, i32)>> {
    let stored = Stored::read(medium, std::path::Path::new(ROOT))?;
    let mut rows = Vec::new();
    for chunk in stored.of(&did) {
        let all = chunk.times.iter().zip(&chunk.codes);
        let inside = all.filter(|(t, _)| (window.from_ns..window.until_ns).contains(*t));
        rows.extend(inside.map(|(t, code)| (*t, chunk.link.index, *code)));
    }
    rows.sort_unstable_by_key(|(t, index, _)| (*t, *index));
    Ok(rows.into_iter().map(|(t, _, code)| (t, code)).collect())
}

/// Compares an answer with the rows that it must have.
fn same(text: &[u8], rows: &[(i64, i32)]) -> Result<(), String> {
    let text = std::str::from_utf8(text).map_err(|e| e.to_string())?;
    let mut lines = text.lines();
    if !lines.next().is_some_and(|head| head.starts_with("time_ns")) {
        return Err(format!("no heading in {text:?}"));
    }
    let got: Vec<(i64, i32)> = lines
        .filter_map(|line| {
            let mut cells = line.split(',');
            let time = cells.next()?.parse().ok()?;
            Some((time, cells.next()?.parse().ok()?))
        })
        .collect();
    if got == rows {
        return Ok(());
    }
    let at = got.iter().zip(rows).position(|(a, b)| a != b);
    Err(format!(
        "{} rows, the chunks have {}; first difference at {at:?}",
        got.len(),
        rows.len()
    ))
}

fn expect(got: StatusCode, want: StatusCode, what: &str, text: &Bytes) -> Outcome<()> {
    if got == want {
        return Ok(());
    }
    let text = String::from_utf8_lossy(text);
    Err(Failure::internal(format!(
        "{what} was answered {got}: {text}"
    )))
}

/// The way to the house's readers.
struct Desk<'l> {
    life: &'l Life,
    keys: &'l Keyring,
    router: Router,
    now_s: i64,
    trace: &'l Trace,
}

impl Desk<'_> {
    fn ask(
        &mut self,
        method: &str,
        target: &str,
        token: Option<String>,
        body: Option<Vec<u8>>,
    ) -> Outcome<(StatusCode, Bytes)> {
        let mut request = Request::builder().method(method).uri(target);
        if let Some(token) = token {
            request = request.header("authorization", format!("Chordae {token}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/cbor");
        }
        let request = request
            .body(Body::from(body.unwrap_or_default()))
            .map_err(|e| Failure::internal(e.to_string()))?;
        let (router, threads) = (self.router.clone(), self.life.baton.threads());
        let answered = self.life.baton.attempt(|| {
            threads.wait(async move {
                let response = router
                    .oneshot(request)
                    .await
                    .unwrap_or_else(|never| match never {});
                let status = response.status();
                let body = response.into_body().collect().await;
                (
                    status,
                    body.map(|b| b.to_bytes()).map_err(|e| e.to_string()),
                )
            })
        });
        let (status, body) = answered.ok_or_else(died)?;
        let body = body.map_err(|e| Failure::internal(format!("{target} broke off: {e}")))?;
        self.trace
            .note("answer", target, status.as_u16().into(), body.len() as u64);
        Ok((status, body))
    }
}
