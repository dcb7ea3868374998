//! Commands to devices, kept until they are replied to or forgotten.

use bytes::Bytes;
use chordae_base::DeviceId;

/// How far a command has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandState {
    /// Not with the device yet: sent on each new connection.
    Waiting,
    /// The device (or its gateway) has acknowledged it.
    Delivered,
    /// The device has replied.
    Replied,
    /// It never reached the device in its time.
    Expired,
}

impl CommandState {
    /// As text: metric label, and what people read.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Replied => "replied",
            Self::Expired => "expired",
        }
    }
}

/// A command as it is listed. Times by the wall clock of this node, in ns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// Its id, a valid topic level.
    pub id: String,
    /// Whose it is.
    pub device: DeviceId,
    /// What is sent: a JSON object with `id`.
    pub body: String,
    /// How far it has come.
    pub state: CommandState,
    /// When it was issued.
    pub issued_ns: i64,
    /// It is not sent after this.
    pub expires_ns: i64,
    /// When the reply came.
    pub replied_ns: Option<i64>,
    /// The reply as the device sent it.
    pub reply: Option<Bytes>,
}
