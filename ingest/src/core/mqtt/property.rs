//! The properties of MQTT 5: their numbers, where a client may send them, how their values are written.

use super::packet::kind;

/// Properties of a will stand apart from those of its CONNECT.
pub(super) const WILL: u8 = 16;

pub(super) const PAYLOAD_FORMAT: u8 = 1;
pub(super) const MESSAGE_EXPIRY: u8 = 2;
pub(super) const CONTENT_TYPE: u8 = 3;
pub(super) const RESPONSE_TOPIC: u8 = 8;
pub(super) const CORRELATION: u8 = 9;
pub(super) const SUBSCRIPTION: u8 = 11;
pub(super) const SESSION_EXPIRY: u8 = 17;
pub(super) const ASSIGNED_CLIENT: u8 = 18;
pub(super) const KEEP_ALIVE: u8 = 19;
pub(super) const AUTH_METHOD: u8 = 21;
pub(super) const AUTH_DATA: u8 = 22;
pub(super) const WANTS_PROBLEMS: u8 = 23;
pub(super) const WILL_DELAY: u8 = 24;
pub(super) const WANTS_RESPONSE: u8 = 25;
pub(super) const REASON: u8 = 31;
pub(super) const RECEIVE_MAX: u8 = 33;
pub(super) const ALIAS_MAX: u8 = 34;
pub(super) const ALIAS: u8 = 35;
pub(super) const USER: u8 = 38;
pub(super) const PACKET_MAX: u8 = 39;
pub(super) const SHARED_AVAILABLE: u8 = 42;

/// How a value is written, and what it may not be.
#[derive(Clone, Copy)]
pub(super) enum Form {
    Flag,
    Two,
    TwoNotZero,
    Four,
    FourNotZero,
    Number,
    Text,
    Binary,
    Pair,
}

/// The form of property `id` where a client may send it in `packet`.
pub(super) fn form(packet: u8, id: u8) -> Option<Form> {
    const ACKS: [u8; 5] = [
        kind::PUBACK,
        kind::PUBREC,
        kind::PUBREL,
        kind::PUBCOMP,
        kind::DISCONNECT,
    ];
    let message = packet == WILL || packet == kind::PUBLISH;
    match (id, packet) {
        (USER, _) => Some(Form::Pair),
        (SESSION_EXPIRY, kind::CONNECT | kind::DISCONNECT) => Some(Form::Four),
        (RECEIVE_MAX, kind::CONNECT) => Some(Form::TwoNotZero),
        (ALIAS_MAX, kind::CONNECT) => Some(Form::Two),
        (PACKET_MAX, kind::CONNECT) => Some(Form::FourNotZero),
        (WANTS_PROBLEMS | WANTS_RESPONSE, kind::CONNECT) => Some(Form::Flag),
        (AUTH_METHOD, kind::CONNECT) => Some(Form::Text),
        (AUTH_DATA, kind::CONNECT) => Some(Form::Binary),
        (WILL_DELAY, WILL) => Some(Form::Four),
        (PAYLOAD_FORMAT, _) if message => Some(Form::Flag),
        (MESSAGE_EXPIRY, _) if message => Some(Form::Four),
        (CONTENT_TYPE | RESPONSE_TOPIC, _) if message => Some(Form::Text),
        (CORRELATION, _) if message => Some(Form::Binary),
        (ALIAS, kind::PUBLISH) => Some(Form::Two),
        (SUBSCRIPTION, kind::SUBSCRIBE) => Some(Form::Number),
        (REASON, p) if ACKS.contains(&p) => Some(Form::Text),
        _ => None,
    }
}
