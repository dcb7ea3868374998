//! The forms in which a frame or a birth may go out (formats.md 2). A frame is kept as differences;
//! what is sent is made from that, so the same frame may go out in another form each time.

use std::str::FromStr;

use bytes::Bytes;
use chordae_base::{
    Failure, Outcome,
    wire::{Birth, Frame},
};

use crate::dice::Dice;

/// How a device encodes what it sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Protocol buffers with differences, which can say everything.
    #[default]
    Deltas,
    /// Protocol buffers with 16-bit codes; a frame that they cannot say goes out as differences.
    I16le,
    /// The JSON twin; MQTT only.
    Json,
    /// Another of these each time, also when a frame is sent again.
    Mixed,
}

impl FromStr for Encoding {
    type Err = Failure;
    /// `deltas`, `i16le`, `json` or `mixed`.
    fn from_str(text: &str) -> Outcome<Self> {
        match text {
            "deltas" => Ok(Self::Deltas),
            "i16le" => Ok(Self::I16le),
            "json" => Ok(Self::Json),
            "mixed" => Ok(Self::Mixed),
            other => Err(Failure::bad_input(format!(
                "no encoding {other:?}; deltas, i16le, json, mixed"
            ))),
        }
    }
}

/// What goes out, and whether it is the JSON twin.
pub(crate) struct Dressed {
    pub(crate) payload: Bytes,
    pub(crate) json: bool,
}

impl Encoding {
    /// What this sending uses; without a topic of its own (`twins` false) there is no JSON.
    fn throw(self, twins: bool, dice: &mut Dice) -> Self {
        match self {
            Self::Mixed if dice.one_in(3) => Self::Deltas,
            Self::Mixed if !twins || dice.one_in(2) => Self::I16le,
            Self::Mixed => Self::Json,
            fixed => fixed,
        }
    }

    /// A frame, from its differences.
    pub(crate) fn frame(self, kept: &Bytes, twins: bool, dice: &mut Dice) -> Dressed {
        let plain = || Dressed {
            payload: kept.clone(),
            json: false,
        };
        let form = self.throw(twins, dice);
        if form == Self::Deltas {
            return plain();
        }
        let Ok(frame) = Frame::decode(kept) else {
            return plain();
        };
        match form {
            Self::Json => Dressed {
                payload: frame.to_json().into(),
                json: true,
            },
            _ => frame.encode_i16le().map_or_else(plain, |words| Dressed {
                payload: words.into(),
                json: false,
            }),
        }
    }

    /// A birth.
    pub(crate) fn birth(self, kept: &Bytes, twins: bool, dice: &mut Dice) -> Dressed {
        let json = self.throw(twins, dice) == Self::Json;
        let twin = json.then(|| Birth::decode(kept).ok()).flatten();
        Dressed {
            json: twin.is_some(),
            payload: twin.map_or_else(|| kept.clone(), |b| b.to_json().into()),
        }
    }
}
