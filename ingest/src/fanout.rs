//! Live frames to bedside monitors, at QoS 0, through rumqttd's router, embedded and without a listener.
//!
//! ```text
//! ingest ──try_send──▶ [bounded] ──▶ publisher thread ──link──▶ router ──link per monitor──▶ its door task
//! ```
//!
//! It may die at any time and never touches ingest: publishing never blocks and may drop; a dead router
//! (its thread panicked, its channel is closed) is noticed by whoever sends to it and replaced by a fresh
//! one; monitors link anew and see later frames. A monitor that does not read is behind: its link stalls,
//! the router's log drops the oldest, nobody else notices.
//!
//! The router keeps every topic and filter it has ever seen, so both are finite: topics are those of
//! streams with a birth, filters those of registered devices, whole devices only; the session picks.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use chordae_base::{DeviceId, Failure, Outcome, limits};
use rumqttd::{
    Notification, Router, RouterConfig,
    local::{LinkBuilder, LinkError, LinkRx, LinkTx},
    protocol::{Disconnect, DisconnectReasonCode, Packet},
};
use tokio::{sync::mpsc, task, time};

use crate::core::ports::LiveFrame;

/// Frames waiting for the publisher.
const PUBLISH_QUEUE: usize = 1024;
/// Bytes of one segment of the router's log, per filter; two are kept.
const SEGMENT_BYTES: usize = 1024 * 1024;
/// Pause before a dead router is replaced, or a refused link tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest wait for a link.
const LINK_TIMEOUT: Duration = Duration::from_secs(5);

/// Where live frames are offered, and where monitors get them.
pub trait Fanout: Send + Sync {
    /// Offers a frame; never blocks. False if it was dropped.
    fn publish(&self, live: LiveFrame) -> bool;
    /// Live frames of these devices (`None`: of all) from now on. Called within a tokio runtime.
    fn subscribe(&self, devices: BTreeSet<Option<DeviceId>>) -> Feed;
}

/// Live frames for one monitor; dropping it ends the subscription.
pub struct Feed {
    /// Bounded; when it is full the router holds frames back, and drops the oldest.
    pub frames: mpsc::Receiver<LiveFrame>,
}

/// No monitors: for nodes without any, and for tests of everything else.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFanout;

impl Fanout for NoFanout {
    fn publish(&self, _live: LiveFrame) -> bool {
        true
    }

    fn subscribe(&self, _devices: BTreeSet<Option<DeviceId>>) -> Feed {
        let (_never, frames) = mpsc::channel(1);
        Feed { frames }
    }
}

/// The embedded router.
pub struct RouterFanout {
    shared: Arc<Shared>,
    queue: SyncSender<LiveFrame>,
}

impl RouterFanout {
    /// Starts the router and its publisher.
    ///
    /// # Errors
    /// `Io` when a thread cannot be started.
    pub fn start() -> Outcome<Self> {
        let running = Running {
            generation: 0,
            router: Arc::new(spawn_router()),
        };
        let shared = Arc::new(Shared {
            running: Mutex::new(running),
            names: AtomicU64::new(0),
        });
        let (queue, frames) = sync_channel::<LiveFrame>(PUBLISH_QUEUE);
        let publisher = Arc::clone(&shared);
        thread::Builder::new()
            .name("fanout".into())
            .spawn(move || publisher.publish_all(&frames))
            .map_err(|err| Failure::os("start the fan-out thread", &err))?;
        Ok(Self { shared, queue })
    }

    /// Kills the router's thread, as a bug of it would. It is replaced at the next use. For tests and
    /// fault campaigns: that this harms nobody is part of the design.
    pub fn crash(&self) {
        (self.shared.current().1.crash)();
    }
}

impl Fanout for RouterFanout {
    fn publish(&self, live: LiveFrame) -> bool {
        self.queue.try_send(live).is_ok()
    }

    fn subscribe(&self, devices: BTreeSet<Option<DeviceId>>) -> Feed {
        let (out, frames) = mpsc::channel(limits::LIVE_QUEUE);
        let filters: Vec<String> = devices
            .iter()
            .map(|device| match device {
                Some(device) => format!("chordae/v1/{device}/+/live"),
                None => "chordae/v1/+/+/live".into(),
            })
            .collect();
        task::spawn(feed(Arc::clone(&self.shared), filters, out));
        Feed { frames }
    }
}

type Links = (LinkTx, LinkRx);

/// Why there is no link.
enum Unlinked {
    /// The router takes no events: it is dead.
    Dead,
    /// It did not answer, or there is no place left.
    Refused,
}

impl From<LinkError> for Unlinked {
    fn from(err: LinkError) -> Self {
        match err {
            LinkError::Send(_) | LinkError::TrySend(_) => Self::Dead,
            _ => Self::Refused,
        }
    }
}

type Linker = dyn Fn(&str) -> Result<Links, Unlinked> + Send + Sync;

