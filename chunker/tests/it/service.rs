//! The threads around the windower: sealing, replanning, failing, stopping.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use chordae_base::{
    Did, Digest, Failure, Outcome, StreamPlan,
    plan::Tenure,
    record::{Place, SettledRecord, WalRecord},
    seams::{
        Mailbox, Threads,
        fake::{FakeClock, FakeDisk, FakeEntropy},
    },
};
use chordae_chain::link::{Link, genesis};
use chordae_chunk::SealedChunk;
use chordae_chunker::core::ports::Nothing;
use chordae_chunker::{
    ChunkSink, Chunker, FrameSource, Handle, Input, Parts, Status, Stopped, Tip,
};
use chordae_storage::{Catalogue, Committer};

use crate::{
    feed::{MS, Registry, S, T0, birth, did, frame, key, record},
    lives::{News, Sink},
};

/// A WAL that has nothing: every payload must come from the cache.
struct NoWal;

impl FrameSource for NoWal {
    fn payload(&self, position: u64) -> Outcome<Bytes> {
        Err(Failure::not_found(format!("nothing at {position}")))
    }
}

/// A sink that fails as told.
struct Fails {
    inner: Sink,
    refuse: Option<Did>,
    busy: u32,
    dead: bool,
}

impl ChunkSink for Fails {
    fn tip(&self, did: &Did) -> Tip {
        self.inner.tip(did)
    }

    fn commit(&mut self, chunks: Vec<SealedChunk>) -> Outcome<Vec<Link>> {
        if self.dead {
            return Err(Failure::io("the journal is gone"));
        }
        if self.busy > 0 {
            self.busy -= 1;
            return Err(Failure::busy("the disk is full"));
        }
        if chunks.iter().any(|c| Some(c.link().did) == self.refuse) {
            return Err(Failure::damaged("this chunk never reads back"));
        }
        self.inner.commit(chunks)
    }
}

struct House {
    handle: Handle,
    news: News,
    catalogue: Arc<Catalogue>,
    position: u64,
}

fn house(change: impl FnOnce(&mut Fails)) -> House {
    let (committer, catalogue) = Committer::open(
        Arc::new(FakeDisk::new()),
        Path::new("/data"),
        &mut |_, _| (),
        Box::new(|_| ()),
    )
    .unwrap();
    let mut sink = Fails {
        inner: Sink(committer),
        refuse: None,
        busy: 0,
        dead: false,
    };
    change(&mut sink);
    let news = News::default();
    let mut plan = StreamPlan::new(did(1), 10 * S);
    plan.tenures.push(Tenure {
        from_ns: T0 + 20 * S,
        did: did(2),
    });
    let parts = Parts {
        source: Box::new(NoWal),
        sink: Box::new(sink),
        progress: Box::new(news.clone()),
        plans: Box::new(Registry::with(plan)),
        entropy: Arc::new(FakeEntropy::new(1)),
        clock: Arc::new(FakeClock::new(T0)),
        threads: Threads::of_the_machine(),
        stored: Box::new(Nothing),
        recovered: Box::new(Nothing),
    };
    let handle = Chunker::start(parts, &prometheus::Registry::new()).unwrap();
    let house = House {
        handle,
        news,
        catalogue,
        position: 1,
    };
    house.send(Input::Record {
        position: 1,
        record: birth(1, 125),
    });
    house
}

impl House {
    fn send(&self, input: Input) {
        self.handle.input.send(input).unwrap();
    }

    /// Frames of a second from `from` seconds on, one each second.
    fn frames(&mut self, from: i64, count: i64) {
        for n in from..from + count {
            let seq = u64::try_from(n).unwrap();
            let f = frame(1, seq, T0 + n * S, 125);
            self.position += 10;
            let record = WalRecord::Frame(record(&f, T0 + n * S + 1100 * MS, 0, Place::Live));
            self.send(Input::Record {
                position: self.position,
                record,
            });
        }
    }

    fn ask<T>(&self, make: impl FnOnce(Mailbox<T>) -> Input) -> T {
        let (reply, answer) = Threads::of_the_machine().mailbox(1);
        self.send(make(reply));
        answer.recv().unwrap()
    }

