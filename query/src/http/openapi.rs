//! `GET /openapi.json`: every route of the node, its parameters, its answers and how requests are signed.
//!
//! Built once, from one table and the words that the handlers use, such as the formats. What stands here
//! and what the routes do are held together by tests: each operation listed is a route, and a public
//! fuzzer of such documents drives all of them.

use std::sync::LazyLock;

use axum::{
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use crate::formats::Format;

mod admin;

/// The name of the one way to sign a request.
const SCHEME: &str = "Chordae";
const PROBLEM: &str = "application/problem+json";
const JSON: &str = "application/json";

static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());

/// The methods that a path has, for `Allow`. Paths that the document spells otherwise have GET.
pub(super) fn methods(path: &str) -> String {
    static OPS: LazyLock<Vec<(&str, String)>> = LazyLock::new(|| {
        let all = operations().into_iter().chain(admin::operations());
        all.map(|op| (op.path, op.method.to_ascii_uppercase()))
            .collect()
    });
    let same = |of: &str| {
        let mut parts = of.split('/').zip(path.split('/'));
        let fits = parts.all(|(a, b)| a == b || a.starts_with('{'));
        fits && of.split('/').count() == path.split('/').count()
    };
    let known = OPS.iter().filter(|(of, _)| same(of));
    let methods: Vec<&str> = known.map(|(_, method)| method.as_str()).collect();
    match methods.is_empty() {
        true => "GET".to_owned(),
        false => methods.join(", "),
    }
}

pub(super) async fn openapi() -> Response {
    ([(CONTENT_TYPE, JSON)], TEXT.as_str()).into_response()
}

/// One operation, before it is written down.
struct Op {
    method: &'static str,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    parameters: Vec<Value>,
    /// Success: status, media types, schema of a JSON answer; null for bytes.
    answer: (u16, Vec<&'static str>, Value),
    /// What can go wrong.
    problems: &'static [u16],
    /// Media type and schema of a body.
    body: Option<(&'static str, Value)>,
    signed: bool,
}

/// What any signed request may hear.
const SIGNED: &[u16] = &[400, 401, 403, 404, 429, 500, 503];
/// The same where there is a body.
const CHANGED: &[u16] = &[400, 401, 403, 404, 409, 413, 415, 429, 500, 503];

/// The document, OpenAPI 3.1.
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for op in operations().into_iter().chain(admin::operations()) {
        let item = paths.entry(op.path).or_insert_with(|| json!({}));
        if let Some(item) = item.as_object_mut() {
            item.insert(op.method.to_owned(), written(op));
        }
    }
    let about = "Streams of ECG samples, exactly as granted, with proof. Times are nanoseconds since 1970, or \
                 RFC 3339. Spans are half-open. Refusals are problems (RFC 9457).";
    json!({
        "openapi": "3.1.0",
        "info": { "title": "chordae", "version": env!("CARGO_PKG_VERSION"), "description": about },
        "paths": paths,
        "components": components(),
    })
}

fn components() -> Value {
    let how = "`Authorization: Chordae <JWT>`, fresh for each request: header {alg: EdDSA, typ: \
               chordae-request+jwt, kid: SHA-256 of the signer's Ed25519 key, hex}; claims {aud: origin of the \
               ledger, sid: the session (absent when acting for oneself), htm: method, target: path and query \
               exactly as sent, body: SHA-256 of the body (changes by operators), iat, exp (at most 300 s \
               later), jti (taken once)}. `chordae token` makes one.";
    let problem = json!({
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
            "allowed": {
                "type": "array",
                "description": "with code window: what the session does allow of this stream",
                "items": { "type": "object" },
            },
        },
    });
    json!({
        "schemas": { "Problem": problem },
        "securitySchemes": { SCHEME: { "type": "http", "scheme": "Chordae", "description": how } },
    })
}

fn written(op: Op) -> Value {
    let (status, media_types, shape) = op.answer;
    let body = if shape.is_null() {
        json!({ "type": "string", "format": "binary" })
    } else {
        shape
    };
    let content: Map<String, Value> = media_types
        .into_iter()
        .map(|media_type| (media_type.to_owned(), json!({ "schema": body })))
        .collect();
    let mut answers = Map::new();
    answers.insert(
        status.to_string(),
        json!({ "description": "done", "content": content }),
    );
    for status in op.problems {
        let problem = json!({ "schema": { "$ref": "#/components/schemas/Problem" } });
        let answer = json!({ "description": meaning(*status), "content": { PROBLEM: problem } });
        answers.insert(status.to_string(), answer);
    }
    let mut written = json!({
        "operationId": op.id,
        "summary": op.summary,
        "parameters": op.parameters,
        "responses": answers,
    });
    if let Some((media_type, shape)) = op.body {
        written["requestBody"] =
            json!({ "required": true, "content": { media_type: { "schema": shape } } });
    }
    if op.signed {
        written["security"] = json!([{ SCHEME: [] }]);
    }
    written
}

