//! One connection of a device to a door.
//!
//! ```text
//!  device ──parcels──▶ link/mqtt (rumqttc) | link/zmq (zeromq) ──TCP, or a tunnel──▶ door
//!  device ◀──events─── Numbered, Acked, .. │ Durable, ..        ◀───────────────────┘
//! ```
//!
//! Every connection gets a fresh client, which has nothing to forget and nothing to send again on its
//! own: the spool alone decides what is sent again. What an acknowledgement names differs, and the
//! device is told which: at QoS 1 and 2 the packet, on ZeroMQ and at QoS 0 boot and seq.
//!
//! **Tunnels.** `rumqttc`'s own TLS feature brings rustls-webpki 0.102 (two open advisories) and an
//! abandoned PEM reader into the build, only to name their error types; `zeromq` has no TLS, and tells
//! nobody when a peer is gone. So those connections are made here, and the client reaches them through
//! a socket in a private folder that is removed as soon as it has connected.

mod mqtt;
mod zmq;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use chordae_base::{Failure, Outcome, StreamKey};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpStream, UnixListener},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// How a device speaks MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mqtt {
    /// 3.1.1: a refused frame is told only on the `ack` topic.
    V3,
    /// 5, with reason codes.
    V5,
}

/// What is spoken at an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT.
    Mqtt,
    /// ZeroMQ: a DEALER to the door's ROUTER.
    Zmq,
}

/// Where the door is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// What is spoken there.
    pub protocol: Protocol,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether the connection is TLS.
    pub tls: bool,
}

impl std::str::FromStr for Endpoint {
    type Err = Failure;
    /// `mqtt://host[:port]`, `mqtts://`, `zmq://` or `zmq+tls://`.
    fn from_str(url: &str) -> Outcome<Self> {
        use Protocol::{Mqtt, Zmq};
        let bad = |why: &str| Failure::bad_input(format!("{url:?}: {why}"));
        let (protocol, tls, usual, rest) = [
            ("mqtts://", Mqtt, true, 8883),
            ("mqtt://", Mqtt, false, 1883),
            ("zmq+tls://", Zmq, true, 5556),
            ("zmq://", Zmq, false, 5555),
        ]
        .into_iter()
        .find_map(|(scheme, protocol, tls, port)| {
            let rest = url.strip_prefix(scheme)?;
            Some((protocol, tls, port, rest))
        })
        .ok_or_else(|| bad("mqtt://, mqtts://, zmq:// and zmq+tls://HOST:PORT are understood"))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => (
                host,
                port.parse().map_err(|_| bad("the port is not a number"))?,
            ),
            _ => (rest, usual),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return Err(bad("no host"));
        }
        Ok(Self {
            protocol,
            host: host.to_owned(),
            port,
            tls,
        })
    }
}

/// How to connect, and as whom.
#[derive(Clone)]
pub(crate) struct Dial {
    pub(crate) endpoint: Endpoint,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) key: StreamKey,
    pub(crate) mqtt: Mqtt,
    /// MQTT only.
    pub(crate) qos: u8,
}

/// What a device hands over.
#[derive(Debug, Clone)]
pub(crate) enum Parcel<'a> {
    Birth {
        payload: Bytes,
        json: bool,
    },
    Frame {
        payload: Bytes,
        json: bool,
    },
    /// Online or not; retained.
    Status(bool),
    /// The reply to the command of this id.
    Reply {
        id: &'a str,
        payload: Bytes,
    },
}

/// What the connection reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The door is there and has let us in.
    Connected,
    /// The oldest packet not yet numbered went out under this id.
    Numbered(u16),
    /// A packet was acknowledged.
    Acked(u16),
    /// A packet was refused.
    Refused(u16, Reason),
    /// Frames of a boot are durable: first and last seq.
    Durable(u64, u64, u64),
    /// The birth of a boot is known, or refused.
    Birth(u64, Option<Reason>),
    /// A frame (boot, seq) was refused.
    Nacked(u64, u64, Reason),
    /// What came on the `ack` topic.
    Standing(Bytes),
    /// A command.
    Command(Bytes),
    /// The reply to this command has been taken.
    Replied(String),
    /// The connection is gone, and why.
    Closed(String),
}

/// Why something was refused: a reason code, or the label of a nack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason {
    pub(crate) label: String,
    /// In the door's words.
    pub(crate) why: String,
    /// For lack of room: to be tried again.
    pub(crate) later: bool,
}

/// From connecting to the door's answer.
const CONNECT_S: u64 = 5;
/// How long a device that says goodbye waits for what is still on its way.
const GOODBYE: Duration = Duration::from_millis(500);

enum Client {
    Mqtt(mqtt::Client),
    Zmq(zmq::Client),
}

/// See the module. Dropping it cuts the connection.
pub(crate) struct Link {
    client: Client,
    events: mpsc::Receiver<Event>,
    tasks: Vec<JoinHandle<()>>,
}

impl Link {
    /// Connects the transport and starts the client; its first event says how that went.
    pub(crate) async fn open(dial: Dial) -> Outcome<Self> {
        let (events_out, events) = mpsc::channel(chordae_base::limits::SIM_EVENTS_QUEUE);
        let mut tasks = Vec::new();
        let client = match dial.endpoint.protocol {
            Protocol::Mqtt => Client::Mqtt(mqtt::open(&dial, events_out, &mut tasks).await?),
            Protocol::Zmq => Client::Zmq(zmq::open(&dial, events_out, &mut tasks).await?),
        };
        Ok(Self {
            client,
            events,
            tasks,
        })
    }

