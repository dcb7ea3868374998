//! Signs of life: who has been silent for how long, and how many PINGs are worth an answer.

use std::time::Duration;

use chordae_base::limits;

/// See the module. Times are monotonic.
#[derive(Debug, Default)]
pub(super) struct Alive {
    /// Whether the peer answers PING.
    pub(super) pings: bool,
    heard_ns: u64,
    asked_ns: Option<u64>,
    pongs_from_ns: u64,
    pongs: u32,
}

/// What a look at the clock comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    Well,
    /// It should be asked.
    Ask,
    /// It is gone.
    Gone,
}

impl Alive {
    pub(super) fn heard(&mut self, now_ns: u64) {
        self.heard_ns = now_ns;
    }

    /// Whether a PING is answered: so many a second, and a flood beyond is read and not answered.
    pub(super) fn answers(&mut self, now_ns: u64) -> bool {
        self.heard(now_ns);
        if now_ns.saturating_sub(self.pongs_from_ns) >= nanos(Duration::from_secs(1)) {
            (self.pongs_from_ns, self.pongs) = (now_ns, 0);
        }
        self.pongs = self.pongs.saturating_add(1);
        self.pongs <= limits::ZMQ_PONGS_PER_S
    }

    /// While we do not listen it cannot be heard; then it is reminded that we are here.
    pub(super) fn look(&mut self, now_ns: u64, listening: bool) -> Look {
        if !listening {
            self.heard(now_ns);
        }
        let silent_ns = now_ns.saturating_sub(self.heard_ns);
        if silent_ns > nanos(limits::KEEP_ALIVE_MAX) {
            return Look::Gone;
        }
        let every = nanos(limits::ZMQ_PING_EVERY);
        let due = self
            .asked_ns
            .is_none_or(|asked| now_ns.saturating_sub(asked) >= every);
        if self.pings && due && (!listening || silent_ns >= every) {
            self.asked_ns = Some(now_ns);
            return Look::Ask;
        }
        Look::Well
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
