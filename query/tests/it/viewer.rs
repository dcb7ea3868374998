//! The files of the pages: what they are served as, and that they need nobody else.

use axum::{
    body::Body,
    http::{Request, StatusCode},
};

use crate::world::World;

async fn got(w: &World, path: &str) -> crate::world::Answer {
    w.send(Request::get(path).body(Body::empty()).unwrap())
        .await
}

#[tokio::test]
async fn each_page_is_served_to_anybody_with_what_it_names_and_under_its_policy() {
    let w = World::new();
    let mut all = vec!["/judge.js".to_owned()];
    for page in ["/", "/patient", "/operator"] {
        let page = got(&w, page).await;
        assert_eq!(page.status, StatusCode::OK);
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        let named = page
            .text()
            .split('"')
            .filter(|t| t.ends_with(".js") || t.ends_with(".css") || t.ends_with(".svg"));
        let before = all.len();
        all.extend(named.map(|t| format!("/{t}")));
        assert_eq!(all.len() - before, 3, "{all:?}");
    }
    let pages = ["/", "/patient", "/operator"];
    for path in all.iter().map(String::as_str).chain(pages) {
        let file = got(&w, path).await;
        assert_eq!(file.status, StatusCode::OK, "{path}");
        let policy = file.header("content-security-policy");
        assert!(policy.starts_with("default-src 'self';"), "{path}");
        assert!(!policy.contains("unsafe") && !policy.contains("http"));
        assert_eq!(file.header("x-content-type-options"), "nosniff");
        let kind = match path.rsplit('.').next() {
            Some("js") => "text/javascript",
            Some("css") => "text/css",
            Some("svg") => "image/svg+xml",
            _ => "text/html",
        };
        assert!(file.header("content-type").starts_with(kind), "{path}");
    }
    // The control: nothing beside them is a file.
    for path in [
        "/index.html",
        "/patient.html",
        "/viewer.js.map",
        "/dist/viewer.js",
    ] {
        assert_eq!(got(&w, path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn an_unchanged_viewer_is_not_sent_again() {
    let w = World::new();
    let tag = got(&w, "/").await.header("etag").to_owned();
    let ask = |tags: String| Request::get("/viewer.js").header("if-none-match", tags);
    let same = w
        .send(ask(format!("\"x\", {tag}")).body(Body::empty()).unwrap())
        .await;
    assert_eq!((same.status, same.text()), (StatusCode::NOT_MODIFIED, ""));
    let other = w
        .send(ask("\"x\"".to_owned()).body(Body::empty()).unwrap())
        .await;
    assert_eq!(other.status, StatusCode::OK);
    assert_eq!(other.header("cache-control"), "no-cache");
}
