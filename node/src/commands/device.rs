//! `chordae device`: registry, certificates, remote control.

use std::{path::Path, time::Duration};

use chordae_base::{Failure, FailureKind, Outcome, time};
use chordae_storage::registry::{Certificate, DeviceKind};
use serde_json::{Value, json};

use super::{
    admin::{path_part, switch},
    desk::Desk,
    say, table,
};
use crate::{
    Verdict, cli,
    control::{CommandShown, DeviceLine, DeviceMade},
    folder,
};

const DEVICES: &str = "/v1/admin/devices";
const COMMANDS: &str = "/v1/admin/commands";
/// How long one request waits for a reply.
const WAIT_S: u64 = 30;

pub(super) async fn run(command: cli::DeviceCommand) -> Outcome<Verdict> {
    match command {
        cli::DeviceCommand::List(args) => list(&args).await?,
        cli::DeviceCommand::Disable(one) => switch(&one, DEVICES, "disable").await?,
        cli::DeviceCommand::Enable(one) => switch(&one, DEVICES, "enable").await?,
        cli::DeviceCommand::Revoke(one) => switch(&one, DEVICES, "revoke").await?,
        cli::DeviceCommand::Add(args) => add(&args).await?,
        cli::DeviceCommand::Renew(args) => renew(&args).await?,
        cli::DeviceCommand::Command(args) => give(&args).await?,
        cli::DeviceCommand::Commands { id, list } => commands(id, &list).await?,
    }
    Ok(Verdict::Done)
}

async fn list(args: &cli::ListArgs) -> Outcome<()> {
    let lines: Vec<DeviceLine> = Desk::open(&args.server)?.get(DEVICES).await?;
    let head = [
        "ID",
        "KIND",
        "GATEWAY",
        "STATE",
        "STATUS",
        "CERTIFICATE",
        "STREAMS",
    ];
    table::show(args.json, &lines, &head, |line| {
        let device = &line.device;
        let (kind, of) = match device.kind {
            DeviceKind::Device => ("device", table::names(&device.streams, "any")),
            DeviceKind::Gateway => ("gateway", table::names(&device.hosts, table::NOTHING)),
            DeviceKind::Monitor => ("monitor", table::names(&device.watches, "any")),
        };
        let state = if device.enabled {
            "enabled"
        } else {
            "disabled"
        };
        vec![
            device.id.to_string(),
            kind.to_owned(),
            table::names(&device.gateway, table::NOTHING),
            state.to_owned(),
            table::names(&line.status, table::NOTHING),
            certificate(device.certificate.as_ref()),
            of,
        ]
    })
}

fn certificate(newest: Option<&Certificate>) -> String {
    match newest {
        None => table::NOTHING.to_owned(),
        Some(Certificate {
            revoked_ns: Some(at),
            ..
        }) => format!("revoked {}", table::moment(Some(*at))),
        Some(good) => format!("until {}", table::moment(Some(good.not_after_ns))),
    }
}

async fn add(args: &cli::DeviceAddArgs) -> Outcome<()> {
    let (kind, hosts) = match args.kind {
        cli::DeviceKindArg::Device => ("device", args.hosts.clone()),
        cli::DeviceKindArg::Monitor => ("monitor", args.hosts.clone()),
        cli::DeviceKindArg::Gateway if args.hosts.is_empty() => {
            let here = ["localhost", "127.0.0.1"];
            ("gateway", here.map(str::to_owned).to_vec())
        }
        cli::DeviceKindArg::Gateway => ("gateway", args.hosts.clone()),
    };
    // An empty list means every device; nobody gets that without having said so.
    let watches: &[String] = if args.watches == ["all"] {
        &[]
    } else {
        &args.watches
    };
    let body = json!({
        "id": args.id, "kind": kind, "gateway": args.gateway, "streams": args.streams,
        "watches": watches, "hosts": hosts
    });
    no_files_yet(&args.out, &args.id)?;
    let made: DeviceMade = Desk::open(&args.server)?.post(DEVICES, &body).await?;
    write(&args.out, &args.id, &made)
}

async fn renew(args: &cli::DeviceRenewArgs) -> Outcome<()> {
    no_files_yet(&args.out, &args.id)?;
    let target = format!("{DEVICES}/{}/renew", path_part(&args.id)?);
    let body = json!({ "hosts": args.hosts });
    let made: DeviceMade = Desk::open(&args.server)?.post(&target, &body).await?;
    write(&args.out, &args.id, &made)
}

