//! Commands: executed once, answered each time, over MQTT and ZeroMQ.

use std::sync::Arc;

use chordae_base::{
    DeviceId,
    seams::real::{OsClock, OsEntropy},
    time::SECOND_NS,
    wire::{ClockKind, Frame},
};
use chordae_device_sim::{Config, Fleet, FleetHandle, Mqtt, Pace, Protocol};

use crate::{
    client::{config, run},
    router::Router,
    server::{Mood, Server},
};

fn live(base: Config) -> Config {
    Config {
        pace: Pace::Speed(1.0),
        length_ns: None,
        frame_ns: SECOND_NS / 50,
        ..base
    }
}

async fn until(fleet: &FleetHandle, what: impl Fn() -> bool) {
    while !what() {
        assert!(!fleet.is_finished());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_rate_or_leads_is_a_new_boot_with_a_birth_of_its_own() {
    for mqtt in [Mqtt::V5, Mqtt::V3] {
        let server = Server::start(Mood::default(), None).await;
        let orders = [
            r#"{"id":"1","do":"identify"}"#,
            r#"{"id":"2","do":"set-rate","rate_num":250,"rate_den":1}"#,
            r#"{"id":"3","do":"set-leads","count":3}"#,
            r#"{"id":"4","do":"set-leads","count":5}"#,
            r#"{"id":"5","do":"sync-time"}"#,
        ];
        server.store.lock().unwrap().orders = orders.map(str::to_owned).to_vec();
        let base = live(config(server.address, 1));
        let config = Config {
            mqtt,
            clock: ClockKind::FreeRunning,
            ..base
        };
        let fleet = Fleet::start(config, Arc::new(OsClock), &OsEntropy).unwrap();
        let arrived = || {
            let store = server.store.lock().unwrap();
            store.replies.len() >= 5 && store.births.len() == 3 && {
                let last = store.births.iter().find(|(_, b)| b.leads.len() == 3);
                let boot = *last.unwrap().0;
                store.frames.keys().filter(|(b, _)| *b == boot).count() > 5
            }
        };
        until(&fleet, arrived).await;
        let report = fleet.stop().await.unwrap();
        assert_eq!((report.owed(), report.stats.refused), (0, 0));
        let device = &report.devices[0];
        assert_eq!((device.boots.len(), device.obeyed), (3, 4));

        let store = server.store.lock().unwrap();
        assert_eq!(store.orphans, 0, "each birth goes before its frames");
        let answered: Vec<&str> = store.replies.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(answered, ["1", "2", "3", "4", "5"]);
        let said = |n: usize| store.replies[n].1.as_str();
        assert!(said(0).contains("2 leads at 100/1 Hz"), "{}", said(0));
        assert_eq!(said(1), r#"{"ok":true,"why":null}"#);
        assert!(
            said(3).starts_with(r#"{"ok":false,"why":"5 leads"#),
            "{}",
            said(3)
        );
        let births: Vec<_> = device.boots.iter().map(|b| &store.births[b]).collect();
        let shape: Vec<_> = births
            .iter()
            .map(|b| (b.rate.num(), b.leads.len()))
            .collect();
        assert_eq!(shape, [(100, 2), (250, 2), (250, 3)]);
        let last = store
            .frames
            .range((device.boots[2], 0)..)
            .next_back()
            .unwrap();
        let last = Frame::decode(&last.1.1).unwrap();
        assert_eq!(
            (last.boot, last.leads(), last.clock),
            (device.boots[2], 3, ClockKind::Synced)
        );
        // Each boot's numbers are whole and acknowledged.
        for boot in &device.boots {
            let acked: Vec<_> = device
                .acked
                .get(boot)
                .map_or(vec![], |r| r.iter().collect());
            assert!(
                acked.len() <= 1 && acked.first().is_none_or(|(a, _)| *a == 0),
                "{acked:?}"
            );
        }
        let topic = "chordae/v1/dev-0/status".to_owned();
        assert_eq!(store.wills, [(topic, "offline".to_owned(), true)]);
        let statuses: Vec<_> = store
            .statuses
            .iter()
            .map(|(s, r)| (s.as_str(), *r))
            .collect();
        assert_eq!(statuses, [("online", true), ("offline", true)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_comes_again_is_answered_again_and_done_once() {
    // Each connection brings the same commands.
    let server = Server::start(Mood::default(), None).await;
    let orders = [r#"{"id":"a","do":"identify"}"#, r#"{"id":"b","do":"fly"}"#];
    server.store.lock().unwrap().orders = orders.map(str::to_owned).to_vec();
    let config = Config {
        faults: "reconnect".parse().unwrap(),
        ..live(config(server.address, 1))
    };
    let fleet = Fleet::start(config, Arc::new(OsClock), &OsEntropy).unwrap();
    until(&fleet, || server.store.lock().unwrap().replies.len() > 5).await;
    let report = fleet.stop().await.unwrap();
    assert_eq!((report.owed(), report.devices[0].obeyed), (0, 1));
    let store = server.store.lock().unwrap();
    for (id, reply) in &store.replies {
        let first = store.replies.iter().find(|(i, _)| i == id).unwrap();
        assert_eq!(reply, &first.1, "the same answer each time");
        assert_eq!(reply.contains(r#""ok":true"#), id == "a", "{reply}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_device_makes_nothing_until_it_is_started() {
    let server = Server::start(Mood::default(), None).await;
    let order = |text: &str| {
        let mut store = server.store.lock().unwrap();
        store.orders = vec![text.to_owned()];
        store.cuts = true;
    };
    let config = live(config(server.address, 1));
    let fleet = Fleet::start(config, Arc::new(OsClock), &OsEntropy).unwrap();
    until(&fleet, || fleet.snapshot().made > 5).await;
    order(r#"{"id":"a","do":"stop"}"#);
    until(&fleet, || !server.store.lock().unwrap().replies.is_empty()).await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let made = fleet.snapshot().made;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(fleet.snapshot().made, made);
    order(r#"{"id":"b","do":"start"}"#);
    until(&fleet, || fleet.snapshot().made > made + 5).await;
    let report = fleet.stop().await.unwrap();
    assert_eq!((report.owed(), report.devices[0].obeyed), (0, 2));
    // A hole in time, none in the numbers.
    let store = server.store.lock().unwrap();
    let at = |seq: u64| {
        let frame = store.frames.get(&(report.devices[0].boots[0], seq));
        Frame::decode(&frame.unwrap().1).unwrap().t0_ns
    };
    let steps: Vec<i64> = (1..store.frames.len() as u64)
        .map(|seq| at(seq) - at(seq - 1))
        .collect();
    assert!(steps.iter().any(|step| *step >= SECOND_NS / 5), "{steps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_zeromq_everything_is_acknowledged_and_commands_are_obeyed() {
    let door = Router::start(40, 25, Some(17)).await;
    door.held.lock().unwrap().order = Some(r#"{"id":"x","do":"identify"}"#.into());
    let base = config(door.address, 1);
    let mut endpoint = base.endpoint.clone();
    endpoint.protocol = Protocol::Zmq;
    let report = run(Config {
        endpoint,
        faults: "drop,dup,reorder,reconnect,encodings".parse().unwrap(),
        ..base
    })
    .await;
    assert_eq!(report.failure(), None);
    assert_eq!((report.owed(), report.stats.acked), (0, 299));
    let device = &report.devices[0];
    assert_eq!(device.refused["conflict"], 1, "{:?}", device.refused);
    assert!(report.stats.deferred > 0 && device.connections > 1);
    let held = door.held.lock().unwrap();
    assert_eq!((held.frames.len(), held.differing), (299, 0));
    assert!(held.publishes > 300, "there were repeats");
    let said: Vec<&str> = held.heard.iter().map(|(what, _)| what.as_str()).collect();
    assert!(
        said.contains(&"status") && said.contains(&"reply"),
        "{said:?}"
    );
    assert!(!said.contains(&"cmd-ack") || held.heard.iter().any(|(_, id)| id == "x"));
    assert_eq!(device.obeyed, 1, "asked on every connection, done once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zeromq_door_that_is_not_there_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut base = config(listener.local_addr().unwrap(), 1);
    drop(listener);
    base.endpoint.protocol = Protocol::Zmq;
    base.devices = vec![DeviceId::new("dev-0").unwrap()];
    let report = run(Config {
        length_ns: Some(SECOND_NS),
        patience_ns: 300_000_000,
        ..base
    })
    .await;
    assert_eq!((report.stats.acked, report.owed()), (0, 10));
    assert!(
        report.trouble().unwrap().contains("refused"),
        "{:?}",
        report.trouble()
    );
}