fn meaning(status: u16) -> &'static str {
    match status {
        400 => "the request is malformed, or asks for what cannot be answered in one piece",
        401 => "no fresh token signed by a key that is known here; one answer for every reason",
        403 => "the session, or the party, does not allow it",
        404 => "there is no such thing, or none that this party may see; one answer for both",
        409 => "it contradicts what is there",
        413 => "the body is too long",
        415 => "the body is of another media type",
        416 => "the range is not one inside the file",
        429 => "too much at one time: Retry-After says when",
        500 => "stored data contradict each other and are not served, or a bug",
        503 => "not now: Retry-After says when",
        _ => "refused",
    }
}

fn query(name: &str, needed: bool, about: &str, shape: Value) -> Value {
    json!({ "name": name, "in": "query", "required": needed, "description": about, "schema": shape })
}

fn in_path(name: &str, about: &str, shape: Value) -> Value {
    json!({ "name": name, "in": "path", "required": true, "description": about, "schema": shape })
}

fn did() -> Value {
    in_path("did", "the data stream, a UUID in lower case", did_shape())
}

fn did_shape() -> Value {
    let pattern = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";
    json!({ "type": "string", "pattern": pattern })
}

fn hash_shape() -> Value {
    json!({ "type": "string", "pattern": "^[0-9a-f]{64}$" })
}

fn time_shape() -> Value {
    json!({ "anyOf": [
        { "type": "integer", "minimum": 0, "maximum": 9_000_000_000_000_000_000_u64 },
        { "type": "string", "format": "date-time" },
    ] })
}

fn count_shape() -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": 9_000_000_000_000_000_000_u64 })
}

fn window() -> Vec<Value> {
    vec![
        did(),
        query("from", true, "first instant", time_shape()),
        query("until", true, "first instant after", time_shape()),
    ]
}

fn leads() -> Value {
    let about = "names, parted by commas; absent means all; a comma or backslash in a name has a backslash before it";
    query(
        "leads",
        false,
        about,
        json!({ "type": "string", "minLength": 1 }),
    )
}

fn choice(name: &str, about: &str, words: Vec<&str>) -> Value {
    query(
        name,
        false,
        about,
        json!({ "type": "string", "enum": words }),
    )
}

fn object(required: &[&str]) -> Value {
    json!({ "type": "object", "required": required })
}

