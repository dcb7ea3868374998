//! What the service manager hears, if one started us (sd_notify(3)): ready, how we are, alive, stopping. Where none did,
//! nobody hears it.

use std::future::{self, Future};

use sd_notify::NotifyState;

/// Parts of the interval that the watchdog asks for: a sign may be missed.
const WATCHDOG_PART: u32 = 3;

fn tell(what: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(what) {
        tracing::warn!("the service manager was not told: {e}");
    }
}

/// The start is over, and how it ended.
pub(super) fn ready(how: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(how)]);
}

/// An orderly stop has begun.
pub(super) fn stopping() {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("sealing and anchoring what is open"),
    ]);
}

/// Gives a sign of life as often as the watchdog wants one, while `alive` says so. Never completes. A part that hangs
/// gives no answer, the sign stays away, and the manager starts us anew: as by a crash.
pub(super) async fn watched<A: Future<Output = bool>>(alive: impl Fn() -> A) {
    let Some(within) = sd_notify::watchdog_enabled() else {
        return future::pending().await;
    };
    loop {
        if alive().await {
            tell(&[NotifyState::Watchdog]);
        }
        tokio::time::sleep(within / WATCHDOG_PART).await;
    }
}
