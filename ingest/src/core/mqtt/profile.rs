//! What the door is for: the topics of formats.md 2 and nothing else, or, for tests on loopback, any topic.

use chordae_base::limits;

use super::{framing::Version, topic::well_formed};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Profile {
    /// The product: what formats.md 2 names, for whom it names.
    #[default]
    Closed,
    /// As MQTT demands of any server: any client id, topic and filter. The topics of formats.md 2 mean
    /// what they mean.
    Open {
        /// Filters that nobody may subscribe to.
        refuse: Vec<String>,
    },
}

impl Profile {
    /// Whether any topic may be used.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// Whether a client id may be used on a plain listener. In the product it is safe in logs, and in
    /// every broker behind us.
    pub(super) fn client_id(&self, id: &str) -> bool {
        let safe = |b: u8| b.is_ascii_graphic() && !matches!(b, b'+' | b'#' | b'/' | b'$');
        let longest = match self {
            Self::Closed => CLIENT_ID_MAX,
            Self::Open { .. } => OPEN_CLIENT_ID_MAX,
        };
        id.len() <= longest && (self.is_open() || id.bytes().all(safe))
    }

    /// The longest keep-alive, seconds. In the open profile a client that can be told is told the minute of
    /// the standard's reference server, and one that cannot has what it asked for.
    pub(super) fn keep_alive_max(&self, version: Version) -> u16 {
        match (self, version) {
            (Self::Closed, _) => {
                u16::try_from(limits::KEEP_ALIVE_MAX.as_secs()).unwrap_or(u16::MAX)
            }
            (Self::Open { .. }, Version::V5) => OPEN_KEEP_ALIVE_MAX,
            (Self::Open { .. }, Version::V4) => u16::MAX,
        }
    }

    /// The reason code for a filter that is no question of who asks.
    pub(super) fn refuses(&self, filter: &str) -> Option<u8> {
        if !well_formed(filter) {
            return Some(0x8f);
        }
        match self {
            Self::Open { refuse } => refuse.iter().any(|f| f == filter).then_some(0x80),
            Self::Closed => None,
        }
    }
}

/// Bytes of a client id on a plain listener.
const CLIENT_ID_MAX: usize = 128;
/// The same where any may come.
const OPEN_CLIENT_ID_MAX: usize = 1024;
/// Keep-alive that a client of the open profile is told, seconds.
const OPEN_KEEP_ALIVE_MAX: u16 = 60;
