//! What we send, in one form; written by the codec of the connection's version.

use bytes::{Bytes, BytesMut};
use chordae_base::limits;
use rumqttc::{
    mqttbytes::v4,
    v5::mqttbytes::{QoS as QoS5, v5},
};

use super::framing::Version;

/// How a CONNECT is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectCode {
    /// Accepted.
    Accepted,
    /// Protocol level or name.
    Version,
    /// Client id.
    ClientId,
    /// Unknown, disabled, or not who it says.
    NotAuthorised,
    /// Enhanced authentication is not spoken here.
    Authentication,
    /// A will with QoS 2.
    WillQos,
    /// No room for another connection.
    Busy,
    /// Bytes that are no CONNECT.
    Malformed,
}

/// How a PUBLISH is answered; as the version 5 reason code. Version 3.1.1 knows only success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishCode {
    /// Durable.
    Success,
    /// 0x87
    NotAuthorised,
    /// 0x90
    Topic,
    /// 0x97
    Quota,
    /// 0x99
    Payload,
}

/// How one filter of a SUBSCRIBE is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterCode {
    /// Granted, at QoS 0.
    Granted,
    /// 0x87
    NotAuthorised,
    /// 0x8F
    Invalid,
    /// 0x97
    Quota,
    /// 0x9E
    Shared,
}

/// Something to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// CONNACK, with session present always 0.
    ConnAck {
        /// How.
        code: ConnectCode,
        /// The keep-alive that counts, if it is not the one asked for.
        keep_alive: Option<u16>,
        /// The client id we chose.
        assigned: Option<String>,
    },
    /// PUBACK
    PubAck(u16, PublishCode, Option<String>),
    /// PUBREL for a packet id that we do not know.
    UnknownReceived(u16),
    /// PUBCOMP for a packet id that we do not know.
    UnknownReleased(u16),
    /// SUBACK
    SubAck(u16, Vec<FilterCode>),
    /// UNSUBACK: whether each filter had been subscribed.
    UnsubAck(u16, Vec<bool>),
    /// PINGRESP
    PingResp,
    /// PUBLISH with QoS 0
    Publish(String, Bytes),
    /// DISCONNECT with a version 5 reason code; version 3.1.1 has none, it just closes.
    Disconnect(u8),
}

/// Writes a packet. `false` if there is nothing to send or it exceeds what the client takes.
pub fn write(version: Version, packet: &Outgoing, packet_max: usize, out: &mut BytesMut) -> bool {
    let before = out.len();
    let written = match version {
        Version::V4 => write_v4(packet, out),
        Version::V5 => write_v5(packet, out),
    };
    if !written || out.len() - before > packet_max {
        out.truncate(before);
        return false;
    }
    true
}

fn write_v4(packet: &Outgoing, out: &mut BytesMut) -> bool {
    use v4::ConnectReturnCode as C;
    let packet = match packet {
        Outgoing::ConnAck { code, .. } => {
            let code = match code {
                ConnectCode::Accepted => C::Success,
                ConnectCode::Version => C::RefusedProtocolVersion,
                ConnectCode::ClientId => C::BadClientId,
                ConnectCode::Busy => C::ServiceUnavailable,
                ConnectCode::NotAuthorised | ConnectCode::Authentication | ConnectCode::WillQos => {
                    C::NotAuthorized
                }
                ConnectCode::Malformed => return false,
            };
            v4::Packet::ConnAck(v4::ConnAck::new(code, false))
        }
        Outgoing::PubAck(id, PublishCode::Success, _) => v4::Packet::PubAck(v4::PubAck::new(*id)),
        Outgoing::SubAck(id, codes) => {
            let codes = codes.iter().map(|code| match code {
                FilterCode::Granted => {
                    v4::SubscribeReasonCode::Success(rumqttc::mqttbytes::QoS::AtMostOnce)
                }
                _ => v4::SubscribeReasonCode::Failure,
            });
            v4::Packet::SubAck(v4::SubAck::new(*id, codes.collect()))
        }
        Outgoing::UnsubAck(id, _) => v4::Packet::UnsubAck(v4::UnsubAck::new(*id)),
        Outgoing::UnknownReceived(id) => v4::Packet::PubRel(v4::PubRel::new(*id)),
        Outgoing::UnknownReleased(id) => v4::Packet::PubComp(v4::PubComp::new(*id)),
        Outgoing::PingResp => v4::Packet::PingResp,
        Outgoing::Publish(topic, payload) => v4::Packet::Publish(v4::Publish::from_bytes(
            topic.as_str(),
            rumqttc::mqttbytes::QoS::AtMostOnce,
            payload.clone(),
        )),
        Outgoing::PubAck(..) | Outgoing::Disconnect(_) => return false,
    };
    packet.write(out, usize::MAX).is_ok()
}

