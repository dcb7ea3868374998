//! Commands: kept for a device that is away, sent again until it has them, never after their time.

use bytes::Bytes;
use chordae_base::{DeviceId, FailureKind, Outcome};
use chordae_ingest::core::{
    arrival::ConnId,
    exchange::{
        board::Bounds,
        command::{CommandLine, CommandState},
        effects::Effects,
        message::{Delivery, Wish},
        request::{Hello, Request},
    },
};

use crate::exchange_stage::{SECOND, Stage, hello};

const CMD: &str = "chordae/v1/d1/cmd";

fn d1() -> DeviceId {
    "d1".parse().unwrap()
}

impl Stage {
    fn issue(&mut self, id: &str, seconds: i64) -> Outcome<()> {
        let mut fx = Effects::default();
        let expires = self.now_ns + seconds * SECOND;
        let body = r#"{"do":"start","rate":250}"#;
        let done = self
            .board
            .issue(&d1(), id, body, expires, self.now_ns, &mut fx);
        self.take(fx);
        done
    }

    fn replied(&mut self, device: &str, id: &str, reply: &'static str) -> bool {
        let mut fx = Effects::default();
        let reply = Bytes::from_static(reply.as_bytes());
        let device = device.parse().unwrap();
        let known = self.board.replied(&device, id, reply, self.now_ns, &mut fx);
        self.take(fx);
        known
    }

    fn device(&mut self, clean: bool, expiry_s: u32) -> ConnId {
        let conn = self.attach(hello("d1", clean, expiry_s)).0;
        self.subscribe(conn, Wish::plain(CMD, 1)).unwrap();
        conn
    }

    fn state(&self, id: &str) -> CommandState {
        self.line(id).state
    }

    fn line(&self, id: &str) -> CommandLine {
        let lines = self.board.commands(Some(&d1()));
        lines.into_iter().find(|l| l.id == id).unwrap()
    }
}

