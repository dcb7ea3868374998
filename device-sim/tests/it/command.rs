//! The binary: exit codes, what is printed where.

use std::process::{Command, Output};

use crate::server::{Mood, Server};

fn device_sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_device-sim"))
        .args(args)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn wrong_usage_exits_2() {
    let url = "mqtt://127.0.0.1:1";
    for args in [
        &[][..],
        &["--url", "zmq://127.0.0.1:5555", "--encoding", "json"],
        &["--url", "amqp://127.0.0.1:5555"],
        &["--url", url, "--qos", "3"],
        &["--url", url, "--faults", "jitter=soon"],
        &["--url", url, "--faults", "dup=3"],
        &["--url", url, "--away", "10m", "--speed", "2"],
        &["--url", url, "--speed", "0"],
        &["--url", url, "--rate", "20000"],
        &["--url", url, "--faults", "fire"],
        &["--url", url, "--mqtt", "4"],
        &["--url", url, "--for", "0s"],
        &["--url", url, "--device", "UPPER"],
        &["--url", url, "--devices", "2", "--device", "a"],
        &["--url", url, "--burst", "100000"],
        &["--url", "mqtts://127.0.0.1:1"],
    ] {
        let out = device_sim(args);
        assert_eq!(
            out.status.code(),
            Some(2),
            "{args:?}: {}",
            text(&out.stderr)
        );
        assert!(!out.stderr.is_empty());
    }
}

#[test]
fn help_has_an_example() {
    let out = device_sim(&["--help"]);
    assert_eq!(out.status.code(), Some(0));
    let help = text(&out.stdout);
    assert!(help.contains("device-sim --url mqtt://localhost:1883"));
    for fault in [
        "drop",
        "reconnect",
        "pause",
        "dup",
        "reorder",
        "late",
        "gap",
        "encodings",
        "extremes",
        "reuse-boot",
        "clock-jump",
        "jitter",
        "drift",
    ] {
        assert!(
            help.contains(&format!("\n  {fault}")),
            "{fault} is not explained"
        );
    }
}

#[test]
fn what_cannot_be_done_exits_1_and_says_why() {
    let nowhere = [
        "--url",
        "mqtt://127.0.0.1:1",
        "--for",
        "100ms",
        "--patience",
        "100ms",
    ];
    let out = device_sim(&[&nowhere[..], &["--frame", "50ms"]].concat());
    assert_eq!(out.status.code(), Some(1));
    let said = text(&out.stderr);
    assert_eq!(
        said.lines().count(),
        1,
        "one line, and no progress in a pipe: {said}"
    );
    assert!(said.contains("2 owed"), "{said}");
    let out = device_sim(&[&nowhere[..], &["--record", "/nonexistent/100.hea"]].concat());
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("100.hea"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_run_lists_what_was_acknowledged() {
    let server = Server::start(Mood::default(), None).await;
    let dir = tempfile::tempdir().unwrap();
    let acked = dir.path().join("acked").display().to_string();
    let url = format!("mqtt://{}", server.address);
    let run = move |extra: &[&str]| {
        let args = [
            "--url",
            &url,
            "--devices",
            "2",
            "--max-rate",
            "--for",
            "5s",
            "--acked",
            &acked,
        ];
        let out = device_sim(&[&args[..], extra].concat());
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        assert!(text(&out.stderr).is_empty(), "{}", text(&out.stderr));
        (text(&out.stdout), std::fs::read_to_string(&acked).unwrap())
    };
    let (summary, first) = tokio::task::spawn_blocking({
        let run = run.clone();
        move || run(&["--leads", "3", "--rate", "250"])
    })
    .await
    .unwrap();
    assert!(
        summary.contains("10 frames made, 10 acknowledged"),
        "{summary}"
    );
    let mut lines: Vec<String> = first.lines().map(str::to_owned).collect();
    lines.sort();
    let mut stored = server.lines();
    stored.sort();
    assert_eq!(lines, stored);
    assert!(lines[0].starts_with("sim-0001 ecg "), "{}", lines[0]);
    // A second run goes on with the same list, under other boots.
    let (_, both) = tokio::task::spawn_blocking(move || run(&["--mqtt", "3"]))
        .await
        .unwrap();
    assert!(both.starts_with(&first) && both.lines().count() == 20);
    assert_eq!(server.store.lock().unwrap().births.len(), 4);
}