    /// Whether births and frames are acknowledged by boot and seq, not by packet id.
    pub(crate) fn names(&self) -> bool {
        match &self.client {
            Client::Mqtt(client) => client.names(),
            Client::Zmq(_) => true,
        }
    }

    /// Whether what is neither birth nor frame is acknowledged by packet id.
    pub(crate) fn numbers_notes(&self) -> bool {
        matches!(self.client, Client::Mqtt(_))
    }

    /// Whether there are JSON twins here.
    pub(crate) fn twins(&self) -> bool {
        matches!(self.client, Client::Mqtt(_))
    }

    /// Queues a parcel; false when the client has no room for it.
    pub(crate) fn send(&self, parcel: Parcel<'_>) -> bool {
        match &self.client {
            Client::Mqtt(client) => client.send(parcel),
            Client::Zmq(client) => client.send(parcel),
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
        let mut last = Vec::new();
        self.send(Parcel::Status(false));
        let wait = match &self.client {
            // The door closes the connection when it has read the goodbye.
            Client::Mqtt(client) if client.disconnect() => GOODBYE,
            Client::Mqtt(_) => return last,
            Client::Zmq(_) => GOODBYE / 5,
        };
        while let Ok(event) = timeout(wait, self.event()).await {
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

fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// A connection to the endpoint, and the path of a socket that leads into it.
async fn tunnel(
    dial: &Dial,
    events: mpsc::Sender<Event>,
    tasks: &mut Vec<JoinHandle<()>>,
) -> Outcome<String> {
    let endpoint = &dial.endpoint;
    let at = format!("{}:{}", bracketed(&endpoint.host), endpoint.port);
    let os = |e: std::io::Error| Failure::os(format!("connecting to {at}"), &e);
    let late = |_| Failure::busy(format!("{at}: no connection within {CONNECT_S} s"));
    let connect = async {
        let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
        tcp.set_nodelay(true).map(|()| tcp)
    };
    let limit = Duration::from_secs(CONNECT_S);
    let tcp = timeout(limit, connect).await.map_err(late)?.map_err(os)?;
    // tempfile makes the folder readable by its owner only.
    let folder = tempfile::Builder::new()
        .prefix("device-sim-")
        .tempdir()
        .map_err(os)?;
    let socket = folder.path().join("door");
    let listener = UnixListener::bind(&socket).map_err(os)?;
    // rumqttc reports an orderly end itself, after the last acknowledgements.
    let tells = endpoint.protocol == Protocol::Zmq;
    tasks.push(match &dial.tls {
        None => tokio::spawn(carry(listener, folder, tcp, events, tells)),
        Some(config) => {
            let name = ServerName::try_from(endpoint.host.clone())
                .map_err(|e| Failure::bad_input(format!("{at}: {e}")))?;
            let shake = TlsConnector::from(Arc::clone(config)).connect(name, tcp);
            let outer = timeout(limit, shake).await.map_err(late)?.map_err(os)?;
            tokio::spawn(carry(listener, folder, outer, events, tells))
        }
    });
    Ok(socket.display().to_string())
}

async fn carry<S: AsyncRead + AsyncWrite + Unpin>(
    listener: UnixListener,
    folder: tempfile::TempDir,
    mut outer: S,
    events: mpsc::Sender<Event>,
    tells: bool,
) {
    let accepted = timeout(Duration::from_secs(CONNECT_S), listener.accept()).await;
    drop((listener, folder));
    let Ok(Ok((mut inner, _))) = accepted else {
        return;
    };
    // The client would at best see that its socket was closed; a certificate that the server refuses
    // shows itself here.
    let why = match copy_bidirectional(&mut inner, &mut outer).await {
        Ok(_) if !tells => return,
        Ok(_) => "the connection was closed".to_owned(),
        Err(end) => format!("the connection broke: {end}"),
    };
    events.send(Event::Closed(why)).await.ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_written() {
        use Protocol::{Mqtt, Zmq};
        let at = |url: &str| {
            let read = url.parse::<Endpoint>();
            read.map(|e| (e.protocol, e.host, e.port, e.tls))
        };
        assert_eq!(
            at("mqtt://localhost:1884"),
            Ok((Mqtt, "localhost".into(), 1884, false))
        );
        assert_eq!(
            at("mqtts://ward.example/"),
            Ok((Mqtt, "ward.example".into(), 8883, true))
        );
        assert_eq!(at("mqtt://[::1]:7"), Ok((Mqtt, "::1".into(), 7, false)));
        assert_eq!(at("mqtts://[::1]"), Ok((Mqtt, "::1".into(), 8883, true)));
        assert_eq!(at("zmq://h"), Ok((Zmq, "h".into(), 5555, false)));
        assert_eq!(at("zmq+tls://h:7"), Ok((Zmq, "h".into(), 7, true)));
        for bad in [
            "http://x",
            "mqtt://",
            "mqtt://h:p",
            "mqtt://h:70000",
            "zmq+tls://",
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }
}
