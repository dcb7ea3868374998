//! Sessions in readable form: a list of them, or one with all that it says.

use chordae_base::{Digest, Failure, Outcome};
use chordae_chain::{
    event::{self, Event},
    keys::{self, SecretKeys},
    session::{SectionPlain, open_content},
};
use serde_json::{Value, json};

use super::{Far, ask, far, say, sid};
use crate::{
    cli,
    commands::{desk::Desk, table},
    keyfile,
};

/// Of the server, for an operator; of the holder of a key, for her.
pub(super) async fn list(args: cli::SessionListArgs) -> Outcome<()> {
    let head = ["SESSION", "STATE", "EXPIRES", "STREAMS", "PURPOSE"];
    if let Some(key) = args.key.as_ref().filter(|key| !operator(key)) {
        let place = cli::Remote {
            data: args.data.filter(|_| args.url.is_none()),
            url: args.url,
        };
        let far = far(&place, args.trust.as_deref())?;
        let sessions = own(&far, &keyfile::read(key)?).await?;
        return table::show(args.json, &sessions, &head, cells);
    }
    let url = args.url;
    let server = cli::Server {
        key: args.key.filter(|_| url.is_some()),
        trust: args.trust.filter(|_| url.is_some()),
        data: args.data,
        url,
    };
    let sids: Vec<String> = Desk::open(&server)?.get("/v1/admin/sessions").await?;
    table::show(args.json, &sids, &head[..1], |sid| vec![sid.clone()])
}

/// Whether the public identity beside a key file says that it is an operator's.
fn operator(key: &std::path::Path) -> bool {
    let identity = keyfile::read_public(&keyfile::public_path(key));
    identity.is_ok_and(|i| i.role == keys::Role::Operator)
}

/// All pages of what a party may see.
async fn own(far: &Far, keys: &SecretKeys) -> Outcome<Vec<Value>> {
    let (mut all, mut target) = (Vec::new(), "/v1/sessions".to_owned());
    loop {
        let mut page: Value = ask(far, keys, None, &target).await?.json()?;
        let sessions = page.get_mut("sessions").and_then(Value::as_array_mut);
        all.append(sessions.unwrap_or(&mut Vec::new()));
        match page.get("next").and_then(Value::as_str) {
            Some(next) => target = format!("/v1/sessions?from={next}"),
            None => return Ok(all),
        }
    }
}

fn items<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    let items = value.get(name).and_then(Value::as_array);
    items.map(Vec::as_slice).unwrap_or_default()
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or(table::NOTHING)
}

fn moment(value: &Value, name: &str, none: &str) -> String {
    let at = value.get(name).and_then(Value::as_i64);
    at.map_or_else(|| none.to_owned(), |at| table::moment(Some(at)))
}

fn cells(session: &Value) -> Vec<String> {
    let sections = items(session, "sections");
    let grants = sections.iter().flat_map(|s| items(s, "grants"));
    let first = |of: &dyn Fn(&Value) -> String| sections.first().map(of).unwrap_or_default();
    vec![
        text(session, "sid").to_owned(),
        text(session, "state").to_owned(),
        first(&|s| moment(s, "expires_ns", "never")),
        table::names(grants.map(|g| text(g, "did")), table::NOTHING),
        first(&|s| text(s, "purpose").to_owned()),
    ]
}

/// One session, as the server knows it; from the ledger when only that is left of it.
pub(super) async fn one(far: &Far, keys: &SecretKeys, args: &cli::SessionKeyArgs) -> Outcome<()> {
    let id = sid(&args.session)?;
    let target = format!("/v1/sessions/{id}");
    let mut shown: Value = ask(far, keys, Some(&args.session), &target).await?.json()?;
    if let Some(entry) = shown.get("entry").and_then(Value::as_str) {
        let sections = remembered(entry, id, keys)?;
        if let Some(fields) = shown.as_object_mut() {
            fields.remove("entry");
            fields.insert("sections".to_owned(), sections);
        }
    }
    if args.json {
        let json = serde_json::to_string_pretty(&shown);
        say(json.map_err(|e| Failure::internal(format!("write JSON: {e}")))?);
        return Ok(());
    }
    lines(&shown).iter().for_each(say);
    Ok(())
}

/// What she granted, from her own event in the ledger: sealed to her, and under her signature.
fn remembered(entry: &str, id: Digest, keys: &SecretKeys) -> Outcome<Value> {
    let bad = || Failure::damaged("the server sent another event than the one of this session");
    let entry = hex::decode(entry).map_err(|_| bad())?;
    let signed = event::decode(&entry)?;
    signed.verify(&keys.sign_public())?;
    let (Event::CreateSession { content, .. }, true) =
        (signed.event, event::leaf_hash(&entry) == id.0)
    else {
        return Err(bad());
    };
    let seal = keys
        .seal
        .as_ref()
        .ok_or_else(|| Failure::bad_input("the key file has no sealing key"))?;
    let sections = open_content(&content, seal)?;
    Ok(sections.iter().map(section).collect())
}

fn section(plain: &SectionPlain) -> Value {
    let grants = plain.grants.iter().map(|g| {
        json!({
            "did": g.did, "metadata": g.metadata, "url": g.url,
            "from_ns": g.st_ns, "until_ns": g.et_ns, "leads": g.leads,
        })
    });
    json!({
        "patient": keys::key_id(&plain.patient), "requester": keys::key_id(&plain.requester),
        "expires_ns": plain.expires_ns, "purpose": plain.purpose,
        "grants": grants.collect::<Vec<_>>(),
    })
}

fn lines(session: &Value) -> Vec<String> {
    let mut lines = vec![
        format!("session    {}", text(session, "sid")),
        format!("state      {}", text(session, "state")),
    ];
    if text(session, "state") == "no-record" {
        lines.push(
            "           the directory has no record of it (expired long ago, or lost); this".into(),
        );
        lines.push(
            "           is what the event in the ledger says: grant it anew if it is to hold"
                .into(),
        );
    }
    for section in items(session, "sections") {
        lines.push(format!("inventory  {}", text(section, "inventory")));
        lines.push(format!("  patient    {}", text(section, "patient")));
        lines.push(format!("  requester  {}", text(section, "requester")));
        lines.push(format!(
            "  expires    {}",
            moment(section, "expires_ns", "never")
        ));
        lines.push(format!("  purpose    {}", text(section, "purpose")));
        for grant in items(section, "grants") {
            let leads = items(grant, "leads").iter().filter_map(Value::as_str);
            lines.push(format!("  stream     {}", text(grant, "did")));
            lines.push(format!(
                "    from {} until {}, leads {}",
                moment(grant, "from_ns", "any time"),
                moment(grant, "until_ns", "any time"),
                table::names(leads, "all")
            ));
            about(grant, "", &mut lines);
            if let Some(now) = grant.get("now").filter(|now| now.is_object()) {
                about(now, "now ", &mut lines);
            }
        }
    }
    lines
}

/// Metadata and address, as granted or as the inventory has them now.
fn about(of: &Value, when: &str, lines: &mut Vec<String>) {
    if let Some(metadata) = of.get("metadata").and_then(Value::as_object) {
        let said = metadata.iter().filter_map(|(k, v)| Some((k, v.as_str()?)));
        lines.extend(said.map(|(k, v)| format!("    {when}{k}: {v}")));
    }
    let url = text(of, "url");
    if !url.is_empty() && url != table::NOTHING {
        lines.push(format!("    {when}at {url}"));
    }
}
