//! `chordae session`: a patient grants, looks at and revokes windows of her own streams.

use std::{collections::BTreeMap, path::Path};

use chordae_base::{
    Digest, Failure, Outcome, limits,
    seams::{Entropy, real},
    time,
};
use chordae_chain::{
    event::{self, Event},
    inventory::Entry,
    keys::SecretKeys,
    session::{self, Grant, SectionPlain},
    trust::TrustFile,
};

use super::{asking::Asking, inventory, key::read_trust, say, socket};
use crate::{
    Verdict, cli,
    client::{self, Answer, Call, Place},
    folder::Folder,
    keyfile,
};

mod show;

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
        cli::SessionCommand::List(args) => show::list(args).await?,
        cli::SessionCommand::Show(args) => {
            let far = far(&args.server, args.trust.as_deref())?;
            show::one(&far, &keyfile::read(&args.key)?, &args).await?;
        }
        cli::SessionCommand::Revoke(args) => {
            let far = far(&args.server, args.trust.as_deref())?;
            revoke(&far, &keyfile::read(&args.key)?, &args.session).await?;
            say("revoked");
        }
    }
    Ok(Verdict::Done)
}

/// Asks once as the holder of a key; `session` where she relies on one.
pub(super) async fn ask(
    far: &Far,
    keys: &SecretKeys,
    session: Option<&str>,
    target: &str,
) -> Outcome<Answer> {
    let asking = Asking { far, keys, session };
    asking.once(target, limits::ANSWER_BYTES_MAX).await
}

/// Sends a record that its signature alone vouches for.
pub(super) async fn send_signed(
    far: &Far,
    method: &str,
    target: String,
    body: Vec<u8>,
) -> Outcome<Answer> {
    let call = Call {
        method: method.into(),
        target,
        authorization: None,
        body: Some(("application/cbor", body)),
    };
    client::send(&far.place, call, limits::BODY_BYTES_MAX as u64)
        .await?
        .ok()
}

/// The provider's sealing key, from the trust file.
pub(super) fn provider(far: &Far) -> Outcome<[u8; 32]> {
    let mut in_force = far.trust.providers.iter();
    let in_force = in_force.find(|who| far.trust.in_force(&who.key_id(), u64::MAX).is_ok());
    let provider = in_force.and_then(|who| who.seal);
    provider.ok_or_else(|| Failure::bad_input("the provider has no sealing key"))
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
    let seal = requester
        .seal
        .ok_or_else(|| Failure::bad_input("the requester has no sealing key"))?;
    let provider = provider(far)?;
    let all = Bounds {
        from: args.from.as_deref().map(time::parse).transpose()?,
        until: args.until.as_deref().map(time::parse).transpose()?,
        leads: args.leads.clone(),
    };
    let expires_ns = args.expires.as_deref().map(time::parse).transpose()?;
    let section = |grants| SectionPlain {
        patient: patient.sign_public(),
        requester: requester.sign,
        expires_ns,
        purpose: args.purpose.clone(),
        grants,
    };
    let mut sections = Vec::new();
    let mut own = Vec::new();
    for text in &args.stream {
        let (did, bounds) = all.narrowed(text)?;
        let entry = Entry {
            did: did.parse()?,
            metadata: BTreeMap::new(),
            url: String::new(),
        };
        own.push(bounds.grant(entry, args.exact)?);
    }
    if !own.is_empty() {
        sections.push((session::NO_INVENTORY, section(own)));
    }
    for text in &args.inventory {
        let (id, bounds) = all.narrowed(text)?;
        let listed = inventory::fetch(far, patient, id).await?;
        let grants = listed.entries.into_iter();
        let grants = grants.map(|entry| bounds.grant(entry, args.exact));
        sections.push((listed.id.0, section(grants.collect::<Outcome<_>>()?)));
    }
    let sections: Vec<_> = sections.iter().map(|(id, plain)| (*id, plain)).collect();
    let made = session::make_of(patient, &provider, &seal, &sections, &real::OsEntropy)?;
    let body = session::encode_post(&made.entry, &made.record)?;
    send_signed(far, "POST", "/v1/sessions".into(), body).await?;
    Ok(hex::encode(made.sid))
}

/// What is granted of a stream.
#[derive(Clone)]
struct Bounds {
    from: Option<i64>,
    until: Option<i64>,
    leads: Option<Vec<String>>,
}

impl Bounds {
    /// Reads `ID[,from=T|any][,until=T|any][,leads=I+II|all]`; what is not said stays as it is here.
    fn narrowed<'t>(&self, text: &'t str) -> Outcome<(&'t str, Self)> {
        let mut words = text.split(',');
        let id = words.next().unwrap_or_default();
        let mut bounds = self.clone();
        for word in words {
            let time = |t: &str| match t {
                "any" => Ok(None),
                t => time::parse(t).map(Some),
            };
            match word.split_once('=') {
                Some(("from", t)) => bounds.from = time(t)?,
                Some(("until", t)) => bounds.until = time(t)?,
                Some(("leads", "all")) => bounds.leads = None,
                Some(("leads", names)) => {
                    bounds.leads = Some(names.split('+').map(str::to_owned).collect());
                }
                _ => {
                    return Err(Failure::bad_input(format!(
                        "{word:?} in {text:?}: use from=T, until=T (or any), leads=I+II (or all)"
                    )));
                }
            }
        }
        Ok((id, bounds))
    }

    fn grant(&self, entry: Entry, exact: bool) -> Outcome<Grant> {
        let (st_ns, et_ns) = match exact {
            true => (self.from, self.until),
            false => inwards(self.from, self.until)?,
        };
        Ok(Grant {
            did: entry.did,
            metadata: entry.metadata,
            url: entry.url,
            st_ns,
            et_ns,
            leads: self.leads.clone(),
        })
    }
}

/// Signs and posts a revocation.
pub(crate) async fn revoke(far: &Far, patient: &SecretKeys, session: &str) -> Outcome<()> {
    let sid = sid(session)?;
    let mut nonce = [0; 16];
    real::OsEntropy.fill(&mut nonce);
    let entry = event::sign(&Event::RevokeSession { sid: sid.0, nonce }, patient)?;
    send_signed(far, "DELETE", format!("/v1/sessions/{sid}"), entry).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stream_does_not_say_comes_from_the_whole() {
        let all = Bounds {
            from: Some(10),
            until: Some(20),
            leads: Some(vec!["I".into()]),
        };
        let read = |text| {
            let (id, b) = all.narrowed(text)?;
            Ok::<_, Failure>((id.to_owned(), b.from, b.until, b.leads))
        };
        let leads = |names: &[&str]| Some(names.iter().map(|n| (*n).to_owned()).collect());
        let same = ("x".to_owned(), Some(10), Some(20), leads(&["I"]));
        assert_eq!(read("x").unwrap(), same);
        assert_eq!(
            read("x,until=any,leads=II+V1").unwrap(),
            ("x".to_owned(), Some(10), None, leads(&["II", "V1"]))
        );
        assert_eq!(
            read("x,from=1970-01-01T00:00:00+00:00,leads=all").unwrap(),
            ("x".to_owned(), Some(0), Some(20), None)
        );
        for bad in ["x,", "x,from", "x,from=soon", "x,lead=I", "x;leads=I,y"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
