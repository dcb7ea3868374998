//! The operators' routes, which the node puts beside ours.

use super::{CHANGED, JSON, Op, SIGNED, hash_shape, in_path, object, query};
use serde_json::{Value, json};

fn name_shape() -> Value {
    json!({ "type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$" })
}

fn device() -> Vec<Value> {
    vec![in_path("id", "the device", name_shape())]
}

fn party() -> Vec<Value> {
    vec![in_path("id", "its key id", hash_shape())]
}

fn stream_shape() -> Value {
    let pattern = "^[a-z0-9][a-z0-9._-]{0,63}/[a-z0-9][a-z0-9._-]{0,63}$";
    json!({ "type": "string", "pattern": pattern })
}

fn names() -> Value {
    json!({ "type": "array", "items": name_shape(), "maxItems": 8 })
}

fn body(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false })
}

fn nothing() -> Value {
    body(&[], json!({}))
}

pub(super) fn operations() -> Vec<Op> {
    let list = json!({ "type": "array", "items": { "type": "object" } });
    let get = |path, id, summary, parameters, shape| Op {
        method: "get",
        path,
        id,
        summary,
        parameters,
        answer: (200, vec![JSON], shape),
        problems: SIGNED,
        body: None,
        signed: true,
    };
    let mut all = vec![
        get(
            "/v1/admin/devices",
            "devices",
            "devices, gateways, monitors",
            vec![],
            list.clone(),
        ),
        get(
            "/v1/admin/parties",
            "parties",
            "who is known here",
            vec![],
            list.clone(),
        ),
        get(
            "/v1/admin/streams",
            "admin-streams",
            "streams, whose they are, how they are cut",
            vec![],
            list.clone(),
        ),
        get(
            "/v1/admin/commands",
            "commands",
            "commands given to devices",
            vec![query("device", false, "only its", name_shape())],
            list,
        ),
        get(
            "/v1/admin/commands/{id}",
            "command",
            "one command",
            vec![in_path(
                "id",
                "the command",
                json!({ "type": "string", "minLength": 1 }),
            )],
            json!({ "type": "object" }),
        ),
        get(
            "/v1/admin/sessions",
            "admin-sessions",
            "ids of all sessions",
            vec![],
            json!({ "type": "array", "items": { "type": "string" } }),
        ),
        get(
            "/v1/admin/status",
            "status",
            "health and lag",
            vec![],
            object(&["ready"]),
        ),
    ];
    all.extend(changes());
    all
}

fn changes() -> Vec<Op> {
    let post = |path, id, summary, parameters, shape: Value| Op {
        method: "post",
        path,
        id,
        summary,
        parameters,
        answer: (200, vec![JSON], json!({})),
        problems: CHANGED,
        body: (!shape.is_null()).then_some((JSON, shape)),
        signed: true,
    };
    let kinds = ["device", "gateway", "monitor"];
    let new_device = json!({
        "id": name_shape(),
        "kind": { "type": "string", "enum": kinds },
        "gateway": name_shape(),
        "streams": names(),
        "watches": names(),
    });
    let identity = json!({ "type": "object", "required": ["name", "role", "sign"] });
    vec![
        post(
            "/v1/admin/devices",
            "device-add",
            "registers a device and makes its certificate",
            vec![],
            body(&["id", "kind"], new_device),
        ),
        post(
            "/v1/admin/devices/{id}/renew",
            "device-renew",
            "another certificate",
            device(),
            nothing(),
        ),
        post(
            "/v1/admin/devices/{id}/revoke",
            "device-revoke",
            "its certificates are refused from now on",
            device(),
            Value::Null,
        ),
        post(
            "/v1/admin/devices/{id}/enable",
            "device-enable",
            "takes it back",
            device(),
            Value::Null,
        ),
        post(
            "/v1/admin/devices/{id}/disable",
            "device-disable",
            "refuses it",
            device(),
            Value::Null,
        ),
        post(
            "/v1/admin/parties",
            "party-add",
            "makes a party known",
            vec![],
            body(
                &["identity", "role"],
                json!({ "identity": identity, "role": { "type": "string" } }),
            ),
        ),
        post(
            "/v1/admin/parties/{id}/enable",
            "party-enable",
            "takes it back",
            party(),
            Value::Null,
        ),
        post(
            "/v1/admin/parties/{id}/disable",
            "party-disable",
            "refuses it",
            party(),
            Value::Null,
        ),
        post(
            "/v1/admin/streams/assign",
            "stream-assign",
            "says whose a stream is",
            vec![],
            body(
                &["stream", "patient"],
                json!({ "stream": stream_shape(), "patient": hash_shape(), "at_ns": { "type": "integer" } }),
            ),
        ),
        post(
            "/v1/admin/streams/profile",
            "stream-profile",
            "says how a stream is cut",
            vec![],
            body(
                &["stream", "slot_ns"],
                json!({ "stream": stream_shape(), "slot_ns": { "type": "integer", "minimum": 1 } }),
            ),
        ),
        post(
            "/v1/admin/commands",
            "command-issue",
            "gives a device a command",
            vec![],
            body(
                &["device", "command"],
                json!({
                    "device": name_shape(),
                    "command": { "type": "object", "required": ["do"] },
                    "expires_s": { "type": "integer", "minimum": 1 },
                }),
            ),
        ),
    ]
}
