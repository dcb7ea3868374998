//! `chordae party`, `stream`, `status`: an operator's commands.

use chordae_base::{Failure, Outcome, StreamKey, limits, time};
use serde_json::{Value, json};

use super::{desk::Desk, say, socket, table};
use crate::{
    Verdict, cli,
    client::{self, Call},
    control::{PartyLine, StreamLine},
    keyfile,
};

const PARTIES: &str = "/v1/admin/parties";
const STREAMS: &str = "/v1/admin/streams";

pub(super) async fn party(command: cli::PartyCommand) -> Outcome<Verdict> {
    match command {
        cli::PartyCommand::List(args) => {
            let lines: Vec<PartyLine> = Desk::open(&args.server)?.get(PARTIES).await?;
            table::show(
                args.json,
                &lines,
                &["KEY ID", "ROLE", "STATE", "NAME"],
                |p| {
                    let state = if p.enabled { "enabled" } else { "disabled" };
                    let (id, role, name) = (p.id.to_string(), p.role.clone(), p.name.clone());
                    vec![id, role, state.to_owned(), name]
                },
            )?;
        }
        cli::PartyCommand::Disable(one) => switch(&one, PARTIES, "disable").await?,
        cli::PartyCommand::Enable(one) => switch(&one, PARTIES, "enable").await?,
        cli::PartyCommand::Add {
            public,
            role,
            server,
        } => {
            let identity = keyfile::read_public(&public)?;
            let role = super::key::role(&role)?;
            let body = json!({"identity": identity, "role": role.as_str()});
            let _: Value = Desk::open(&server)?.post(PARTIES, &body).await?;
            say(identity.key_id());
        }
    }
    Ok(Verdict::Done)
}

/// Disables, enables or revokes what a name stands for.
pub(super) async fn switch(one: &cli::OneArgs, of: &str, how: &str) -> Outcome<()> {
    let target = format!("{of}/{}/{how}", path_part(&one.id)?);
    let _: Value = Desk::open(&one.server)?.post(&target, &json!({})).await?;
    say(format!("{how}d"));
    Ok(())
}

/// An id becomes a part of a path; what is none is refused before it is sent.
pub(super) fn path_part(id: &str) -> Outcome<&str> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if !id.is_empty() && id.bytes().all(fits) {
        return Ok(id);
    }
    Err(Failure::bad_input(format!(
        "{id:?} is no id; the list command shows them"
    )))
}

pub(super) async fn stream(command: cli::StreamCommand) -> Outcome<Verdict> {
    match command {
        cli::StreamCommand::List(args) => {
            let lines: Vec<StreamLine> = Desk::open(&args.server)?.get(STREAMS).await?;
            let head = ["STREAM", "DID", "PATIENT", "CHUNKS", "UNTIL", "SLOT"];
            table::show(args.json, &lines, &head, |s| {
                vec![
                    s.stream.to_string(),
                    s.did.to_string(),
                    table::names(s.patient, table::NOTHING),
                    s.chunks.to_string(),
                    table::moment(s.end_ns),
                    format!("{}s", s.slot_ns / time::SECOND_NS),
                ]
            })?;
            return Ok(Verdict::Done);
        }
        cli::StreamCommand::Assign {
            stream,
            patient,
            at,
            server,
        } => {
            let patient = keyfile::read_public(&patient)?;
            let at = at.map(|t| time::parse(&t)).transpose()?;
            let stream: StreamKey = stream.parse()?;
            let body =
                json!({"stream": stream.to_string(), "patient": patient.key_id(), "at_ns": at});
            change(&server, "assign", &body).await?;
        }
        cli::StreamCommand::Profile {
            stream,
            slot,
            server,
        } => {
            let stream: StreamKey = stream.parse()?;
            let slot_ns = i64::try_from(slot.as_nanos()).unwrap_or(i64::MAX);
            if slot_ns % limits::PAGE_NS != 0 || slot_ns > limits::SLOT_NS_MAX {
                return Err(Failure::bad_input(
                    "--slot must be a multiple of 10s, at most 1h",
                ));
            }
            let body = json!({"stream": stream.to_string(), "slot_ns": slot_ns});
            change(&server, "profile", &body).await?;
        }
    }
    Ok(Verdict::Done)
}

async fn change(server: &cli::Server, how: &str, body: &Value) -> Outcome<()> {
    let target = format!("{STREAMS}/{how}");
    let line: StreamLine = Desk::open(server)?.post(&target, body).await?;
    say(line.did);
    Ok(())
}

pub(super) async fn rollback(command: cli::RollbackCommand) -> Outcome<Verdict> {
    let cli::RollbackCommand::Accept { data, reason } = command;
    let call = Call {
        method: "POST".to_owned(),
        target: "/v1/admin/rollback/accept".to_owned(),
        authorization: None,
        body: Some((
            "application/json",
            json!({ "reason": reason }).to_string().into_bytes(),
        )),
    };
    let answer = client::send(&socket(&data), call, limits::ANSWER_BYTES_MAX).await?;
    if answer.status.as_u16() == 404 {
        return Err(Failure::refused(
            "the server runs as always: its folder was not set back",
        ));
    }
    let _: Value = answer.json()?;
    say("accepted; start the server again");
    Ok(Verdict::Done)
}

pub(super) async fn status(args: &cli::StatusArgs) -> Outcome<Verdict> {
    let status: Value = Desk::open(&args.server)?.get("/v1/admin/status").await?;
    if args.json {
        say(serde_json::to_string_pretty(&status).unwrap_or_else(|_| status.to_string()));
        return Ok(Verdict::Done);
    }
    for (key, value) in status.as_object().into_iter().flatten() {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        say(format!("{key:24} {text}"));
    }
    Ok(Verdict::Done)
}
