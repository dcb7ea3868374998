//! What a connection may hear. The product has these and refuses all else in the SUBACK:
//!
//! | filter | who | from | QoS |
//! |---|---|---|---|
//! | own `ack` | device | this door, from what ingest says | 0 |
//! | own `cmd` | device | exchange | as asked |
//! | `live` | monitor, of what it watches | fan-out | 0 |
//! | `birth`, `status` | monitor, of what it watches | exchange, retained | as asked |
//!
//! All are subscriptions in the exchange, so that a session that is taken up has them again; the exchange
//! has no messages for `ack` and `live`. What a peer may hear is looked at again whenever the registry has
//! changed. In the open profile any filter goes to the exchange.

use std::collections::BTreeSet;

use bytes::Bytes;
use chordae_base::{DeviceId, limits};

use super::{
    session::{Act, Asked, Effects, Session},
    standing,
    topic::{self, Filter, Level, NotOurs},
    write::{self, Publishing},
};
use crate::core::{
    arrival::Standing,
    exchange::{
        message::{Properties, Wish},
        request::{Denied, Request},
    },
    identify::{self, Peer},
    ports::{DeviceKind, LiveFrame, Registry},
};

/// A filter of a SUBSCRIBE on its way through the exchange.
pub(super) struct Judged {
    wish: Wish,
    /// Its code, if it is refused here.
    code: Option<u8>,
    /// It is one of formats.md 2, and this peer may have it.
    heed: bool,
}

impl Session {
    pub(super) fn hears_acks_of(&self, device: &DeviceId) -> bool {
        !self.filters.is_empty() && self.filters.contains_key(&Filter::Ack(device.clone()))
    }

    pub(super) fn standing(&mut self, standing: &Standing, fx: &mut Effects) {
        self.news.answered(&standing.stream);
        let device = &standing.stream.device;
        if let Some(json) = standing::json(standing) {
            self.tell(&topic::ack(device), &json.into(), fx);
        }
    }

    pub(super) fn live(&mut self, live: &LiveFrame, fx: &mut Effects) {
        self.tell(&live.topic, &live.payload, fx);
    }

    /// A message of the house itself, at QoS 0, if the client is subscribed to it.
    fn tell(&mut self, topic: &str, payload: &Bytes, fx: &mut Effects) {
        let takers = self.filters.iter().filter(|(f, _)| f.takes(topic));
        let identifiers: Vec<Option<u32>> = takers.map(|(_, id)| *id).collect();
        if identifiers.is_empty() {
            return;
        }
        let identifiers: Vec<u32> = identifiers.into_iter().flatten().collect();
        let publishing = Publishing {
            topic,
            alias: None,
            qos: 0,
            id: 0,
            dup: false,
            retain: false,
            properties: &Properties::default(),
            identifiers: &identifiers,
            payload,
        };
        self.write_publish(publishing, fx);
    }

    pub(super) fn subscribe(
        &mut self,
        id: u16,
        wishes: Vec<Wish>,
        registry: &dyn Registry,
        fx: &mut Effects,
    ) {
        let mut judged = Vec::with_capacity(wishes.len());
        for (n, wish) in wishes.into_iter().enumerate() {
            let code = if n < limits::SUBSCRIPTIONS_MAX {
                self.code_for(&wish.filter, registry)
            } else {
                Some(0x97)
            };
            if code.is_some() {
                fx.act(Act::Refuse("subscription"));
            }
            let heed = Filter::parse(&wish.filter).is_ok_and(|f| self.may_hear(&f, registry));
            judged.push(Judged { wish, code, heed });
        }
        let granted = judged.iter().filter(|j| j.code.is_none());
        let granted: Vec<Wish> = granted.map(|j| j.wish.clone()).collect();
        if granted.is_empty() {
            return self.subscribed(id, judged, Vec::new(), fx);
        }
        self.ask(
            Request::Subscribe(granted),
            Asked::Subscribe(id, judged),
            fx,
        );
    }

    /// The code of a filter that is refused.
    fn code_for(&self, filter: &str, registry: &dyn Registry) -> Option<u8> {
        if let Some(code) = self.profile.refuses(filter) {
            return Some(code);
        }
        if self.profile.is_open() {
            return None;
        }
        match Filter::parse(filter) {
            Err(NotOurs::Invalid) => Some(0x8f),
            Err(NotOurs::Shared) => Some(0x9e),
            Err(NotOurs::Foreign) => Some(0x87),
            Ok(filter) => (!self.may_hear(&filter, registry)).then_some(0x87),
        }
    }

