//! Topic aliases, both ways. They hold for one connection and are nothing but short names: what they stand
//! for is authorised each time.

use std::collections::BTreeMap;

use super::{framing::Broken, walk::Text};

/// Aliases that a client has set.
#[derive(Debug, Default)]
pub(super) struct Incoming(BTreeMap<u16, Text>);

impl Incoming {
    /// The topic of a PUBLISH: its own, which its alias stands for from now on, or that of its alias.
    pub(super) fn resolve(&mut self, alias: u16, topic: &Text, max: u16) -> Result<Text, Broken> {
        if alias == 0 || alias > max {
            return Err(Broken {
                code: 0x94,
                why: "topic-alias",
            });
        }
        if !topic.as_str().is_empty() && self.0.get(&alias) != Some(topic) {
            // A copy of its own: the packet it came in is not kept for it.
            self.0.insert(alias, Text::from(topic.as_str()));
        }
        let known = self.0.get(&alias).cloned();
        known.ok_or(Broken::protocol("topic-alias-unknown"))
    }
}

/// Aliases that we have set: the first topics get one each, the others none.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub(super) max: u16,
    by_topic: BTreeMap<String, u16>,
}

impl Outgoing {
    /// The alias of a topic, and whether the client knows it already.
    pub(super) fn of(&self, topic: &str) -> Option<(u16, bool)> {
        if let Some(alias) = self.by_topic.get(topic) {
            return Some((*alias, true));
        }
        let next = u16::try_from(self.by_topic.len()).ok()?.checked_add(1)?;
        (next <= self.max).then_some((next, false))
    }

    /// The client has been told.
    pub(super) fn told(&mut self, topic: &str, alias: u16) {
        self.by_topic.insert(topic.to_owned(), alias);
    }
}
