//! One MQTT connection of a device, over `rumqttc` (3.1.1 and 5).
//!
//! ```text
//!  device ──publish──▶ AsyncClient ──channel──▶ EventLoop (its own task) ──TCP or tunnel──▶ door
//!  device ◀──Numbered, Acked, Refused, Closed── events ◀─────────────────────────────────────┘
//! ```
//!
//! Every connection gets a fresh client, because `rumqttc` 0.25 forgets unacknowledged packets when
//! the session is new, keeps a collided packet over a reconnect and can then stand still; with a
//! fresh one there is nothing to forget, and the spool alone decides what is sent again. The event
//! loop runs in a task of its own because its `poll` must not be cancelled half-way.
//!
//! TLS: `rumqttc`'s own feature brings rustls-webpki 0.102 (two open advisories) and an abandoned PEM
//! reader into the build, only to name their error types. So a TLS connection is made here with
//! tokio-rustls, and the client reaches it through a socket in a private folder that is removed as
//! soon as it has connected.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use chordae_base::{DeviceId, Failure, Outcome, limits};
use rumqttc::{Transport, v5};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::copy_bidirectional,
    net::{TcpStream, UnixListener},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Version of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mqtt {
    /// 3.1.1: a refused frame is not told to the device.
    V3,
    /// 5, with reason codes.
    V5,
}

/// Where the door is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether the connection is TLS.
    pub tls: bool,
}

impl std::str::FromStr for Endpoint {
    type Err = Failure;
    /// `mqtt://host[:port]` or `mqtts://host[:port]`.
    fn from_str(url: &str) -> Outcome<Self> {
        let bad = |why: &str| Failure::bad_input(format!("{url:?}: {why}"));
        let (tls, rest) = if let Some(rest) = url.strip_prefix("mqtts://") {
            (true, rest)
        } else if let Some(rest) = url.strip_prefix("mqtt://") {
            (false, rest)
        } else {
            return Err(bad("mqtt://HOST:PORT and mqtts://HOST:PORT are understood"));
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => (
                host,
                port.parse().map_err(|_| bad("the port is not a number"))?,
            ),
            _ => (rest, if tls { 8883 } else { 1883 }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return Err(bad("no host"));
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            tls,
        })
    }
}

/// What the connection reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The oldest publish not yet numbered went out under this packet id.
    Numbered(u16),
    /// A publish was acknowledged.
    Acked(u16),
    /// A publish was refused with this MQTT 5 reason code.
    Refused(u16, u8),
    /// The connection is gone, and why.
    Closed(String),
}

/// Reason code 0x97: quota exceeded, try later.
pub(crate) const QUOTA: u8 = 0x97;

/// From connecting to CONNACK.
const CONNECT_S: u64 = 5;
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Packet ids before they repeat; more than twice what may be in flight, so that acknowledgements
/// out of order never meet an id that is still in use.
const PACKET_IDS: u16 = 2 * limits::SIM_INFLIGHT_MAX as u16 + 112;