fn id_of(delivery: &Delivery) -> String {
    let json: serde_json::Value = serde_json::from_slice(&delivery.message.payload).unwrap();
    json["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_command_waits_for_its_device_and_comes_until_it_is_acknowledged() {
    let mut stage = Stage::new();
    stage.issue("c1", 60).unwrap();
    assert!(stage.urgent && stage.changed);
    stage.issue("c2", 60).unwrap();
    stage.crash();
    let conn = stage.device(true, 0);
    let got = stage.gets(conn);
    let ids: Vec<_> = got.iter().map(id_of).collect();
    assert_eq!(ids, ["c1", "c2"], "in the order of their issue");
    assert_eq!(
        (got[0].message.topic.as_str(), got[0].message.qos),
        (CMD, 1)
    );
    assert_eq!(
        got[0].message.payload,
        r#"{"do":"start","id":"c1","rate":250}"#
    );
    assert_eq!(got[0].message.properties.expiry_s, Some(60));
    stage.ask(conn, Request::Acked(got[0].id));
    assert!(stage.changed);
    assert_eq!(stage.state("c1"), CommandState::Delivered);
    // Subscribing again sends nothing twice on one connection; another connection does.
    stage.subscribe(conn, Wish::plain(CMD, 1)).unwrap();
    assert!(stage.gets(conn).is_empty());
    stage.issue("c3", 60).unwrap();
    assert_eq!(stage.gets(conn).len(), 1, "at once");
    for lost in [true, false] {
        match lost {
            true => stage.lose(conn),
            false => stage.crash(),
        }
        let conn = stage.device(true, 0);
        let ids: Vec<_> = stage.gets(conn).iter().map(id_of).collect();
        assert_eq!(ids, ["c2", "c3"]);
    }
    assert!(stage.replied("d1", "c2", r#"{"ok":true}"#));
    let conn = stage.device(true, 0);
    let ids: Vec<_> = stage.gets(conn).iter().map(id_of).collect();
    assert_eq!(ids, ["c3"], "a reply is as good as an acknowledgement");
}

#[test]
fn a_session_that_stays_gets_its_commands_once_a_connection_too() {
    let mut stage = Stage::new();
    let conn = stage.device(false, u32::MAX);
    stage.lose(conn);
    stage.issue("c1", 60).unwrap();
    let conn = stage.attach(hello("d1", false, u32::MAX)).0;
    assert_eq!(stage.gets(conn).len(), 1, "without subscribing anew");
    let conn = stage.attach(hello("d1", false, u32::MAX)).0;
    let got = stage.gets(conn);
    assert_eq!(got.len(), 1, "again");
    stage.ask(conn, Request::Acked(got[0].id));
    let conn = stage.attach(hello("d1", false, u32::MAX)).0;
    assert!(stage.gets(conn).is_empty());
    assert_eq!(
        stage.board.queued().count,
        0,
        "none of it is in the session"
    );
}

#[test]
fn a_command_does_not_outlive_its_time() {
    let mut stage = Stage::new();
    stage.issue("c1", 10).unwrap();
    let conn = stage.device(true, 0);
    assert_eq!(stage.gets(conn).len(), 1);
    stage.lose(conn);
    stage.pass(10);
    assert_eq!(stage.state("c1"), CommandState::Expired);
    let conn = stage.device(true, 0);
    assert!(stage.gets(conn).is_empty());
    stage.crash();
    assert_eq!(stage.state("c1"), CommandState::Expired);
    let now = stage.now_ns;
    assert!(stage.replied("d1", "c1", "late"), "it had it after all");
    let line = stage.line("c1");
    assert_eq!(
        (line.state, line.replied_ns),
        (CommandState::Replied, Some(now))
    );
    assert_eq!(line.reply.as_deref(), Some(b"late".as_slice()));
    assert!(stage.issue("c2", 0).is_err(), "over before it begins");
}

#[test]
fn the_first_reply_stays_and_only_its_device_may_give_it() {
    let mut stage = Stage::new();
    stage.issue("c1", 60).unwrap();
    assert!(!stage.replied("d2", "c1", "not mine"));
    assert!(!stage.replied("d1", "c9", "no such"));
    assert!(stage.replied("d1", "c1", "first"));
    assert!(stage.urgent && stage.changed);
    assert!(stage.replied("d1", "c1", "second"), "known");
    assert!(!stage.changed);
    stage.crash();
    assert_eq!(stage.line("c1").reply.as_deref(), Some(b"first".as_slice()));
    let mut fx = Effects::default();
    stage.board.settle("c1", &mut fx);
    stage.take(fx);
    stage.crash();
    assert!(stage.board.commands(None).is_empty(), "settled: forgotten");
}

#[test]
fn a_gateway_takes_a_command_without_mqtt() {
    let mut stage = Stage::new();
    stage.issue("c1", 60).unwrap();
    let mut fx = Effects::default();
    assert!(!stage.board.delivered(&"d2".parse().unwrap(), "c1", &mut fx));
    assert!(stage.board.delivered(&d1(), "c1", &mut fx));
    stage.take(fx);
    assert!(stage.urgent);
    stage.crash();
    assert_eq!(stage.state("c1"), CommandState::Delivered);
    // The same command from upstream again changes nothing.
    stage.issue("c1", 60).unwrap();
    assert_eq!(stage.state("c1"), CommandState::Delivered);
    let mut fx = Effects::default();
    let other = "d2".parse().unwrap();
    let now = stage.now_ns;
    let taken = stage.board.issue(&other, "c1", "{}", now + 1, now, &mut fx);
    assert_eq!(taken.unwrap_err().kind, FailureKind::BadInput);
}

#[test]
fn commands_of_a_device_are_bounded_and_finished_ones_make_room() {
    let bounds = Bounds {
        commands: 3,
        ..Bounds::default()
    };
    let mut stage = Stage::with(bounds);
    for n in 0..3 {
        stage.issue(&format!("c{n}"), 60).unwrap();
    }
    assert_eq!(stage.issue("c3", 60).unwrap_err().kind, FailureKind::Busy);
    stage.replied("d1", "c1", "done");
    stage.issue("c3", 60).unwrap();
    let ids: Vec<_> = stage
        .board
        .commands(None)
        .into_iter()
        .map(|l| l.id)
        .collect();
    assert_eq!(ids, ["c0", "c2", "c3"]);
    stage.crash();
    assert_eq!(stage.issue("c4", 60).unwrap_err().kind, FailureKind::Busy);
}

#[test]
fn commands_wait_for_the_window_like_any_delivery() {
    let mut stage = Stage::new();
    for n in 0..3 {
        stage.issue(&format!("c{n}"), 60).unwrap();
    }
    let (conn, _) = stage.attach(Hello {
        receive_max: 1,
        ..hello("d1", true, 0)
    });
    stage.subscribe(conn, Wish::plain(CMD, 2)).unwrap();
    for n in 0..3 {
        let got = stage.gets(conn);
        assert_eq!(got.len(), 1);
        assert_eq!(id_of(&got[0]), format!("c{n}"));
        assert_eq!(got[0].message.qos, 1, "never more");
        stage.ask(conn, Request::Acked(got[0].id));
    }
    // At QoS 0 nobody says that it came: it stays until there is a reply.
    stage.issue("c9", 60).unwrap();
    stage.gets(conn);
    stage.lose(conn);
    let zero = stage.guest("d1");
    stage.subscribe(zero, Wish::plain(CMD, 0)).unwrap();
    assert_eq!(stage.gets(zero)[0].message.qos, 0);
    assert_eq!(stage.state("c9"), CommandState::Waiting);
}

#[test]
fn what_is_no_command_is_refused() {
    let mut stage = Stage::new();
    let (now, mut fx) = (stage.now_ns, Effects::default());
    let long = format!(r#"{{"x":"{}"}}"#, "x".repeat(9000));
    for (id, body) in [
        ("c1", "[]"),
        ("c1", "no json"),
        ("c1", r#"{"id":"mine"}"#),
        ("c1", long.as_str()),
        ("a/b", "{}"),
        ("+", "{}"),
        ("", "{}"),
    ] {
        let taken = stage.board.issue(&d1(), id, body, now + 1, now, &mut fx);
        assert_eq!(
            taken.unwrap_err().kind,
            FailureKind::BadInput,
            "{id} {body}"
        );
    }
    assert!(fx.records.is_empty());
}
