//! `/v1/admin/devices`: who may come to the doors, and with which certificate.
//!
//! A certificate is noted in the registry before its key leaves: what is in force can always be revoked.
//! Revoking notes first and signs the list then; a crash between is made good by the next start, and the
//! doors look at the registry too.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State, rejection::JsonRejection},
    routing::{get, post},
};
use chordae_base::{DeviceId, Failure, Outcome, StreamName};
use chordae_storage::registry::{Device, DeviceKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Answer, Control, Shared, apart};
use crate::authority::{self, Issued, Leaf};

pub(super) fn routes() -> Router<Arc<Control>> {
    Router::new()
        .route("/v1/admin/devices", get(devices).post(add))
        .route("/v1/admin/devices/{id}/renew", post(renew))
        .route("/v1/admin/devices/{id}/revoke", post(revoke))
        .route("/v1/admin/devices/{id}/enable", post(enable))
        .route("/v1/admin/devices/{id}/disable", post(disable))
}

/// A device as `chordae device list` shows it.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeviceLine {
    /// What the registry knows.
    #[serde(flatten)]
    pub device: Device,
    /// `online` or `offline`, as the device said last, or its will for it.
    pub status: Option<String>,
    /// When the newest frame or birth of any of its streams came.
    pub seen_ns: Option<i64>,
}

/// A certificate, made when the device was added or renewed.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeviceMade {
    /// Certificate, PEM.
    pub cert: String,
    /// Private key, PEM; it is kept nowhere else.
    pub key: String,
    /// Our authority, PEM.
    pub ca: String,
}

async fn devices(State(c): Shared) -> Answer<Vec<DeviceLine>> {
    let sights = c.ingest.sights().await?;
    let mut lines = Vec::new();
    for device in c.registry.devices() {
        let status = match device.kind {
            DeviceKind::Device => c.status_of(&device.id).await?,
            DeviceKind::Gateway | DeviceKind::Monitor => None,
        };
        let of = sights.iter().filter(|(key, _)| key.device == device.id);
        lines.push(DeviceLine {
            seen_ns: of.map(|(_, sight)| sight.recv_ns).max(),
            device,
            status,
        });
    }
    Ok(Json(lines))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewDevice {
    id: DeviceId,
    kind: DeviceKind,
    gateway: Option<DeviceId>,
    #[serde(default)]
    streams: Vec<StreamName>,
    #[serde(default)]
    watches: Vec<DeviceId>,
    #[serde(default)]
    hosts: Vec<String>,
}

async fn add(State(c): Shared, body: Result<Json<NewDevice>, JsonRejection>) -> Answer<DeviceMade> {
    let Json(new) = body?;
    let made = apart(move || {
        let mut device = Device {
            gateway: new.gateway,
            streams: new.streams,
            watches: new.watches,
            hosts: new.hosts,
            ..Device::new(new.id, new.kind)
        };
        let issued = issue(&c, &device)?;
        device.certificate = Some(issued.noted.clone());
        c.registry.add_device(device)?;
        Ok(made(&c, issued))
    });
    Ok(Json(made.await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Renewal {
    /// Other names for a gateway; those it has if none is named.
    #[serde(default)]
    hosts: Vec<String>,
}

async fn renew(
    State(c): Shared,
    Path(id): Path<String>,
    body: Result<Json<Renewal>, JsonRejection>,
) -> Answer<DeviceMade> {
    let Json(renewal) = body?;
    let id: DeviceId = id.parse()?;
    let made = apart(move || {
        let unknown = || Failure::not_found(format!("no device is registered as {id}"));
        let mut device = c.registry.device(&id).ok_or_else(unknown)?;
        if !renewal.hosts.is_empty() {
            device.hosts = renewal.hosts;
        }
        if !device.hosts.is_empty() && device.kind != DeviceKind::Gateway {
            return Err(Failure::bad_input(
                "only a gateway's certificate names hosts",
            ));
        }
        let issued = issue(&c, &device)?;
        c.registry.set_certificate(&id, issued.noted.clone())?;
        Ok(made(&c, issued))
    });
    Ok(Json(made.await?))
}

fn issue(c: &Control, device: &Device) -> Outcome<Issued> {
    let kind = match device.kind {
        DeviceKind::Device => "device",
        DeviceKind::Gateway => "gateway",
        DeviceKind::Monitor => "monitor",
    };
    let urn = format!("urn:chordae:{kind}:{}", device.id);
    let leaf = match device.kind {
        DeviceKind::Gateway => Leaf::Gateway(&urn, &device.hosts),
        DeviceKind::Device | DeviceKind::Monitor => Leaf::Client(&urn),
    };
    authority::sign(&c.ca, &leaf, c.clock.wall_ns())
}

fn made(c: &Control, issued: Issued) -> DeviceMade {
    DeviceMade {
        cert: issued.pair.cert,
        key: issued.pair.key,
        ca: c.ca.cert.clone(),
    }
}

async fn revoke(State(c): Shared, Path(id): Path<String>) -> Answer<Value> {
    let id: DeviceId = id.parse()?;
    apart(move || {
        c.registry.revoke_device(&id, c.clock.wall_ns())?;
        c.revocations.sign()
    })
    .await?;
    Ok(Json(Value::Null))
}

async fn enable(State(c): Shared, Path(id): Path<String>) -> Answer<Value> {
    switch(c, &id, true).await
}

async fn disable(State(c): Shared, Path(id): Path<String>) -> Answer<Value> {
    switch(c, &id, false).await
}

async fn switch(c: Arc<Control>, id: &str, enabled: bool) -> Answer<Value> {
    let id: DeviceId = id.parse()?;
    apart(move || c.registry.enable_device(&id, enabled)).await?;
    Ok(Json(Value::Null))
}