/// Looked at before anything is asked for: a certificate that cannot be written is one too many.
fn no_files_yet(out: &Path, id: &str) -> Outcome<()> {
    for name in [format!("{id}.crt"), format!("{id}.key")] {
        let path = out.join(name);
        if path.exists() {
            return Err(Failure::busy(format!(
                "{} exists; choose another --out",
                path.display()
            )));
        }
    }
    Ok(())
}

fn write(out: &Path, id: &str, made: &DeviceMade) -> Outcome<()> {
    let (cert, key) = (out.join(format!("{id}.crt")), out.join(format!("{id}.key")));
    folder::write_public(&cert, &made.cert)?;
    folder::write_secret(&key, &made.key)?;
    let ca = out.join("ca.crt");
    if !ca.exists() {
        folder::write_public(&ca, &made.ca)?;
    }
    say(format!("{} {}", cert.display(), key.display()));
    Ok(())
}

async fn give(args: &cli::DeviceCommandArgs) -> Outcome<()> {
    let command: Value = serde_json::from_str(&args.command).map_err(|e| {
        let example = r#"{"do":"identify"}"#;
        Failure::bad_input(format!("the command is no JSON ({e}); e.g. '{example}'"))
    })?;
    let desk = Desk::open(&args.server)?;
    let body = json!({
        "device": args.id, "command": command, "expires_s": args.expires.as_secs().max(1)
    });
    let given: Value = desk.post(COMMANDS, &body).await?;
    let id = given.get("id").and_then(Value::as_str).unwrap_or_default();
    say(id);
    match args.wait {
        Some(wait) => reply(&desk, &args.id, id, wait).await,
        None => Ok(()),
    }
}

/// Waits for what becomes of a command; done, or the reason why not.
async fn reply(desk: &Desk, device: &str, id: &str, wait: Duration) -> Outcome<()> {
    let mut left_s = wait.as_secs().max(1);
    loop {
        let now_s = left_s.min(WAIT_S);
        let target = format!("{COMMANDS}/{}?wait_s={now_s}", path_part(id)?);
        let seen: CommandShown = desk.get(&target).await?;
        left_s -= now_s;
        if !seen.settled() && left_s > 0 {
            continue;
        }
        let why = seen.why.clone().unwrap_or_default();
        return match (seen.state.as_str(), seen.ok) {
            ("replied", Some(true)) => {
                say(format!("{device} did it {why}").trim_end());
                Ok(())
            }
            ("replied", _) => Err(Failure {
                kind: FailureKind::Refused,
                why: format!("{device} could not: {why}"),
            }),
            ("expired", _) => Err(Failure::busy(format!(
                "the command expired before {device} took it"
            ))),
            (state, _) => Err(Failure::busy(format!(
                "no reply of {device} yet ({state}); it is kept until {}; see: chordae device commands {device}",
                time::show(seen.expires_ns)
            ))),
        };
    }
}

async fn commands(id: Option<String>, args: &cli::ListArgs) -> Outcome<()> {
    let target = match id {
        Some(id) => format!("{COMMANDS}?device={}", path_part(&id)?),
        None => COMMANDS.to_owned(),
    };
    let lines: Vec<CommandShown> = Desk::open(&args.server)?.get(&target).await?;
    let head = [
        "ID", "DEVICE", "COMMAND", "BY", "GIVEN", "EXPIRES", "STATE", "REPLIED", "WHY",
    ];
    table::show(args.json, &lines, &head, |c| {
        let state = match c.ok {
            Some(true) => format!("{} ok", c.state),
            Some(false) => format!("{} failed", c.state),
            None => c.state.clone(),
        };
        vec![
            c.id.clone(),
            c.device.to_string(),
            words(&c.command),
            c.by.clone(),
            table::moment(Some(c.issued_ns)),
            table::moment(Some(c.expires_ns)),
            state,
            table::moment(c.replied_ns),
            c.why.clone().unwrap_or_default(),
        ]
    })
}

/// A command in a few words: `set-rate rate_num=250 rate_den=1`.
fn words(command: &Value) -> String {
    let mut words = vec![
        command
            .get("do")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
    ];
    let rest = command.as_object().into_iter().flatten();
    let rest = rest.filter(|(key, _)| !["do", "id"].contains(&key.as_str()));
    words.extend(rest.map(|(key, value)| format!("{key}={value}")));
    words.join(" ")
}
