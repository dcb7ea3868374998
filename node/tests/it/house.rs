//! The house holds: floors, rooms, sizes and tags are read from the manifests and the sources.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Lines of a source file at which it is two subjects.
const FILE_LINES_MAX: usize = 600;

/// Which of our crates each of our crates may name. Services never meet; only the node knows them.
fn allowed(name: &str) -> &'static [&'static str] {
    match name {
        "chordae-base" | "chordae-powerloss" | "chordae-features" => &[],
        "chordae-chain" => &["chordae-base"],
        "chordae-chunk" => &["chordae-base", "chordae-chain"],
        "chordae-checker" => &["chordae-base", "chordae-chain", "chordae-chunk"],
        "chordae-ingest" | "chordae-device-sim" => &["chordae-base"],
        "chordae-anchor" => &["chordae-base", "chordae-chain"],
        "chordae-chunker" | "chordae-storage" | "chordae-query" => {
            &["chordae-base", "chordae-chain", "chordae-chunk"]
        }
        "chordae-fuzz" => &["chordae-base", "chordae-ingest"],
        "chordae" | "chordae-benches" | "chordae-damage" | "chordae-world" => &[
            "chordae-base",
            "chordae-chain",
            "chordae-chunk",
            "chordae-checker",
            "chordae-ingest",
            "chordae-chunker",
            "chordae-anchor",
            "chordae-storage",
            "chordae-query",
            "chordae-device-sim",
            "chordae",
        ],
        other => panic!("{other} has no floor: give it one in this test and in ARCHITECTURE.md"),
    }
}

/// Heavy or dangerous libraries and the only crates of ours that may name them.
const FIREWALL: &[(&str, &[&str])] = &[
    ("arrow-array", &["chordae-chunk", "chordae-query"]),
    ("parquet", &["chordae-chunk", "chordae-query"]),
    ("rumqttc", &["chordae-ingest", "chordae-device-sim"]),
    ("rumqttd", &["chordae-ingest", "chordae-benches"]),
    ("zeromq", &["chordae-device-sim", "chordae-benches"]),
    ("tokio-tungstenite", &["chordae-ingest"]),
    ("axum", &["chordae-query", "chordae", "chordae-world"]),
    (
        "tokio",
        &[
            "chordae-ingest",
            "chordae-query",
            "chordae-device-sim",
            "chordae",
            "chordae-benches",
            "chordae-fuzz",
            "chordae-world",
        ],
    ),
    ("clap", &["chordae", "chordae-device-sim", "chordae-world"]),
    ("rcgen", &["chordae"]),
    ("fuser", &["chordae-powerloss"]),
    // The parts make spans; where they go is the node's business.
    ("opentelemetry", &["chordae"]),
    ("opentelemetry-proto", &["chordae"]),
    ("opentelemetry_sdk", &["chordae"]),
    ("tracing-opentelemetry", &["chordae"]),
    ("tracing-subscriber", &["chordae", "chordae-device-sim"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Every Rust source below the workspace, with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut todo = vec![root()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules"
            {
                todo.push(path);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(
        found.len() > 50,
        "only {} sources found: the walk is broken",
        found.len()
    );
    found
}

#[test]
fn arrows_point_down() {
    let metadata = MetadataCommand::new()
        .current_dir(root())
        .no_deps()
        .exec()
        .unwrap();
    assert!(metadata.packages.len() >= 12);
    let ours: Vec<String> = metadata
        .packages
        .iter()
        .map(|p| p.name.to_string())
        .collect();
    for package in &metadata.packages {
        let name = package.name.to_string();
        for dep in package
            .dependencies
            .iter()
            .filter(|d| d.kind == DependencyKind::Normal)
        {
            if ours.contains(&dep.name) {
                assert!(
                    allowed(&name).contains(&dep.name.as_str()),
                    "{name} names {}, which is not below it",
                    dep.name
                );
            }
            if let Some((_, who)) = FIREWALL.iter().find(|(lib, _)| *lib == dep.name) {
                assert!(
                    who.contains(&name.as_str()),
                    "{name} names {}: see FIREWALL",
                    dep.name
                );
            }
        }
    }
}

#[test]
fn cores_decide_and_do_nothing() {
    let banned = [
        "std::fs",
        "std::net",
        "std::thread",
        "tokio",
        "async fn",
        "SystemTime",
        "Instant",
        "dyn Disk",
    ];
    let mut seen = 0;
    for (path, text) in sources() {
        if !path.to_string_lossy().contains("/src/core/") {
            continue;
        }
        seen += 1;
        for (n, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in banned {
                assert!(
                    !code.contains(word),
                    "{}:{}: a core says {word}",
                    path.display(),
                    n + 1
                );
            }
        }
    }
    assert!(seen >= 8, "only {seen} core files seen");
}

#[test]
fn files_have_a_header_and_one_subject() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(
            lines <= FILE_LINES_MAX,
            "{} has {lines} lines: split it",
            path.display()
        );
        assert!(
            text.starts_with("//!"),
            "{} does not begin with what it is about (//!)",
            path.display()
        );
    }
}

#[test]
fn every_hash_tag_is_written_down_once() {
    let formats = fs::read_to_string(root().join("docs/FORMATS.md")).unwrap();
    let mut homes: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for (path, text) in sources() {
        if path.to_string_lossy().contains("tests") {
            continue;
        }
        // Tests may spell a tag out again: that is what they are for.
        let body = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code = body
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        for tag in code
            .flat_map(|line| line.split('"'))
            .filter(|word| word.starts_with("chordae v1 "))
        {
            homes.entry(tag.to_owned()).or_default().push(path.clone());
        }
    }
    assert!(homes.len() >= 7, "only {} tags found", homes.len());
    for (tag, at) in homes {
        assert_eq!(
            at.len(),
            1,
            "{tag:?} is spelled out in several places: {at:?}"
        );
        let short = tag.trim_start_matches("chordae v1 ");
        assert!(
            formats.contains(&tag) || formats.contains(&format!("`{short}`")),
            "{tag:?} is not in docs/FORMATS.md"
        );
    }
}

#[test]
fn no_two_crates_disagree_about_a_version() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for name in [
        "arrow-array",
        "parquet",
        "tokio",
        "blake3",
        "rustls",
        "ring",
        "ed25519-dalek",
    ] {
        let count = lock.matches(&format!("name = \"{name}\"\n")).count();
        assert_eq!(count, 1, "{count} versions of {name} are built");
    }
    for name in ["aws-lc-sys", "openssl-sys", "cmake"] {
        assert!(
            !lock.contains(&format!("name = \"{name}\"\n")),
            "{name} has crept in"
        );
    }
}
