//! `/v1/admin/commands`: remote control. A command is durable when its id is given back; the exchange keeps
//! it for the device, sends it until it is acknowledged, and keeps what became of it.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    routing::get,
};
use chordae_base::{DeviceId, Failure, Outcome, time::SECOND_NS};
use chordae_ingest::exchange::{CommandLine, CommandState};
use chordae_storage::registry::DeviceKind;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, By, Control, Shared};
use crate::command;

/// How long a command may wait for its device.
const EXPIRES_S_MAX: u64 = 7 * 86_400;
/// How long a request may wait for a reply; whoever wants more asks again.
const WAIT_S_MAX: u64 = 60;

pub(super) fn routes() -> Router<Arc<Control>> {
    Router::new()
        .route("/v1/admin/commands", get(list).post(issue))
        .route("/v1/admin/commands/{id}", get(look))
}

/// A command as `chordae device commands` shows it.
#[derive(Debug, Serialize, Deserialize)]
pub struct CommandShown {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub device: DeviceId,
    /// What is to be done, as the device gets it.
    pub command: Value,
    /// An operator's key id, or `control socket`.
    pub by: String,
    /// `waiting`, `delivered`, `replied`, `expired`.
    pub state: String,
    /// What the device replied: whether it was done.
    pub ok: Option<bool>,
    /// What the device said to it.
    pub why: Option<String>,
    /// When it was given.
    pub issued_ns: i64,
    /// It is not sent after this.
    pub expires_ns: i64,
    /// When the reply came.
    pub replied_ns: Option<i64>,
}

impl CommandShown {
    /// Nothing more will become of it.
    pub fn settled(&self) -> bool {
        let open = [CommandState::Waiting, CommandState::Delivered];
        open.iter().all(|s| self.state != s.as_str())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCommand {
    device: DeviceId,
    command: Value,
    expires_s: Option<u64>,
}

async fn issue(
    State(c): Shared,
    Extension(by): Extension<By>,
    body: Result<Json<NewCommand>, JsonRejection>,
) -> Answer<Value> {
    let Json(new) = body?;
    let unknown = || Failure::not_found(format!("no device is registered as {}", new.device));
    let device = c.registry.device(&new.device).ok_or_else(unknown)?;
    if device.kind != DeviceKind::Device || !device.enabled {
        let why = format!(
            "{} is disabled, or no device: it takes no commands",
            device.id
        );
        return Err(Failure::refused(why).into());
    }
    let expires_s = new.expires_s.unwrap_or(600);
    if !(1..=EXPIRES_S_MAX).contains(&expires_s) {
        return Err(Failure::bad_input("a command expires after 1 s to 7 days").into());
    }
    let body = command::check(&new.command, &by.to_string())?;
    let life_ns = i64::try_from(expires_s)
        .unwrap_or(i64::MAX)
        .saturating_mul(SECOND_NS);
    let expires_ns = c.clock.wall_ns().saturating_add(life_ns);
    let id = c.exchange.issue(new.device, None, body, expires_ns).await?;
    Ok(Json(json!({ "id": id })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    device: Option<DeviceId>,
}

async fn list(
    State(c): Shared,
    which: Result<Query<Which>, QueryRejection>,
) -> Answer<Vec<CommandShown>> {
    let Query(which) = which?;
    let lines = c.exchange.commands(which.device).await?;
    Ok(Json(lines.into_iter().map(shown).collect()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Look {
    wait_s: Option<u64>,
}

/// One command; with `wait_s` as soon as nothing more will become of it, or after that time.
async fn look(
    State(c): Shared,
    Path(id): Path<String>,
    look: Result<Query<Look>, QueryRejection>,
) -> Answer<CommandShown> {
    let Query(look) = look?;
    let wait = Duration::from_secs(look.wait_s.unwrap_or(0).min(WAIT_S_MAX));
    let mut changed = c.exchange.changed();
    let settled = async {
        loop {
            changed.borrow_and_update();
            if find(&c, &id).await?.settled() {
                return Outcome::Ok(());
            }
            // The exchange has ended: the next question says so.
            changed.changed().await.ok();
        }
    };
    if let Ok(settled) = tokio::time::timeout(wait, settled).await {
        settled?;
    }
    Ok(Json(find(&c, &id).await?))
}

async fn find(c: &Control, id: &str) -> Outcome<CommandShown> {
    let lines = c.exchange.commands(None).await?;
    let line = lines.into_iter().find(|line| line.id == id);
    line.map(shown)
        .ok_or_else(|| Failure::not_found(format!("no command is known as {id:?}")))
}

fn shown(line: CommandLine) -> CommandShown {
    let mut command: Value = serde_json::from_str(&line.body).unwrap_or_default();
    let by = command
        .as_object_mut()
        .and_then(|c| c.remove("by"))
        .and_then(|by| by.as_str().map(str::to_owned));
    let reply = line.reply.as_deref();
    let reply: Option<Value> = reply.map(|r| serde_json::from_slice(r).unwrap_or_default());
    let ok = reply.as_ref().map(|r| r.get("ok").and_then(Value::as_bool));
    let why = match (&reply, ok) {
        (Some(_), Some(None)) => Some("the reply does not say {\"ok\": true or false}".to_owned()),
        (Some(reply), _) => reply.get("why").and_then(Value::as_str).map(str::to_owned),
        (None, _) => None,
    };
    CommandShown {
        id: line.id,
        device: line.device,
        command,
        by: by.unwrap_or_default(),
        state: line.state.as_str().to_owned(),
        ok: ok.flatten(),
        why,
        issued_ns: line.issued_ns,
        expires_ns: line.expires_ns,
        replied_ns: line.replied_ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_says_what_became_of_it_or_that_it_does_not() {
        let line = |reply: Option<&str>| CommandLine {
            id: "7".to_owned(),
            device: "bed-1".parse().unwrap(),
            body: r#"{"id":"7","do":"stop","by":"control socket"}"#.to_owned(),
            state: reply.map_or(CommandState::Waiting, |_| CommandState::Replied),
            issued_ns: 1,
            expires_ns: 2,
            replied_ns: reply.map(|_| 3),
            reply: reply.map(|r| r.to_owned().into()),
        };
        let seen = |reply| {
            let shown = shown(line(reply));
            assert_eq!(shown.by, "control socket");
            assert_eq!(shown.command, json!({"id": "7", "do": "stop"}));
            (shown.settled(), shown.ok, shown.why)
        };
        assert_eq!(seen(None), (false, None, None));
        let good = Some(r#"{"ok":true,"why":null}"#);
        assert_eq!(seen(good), (true, Some(true), None));
        let bad = seen(Some(r#"{"ok":false,"why":"no such lead"}"#));
        assert_eq!(bad, (true, Some(false), Some("no such lead".to_owned())));
        for odd in ["", "[]", r#"{"ok":1}"#, "\u{fffd}"] {
            let (settled, ok, why) = seen(Some(odd));
            assert!(settled && ok.is_none() && why.is_some(), "{odd}");
        }
    }
}
