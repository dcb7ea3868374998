//! `/v1/admin/parties`: whose signature counts, and in which role.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State, rejection::JsonRejection},
    routing::{get, post},
};
use chordae_base::KeyId;
use chordae_chain::keys::PublicIdentity;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, Control, Shared, apart};
use crate::commands::key;

pub(super) fn routes() -> Router<Arc<Control>> {
    Router::new()
        .route("/v1/admin/parties", get(parties).post(add))
        .route("/v1/admin/parties/{id}/enable", post(enable))
        .route("/v1/admin/parties/{id}/disable", post(disable))
}

/// A party as `chordae party list` shows it.
#[derive(Debug, Serialize, Deserialize)]
pub struct PartyLine {
    /// Key id.
    pub id: KeyId,
    /// For people.
    pub name: String,
    /// What it may do here.
    pub role: String,
    /// Whether its signature counts.
    pub enabled: bool,
}

async fn parties(State(c): Shared) -> Answer<Vec<PartyLine>> {
    let lines = c.registry.parties().into_iter().map(|p| PartyLine {
        id: p.identity.key_id(),
        role: p.identity.role.as_str().to_owned(),
        name: p.identity.name,
        enabled: p.enabled,
    });
    Ok(Json(lines.collect()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewParty {
    identity: PublicIdentity,
    role: String,
}

async fn add(State(c): Shared, body: Result<Json<NewParty>, JsonRejection>) -> Answer<Value> {
    let Json(new) = body?;
    let identity = PublicIdentity {
        role: key::role(&new.role)?,
        ..new.identity
    };
    let id = apart(move || c.registry.add_party(identity)).await?;
    Ok(Json(json!({"id": id})))
}

async fn enable(State(c): Shared, Path(id): Path<String>) -> Answer<Value> {
    switch(c, &id, true).await
}

async fn disable(State(c): Shared, Path(id): Path<String>) -> Answer<Value> {
    switch(c, &id, false).await
}

async fn switch(c: Arc<Control>, id: &str, enabled: bool) -> Answer<Value> {
    let id: KeyId = id.parse()?;
    apart(move || c.registry.enable_party(&id, enabled)).await?;
    Ok(Json(Value::Null))
}
