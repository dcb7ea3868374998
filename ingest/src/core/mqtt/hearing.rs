//! What a connection may hear: its own `ack` and `cmd`, and, for a monitor, live frames. Everything else
//! is refused in the SUBACK. All is granted at QoS 0.

use std::collections::BTreeSet;

use chordae_base::{DeviceId, limits};

use super::{
    framing::Broken,
    outgoing::{FilterCode, Outgoing},
    packet::Subscribe,
    session::{Act, Session},
    standing,
    topic::{self, Filter, NotOurs},
};
use crate::core::{
    arrival::Standing,
    identify::{self, Peer},
    ports::{DeviceKind, Registry},
};

impl Session {
    pub(super) fn hears_acks_of(&self, device: &DeviceId) -> bool {
        self.filters.contains(&Filter::Ack(device.clone()))
    }

    pub(super) fn standing(&mut self, standing: &Standing, acts: &mut Vec<Act>) {
        self.news.answered(&standing.stream);
        let device = &standing.stream.device;
        if let (true, Some(json)) = (self.hears_acks_of(device), standing::json(standing)) {
            acts.push(Act::Send(Outgoing::Publish(
                topic::ack(device),
                json.into(),
            )));
        }
    }

    pub(super) fn subscribe(
        &mut self,
        s: &Subscribe,
        registry: &dyn Registry,
        acts: &mut Vec<Act>,
    ) {
        if s.identifier {
            return self.break_off(
                Broken {
                    code: 0xa1,
                    why: "subscription-identifier",
                },
                acts,
            );
        }
        let mut codes = Vec::with_capacity(s.filters.len());
        for filter in &s.filters {
            let code = match Filter::parse(filter) {
                Err(NotOurs::Invalid) => FilterCode::Invalid,
                Err(NotOurs::Shared) => FilterCode::Shared,
                Err(NotOurs::Foreign) => FilterCode::NotAuthorised,
                Ok(filter) if !self.may_hear(&filter, registry) => FilterCode::NotAuthorised,
                Ok(filter) => {
                    let room = self.filters.len() < limits::SUBSCRIPTIONS_MAX;
                    if room || self.filters.contains(&filter) {
                        self.filters.insert(filter);
                        FilterCode::Granted
                    } else {
                        FilterCode::Quota
                    }
                }
            };
            if code != FilterCode::Granted {
                acts.push(Act::Refuse("subscription"));
            }
            codes.push(code);
        }
        acts.push(Act::Send(Outgoing::SubAck(s.id, codes)));
        self.watch(acts);
    }

    fn may_hear(&self, filter: &Filter, registry: &dyn Registry) -> bool {
        match filter {
            Filter::Ack(device) | Filter::Commands(device) => match &self.peer {
                Peer::Plain => identify::entry(registry, DeviceKind::Device, device).is_some(),
                Peer::Certified(DeviceKind::Device, id) => id == device,
                Peer::Certified(..) => false,
            },
            Filter::Live(device, _) => {
                let monitor = match &self.peer {
                    Peer::Plain => DeviceId::new(self.client_id.as_str()).ok(),
                    Peer::Certified(DeviceKind::Monitor, id) => Some(id.clone()),
                    Peer::Certified(..) => None,
                };
                let entry =
                    monitor.and_then(|m| identify::entry(registry, DeviceKind::Monitor, &m));
                entry.is_some_and(|entry| match device {
                    None => entry.watches.is_empty(),
                    Some(device) => {
                        let watched = entry.watches.is_empty() || entry.watches.contains(device);
                        // Only registered names: the router keeps every filter it has ever seen.
                        watched && registry.device(device).is_some()
                    }
                })
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, id: u16, filters: &[String], acts: &mut Vec<Act>) {
        let known = filters.iter().map(|filter| {
            let filter = Filter::parse(filter);
            filter.is_ok_and(|filter| self.filters.remove(&filter))
        });
        let known = known.collect();
        acts.push(Act::Send(Outgoing::UnsubAck(id, known)));
        self.watch(acts);
    }

    fn watch(&self, acts: &mut Vec<Act>) {
        let devices: BTreeSet<_> = self
            .filters
            .iter()
            .filter_map(|f| match f {
                Filter::Live(device, _) => Some(device.clone()),
                Filter::Ack(_) | Filter::Commands(_) => None,
            })
            .collect();
        let wanted = if devices.contains(&None) {
            BTreeSet::from([None])
        } else {
            devices
        };
        acts.push(Act::Watch(wanted));
    }
}
