//! What has arrived and is not acknowledged yet, in the order of arrival.
//!
//! ```text
//! front ─▶ [done] [done] [open] [done] ...      only the done ones at the front may be acknowledged:
//!           └──┬───┘                            a client acknowledges in the order of receipt (MQTT 4.6)
//! ```
//!
//! A packet id that arrives again while it is open is the same message once more (a broker that resends
//! within a connection): only its newest copy acknowledges it, and so once. Were the first to acknowledge
//! it too, the broker could have given the id to another message before the second does.

use std::collections::VecDeque;

use chordae_base::StreamKey;

/// How the broker delivered something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// QoS 0.
    Once,
    /// QoS 1, with its packet id.
    Acked(u16),
    /// QoS 2, with its packet id.
    Received(u16),
}

impl Way {
    fn id(self) -> Option<u16> {
        match self {
            Self::Once => None,
            Self::Acked(id) | Self::Received(id) => Some(id),
        }
    }
}

#[derive(Debug, Clone)]
struct Open {
    token: u64,
    way: Way,
    stream: Option<StreamKey>,
    done: bool,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Window {
    open: VecDeque<Open>,
}

impl Window {
    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether all that arrived is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Something arrived; `stream` is where it is offered, none if it is offered nowhere. Tokens ascend.
    pub fn arrived(&mut self, token: u64, way: Way, stream: Option<StreamKey>) {
        if let Some(id) = way.id() {
            for open in &mut self.open {
                if open.way.id() == Some(id) {
                    open.way = Way::Once;
                }
            }
        }
        self.open.push_back(Open {
            token,
            way,
            stream,
            done: false,
        });
    }

    /// The stream of an open token; `None` for one that is not (or of another connection).
    pub fn stream(&self, token: u64) -> Option<&StreamKey> {
        let at = self.at(token)?;
        self.open.get(at)?.stream.as_ref()
    }

    /// It is settled for good; gives what may be acknowledged now, in order.
    pub fn done(&mut self, token: u64) -> Vec<Way> {
        if let Some(open) = self.at(token).and_then(|at| self.open.get_mut(at)) {
            open.done = true;
        }
        let mut ways = Vec::new();
        while self.open.front().is_some_and(|open| open.done) {
            ways.extend(self.open.pop_front().map(|open| open.way));
        }
        ways
    }

    fn at(&self, token: u64) -> Option<usize> {
        self.open.binary_search_by_key(&token, |o| o.token).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledges_in_the_order_of_arrival() {
        let mut window = Window::default();
        for (token, way) in [(10, Way::Acked(1)), (11, Way::Received(2)), (12, Way::Once)] {
            window.arrived(token, way, None);
        }
        assert_eq!(window.done(12), []);
        assert_eq!(window.done(11), []);
        assert_eq!(window.done(9), [], "another connection's");
        assert_eq!(
            window.done(10),
            [Way::Acked(1), Way::Received(2), Way::Once]
        );
        assert!(window.is_empty());
    }

    #[test]
    fn an_id_that_comes_twice_is_acknowledged_once_by_its_newest_copy() {
        let mut window = Window::default();
        window.arrived(1, Way::Acked(7), None);
        window.arrived(2, Way::Acked(7), None);
        assert_eq!(window.done(1), [Way::Once], "the first copy acknowledged");
        assert_eq!(window.done(2), [Way::Acked(7)]);
    }
}