enum Client {
    V3(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

/// See the module. Dropping it cuts the connection.
pub(crate) struct Link {
    client: Client,
    events: mpsc::Receiver<Event>,
    tasks: Vec<JoinHandle<()>>,
}

impl Link {
    /// Connects the transport and starts the client; its first event says how MQTT went.
    pub(crate) async fn open(
        endpoint: Endpoint,
        tls: Option<Arc<ClientConfig>>,
        device: DeviceId,
        version: Mqtt,
    ) -> Outcome<Self> {
        let mut tasks = Vec::new();
        let (tx, events) = mpsc::channel(limits::SIM_EVENTS_QUEUE);
        let (host, port, transport) = match tls {
            Some(config) => {
                let (socket, tunnel) = tunnel(&endpoint, config, tx.clone()).await?;
                tasks.push(tunnel);
                (socket, endpoint.port, Transport::Unix)
            }
            None => (bracketed(&endpoint.host), endpoint.port, Transport::Tcp),
        };
        // Births and frames may wait here for the event loop, never more than are in flight.
        let room = 2 * limits::SIM_INFLIGHT_MAX + 2;
        let most = u32::try_from(limits::PACKET_BYTES_MAX).unwrap_or(u32::MAX);
        let client = match version {
            Mqtt::V3 => {
                let mut options = rumqttc::MqttOptions::new(device.as_str(), host, port);
                options
                    .set_transport(transport)
                    .set_clean_session(true)
                    .set_keep_alive(KEEP_ALIVE)
                    .set_inflight(PACKET_IDS)
                    .set_max_packet_size(limits::PACKET_BYTES_MAX, limits::PACKET_BYTES_MAX);
                let (client, events) = rumqttc::AsyncClient::new(options, room);
                tasks.push(tokio::spawn(drive_v3(events, tx)));
                Client::V3(client)
            }
            Mqtt::V5 => {
                let mut options = v5::MqttOptions::new(device.as_str(), host, port);
                options
                    .set_transport(transport)
                    .set_clean_start(true)
                    .set_keep_alive(KEEP_ALIVE)
                    .set_connection_timeout(CONNECT_S)
                    .set_max_packet_size(Some(most))
                    .set_outgoing_inflight_upper_limit(PACKET_IDS);
                let (client, events) = v5::AsyncClient::new(options, room);
                tasks.push(tokio::spawn(drive_v5(events, tx)));
                Client::V5(client)
            }
        };
        Ok(Self {
            client,
            events,
            tasks,
        })
    }

    /// Queues a publish at QoS 1; false when the client has no room for it.
    pub(crate) fn publish(&self, topic: &str, payload: &Bytes) -> bool {
        match &self.client {
            Client::V3(c) => c
                .try_publish(topic, rumqttc::QoS::AtLeastOnce, false, payload.to_vec())
                .is_ok(),
            Client::V5(c) => {
                let qos = v5::mqttbytes::QoS::AtLeastOnce;
                c.try_publish(topic, qos, false, payload.clone()).is_ok()
            }
        }
    }

    /// The next event; after `Closed` there is none.
    pub(crate) async fn event(&mut self) -> Event {
        let gone = || Event::Closed("the connection has ended".into());
        self.events.recv().await.unwrap_or_else(gone)
    }

    /// An event that has already come.
    pub(crate) fn ready(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// Says goodbye, and gives what was still on its way a moment to arrive.
    pub(crate) async fn goodbye(mut self) -> Vec<Event> {
        let asked = match &self.client {
            Client::V3(c) => c.try_disconnect().is_ok(),
            Client::V5(c) => c.try_disconnect().is_ok(),
        };
        let mut last = Vec::new();
        if !asked {
            return last;
        }
        while let Ok(event) = timeout(Duration::from_millis(500), self.event()).await {
            if let Event::Closed(_) = event {
                break;
            }
            last.push(event);
        }
        last
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn v3_event(event: &rumqttc::Event) -> Option<Event> {
    match event {
        rumqttc::Event::Outgoing(rumqttc::Outgoing::Publish(pkid)) => Some(Event::Numbered(*pkid)),
        rumqttc::Event::Incoming(rumqttc::Packet::PubAck(ack)) => Some(Event::Acked(ack.pkid)),
        _ => None,
    }
}

fn v5_event(event: &v5::Event) -> Option<Event> {
    match event {
        v5::Event::Outgoing(rumqttc::Outgoing::Publish(pkid)) => Some(Event::Numbered(*pkid)),
        v5::Event::Incoming(v5::Incoming::PubAck(ack)) => Some(match reason(ack.reason) {
            code if code < 0x80 => Event::Acked(ack.pkid),
            code => Event::Refused(ack.pkid, code),
        }),
        _ => None,
    }
}

/// The reason code on the wire (MQTT 5, 3.4.2.1).
fn reason(reason: v5::mqttbytes::v5::PubAckReason) -> u8 {
    use v5::mqttbytes::v5::PubAckReason as R;
    match reason {
        R::Success => 0x00,
        R::NoMatchingSubscribers => 0x10,
        R::UnspecifiedError => 0x80,
        R::ImplementationSpecificError => 0x83,
        R::NotAuthorized => 0x87,
        R::TopicNameInvalid => 0x90,
        R::PacketIdentifierInUse => 0x91,
        R::QuotaExceeded => QUOTA,
        R::PayloadFormatInvalid => 0x99,
    }
}

/// Polls until the connection ends. Acknowledgements that came with the end are still reported.
macro_rules! driver {
    ($name:ident, $events:ty, $map:ident) => {
        async fn $name(mut events: $events, out: mpsc::Sender<Event>) {
            let end = loop {
                match events.poll().await {
                    Ok(event) => {
                        let Some(event) = $map(&event) else { continue };
                        if out.send(event).await.is_err() {
                            return;
                        }
                    }
                    Err(end) => break Event::Closed(end.to_string()),
                }
            };
            let last = std::mem::take(&mut events.state.events);
            for event in last.iter().filter_map($map).chain([end]) {
                if out.send(event).await.is_err() {
                    return;
                }
            }
        }
    };
}
driver!(drive_v3, rumqttc::EventLoop, v3_event);
driver!(drive_v5, v5::EventLoop, v5_event);

fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// A TLS connection to the endpoint, and the path of a socket that leads into it.
async fn tunnel(
    endpoint: &Endpoint,
    config: Arc<ClientConfig>,
    events: mpsc::Sender<Event>,
) -> Outcome<(String, JoinHandle<()>)> {
    let at = format!("{}:{}", endpoint.host, endpoint.port);
    let name = ServerName::try_from(endpoint.host.clone())
        .map_err(|e| Failure::bad_input(format!("{at}: {e}")))?;
    let os = |e: std::io::Error| Failure::os(format!("connecting to {at}"), &e);
    let shake = async {
        let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
        tcp.set_nodelay(true)?;
        TlsConnector::from(config).connect(name, tcp).await
    };
    let mut outer = timeout(Duration::from_secs(CONNECT_S), shake)
        .await
        .map_err(|_| Failure::busy(format!("{at}: no TLS connection within {CONNECT_S} s")))?
        .map_err(os)?;
    // tempfile makes the folder readable by its owner only.
    let folder = tempfile::Builder::new()
        .prefix("device-sim-")
        .tempdir()
        .map_err(os)?;
    let socket = folder.path().join("mqtt");
    let listener = UnixListener::bind(&socket).map_err(os)?;
    let task = tokio::spawn(async move {
        let accepted = timeout(Duration::from_secs(CONNECT_S), listener.accept()).await;
        drop((listener, folder));
        if let Ok(Ok((mut inner, _))) = accepted
            && let Err(end) = copy_bidirectional(&mut inner, &mut outer).await
        {
            // The client would only see that its socket was closed; a certificate that the server
            // refuses shows itself here.
            events.send(Event::Closed(format!("TLS: {end}"))).await.ok();
        }
    });
    Ok((socket.display().to_string(), task))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_written() {
        let at = |url: &str| url.parse::<Endpoint>().map(|e| (e.host, e.port, e.tls));
        assert_eq!(
            at("mqtt://localhost:1884"),
            Ok(("localhost".into(), 1884, false))
        );
        assert_eq!(
            at("mqtts://ward.example/"),
            Ok(("ward.example".into(), 8883, true))
        );
        assert_eq!(at("mqtt://[::1]:7"), Ok(("::1".into(), 7, false)));
        assert_eq!(at("mqtts://[::1]"), Ok(("::1".into(), 8883, true)));
        for bad in [
            "http://x",
            "mqtt://",
            "mqtt://h:p",
            "mqtt://h:70000",
            "zmq://h:1",
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }
}