    /// The exchange has its verdicts on those filters that were put to it.
    pub(super) fn subscribed(
        &mut self,
        id: u16,
        judged: Vec<Judged>,
        verdicts: Vec<Result<u8, Denied>>,
        fx: &mut Effects,
    ) {
        let mut verdicts = verdicts.into_iter();
        let mut codes = Vec::with_capacity(judged.len());
        for Judged { wish, code, heed } in judged {
            let code = match code {
                Some(code) => code,
                None => match verdicts.next() {
                    Some(Ok(qos)) if heed => self.heed(&wish).unwrap_or(qos),
                    Some(Ok(qos)) => qos,
                    Some(Err(denied)) => {
                        fx.act(Act::Refuse("subscription"));
                        match denied {
                            Denied::Quota => 0x97,
                            Denied::Invalid | Denied::TooDeep => 0x8f,
                            Denied::NotAttached => 0x83,
                        }
                    }
                    None => 0x83,
                },
            };
            codes.push(code);
        }
        write::suback(self.version, id, &codes, &mut fx.out);
        self.watch(fx);
    }

    /// A subscription holds. If it is one that the door serves itself, its QoS.
    pub(super) fn heed(&mut self, wish: &Wish) -> Option<u8> {
        let filter = Filter::parse(&wish.filter).ok()?;
        let ours = matches!(filter, Filter::Ack(_) | Filter::Live(..));
        self.filters.insert(filter, wish.identifier);
        ours.then_some(0)
    }

    fn may_hear(&self, filter: &Filter, registry: &dyn Registry) -> bool {
        match filter {
            Filter::Ack(device) | Filter::Commands(device) => match &self.peer {
                Peer::Plain => identify::entry(registry, DeviceKind::Device, device).is_some(),
                Peer::Certified(DeviceKind::Device, id) => id == device,
                Peer::Certified(..) => false,
            },
            Filter::Live(device, _) | Filter::Births(device, _) | Filter::Statuses(device) => {
                self.may_watch(device, registry)
            }
        }
    }

    fn may_watch(&self, device: &Level<DeviceId>, registry: &dyn Registry) -> bool {
        let monitor = match &self.peer {
            Peer::Plain => DeviceId::new(self.client_id.as_str()).ok(),
            Peer::Certified(DeviceKind::Monitor, id) => Some(id.clone()),
            Peer::Certified(..) => None,
        };
        let entry = monitor.and_then(|m| identify::entry(registry, DeviceKind::Monitor, &m));
        entry.is_some_and(|entry| match device {
            None => entry.watches.is_empty(),
            Some(device) => {
                let watched = entry.watches.is_empty() || entry.watches.contains(device);
                // Only registered names: the router keeps every filter it has ever seen.
                watched && registry.device(device).is_some()
            }
        })
    }

    /// The registry has changed, or the session is from before: what may not be heard any more is taken
    /// away, here and in the exchange.
    pub(super) fn look_again(&mut self, registry: &dyn Registry, fx: &mut Effects) {
        self.looked_at = registry.changes();
        let lost = self.filters.keys();
        let lost = lost.filter(|filter| !self.may_hear(filter, registry));
        let lost: Vec<Filter> = lost.cloned().collect();
        for filter in &lost {
            self.filters.remove(filter);
        }
        if !lost.is_empty() && !self.profile.is_open() {
            fx.act(Act::Refuse("subscription"));
            let lost = lost.iter().map(Filter::to_string).collect();
            self.ask(Request::Unsubscribe(lost), Asked::Forget, fx);
        }
        self.watch(fx);
    }

    pub(super) fn unsubscribe(&mut self, id: u16, filters: Vec<String>, fx: &mut Effects) {
        let asked = Asked::Unsubscribe(id, filters.clone());
        self.ask(Request::Unsubscribe(filters), asked, fx);
    }

    pub(super) fn unsubscribed(
        &mut self,
        id: u16,
        filters: &[String],
        known: &[bool],
        fx: &mut Effects,
    ) {
        for filter in filters {
            if let Ok(filter) = Filter::parse(filter) {
                self.filters.remove(&filter);
            }
        }
        write::unsuback(self.version, id, known, &mut fx.out);
        self.watch(fx);
    }

    fn watch(&mut self, fx: &mut Effects) {
        let live = self.filters.keys().filter_map(|f| match f {
            Filter::Live(device, _) => Some(device.clone()),
            _ => None,
        });
        let devices: BTreeSet<_> = live.collect();
        let wanted = if devices.contains(&None) {
            BTreeSet::from([None])
        } else {
            devices
        };
        if wanted != self.watching {
            self.watching.clone_from(&wanted);
            fx.act(Act::Watch(wanted));
        }
    }
}