fn operations() -> Vec<Op> {
    let get = |path, id, summary, parameters, answer| Op {
        method: "get",
        path,
        id,
        summary,
        parameters,
        answer,
        problems: SIGNED,
        body: None,
        signed: true,
    };
    let words: Vec<&str> = Format::ALL.iter().map(|f| f.word()).collect();
    let media: Vec<&str> = Format::ALL.iter().map(|f| f.media_type()).collect();
    let mut rows = window();
    rows.extend([
        leads(),
        choice("format", "before Accept; Arrow where neither says", words),
        choice(
            "clip",
            "answer the allowed part of the window",
            vec!["true", "false"],
        ),
        choice(
            "snap",
            "widen to whole pages inside the grant",
            vec!["page"],
        ),
        query(
            "max_points",
            false,
            "smallest and largest of each of so many buckets",
            json!({ "type": "integer", "minimum": 1, "maximum": 1_000_000 }),
        ),
    ]);
    let mut shown = window();
    shown.extend([
        leads(),
        query(
            "upto",
            false,
            "newest chunk that the answer used",
            count_shape(),
        ),
        choice(
            "pages",
            "links and metadata only; then without leads",
            vec!["none"],
        ),
    ]);
    let file = in_path("index", "its place in the chain", count_shape());
    let ledger = |path, id, summary, parameters| Op {
        problems: &[404, 429, 500, 503],
        signed: false,
        ..get(
            path,
            id,
            summary,
            parameters,
            (200, vec!["application/octet-stream"], Value::Null),
        )
    };
    let shelf = json!({ "type": "string", "pattern": "^[0-9a-f]{2}$" });
    let number = |name: &str| in_path(name, "as C2SP tlog-tiles counts", count_shape());
    let mut all = vec![
        get(
            "/v1/streams",
            "streams",
            "what this session, patient or operator may see",
            vec![],
            (200, vec![JSON], object(&["streams"])),
        ),
        get(
            "/v1/streams/{did}/window",
            "window",
            "rows of a window, in a format of the reader's choice",
            rows,
            (200, media, Value::Null),
        ),
        get(
            "/v1/streams/{did}/live",
            "live",
            "rows as they become durable, as server-sent events, marked open",
            vec![did(), leads()],
            (200, vec!["text/event-stream"], Value::Null),
        ),
        get(
            "/v1/streams/{did}/aside",
            "aside",
            "how much that is about a window went into no chunk, by reason (conflict and others)",
            window(),
            (
                200,
                vec![JSON],
                object(&["did", "from_ns", "until_ns", "aside"]),
            ),
        ),
        get(
            "/v1/streams/{did}/proof",
            "proof",
            "the bundle that proves the rows of a window",
            shown,
            (
                200,
                vec![JSON],
                object(&["v", "did", "links", "chunks", "rows", "anchor"]),
            ),
        ),
        get(
            "/v1/streams/{did}/chunks",
            "chunks",
            "links of the chunks of a window",
            window(),
            (200, vec![JSON], object(&["did", "links"])),
        ),
        get(
            "/v1/streams/{did}/chunks/{index}",
            "chunk",
            "a whole chunk file; one byte range is served",
            vec![did(), file],
            (200, vec!["application/vnd.apache.parquet"], Value::Null),
        ),
        get(
            "/v1/sessions",
            "sessions",
            "sessions that this party granted or may use",
            vec![query(
                "from",
                false,
                "where the page begins: `next` of the one before",
                hash_shape(),
            )],
            (200, vec![JSON], object(&["sessions", "next"])),
        ),
        get(
            "/v1/sessions/{sid}",
            "session",
            "one session, for a party of it",
            vec![sid()],
            (200, vec![JSON], object(&["sid", "state"])),
        ),
        get(
            "/v1/inventories",
            "inventories",
            "a patient's own inventories",
            vec![],
            (200, vec![JSON], object(&["inventories"])),
        ),
        get(
            "/v1/inventories/{id}",
            "inventory",
            "the newest record of an inventory, as its owner signed it",
            vec![inventory()],
            (200, vec!["application/cbor"], Value::Null),
        ),
        get(
            "/v1/trail",
            "trail",
            "who asked for a stream and what became of it; for its patient",
            vec![
                query("did", true, "her data stream", did_shape()),
                query("from", false, "asked at or after", time_shape()),
                query("until", false, "asked before", time_shape()),
                query(
                    "before",
                    false,
                    "only records with a smaller number: pages back",
                    count_shape(),
                ),
            ],
            (200, vec![JSON], object(&["did", "records", "more"])),
        ),
        Op {
            answer: (200, vec!["text/plain"], Value::Null),
            ..ledger(
                "/ledger/checkpoint",
                "checkpoint",
                "the newest checkpoint, a signed note",
                vec![],
            )
        },
        Op {
            answer: (200, vec!["text/plain"], Value::Null),
            ..ledger(
                "/ledger/fresh",
                "fresh",
                "the newest audit-head as the extra data of its tlog-proof: how old the log is",
                vec![],
            )
        },
        ledger(
            "/ledger/tile/{level}/{number}",
            "tile",
            "hashes of the log; numbers above 999 and partial tiles have more parts",
            vec![number("level"), number("number")],
        ),
        ledger(
            "/ledger/heads/{shelf}/{root}",
            "heads",
            "tags and digests that an add-heads event anchors, 64 bytes each",
            vec![
                in_path("shelf", "the first two digits of the root", shelf),
                in_path("root", "the root that the event names", hash_shape()),
            ],
        ),
        Op {
            problems: &[],
            signed: false,
            ..get(
                "/openapi.json",
                "openapi",
                "this document",
                vec![],
                (200, vec![JSON], object(&["openapi"])),
            )
        },
    ];
    all.extend(changes());
    all
}

fn sid() -> Value {
    in_path("sid", "the session: leaf hash of its event", hash_shape())
}

fn inventory() -> Value {
    in_path("id", "the inventory", hash_shape())
}

/// What a patient signs with the body itself; no token.
fn changes() -> [Op; 4] {
    let cbor = (
        "application/cbor",
        json!({ "type": "string", "format": "binary" }),
    );
    let change = |method, path, id, summary, parameters, answer| Op {
        method,
        path,
        id,
        summary,
        parameters,
        answer,
        problems: CHANGED,
        body: Some(cbor.clone()),
        signed: false,
    };
    [
        change(
            "post",
            "/v1/sessions",
            "grant",
            "grants a session: the signed event and its record",
            vec![],
            (201, vec![JSON], object(&["sid"])),
        ),
        change(
            "delete",
            "/v1/sessions/{sid}",
            "revoke",
            "revokes a session: the signed event",
            vec![sid()],
            (200, vec![JSON], object(&["sid", "state"])),
        ),
        change(
            "put",
            "/v1/inventories/{id}",
            "put-inventory",
            "stores the next version of an inventory: the signed record",
            vec![inventory()],
            (200, vec![JSON], object(&["id", "version", "state"])),
        ),
        change(
            "delete",
            "/v1/inventories/{id}",
            "remove-inventory",
            "removes an inventory for good: the signed record",
            vec![inventory()],
            (200, vec![JSON], object(&["id", "version", "state"])),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_has_a_schema_and_every_operation_its_own_id() {
        let read = document();
        let mut ids = std::collections::BTreeSet::new();
        let mut pieces = 0;
        for item in read["paths"].as_object().unwrap().values() {
            for op in item.as_object().unwrap().values() {
                assert!(ids.insert(op["operationId"].as_str().unwrap().to_owned()));
                for p in op["parameters"].as_array().into_iter().flatten() {
                    let shape = &p["schema"];
                    assert!(shape.get("type").or(shape.get("anyOf")).is_some(), "{p}");
                    pieces += 1;
                }
            }
        }
        assert!(ids.len() >= 20 && pieces >= 30, "{} {pieces}", ids.len());
    }
}
