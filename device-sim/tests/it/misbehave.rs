//! Misbehaviours and the other ways of speaking: what goes out, and that everything is settled.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
};

use chordae_base::{time::SECOND_NS, wire::Frame};
use chordae_device_sim::{Config, Encoding, Mqtt, Pace};

use crate::{
    client::{config, listed, missing, run},
    server::{Mood, Server},
};

#[tokio::test(flavor = "multi_thread")]
async fn every_qos_and_version_settles_everything() {
    for (mqtt, qos) in [(Mqtt::V5, 0), (Mqtt::V3, 0), (Mqtt::V5, 2), (Mqtt::V3, 2)] {
        let mood = Mood {
            forgets: 40,
            drops: 60,
            ..Mood::default()
        };
        let server = Server::start(mood, None).await;
        let dir = tempfile::tempdir().unwrap();
        let acked = dir.path().join("acked");
        let report = run(Config {
            mqtt,
            qos,
            acked: Some(acked.clone()),
            faults: "drop,dup".parse().unwrap(),
            ..config(server.address, 2)
        })
        .await;
        assert_eq!(
            (report.stats.acked, report.owed()),
            (600, 0),
            "{mqtt:?} {qos}"
        );
        let lines = listed(&acked);
        assert_eq!((lines.len(), missing(&lines, &server)), (600, 0));
        assert_eq!(server.store.lock().unwrap().differing, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_is_the_same_in_every_form() {
    let mood = Mood {
        forgets: 10,
        ..Mood::default()
    };
    let server = Server::start(mood, None).await;
    let report = run(Config {
        encoding: Encoding::Mixed,
        faults: "dup,extremes".parse().unwrap(),
        ..config(server.address, 1)
    })
    .await;
    assert_eq!((report.stats.acked, report.owed()), (300, 0));
    let store = server.store.lock().unwrap();
    let forms: Vec<&str> = store.forms.keys().copied().collect();
    assert_eq!(forms, ["deltas", "i16le", "json"]);
    assert_eq!(store.differing, 0);
    let codes: BTreeSet<i32> = store
        .frames
        .values()
        .flat_map(|(_, p)| Frame::decode(p).unwrap().codes)
        .collect();
    for edge in [i32::MIN, i32::MIN + 1, i32::MAX, -32_768, 32_768] {
        assert!(codes.contains(&edge), "{edge}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reused_boot_sends_the_same_and_then_other_frames_under_its_numbers() {
    let server = Server::start(Mood::default(), None).await;
    let report = run(Config {
        faults: "reuse-boot".parse().unwrap(),
        boot: Some(5),
        ..config(server.address, 1)
    })
    .await;
    assert_eq!(report.owed(), 0);
    let store = server.store.lock().unwrap();
    // This server does not look at the content; 32 repeats were the same, and 32 were not.
    assert_eq!(store.publishes, 300 + 32);
    assert_eq!(store.differing, 32);
    assert_eq!(store.frames.len(), 300 - 32);
    assert_eq!(store.frames.keys().next(), Some(&(5, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_boot_seed_and_start_are_the_same_session() {
    let server = Server::start(Mood::default(), None).await;
    let session = Config {
        boot: Some(9),
        start_ns: Some(1_700_000_000 * SECOND_NS),
        faults: "jitter=40ms,drift=1%,clock-jump,extremes,gap,drop"
            .parse()
            .unwrap(),
        ..config(server.address, 1)
    };
    let first = run(session.clone()).await;
    let held = server.store.lock().unwrap().frames.len();
    let second = run(session).await;
    assert!(first.stats.lost > 0, "gaps were made");
    assert_eq!(first.stats.acked, second.stats.acked);
    let store = server.store.lock().unwrap();
    assert_eq!((store.frames.len(), store.differing), (held, 0));
    // Steps to either side, and t0 that is off.
    let offs: Vec<i64> = store
        .frames
        .iter()
        .map(|((_, seq), (_, p))| {
            let true_ns = 1_700_000_000 * SECOND_NS + *seq as i64 * SECOND_NS / 10;
            Frame::decode(p).unwrap().t0_ns - true_ns
        })
        .collect();
    let (low, high) = (offs.iter().min().unwrap(), offs.iter().max().unwrap());
    assert!(*low < -SECOND_NS && *high > SECOND_NS, "{low} {high}");
    let small: BTreeSet<i64> = offs.iter().map(|o| o % SECOND_NS).collect();
    assert!(small.len() > 200, "each is off by something of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn precomputed_frames_are_frames() {
    let server = Server::start(Mood::default(), None).await;
    let dir = tempfile::tempdir().unwrap();
    let acked = dir.path().join("acked");
    let report = run(Config {
        precomputed: true,
        acked: Some(acked.clone()),
        ..config(server.address, 2)
    })
    .await;
    assert_eq!((report.stats.acked, report.owed()), (600, 0));
    // The server decodes them and computes each line anew.
    let lines = listed(&acked);
    assert_eq!((lines.len(), missing(&lines, &server)), (600, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_away_brings_what_it_recorded_and_goes_on() {
    let server = Server::start(Mood::default(), None).await;
    let before = chordae_base::seams::Clock::wall_ns(&chordae_base::seams::real::OsClock);
    let report = run(Config {
        pace: Pace::Speed(1.0),
        away_ns: 60 * SECOND_NS,
        length_ns: Some(61 * SECOND_NS),
        ..config(server.address, 1)
    })
    .await;
    assert_eq!((report.stats.acked, report.owed()), (610, 0));
    let store = server.store.lock().unwrap();
    let first = Frame::decode(&store.frames.values().next().unwrap().1).unwrap();
    assert!(!first.historical && first.t0_ns < before - 59 * SECOND_NS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_simulator_sends_again_what_it_owed_and_lists_nothing_twice() {
    let mood = Mood {
        forgets: 3,
        ..Mood::default()
    };
    let server = Server::start(mood, None).await;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let start = |more: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_device-sim"))
            .args(["--url", &format!("mqtt://{}", server.address)])
            .args(["--device", "dev-0", "--leads", "1", "--rate", "100"])
            .args(["--acked", &path("acked"), "--state", &path("state")])
            .args(more)
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    for blow in 1..=4 {
        let mut child = start(&["--frame", "20ms"]);
        loop {
            let listed = std::fs::read_to_string(dir.path().join("acked")).unwrap_or_default();
            if listed.lines().count() >= blow * 15 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    server.store.lock().unwrap().forgives = true;
    let mut last = start(&["--frame", "20ms", "--for", "1s"]);
    let ended = tokio::task::spawn_blocking(move || last.wait().unwrap());
    assert!(ended.await.unwrap().success());
    let lines = listed(&dir.path().join("acked"));
    let once: BTreeSet<&String> = lines.iter().collect();
    assert_eq!(lines.len(), once.len(), "no line twice");
    assert_eq!(missing(&lines, &server), 0);
    let store = server.store.lock().unwrap();
    assert_eq!(store.births.len(), 5, "each life is a boot");
    // Everything the server holds was acknowledged to some life of the device.
    assert_eq!(store.frames.len(), lines.len());
    assert_eq!(store.differing, 0);
}
