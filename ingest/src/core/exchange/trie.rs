//! Who is subscribed to what.
//!
//! ```text
//!            ┌ "chordae" ┬ "v1" ┬ "d1" ┬ "cmd" ── {device:d1}
//!   root ────┤           │      ├  +   ┴ "status" ─ {monitor:m}
//!            │           │      └  #  ── {plain:x}
//!            └  #  ── {..}            (wildcards at the root do not take topics that begin with `$`)
//! ```
//!
//! A topic is walked level by level; at each node its name, `+` and `#` are looked at. The work is linear
//! in the depth of the topic for each distinct prefix of a filter that takes it; depth is bounded.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::message::Wish;

/// A session's key, shared.
pub type Key = Arc<str>;

/// Who ends here.
#[derive(Debug, Clone, Default)]
pub struct Ends {
    /// Sessions with their subscription.
    pub sessions: BTreeMap<Key, Arc<Wish>>,
    /// Shared subscriptions, by their whole filter.
    pub groups: BTreeSet<Arc<str>>,
}

impl Ends {
    fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.groups.is_empty()
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Trie {
    names: BTreeMap<Box<str>, Self>,
    plus: Option<Box<Self>>,
    here: Ends,
    hash: Ends,
}

impl Trie {
    /// The ends of a filter, made where there are none. The filter is a checked one.
    pub fn ends_mut(&mut self, filter: &str) -> &mut Ends {
        let mut node = self;
        for level in filter.split('/') {
            node = match level {
                // Only ever the last level.
                "#" => return &mut node.hash,
                "+" => node.plus.get_or_insert_default(),
                name => node.names.entry(name.into()).or_default(),
            };
        }
        &mut node.here
    }

    /// Changes the ends of a filter and removes what has become empty on the way.
    pub fn prune(&mut self, filter: &str, change: &mut dyn FnMut(&mut Ends)) {
        let (level, rest) = match filter.split_once('/') {
            Some((level, rest)) => (level, Some(rest)),
            None => (filter, None),
        };
        if level == "#" {
            return change(&mut self.hash);
        }
        let child = match level {
            "+" => self.plus.as_deref_mut(),
            name => self.names.get_mut(name),
        };
        let Some(child) = child else { return };
        match rest {
            // Depth is bounded by that of a filter.
            Some(rest) => child.prune(rest, change),
            None => change(&mut child.here),
        }
        if child.is_empty() {
            match level {
                "+" => self.plus = None,
                name => {
                    self.names.remove(name);
                }
            }
        }
    }

    /// Visits all ends that take the topic.
    pub fn visit<'a>(&'a self, topic: &str, found: &mut dyn FnMut(&'a Ends)) {
        self.walk(Some(topic), !topic.starts_with('$'), found);
    }

    fn walk<'a>(&'a self, rest: Option<&str>, wild: bool, found: &mut dyn FnMut(&'a Ends)) {
        if wild && !self.hash.is_empty() {
            found(&self.hash);
        }
        let Some(rest) = rest else {
            if !self.here.is_empty() {
                found(&self.here);
            }
            return;
        };
        let (level, rest) = match rest.split_once('/') {
            Some((level, rest)) => (level, Some(rest)),
            None => (rest, None),
        };
        if let Some(child) = self.names.get(level) {
            child.walk(rest, true, found);
        }
        if let (true, Some(child)) = (wild, &self.plus) {
            child.walk(rest, true, found);
        }
    }

    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.plus.is_none() && self.here.is_empty() && self.hash.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::exchange::topics;

    fn level() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just("a"), Just("b"), Just(""), Just("$x"), Just("+")]
    }

    fn filters() -> impl Strategy<Value = String> {
        (prop::collection::vec(level(), 1..4), any::<bool>()).prop_map(|(mut levels, hash)| {
            if hash {
                levels.push("#");
            }
            levels.join("/")
        })
    }

    proptest! {
        #[test]
        fn the_trie_finds_what_the_rule_says(
            filters in prop::collection::btree_set(filters(), 0..12),
            topics in prop::collection::vec(filters(), 1..8),
            gone in prop::collection::vec(any::<bool>(), 12),
        ) {
            let mut trie = Trie::default();
            let key = |f: &str| -> Key { f.into() };
            for filter in &filters {
                let wish = Arc::new(Wish::plain(filter.clone(), 0));
                trie.ends_mut(filter).sessions.insert(key(filter), wish);
            }
            let mut left = filters.clone();
            for (filter, gone) in filters.iter().zip(gone) {
                if gone {
                    trie.prune(filter, &mut |ends| { ends.sessions.remove(filter.as_str()); });
                    left.remove(filter);
                }
            }
            for topic in topics.iter().map(|t| t.replace(['+', '#'], "b")) {
                let mut found = BTreeSet::new();
                trie.visit(&topic, &mut |ends| {
                    for k in ends.sessions.keys() {
                        assert!(found.insert(k.to_string()), "{k} twice for {topic}");
                    }
                });
                let wanted = left.iter().filter(|f| topics::matches(f, &topic)).cloned();
                prop_assert_eq!(found, wanted.collect::<BTreeSet<_>>(), "{}", topic);
            }
            for filter in left {
                trie.prune(&filter, &mut |ends| { ends.sessions.remove(filter.as_str()).expect("was there"); });
            }
            prop_assert!(trie.is_empty(), "nothing stays behind");
        }
    }
}
