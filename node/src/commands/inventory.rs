//! `chordae inventory`: a patient's lists of her streams, made, changed and read with her own key.

use std::collections::BTreeMap;

use chordae_base::{Did, Digest, Failure, Outcome, seams::real};
use chordae_chain::{
    inventory::{self, Entry, Reader},
    keys::SecretKeys,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    say,
    session::{Far, ask, far, provider, send_signed},
    table,
};
use crate::{Verdict, cli, keyfile};

/// An inventory, opened with its owner's key.
pub(super) struct Fetched {
    pub(super) id: Digest,
    pub(super) entries: Vec<Entry>,
    version: u64,
    record: Vec<u8>,
}

pub(super) async fn run(command: cli::InventoryCommand) -> Outcome<Verdict> {
    match command {
        cli::InventoryCommand::Put(args) => {
            let far = far(&args.server, args.trust.as_deref())?;
            say(put(&far, &keyfile::read(&args.key)?, &args).await?);
        }
        cli::InventoryCommand::List {
            key,
            json,
            trust,
            server,
        } => {
            let far = far(&server, trust.as_deref())?;
            let keys = keyfile::read(&key)?;
            let answer = ask(&far, &keys, None, "/v1/inventories").await?;
            let listed: Value = answer.json()?;
            let lines = listed.get("inventories").and_then(Value::as_array);
            let lines = lines.map(Vec::as_slice).unwrap_or_default();
            table::show(json, lines, &["INVENTORY", "VERSION", "BYTES"], |line| {
                let id = line.get("id").and_then(Value::as_str).unwrap_or_default();
                let number = |name| match line.get(name).and_then(Value::as_u64) {
                    Some(number) => number.to_string(),
                    None => "damaged".to_owned(),
                };
                vec![id.to_owned(), number("version"), number("bytes")]
            })?;
        }
        cli::InventoryCommand::Show(args) => {
            let far = far(&args.server, args.trust.as_deref())?;
            let fetched = fetch(&far, &keyfile::read(&args.key)?, &args.inventory).await?;
            show(args.json, &fetched)?;
        }
        cli::InventoryCommand::Remove(args) => {
            let far = far(&args.server, args.trust.as_deref())?;
            let keys = keyfile::read(&args.key)?;
            let fetched = fetch(&far, &keys, &args.inventory).await?;
            let record = inventory::remove(&fetched.record, &keys)?;
            let target = format!("/v1/inventories/{}", fetched.id);
            send_signed(&far, "DELETE", target, record).await?;
            say("removed");
        }
    }
    Ok(Verdict::Done)
}

/// Fetches an inventory and opens it: signed by her, sealed to her, and of this id.
pub(super) async fn fetch(far: &Far, keys: &SecretKeys, id: &str) -> Outcome<Fetched> {
    let id: Digest = id.parse().map_err(|e: Failure| e.during("--inventory"))?;
    let answer = ask(far, keys, None, &format!("/v1/inventories/{id}")).await?;
    let record = answer.body.to_vec();
    let signed = inventory::decode(&record)?;
    signed.verify(&keys.sign_public())?;
    if signed.record.id != id.0 {
        return Err(Failure::damaged("the server sent another inventory"));
    }
    let seal = keys
        .seal
        .as_ref()
        .ok_or_else(|| Failure::bad_input("the key file has no sealing key"))?;
    let entries = signed
        .record
        .open(&keys.sign_public(), seal, Reader::Patient)?;
    Ok(Fetched {
        id,
        entries,
        version: signed.record.version,
        record,
    })
}

async fn put(far: &Far, keys: &SecretKeys, args: &cli::InventoryPutArgs) -> Outcome<String> {
    let before = match &args.inventory {
        Some(id) => Some(fetch(far, keys, id).await?),
        None => None,
    };
    let listed = before.as_ref().map(|b| b.entries.clone());
    let listed = listed.unwrap_or_default().into_iter();
    let mut entries: BTreeMap<Did, Entry> = listed.map(|e| (e.did, e)).collect();
    for text in &args.drop {
        if entries.remove(&text.parse()?).is_none() {
            return Err(Failure::not_found(format!(
                "--drop {text}: it is not listed"
            )));
        }
    }
    for text in &args.stream {
        let entry = entry(text)?;
        entries.insert(entry.did, entry);
    }
    let entries: Vec<Entry> = entries.into_values().collect();
    let provider = provider(far)?;
    let record = match &before {
        Some(b) => inventory::update(&b.record, keys, &provider, &entries, &real::OsEntropy),
        None => inventory::create(keys, &provider, &entries, &real::OsEntropy),
    }?;
    let id = Digest(inventory::decode(&record)?.record.id);
    send_signed(far, "PUT", format!("/v1/inventories/{id}"), record).await?;
    Ok(id.to_string())
}

/// `DID[,url=URL][,NAME=TEXT]...`
fn entry(text: &str) -> Outcome<Entry> {
    let mut words = text.split(',');
    let mut entry = Entry {
        did: words.next().unwrap_or_default().parse()?,
        metadata: BTreeMap::new(),
        url: String::new(),
    };
    for word in words {
        match word.split_once('=') {
            Some(("url", url)) => url.clone_into(&mut entry.url),
            Some((name, said)) if !name.is_empty() => {
                entry.metadata.insert(name.to_owned(), said.to_owned());
            }
            _ => {
                return Err(Failure::bad_input(format!(
                    "{word:?} in {text:?}: use url=URL or NAME=TEXT"
                )));
            }
        }
    }
    Ok(entry)
}

/// A stream as `show --json` prints it.
#[derive(Serialize)]
struct Line {
    did: Did,
    metadata: BTreeMap<String, String>,
    url: String,
}

fn show(as_json: bool, fetched: &Fetched) -> Outcome<()> {
    let line = |e: &Entry| Line {
        did: e.did,
        metadata: e.metadata.clone(),
        url: e.url.clone(),
    };
    let lines: Vec<Line> = fetched.entries.iter().map(line).collect();
    if as_json {
        let shown = json!({ "id": fetched.id, "version": fetched.version, "streams": lines });
        say(serde_json::to_string_pretty(&shown).unwrap_or_default());
        return Ok(());
    }
    say(format!("inventory  {}", fetched.id));
    say(format!("version    {}", fetched.version));
    table::show(false, &lines, &["STREAM", "AT", "SAID"], |line| {
        let said = line.metadata.iter().map(|(k, v)| format!("{k}={v}"));
        let url = Some(&line.url).filter(|url| !url.is_empty());
        vec![
            line.did.to_string(),
            table::names(url, table::NOTHING),
            table::names(said, table::NOTHING),
        ]
    })
}