/// A running router. Its event type cannot be named, so it is reached through closures.
struct Handle {
    link: Box<Linker>,
    crash: Box<dyn Fn() + Send + Sync>,
}

fn spawn_router() -> Handle {
    let config = RouterConfig {
        max_connections: limits::MONITORS_MAX,
        max_outgoing_packet_count: 200,
        max_segment_size: SEGMENT_BYTES,
        max_segment_count: 2,
        ..RouterConfig::default()
    };
    let events = Router::new(0, config).spawn();
    let to_crash = events.clone();
    Handle {
        link: Box::new(move |name| {
            let linked = LinkBuilder::new(name, events.clone()).build();
            linked.map(|(tx, rx, _)| (tx, rx)).map_err(Unlinked::from)
        }),
        crash: Box::new(move || {
            // A question from a connection that does not exist: the router indexes with its number.
            let mut nobody = LinkTx::new(usize::MAX, to_crash.clone(), Arc::default());
            nobody.shadow("crash").ok();
        }),
    }
}

struct Running {
    generation: u64,
    router: Arc<Handle>,
}

struct Shared {
    running: Mutex<Running>,
    names: AtomicU64,
}

impl Shared {
    fn current(&self) -> (u64, Arc<Handle>) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        (running.generation, Arc::clone(&running.router))
    }

    /// Whoever finds the router of `generation` dead calls this; the first one replaces it.
    fn replace(&self, generation: u64) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.generation == generation {
            tracing::warn!("the fan-out's router is dead; a new one is started");
            *running = Running {
                generation: generation + 1,
                router: Arc::new(spawn_router()),
            };
        }
    }

    fn name(&self, what: &str) -> String {
        format!("{what}-{}", self.names.fetch_add(1, Ordering::Relaxed))
    }

    /// The publisher's life: until the last [`RouterFanout`] is gone.
    fn publish_all(&self, frames: &std::sync::mpsc::Receiver<LiveFrame>) {
        let mut link: Option<(u64, Links)> = None;
        while let Ok(live) = frames.recv() {
            let (generation, (tx, _)) = match link.as_mut() {
                Some((generation, links)) => (*generation, links),
                None => {
                    let (generation, router) = self.current();
                    match (router.link)(&self.name("ingest")) {
                        Ok(links) => {
                            let (generation, links) = link.insert((generation, links));
                            (*generation, links)
                        }
                        Err(_) => {
                            self.replace(generation);
                            thread::sleep(PAUSE);
                            continue;
                        }
                    }
                }
            };
            // Blocks when the router is behind; frames are then dropped in front of us.
            if tx.publish(live.topic, live.payload).is_err() {
                self.replace(generation);
                link = None;
                thread::sleep(PAUSE);
            }
        }
    }
}

/// One monitor's subscription: links, forwards, links anew when the router is replaced.
async fn feed(shared: Arc<Shared>, filters: Vec<String>, out: mpsc::Sender<LiveFrame>) {
    while !out.is_closed() {
        let (generation, router) = shared.current();
        let (name, wanted) = (shared.name("monitor"), filters.clone());
        // Linking waits for the router's answer.
        let linked = task::spawn_blocking(move || {
            let (mut tx, rx) = (router.link)(&name)?;
            for filter in wanted {
                tx.subscribe(filter).map_err(Unlinked::from)?;
            }
            Ok::<_, Unlinked>((tx, rx))
        });
        match time::timeout(LINK_TIMEOUT, linked).await {
            Ok(Ok(Ok((mut tx, mut rx)))) => {
                forward(&mut rx, &out).await;
                let reason_code = DisconnectReasonCode::NormalDisconnection;
                tx.send(Packet::Disconnect(Disconnect { reason_code }, None))
                    .await
                    .ok();
            }
            Ok(Ok(Err(Unlinked::Dead))) => shared.replace(generation),
            // Refused (too many monitors), or dead in between: the next attempt tells which.
            _ => {}
        }
        tokio::select! {
            () = out.closed() => return,
            () = time::sleep(PAUSE) => {}
        }
    }
}

/// Until the router or the monitor is gone.
async fn forward(rx: &mut LinkRx, out: &mpsc::Sender<LiveFrame>) {
    loop {
        let notification = tokio::select! {
            () = out.closed() => return,
            notification = rx.next() => notification,
        };
        match notification {
            Ok(Some(Notification::Forward(forward))) => {
                let publish = forward.publish;
                let Ok(topic) = String::from_utf8(publish.topic.to_vec()) else {
                    continue;
                };
                let live = LiveFrame {
                    topic,
                    payload: publish.payload,
                };
                if out.send(live).await.is_err() {
                    return;
                }
            }
            // We took what it had for us; it goes on when told to.
            Ok(Some(Notification::Unschedule)) => {
                if rx.wake().await.is_err() {
                    return;
                }
            }
            Ok(Some(Notification::Disconnect(..))) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
