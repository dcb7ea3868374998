//! Records whose sessions have all expired, long ago, go; their events stay in the log.
//!
//! By the clock as it is now, not by the one that never goes back: a clock that once ran ahead and was set
//! right keeps sessions shut, and removes nothing. A post of a swept session is refused for having expired.

use chordae_base::{Outcome, limits};

use super::{Problem, change::Change, service::Service};

/// Ids looked at under one call of the directory.
const PAGE: usize = 1000;

impl Service {
    /// Removes the records of sessions that expired [`limits::EXPIRED_KEPT_NS`] ago or earlier; gives
    /// their number. Blocks. One that cannot be read or opened is left as it is.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn sweep_expired(&self) -> Outcome<usize> {
        let now_ns = self.now().wall_ns;
        let (mut from, mut swept) = ([0; 32], 0);
        loop {
            let page = self.sessions.list(&from, PAGE)?;
            for sid in &page {
                swept += usize::from(self.sweep_one(sid, now_ns).unwrap_or(false));
            }
            match page.last().and_then(after) {
                Some(next) if page.len() == PAGE => from = next,
                _ => return Ok(swept),
            }
        }
    }

    fn sweep_one(&self, sid: &[u8; 32], now_ns: i64) -> Result<bool, Problem> {
        let Some((session, _)) = self.session(sid)? else {
            return Ok(false);
        };
        let gone = |expires: i64| expires.saturating_add(limits::EXPIRED_KEPT_NS) <= now_ns;
        let all = session.terms.iter().all(|t| t.expires_ns.is_some_and(gone));
        if !session.matches || session.terms.is_empty() || !all {
            return Ok(false);
        }
        let _change = Change::begin(self, *sid)?;
        self.sessions.remove(sid)?;
        self.metrics.session_changed(-1);
        Ok(true)
    }
}

/// The id after this one.
fn after(sid: &[u8; 32]) -> Option<[u8; 32]> {
    let mut next = *sid;
    for byte in next.iter_mut().rev() {
        let (sum, carry) = byte.overflowing_add(1);
        *byte = sum;
        if !carry {
            return Some(next);
        }
    }
    None
}