fn write_v5(packet: &Outgoing, out: &mut BytesMut) -> bool {
    let packet = match packet {
        Outgoing::ConnAck {
            code,
            keep_alive,
            assigned,
        } => v5::Packet::ConnAck(connack_v5(*code, *keep_alive, assigned.clone())),
        Outgoing::PubAck(id, code, why) => {
            let reason = match code {
                PublishCode::Success => v5::PubAckReason::Success,
                PublishCode::NotAuthorised => v5::PubAckReason::NotAuthorized,
                PublishCode::Topic => v5::PubAckReason::TopicNameInvalid,
                PublishCode::Quota => v5::PubAckReason::QuotaExceeded,
                PublishCode::Payload => v5::PubAckReason::PayloadFormatInvalid,
            };
            let properties = why.as_ref().map(|why| v5::PubAckProperties {
                reason_string: Some(why.clone()),
                user_properties: Vec::new(),
            });
            v5::Packet::PubAck(v5::PubAck {
                pkid: *id,
                reason,
                properties,
            })
        }
        Outgoing::SubAck(id, codes) => {
            let codes = codes.iter().map(|code| match code {
                FilterCode::Granted => v5::SubscribeReasonCode::Success(QoS5::AtMostOnce),
                FilterCode::NotAuthorised => v5::SubscribeReasonCode::NotAuthorized,
                FilterCode::Invalid => v5::SubscribeReasonCode::TopicFilterInvalid,
                FilterCode::Quota => v5::SubscribeReasonCode::QuotaExceeded,
                FilterCode::Shared => v5::SubscribeReasonCode::SharedSubscriptionsNotSupported,
            });
            let return_codes = codes.collect();
            v5::Packet::SubAck(v5::SubAck {
                pkid: *id,
                return_codes,
                properties: None,
            })
        }
        Outgoing::UnsubAck(id, known) => {
            let reasons = known.iter().map(|known| match known {
                true => v5::UnsubAckReason::Success,
                false => v5::UnsubAckReason::NoSubscriptionExisted,
            });
            let reasons = reasons.collect();
            v5::Packet::UnsubAck(v5::UnsubAck {
                pkid: *id,
                reasons,
                properties: None,
            })
        }
        Outgoing::UnknownReceived(id) => v5::Packet::PubRel(v5::PubRel {
            pkid: *id,
            reason: v5::PubRelReason::PacketIdentifierNotFound,
            properties: None,
        }),
        Outgoing::UnknownReleased(id) => v5::Packet::PubComp(v5::PubComp {
            pkid: *id,
            reason: v5::PubCompReason::PacketIdentifierNotFound,
            properties: None,
        }),
        Outgoing::PingResp => v5::Packet::PingResp(v5::PingResp),
        Outgoing::Publish(topic, payload) => v5::Packet::Publish(v5::Publish::new(
            topic.as_str(),
            QoS5::AtMostOnce,
            payload.clone(),
            None,
        )),
        Outgoing::Disconnect(code) => {
            // With an (empty) property length: clients of the same codec cannot read the short form.
            out.extend_from_slice(&[0xe0, 2, *code, 0]);
            return true;
        }
    };
    packet.write(out, None).is_ok()
}

fn connack_v5(code: ConnectCode, keep_alive: Option<u16>, assigned: Option<String>) -> v5::ConnAck {
    use v5::ConnectReturnCode as C;
    let code = match code {
        ConnectCode::Accepted => C::Success,
        ConnectCode::Version => C::UnsupportedProtocolVersion,
        ConnectCode::ClientId => C::ClientIdentifierNotValid,
        ConnectCode::NotAuthorised => C::NotAuthorized,
        ConnectCode::Authentication => C::BadAuthenticationMethod,
        ConnectCode::WillQos => C::QoSNotSupported,
        ConnectCode::Busy => C::ServerBusy,
        ConnectCode::Malformed => C::MalformedPacket,
    };
    let properties = (code == C::Success).then(|| v5::ConnAckProperties {
        // Sessions end with their connection.
        session_expiry_interval: Some(0),
        receive_max: Some(limits::INFLIGHT_MAX),
        max_qos: Some(1),
        retain_available: None,
        max_packet_size: u32::try_from(limits::PACKET_BYTES_MAX).ok(),
        assigned_client_identifier: assigned,
        topic_alias_max: None,
        reason_string: None,
        user_properties: Vec::new(),
        wildcard_subscription_available: None,
        subscription_identifiers_available: Some(0),
        shared_subscription_available: Some(0),
        server_keep_alive: keep_alive,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    });
    v5::ConnAck {
        session_present: false,
        code,
        properties,
    }
}
