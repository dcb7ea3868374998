//! What becomes of frames that a ZeroMQ peer sends twice, out of order, with extreme codes, or all over again:
//! rows Z12, Z15 and Z18, on real sockets.

use bytes::Bytes;
use chordae_base::wire::Frame;
use chordae_ingest::core::{
    identify::Peer,
    ports::DeviceKind,
    zmq::{
        outgoing::Outgoing,
        session::{Act, Input},
    },
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    support::{House, frame, runtime, until},
    zmq_session::{BIRTH, Talk, id},
    zmq_ward::{Dealer, Heard, ZmqWard, live},
};

const ECG: &str = "bed-7/ecg";

#[test]
fn z12_gaps_repeats_conflicts_and_wraps() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = ZmqWard::new(house);
        let door = ward.door(None).await;
        let mut dealer = Dealer::plain(&door).await;
        dealer.birth(ECG, 1).await;
        let now = ward.house.now();
        let mut offer = async |boot: u64, seq: u64, salt: i32| {
            dealer.put_frame(ECG, &frame(boot, seq, now - 1_000_000_000, salt));
            dealer.flush().await;
            Heard::of(&dealer.hear().await.unwrap())
        };
        let ack = |boot, seq| Heard::ack(ECG, boot, seq, seq);
        assert_eq!(offer(1, 0, 1).await, ack(1, 0));
        assert_eq!(offer(1, 9, 1).await, ack(1, 9), "a gap");
        assert_eq!(offer(1, 4, 1).await, ack(1, 4), "backwards");
        assert_eq!(offer(1, 9, 1).await, ack(1, 9), "a repeat");
        assert_eq!(offer(1, 9, 2).await, Heard::nack(ECG, 1, 9, "conflict"));
        assert_eq!(
            offer(1, u64::MAX, 1).await,
            Heard::nack(ECG, 1, BIRTH, "seq")
        );
        assert_eq!(offer(1, u64::MAX - 1, 1).await, ack(1, u64::MAX - 1));
        assert_eq!(
            offer(1, 1, 1).await,
            ack(1, 1),
            "after the wrap: an old number that is new"
        );
        assert_eq!(
            offer(2, 0, 1).await,
            ack(2, 0),
            "a new boot waits for its birth"
        );
        dealer.birth(ECG, 2).await;
        // The first of a boot stays: another birth is refused, and told.
        let other = chordae_base::wire::Birth {
            model: "other".into(),
            ..crate::support::birth(2)
        };
        dealer
            .say(&[b"birth", ECG.as_bytes(), &other.encode()])
            .await;
        let heard = Heard::of(&dealer.hear().await.unwrap());
        assert_eq!(heard, Heard::nack(ECG, 2, BIRTH, "boot-reused"));
        until("parked and released", || ward.logged().len() == 7).await;
        let nine = ward.logged().into_iter().find(|f| f.seq == 9).unwrap();
        assert_eq!(
            nine,
            frame(1, 9, now - 1_000_000_000, 1),
            "the first is kept"
        );
    });
}

#[test]
fn z15_extreme_codes_are_stored_bit_by_bit() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = ZmqWard::new(house);
        let door = ward.door(None).await;
        let mut dealer = Dealer::plain(&door).await;
        dealer.birth(ECG, 1).await;
        let codes = vec![
            i32::MIN,
            i32::MAX,
            -1,
            0,
            1,
            i32::MIN + 1,
            i32::MAX - 1,
            i32::MIN,
        ];
        let sent = Frame {
            samples: 4,
            codes,
            ..frame(1, 0, ward.house.now(), 0)
        };
        dealer.put_frame(ECG, &sent);
        dealer.flush().await;
        dealer.acks(ECG, 1, 0..1).await;
        until("handed down", || ward.logged() == [sent.clone()]).await;
    });
}

/// The captured bytes of a whole valid session, again: all is acknowledged, nothing is stored.
#[test]
fn z18_a_replayed_session_adds_nothing() {
    runtime().block_on(async {
        let (house, _) = House::in_memory();
        let ward = ZmqWard::new(house);
        let door = ward.door(None).await;
        let mut dealer = Dealer::plain(&door).await;
        dealer.birth(ECG, 1).await;
        let frames = live(&ward.house, 1, 40);
        frames.iter().for_each(|f| dealer.put_frame(ECG, f));
        dealer.flush().await;
        dealer.acks(ECG, 1, 0..40).await;
        let captured = dealer.captured.clone();
        until("handed down", || ward.logged().len() == 40).await;
        let socket = TcpStream::connect(door.address()).await.unwrap();
        let mut replay = Dealer::over(socket, dealer.zmtp.clone());
        replay.socket.write_all(&captured).await.unwrap();
        // The door's own greeting and READY are not ours to read here: they are passed over.
        replay.pass_over_greeting().await;
        let heard = Heard::of(&replay.hear().await.unwrap());
        assert_eq!(heard, Heard::ack(ECG, 1, BIRTH, BIRTH));
        replay.acks(ECG, 1, 0..40).await;
        assert_eq!(ward.logged().len(), 40);
    });
}

#[test]
fn a_gateway_says_what_it_was_given_to_keep_and_nobody_else_may() {
    let mut ward = Talk::up(Peer::Certified(DeviceKind::Gateway, id("ward-3")), "ward-3");
    ward.said();
    ward.say(&[b"checkpoint", b"text"]);
    let asked = Act::Remembered(id("ward-3"), "text".into());
    assert!(ward.acts.contains(&asked), "{:?}", ward.acts);
    assert!(
        ward.said().is_empty(),
        "nothing is given before it has been looked at"
    );
    ward.take(Input::Checkpoint("newer".into()));
    assert_eq!(ward.said(), [Outgoing::Checkpoint("newer".into())]);
    for (peer, name) in [
        (Peer::Certified(DeviceKind::Device, id("bed-7")), "bed-7"),
        (Peer::Plain, "anyone"),
    ] {
        let mut talk = Talk::up(peer, name);
        talk.said();
        talk.say(&[b"checkpoint", b"text"]);
        let nack = Outgoing::Nack(Bytes::from_static(b"text"), None, "parts");
        assert_eq!(talk.said(), [nack]);
        assert!(
            !talk
                .acts
                .iter()
                .any(|act| matches!(act, Act::Remembered(..)))
        );
    }
}
