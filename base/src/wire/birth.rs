//! Births: reading, writing, and every rule about them.

use std::collections::BTreeSet;

use prost::Message;

use super::{Birth, Lead, Malformed, check_payload, proto, reason};
use crate::{Rate, limits};

impl Birth {
    /// Reads the protobuf message and checks every rule.
    ///
    /// # Errors
    /// [`Malformed`] naming the first broken rule.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        check_payload(bytes)?;
        let msg = proto::Birth::decode(bytes)
            .map_err(|err| Malformed::new(reason::PROTOBUF, err.to_string()))?;
        Self::checked(msg)
    }

    /// The protobuf message.
    pub fn encode(&self) -> Vec<u8> {
        let leads = self.leads.iter().map(|l| proto::Lead {
            name: l.name.clone(),
            mdc: l.mdc,
            gain: l.gain,
            baseline: l.baseline,
            unit: l.unit.clone(),
            bits: l.bits,
        });
        let msg = proto::Birth {
            boot: self.boot,
            rate_num: self.rate.num(),
            rate_den: self.rate.den(),
            leads: leads.collect(),
            model: self.model.clone(),
            firmware: self.firmware.clone(),
            clock: proto::clock_number(self.clock),
        };
        msg.encode_to_vec()
    }

    pub(super) fn checked(msg: proto::Birth) -> Result<Self, Malformed> {
        let clock = proto::clock_from(msg.clock)?;
        let rate = Rate::new(msg.rate_num, msg.rate_den)
            .map_err(|err| Malformed::new(reason::RATE, err.why))?;
        if !(1..=limits::LEADS_MAX).contains(&msg.leads.len()) {
            let why = format!(
                "{} leads, must be 1 to {}",
                msg.leads.len(),
                limits::LEADS_MAX
            );
            return Err(Malformed::new(reason::LEAD_COUNT, why));
        }
        let mut seen = BTreeSet::new();
        let mut leads = Vec::with_capacity(msg.leads.len());
        for lead in msg.leads {
            let lead = check_lead(lead)?;
            if !seen.insert(lead.name.to_ascii_lowercase()) {
                let why = format!("two leads {:?}, ignoring case", lead.name);
                return Err(Malformed::new(reason::LEAD_TWICE, why));
            }
            leads.push(lead);
        }
        for (what, text) in [("model", &msg.model), ("firmware", &msg.firmware)] {
            if text.len() > limits::TEXT_BYTES_MAX || text.chars().any(char::is_control) {
                let max = limits::TEXT_BYTES_MAX;
                let why = format!("{what}: at most {max} bytes without control characters");
                return Err(Malformed::new(reason::TEXT, why));
            }
        }
        Ok(Self {
            boot: msg.boot,
            rate,
            leads,
            model: msg.model,
            firmware: msg.firmware,
            clock,
        })
    }
}

fn check_lead(msg: proto::Lead) -> Result<Lead, Malformed> {
    let name = msg.name.as_bytes();
    let fits = (1..=limits::LEAD_NAME_BYTES_MAX).contains(&name.len())
        && name.iter().all(|b| (b' '..=b'~').contains(b) && *b != b'~')
        && name.first() != Some(&b' ')
        && name.last() != Some(&b' ')
        // A reader that ignores case must not take it for the time column.
        && !msg.name.eq_ignore_ascii_case("time");
    if !fits {
        let why = format!(
            "{:?}: 1-16 printable ASCII, no ~, no space at an edge, not time",
            msg.name.chars().take(32).collect::<String>()
        );
        return Err(Malformed::new(reason::LEAD_NAME, why));
    }
    let bad = |reason, why: String| {
        Err(Malformed::new(
            reason,
            format!("lead {name}: {why}", name = msg.name),
        ))
    };
    if !msg.gain.is_finite() || msg.gain == 0.0 {
        return bad(
            reason::GAIN,
            format!("gain {} must be finite and not 0", msg.gain),
        );
    }
    let unit = msg.unit.as_bytes();
    if !(1..=limits::TEXT_BYTES_MAX).contains(&unit.len()) || !unit.iter().all(u8::is_ascii_graphic)
    {
        return bad(
            reason::UNIT,
            "unit must be a UCUM code: 1-128 printable ASCII".to_owned(),
        );
    }
    if !(8..=31).contains(&msg.bits) {
        return bad(reason::BITS, format!("{} bits, must be 8 to 31", msg.bits));
    }
    Ok(Lead {
        name: msg.name,
        mdc: msg.mdc,
        gain: msg.gain,
        baseline: msg.baseline,
        unit: msg.unit,
        bits: msg.bits,
    })
}
