//! What is left of a packet's body, field by field, without copying. Every length is checked before
//! anything relies on it, and texts are UTF-8 without NUL, so nothing above can be handed a broken one.

use bytes::Bytes;

use super::{
    framing::{Broken, Raw, Version},
    property::{self, Form},
};

/// UTF-8, a part of the packet it came in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text(Bytes);

impl Text {
    /// As text.
    pub fn as_str(&self) -> &str {
        // Checked when it was made; checking again costs less than a copy.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

/// The value of a property.
pub(super) enum Value {
    Number(u32),
    Text(Text),
    Binary(Bytes),
    Pair(Text, Text),
}

/// See the module.
pub(super) struct Walk(Bytes);

impl Walk {
    pub(super) fn new(raw: &Raw) -> Self {
        Self(raw.bytes.slice(raw.body_at.min(raw.bytes.len())..))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that is left.
    pub(super) fn rest(self) -> Bytes {
        self.0
    }

    pub(super) fn take(&mut self, n: usize) -> Result<Bytes, Broken> {
        if n > self.0.len() {
            return Err(Broken::malformed("packet-short"));
        }
        Ok(self.0.split_to(n))
    }

    pub(super) fn u8(&mut self) -> Result<u8, Broken> {
        let byte = self.0.first().copied();
        let byte = byte.ok_or(Broken::malformed("packet-short"))?;
        bytes::Buf::advance(&mut self.0, 1);
        Ok(byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Broken> {
        Ok(u16::from(self.u8()?) << 8 | u16::from(self.u8()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Broken> {
        Ok(u32::from(self.u16()?) << 16 | u32::from(self.u16()?))
    }

    fn number(&mut self) -> Result<u32, Broken> {
        let mut number = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            number |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Broken::malformed("packet-number"))
    }

    pub(super) fn binary(&mut self) -> Result<Bytes, Broken> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    pub(super) fn text(&mut self) -> Result<Text, Broken> {
        let bytes = self.binary()?;
        if std::str::from_utf8(&bytes).is_err() {
            return Err(Broken::malformed("utf-8"));
        }
        if bytes.contains(&0) {
            return Err(Broken::malformed("nul"));
        }
        Ok(Text(bytes))
    }

    pub(super) fn packet_id(&mut self) -> Result<u16, Broken> {
        match self.u16()? {
            0 => Err(Broken::malformed("packet-id-zero")),
            id => Ok(id),
        }
    }

    /// The properties of a packet of kind `packet`; version 3.1.1 has none. Each may stand once, but user
    /// properties as often as they like.
    pub(super) fn properties(
        &mut self,
        version: Version,
        packet: u8,
        mut each: impl FnMut(u8, Value),
    ) -> Result<(), Broken> {
        if version == Version::V4 {
            return Ok(());
        }
        let length = self.number()?;
        if length == 0 {
            return Ok(());
        }
        let mut inside = Self(self.take(usize::try_from(length).unwrap_or(usize::MAX))?);
        let mut seen = 0_u64;
        while !inside.is_empty() {
            let id = inside.u8()?;
            let form = property::form(packet, id).ok_or(Broken::protocol("property-unknown"))?;
            let bit = 1_u64 << (id & 63);
            if seen & bit != 0 && id != property::USER {
                return Err(Broken::protocol("property-twice"));
            }
            seen |= bit;
            each(id, inside.value(form)?);
        }
        Ok(())
    }

    fn value(&mut self, form: Form) -> Result<Value, Broken> {
        let (number, fits) = match form {
            Form::Flag => {
                let flag = self.u8()?;
                (u32::from(flag), flag < 2)
            }
            Form::Two => (u32::from(self.u16()?), true),
            Form::TwoNotZero => {
                let two = self.u16()?;
                (u32::from(two), two != 0)
            }
            Form::Four => (self.u32()?, true),
            Form::FourNotZero => {
                let four = self.u32()?;
                (four, four != 0)
            }
            Form::Number => {
                let number = self.number()?;
                (number, number != 0)
            }
            Form::Text => return Ok(Value::Text(self.text()?)),
            Form::Binary => return Ok(Value::Binary(self.binary()?)),
            Form::Pair => return Ok(Value::Pair(self.text()?, self.text()?)),
        };
        if fits {
            Ok(Value::Number(number))
        } else {
            Err(Broken::protocol("property-value"))
        }
    }
}
