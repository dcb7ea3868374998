//! `chordae session`: a patient grants, looks at and revokes windows of her own streams.

use std::path::Path;

use chordae_base::{
    Did, Digest, Failure, Outcome, limits,
    seams::{Entropy, real},
    time,
};
use chordae_chain::{
    event::{self, Event},
    keys::SecretKeys,
    session::{self, Grant, SectionPlain},
    trust::TrustFile,
};
use serde_json::Value;

use super::{desk::Desk, key::read_trust, key::sign_request, say, socket, table};
use crate::{
    Verdict, cli,
    client::{self, Call, Place},
    folder::Folder,
    keyfile,
};

/// What a session command needs to know about the server.
pub(crate) struct Far {
    /// Where it is.
    pub(crate) place: Place,
    /// Its origin and provider.
    pub(crate) trust: TrustFile,
}

/// With `--data` the trust file of the folder, with `--url` the reader's own.
pub(crate) fn far(remote: &cli::Remote, trust: Option<&Path>) -> Outcome<Far> {
    match (&remote.data, &remote.url) {
        (Some(data), _) => {
            let own = Folder::new(data).key("trust.json");
            Ok(Far {
                place: socket(data),
                trust: read_trust(trust.unwrap_or(&own))?,
            })
        }
        (None, Some(url)) => {
            let path = trust.ok_or_else(|| Failure::bad_input("--url needs --trust FILE"))?;
            let trust = read_trust(path)?;
            Ok(Far {
                place: Place::url(url, trust.ca.clone())?,
                trust,
            })
        }
        (None, None) => Err(Failure::bad_input(
            "say where the server is: --data DIR or --url URL",
        )),
    }
}

pub(super) async fn run(command: cli::SessionCommand) -> Outcome<Verdict> {
    match command {
        cli::SessionCommand::Grant(args) => {
            let far = far(&args.server, args.trust.as_deref())?;
            let patient = keyfile::read(&args.key)?;
            say(grant(&far, &patient, &args).await?);
        }
        cli::SessionCommand::List(args) => {
            let desk = Desk::open(&args.server)?;
            let sids: Vec<String> = desk.get("/v1/admin/sessions").await?;
            table::show(args.json, &sids, &["SESSION"], |sid| vec![sid.clone()])?;
        }
        cli::SessionCommand::Show(args) => {
            let far = far(&args.server, args.trust.as_deref())?;
            let keys = keyfile::read(&args.key)?;
            let target = format!("/v1/sessions/{}", sid(&args.session)?);
            let token = sign_request(
                &keys,
                &far.trust.origin,
                Some(&args.session),
                "GET",
                &target,
                None,
            )?;
            let call = Call {
                method: "GET".into(),
                target,
                authorization: Some(format!("Chordae {token}")),
                body: None,
            };
            let answer: Value = client::send(&far.place, call, limits::BODY_BYTES_MAX as u64)
                .await?
                .json()?;
            say(serde_json::to_string_pretty(&answer).unwrap_or_default());
        }
        cli::SessionCommand::Revoke(args) => {
            let far = far(&args.server, args.trust.as_deref())?;
            revoke(&far, &keyfile::read(&args.key)?, &args.session).await?;
            say("revoked");
        }
    }
    Ok(Verdict::Done)
}

fn sid(text: &str) -> Outcome<Digest> {
    text.parse().map_err(|e: Failure| e.during("--session"))
}

/// Rounds inwards to whole pages, so that everything granted can be proven.
fn inwards(from: Option<i64>, until: Option<i64>) -> Outcome<(Option<i64>, Option<i64>)> {
    let page = limits::PAGE_NS;
    let up = |t: i64| t.checked_add((page - t.rem_euclid(page)) % page);
    let from = from
        .map(|t| up(t).ok_or_else(|| Failure::bad_input("--from is out of range")))
        .transpose()?;
    let until = until.map(|t| time::slot_start(t, page));
    match (from, until) {
        (Some(f), Some(u)) if f >= u => Err(Failure::bad_input(
            "no whole page of 10 s lies inside; grant a longer window, or use --exact",
        )),
        bounds => Ok(bounds),
    }
}

/// Makes and posts a session; its id.
pub(crate) async fn grant(
    far: &Far,
    patient: &SecretKeys,
    args: &cli::GrantArgs,
) -> Outcome<String> {
    let requester = keyfile::read_public(&args.to)?;
    let did: Did = args.stream.parse()?;
    let bound = |text: &Option<String>| text.as_deref().map(time::parse).transpose();
    let (from, until) = (bound(&args.from)?, bound(&args.until)?);
    let (st_ns, et_ns) = if args.exact {
        (from, until)
    } else {
        inwards(from, until)?
    };
    let no_seal = |who: &str| Failure::bad_input(format!("{who} has no sealing key"));
    let provider = far
        .trust
        .providers
        .first()
        .and_then(|p| p.seal)
        .ok_or_else(|| no_seal("the provider"))?;
    let plain = SectionPlain {
        patient: patient.sign_public(),
        requester: requester.sign,
        expires_ns: bound(&args.expires)?,
        purpose: args.purpose.clone(),
        grants: vec![Grant {
            did,
            metadata: Default::default(),
            url: String::new(),
            st_ns,
            et_ns,
            leads: args.leads.clone(),
        }],
    };
    let seal = requester.seal.ok_or_else(|| no_seal("the requester"))?;
    let made = session::make(patient, &provider, &seal, &[plain], &real::OsEntropy)?;
    let body = session::encode_post(&made.entry, &made.record)?;
    let call = Call {
        method: "POST".into(),
        target: "/v1/sessions".into(),
        authorization: None,
        body: Some(("application/cbor", body)),
    };
    client::send(&far.place, call, limits::BODY_BYTES_MAX as u64)
        .await?
        .ok()?;
    Ok(hex::encode(made.sid))
}

/// Signs and posts a revocation.
pub(crate) async fn revoke(far: &Far, patient: &SecretKeys, session: &str) -> Outcome<()> {
    let sid = sid(session)?;
    let mut nonce = [0; 16];
    real::OsEntropy.fill(&mut nonce);
    let entry = event::sign(&Event::RevokeSession { sid: sid.0, nonce }, patient)?;
    let call = Call {
        method: "DELETE".into(),
        target: format!("/v1/sessions/{sid}"),
        authorization: None,
        body: Some(("application/cbor", entry)),
    };
    client::send(&far.place, call, limits::BODY_BYTES_MAX as u64)
        .await?
        .ok()?;
    Ok(())
}
