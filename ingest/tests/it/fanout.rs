//! The embedded router: monitors see live frames, and its death harms nobody.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chordae_ingest::{
    core::{
        arrival::{Content, Verdict},
        ports::LiveFrame,
    },
    fanout::{Fanout, Feed, RouterFanout},
};

use crate::support::{House, Sender, birth, content, frame, key, runtime, until};

fn live(topic: &str, n: u8) -> LiveFrame {
    LiveFrame {
        topic: topic.into(),
        payload: vec![n; 10].into(),
    }
}

/// Publishes until the feed has something: subscribing takes its time, and QoS 0 promises nothing.
async fn first(fanout: &RouterFanout, feed: &mut Feed, topic: &str) -> LiveFrame {
    for n in 0..400 {
        fanout.publish(live(topic, u8::try_from(n % 256).unwrap()));
        if let Ok(Some(live)) =
            tokio::time::timeout(Duration::from_millis(50), feed.frames.recv()).await
        {
            return live;
        }
    }
    panic!("the monitor never saw a frame of {topic}");
}

#[test]
fn a_monitor_sees_the_devices_it_asked_for_and_again_after_a_crash() {
    runtime().block_on(async {
        let fanout = RouterFanout::start().unwrap();
        let bed = Some("bed-7".parse().unwrap());
        let mut one = fanout.subscribe(BTreeSet::from([bed]));
        let mut all = fanout.subscribe(BTreeSet::from([None]));
        assert_eq!(
            first(&fanout, &mut one, "chordae/v1/bed-7/ecg/live")
                .await
                .payload
                .len(),
            10
        );
        first(&fanout, &mut all, "chordae/v1/bed-8/ecg/live").await;
        while one.frames.try_recv().is_ok() {}
        fanout.publish(live("chordae/v1/bed-8/ecg/live", 1));
        let other = tokio::time::timeout(Duration::from_millis(300), one.frames.recv()).await;
        assert!(other.is_err(), "another device's frame: {other:?}");
        for _ in 0..3 {
            fanout.crash();
            while one.frames.try_recv().is_ok() {}
            first(&fanout, &mut one, "chordae/v1/bed-7/ecg/live").await;
        }
        first(&fanout, &mut all, "chordae/v1/bed-8/ecg/live").await;
    });
}

#[test]
fn the_death_of_the_router_does_not_touch_ingest() {
    runtime().block_on(async {
        let fanout = Arc::new(RouterFanout::start().unwrap());
        let (house, _) = House::in_memory();
        let house = House {
            fanout: Arc::clone(&fanout) as Arc<dyn Fanout>,
            ..house
        };
        let (ingest, sink) = house.start();
        let mut sender = Sender::new(ingest.handle(), 1);
        let stream = key("bed-7/ecg");
        // A monitor that never reads, and one that does.
        let _deaf = fanout.subscribe(BTreeSet::from([None]));
        let mut feed = fanout.subscribe(BTreeSet::from([None]));
        sender.ask(&stream, Content::Birth(birth(1))).await;
        for seq in 0..3_000 {
            if seq % 500 == 499 {
                fanout.crash();
            }
            let made = content(&frame(1, seq, house.now(), 1));
            assert_eq!(
                sender.ask(&stream, made).await,
                Verdict::Durable,
                "frame {seq}"
            );
        }
        until("all go downstream", || sink.frames().len() == 3_000).await;
        // Later frames are seen again.
        while feed.frames.try_recv().is_ok() {}
        let mut seq = 3_000;
        loop {
            let made = content(&frame(1, seq, house.now(), 1));
            assert_eq!(sender.ask(&stream, made).await, Verdict::Durable);
            let seen = tokio::time::timeout(Duration::from_millis(50), feed.frames.recv()).await;
            if matches!(seen, Ok(Some(live)) if live.topic == "chordae/v1/bed-7/ecg/live") {
                break;
            }
            seq += 1;
            assert!(seq < 3_400, "the monitor never sees a frame again");
        }
    });
}