    fn stop(self) -> (Stopped, Outcome<()>, News, Arc<Catalogue>) {
        let stopped = self.ask(|reply| Input::Stop { reply });
        (
            stopped,
            self.handle.join.join().unwrap(),
            self.news,
            self.catalogue,
        )
    }
}

#[test]
fn an_orderly_stop_seals_links_and_trims() {
    let mut house = house(|_| ());
    house.frames(0, 25);
    let last = house.position;
    let status: Status = house.ask(|reply| Input::Status { reply });
    assert!(status.open_buckets >= 1 && status.oldest_open_ns.is_some());
    let (stopped, end, news, catalogue) = house.stop();
    end.unwrap();
    assert_eq!((stopped.gaps, stopped.parked), (0, 0));
    assert!(stopped.floor > 1 && stopped.floor <= last);
    let (covered, trimmed, gaps) = news.0.lock().unwrap().clone();
    assert!(gaps.is_empty());
    assert_eq!(trimmed, stopped.floor);
    let whole: u64 = covered
        .iter()
        .flat_map(|c| c.whole.iter().collect::<Vec<_>>())
        .map(|(a, b)| b - a + 1)
        .sum();
    assert_eq!(whole, 25, "each frame becomes whole once");
    // The chains: two slots of the first did, one of the second.
    let counts: Vec<u64> = [did(1), did(2)]
        .iter()
        .map(|d| catalogue.tip(d).next_index)
        .collect();
    assert_eq!(counts, [2, 1]);
    let first = &catalogue.links(&did(1), 0..1)[0];
    assert_eq!(first.prev, genesis(&did(1)));
    let rows = catalogue.open_chunk(&did(1), 0).unwrap();
    assert_eq!(rows.rows().times.first(), Some(&T0));
    assert_eq!(
        rows.rows().leads[0]
            .iter()
            .filter(|who| **who == 10_003)
            .count(),
        125
    );
}

#[test]
fn a_full_disk_is_waited_for() {
    let mut house = house(|sink| sink.busy = 1);
    house.frames(0, 5);
    let (stopped, end, _, catalogue) = house.stop();
    end.unwrap();
    assert_eq!((stopped.gaps, catalogue.chunks()), (0, 1));
}

#[test]
fn a_chunk_that_fails_twice_is_a_gap_and_the_others_go_on() {
    let mut house = house(|sink| sink.refuse = Some(did(1)));
    house.frames(0, 25);
    let (stopped, end, news, catalogue) = house.stop();
    end.unwrap();
    assert_eq!(stopped.gaps, 2, "both slots of the first did");
    assert_eq!(catalogue.tip(&did(2)).next_index, 1);
    assert_eq!(stopped.floor, 11, "the WAL keeps the first frame");
    let covered = news.0.lock().unwrap().0.clone();
    assert!(covered.iter().all(|c| c.did == did(2)));
    // The store would not take it: the next start tries again, nothing goes to quarantine.
    assert!(news.0.lock().unwrap().2.is_empty());
}

