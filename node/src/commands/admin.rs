//! `chordae device`, `party`, `stream`, `status`: an operator's commands, over the control socket.

use chordae_base::{Failure, Outcome, StreamKey, limits, time};
use serde_json::{Value, json};

use super::{say, socket};
use crate::{
    Verdict, cli,
    client::{self, Place},
    control::{DeviceMade, StreamLine},
    folder, keyfile,
};

const DEVICES: &str = "/v1/admin/devices";
const PARTIES: &str = "/v1/admin/parties";
const STREAMS: &str = "/v1/admin/streams";

async fn print(place: Place, target: &str) -> Outcome<Verdict> {
    let answer: Value = client::control(&place, "GET", target, &Value::Null).await?;
    say(pretty(&answer));
    Ok(Verdict::Done)
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

async fn disable(place: Place, target: String) -> Outcome<Verdict> {
    let _: Value = client::control(&place, "POST", &target, &json!({})).await?;
    say("disabled");
    Ok(Verdict::Done)
}

pub(super) async fn device(command: cli::DeviceCommand) -> Outcome<Verdict> {
    match command {
        cli::DeviceCommand::List(server) => print(socket(&server.data), DEVICES).await,
        cli::DeviceCommand::Disable { id, server } => {
            disable(socket(&server.data), format!("{DEVICES}/{id}/disable")).await
        }
        cli::DeviceCommand::Add(args) => add_device(&args).await,
    }
}

async fn add_device(args: &cli::DeviceAddArgs) -> Outcome<Verdict> {
    let kind = match args.kind {
        cli::DeviceKindArg::Device => "device",
        cli::DeviceKindArg::Gateway => "gateway",
        cli::DeviceKindArg::Monitor => "monitor",
    };
    let (cert, key) = (format!("{}.crt", args.id), format!("{}.key", args.id));
    for name in [&cert, &key] {
        if args.out.join(name).exists() {
            let path = args.out.join(name);
            return Err(Failure::busy(format!(
                "{} exists; choose another --out",
                path.display()
            )));
        }
    }
    // An empty list means every device; nobody gets that without having said so.
    let watches: &[String] = if args.watches == ["all"] {
        &[]
    } else {
        &args.watches
    };
    let body = json!({
        "id": args.id, "kind": kind, "streams": args.streams, "watches": watches
    });
    let made: DeviceMade =
        client::control(&socket(&args.server.data), "POST", DEVICES, &body).await?;
    folder::write_public(&args.out.join(&cert), &made.cert)?;
    folder::write_secret(&args.out.join(&key), &made.key)?;
    let ca = args.out.join("ca.crt");
    if !ca.exists() {
        folder::write_public(&ca, &made.ca)?;
    }
    say(format!(
        "{} {}",
        args.out.join(cert).display(),
        args.out.join(key).display()
    ));
    Ok(Verdict::Done)
}

pub(super) async fn party(command: cli::PartyCommand) -> Outcome<Verdict> {
    match command {
        cli::PartyCommand::List(server) => print(socket(&server.data), PARTIES).await,
        cli::PartyCommand::Disable { id, server } => {
            disable(socket(&server.data), format!("{PARTIES}/{id}/disable")).await
        }
        cli::PartyCommand::Add {
            public,
            role,
            server,
        } => {
            let identity = keyfile::read_public(&public)?;
            let role = super::key::role(&role)?;
            let body = json!({"identity": identity, "role": role.as_str()});
            let _: Value = client::control(&socket(&server.data), "POST", PARTIES, &body).await?;
            say(identity.key_id());
            Ok(Verdict::Done)
        }
    }
}

pub(super) async fn stream(command: cli::StreamCommand) -> Outcome<Verdict> {
    match command {
        cli::StreamCommand::List(server) => print(socket(&server.data), STREAMS).await,
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
            let line: StreamLine = client::control(
                &socket(&server.data),
                "POST",
                &format!("{STREAMS}/assign"),
                &body,
            )
            .await?;
            say(line.did);
            Ok(Verdict::Done)
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
            let line: StreamLine = client::control(
                &socket(&server.data),
                "POST",
                &format!("{STREAMS}/profile"),
                &body,
            )
            .await?;
            say(line.did);
            Ok(Verdict::Done)
        }
    }
}

pub(super) async fn status(args: &cli::StatusArgs) -> Outcome<Verdict> {
    let place = socket(&args.server.data);
    let status: Value = client::control(&place, "GET", "/v1/admin/status", &Value::Null).await?;
    if args.json {
        say(pretty(&status));
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
