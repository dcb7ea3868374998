//! What a command does to the device (formats.md 2, topic `cmd`).

use bytes::Bytes;
use chordae_base::{Outcome, Rate};

use super::Run;
use crate::{
    orders::{Order, What},
    state,
};

impl Run {
    /// Executes a command once, and answers it each time it comes.
    pub(super) fn command(&mut self, payload: &Bytes) -> Outcome<()> {
        let Some(order) = Order::read(payload) else {
            self.trouble("a command without a usable id came and cannot be answered".into());
            return Ok(());
        };
        if self.orders.seen(&order.id) {
            return Ok(());
        }
        let own = self.device.dial.key.stream.as_str();
        let outcome = match (&order.stream, order.what) {
            (Some(other), _) if other != own => Err(format!("there is no stream {other:?} here")),
            (_, Ok(what)) => self.obey(what),
            (_, Err(why)) => Err(why),
        };
        self.report.obeyed += u64::from(outcome.is_ok());
        let reply = self.orders.executed(order.id.clone(), outcome);
        let device = self.device.dial.key.device.as_str();
        self.note(|| state::order(device, &order.id, &reply))
    }

    fn obey(&mut self, what: What) -> Result<String, String> {
        let device = &mut self.device;
        match what {
            What::Start => self.halted = false,
            What::Stop => self.halted = true,
            What::SyncTime => {
                device.maker.sync().map_err(|f| f.why)?;
                device.workshop.kind = chordae_base::wire::ClockKind::Synced;
                device.workshop.skew_ns = 0;
            }
            What::Identify => return Ok(device.workshop.identity(&device.maker)),
            What::SetRate(rate) => self.change(Some(rate), None)?,
            What::SetLeads(leads) => self.change(None, Some(leads))?,
        }
        Ok(String::new())
    }

    /// Another rate, or other leads: a new boot that goes on where this one stands.
    fn change(&mut self, rate: Option<Rate>, leads: Option<usize>) -> Result<(), String> {
        let device = &mut self.device;
        if device.maker.ended() {
            return Err("the stream has ended".into());
        }
        let made = device.workshop.change(&device.maker, rate, leads);
        let (maker, birth) = made.map_err(|f| f.why)?;
        let elapsed = device.maker.elapsed_ns().map_err(|f| f.why)?;
        let elapsed = i64::try_from(elapsed).unwrap_or(i64::MAX);
        device.start_ns = device.start_ns.saturating_add(elapsed);
        device.maker = maker;
        self.born(birth).map_err(|f| f.why)
    }
}