#[test]
fn a_bucket_with_a_frame_that_is_none_becomes_a_named_gap_and_lets_the_log_go() {
    let mut house = house(|_| ());
    house.frames(0, 4);
    house.position += 10;
    let mut broken = record(
        &frame(1, 4, T0 + 4 * S, 125),
        T0 + 5100 * MS,
        0,
        Place::Live,
    );
    broken.payload = Bytes::from_static(b"no frame at all");
    house.send(Input::Record {
        position: house.position,
        record: WalRecord::Frame(broken),
    });
    // Another slot, and time enough for both to be sealed.
    house.frames(12, 3);
    let now_ns = T0 + 200 * S;
    house.send(Input::Tick { now_ns });
    let news = house.news.clone();
    let gap = loop {
        // The sealer is a thread of its own: asked until it has told.
        house.ask(|reply| Input::Status { reply });
        if let Some(gap) = news.0.lock().unwrap().2.first().cloned() {
            break gap;
        }
        std::thread::yield_now();
    };
    assert_eq!((gap.did, gap.boot, gap.slot_start_ns), (did(1), 1, T0));
    let seqs: Vec<u64> = gap.frames.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, [0, 1, 2, 3, 4]);
    let status: Status = house.ask(|reply| Input::Status { reply });
    let first = gap.frames[0].1;
    assert_eq!(
        (status.gaps, status.floor),
        (1, first),
        "kept until settled"
    );
    for seq in seqs {
        house.position += 10;
        let settled = SettledRecord {
            stream: key(),
            boot: 1,
            seq,
            recv_ns: now_ns,
        };
        house.send(Input::Record {
            position: house.position,
            record: WalRecord::Settled(settled),
        });
    }
    let (stopped, end, _, catalogue) = house.stop();
    end.unwrap();
    assert_eq!(
        (stopped.gaps, catalogue.chunks()),
        (0, 1),
        "the other slot is whole"
    );
    assert!(stopped.floor > first, "the log may be trimmed");
    let metas = catalogue.metas();
    assert_eq!(metas[0].seq, (12, 14), "the reader sees where the gap is");
}

#[test]
fn a_sink_that_is_gone_ends_the_chunker() {
    let mut house = house(|sink| sink.dead = true);
    house.frames(0, 5);
    let (reply, _answer) = Threads::of_the_machine().mailbox(1);
    house.send(Input::Stop { reply });
    let failure = house.handle.join.join().unwrap().unwrap_err();
    assert!(failure.why.contains("the journal is gone"), "{failure}");
}

/// The stream's plan once it goes to did 7, two seconds after its begin.
fn given_to_seven() -> StreamPlan {
    let mut plan = StreamPlan::new(did(1), 10 * S);
    plan.tenures.push(Tenure {
        from_ns: T0 + 2 * S,
        did: did(7),
    });
    plan
}

#[test]
fn a_replan_is_in_force_only_after_it_is_durable() {
    let mut house = house(|_| ());
    house.frames(0, 3);
    let plan = given_to_seven();
    let persisted = Arc::new(Mutex::new(0));
    let ask = |house: &House, plan: &StreamPlan, outcome: Outcome<()>| {
        let (plan, count) = (plan.clone(), Arc::clone(&persisted));
        house.ask(|reply| Input::Replan {
            stream: key(),
            plan,
            from_ns: T0 + 2 * S,
            persist: Box::new(move || {
                *count.lock().unwrap() += 1;
                outcome
            }),
            reply,
        })
    };
    assert!(ask(&house, &plan, Err(Failure::busy("not now"))).is_err());
    assert!(ask(&house, &plan, Ok(())).is_ok());
    assert_eq!(*persisted.lock().unwrap(), 2);
    let (_, end, _, catalogue) = house.stop();
    end.unwrap();
    // The open rows moved: two seconds stayed, one went.
    let rows = |d: Did| {
        catalogue
            .links(&d, 0..9)
            .iter()
            .map(|l| l.rows)
            .sum::<u32>()
    };
    assert_eq!((rows(did(1)), rows(did(7))), (250, 125));
    assert_ne!(catalogue.tip(&did(7)).prev, Digest([0; 32]));
}

/// The world, seed 108: the registry's sync failed, the tenure was there after the next start, and in between rows of
/// the new patient had been sealed into the did of the one before.
#[test]
fn nothing_is_sealed_once_nobody_knows_which_plan_holds() {
    let mut house = house(|_| ());
    house.frames(0, 3);
    let plan = given_to_seven();
    let answered: Outcome<()> = house.ask(|reply| Input::Replan {
        stream: key(),
        plan,
        from_ns: T0 + 2 * S,
        persist: Box::new(|| Err(Failure::io("no disk"))),
        reply,
    });
    assert!(answered.is_err());
    let failure = house.handle.join.join().unwrap().unwrap_err();
    assert!(failure.why.contains("no disk"), "{failure}");
    assert!(house.catalogue.links(&did(1), 0..9).is_empty());
}
