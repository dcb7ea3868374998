//! From an accepted socket to a connection: TLS and its identity, then MQTT or, by its first byte, the
//! upgrade to WebSocket. All within one deadline, counted from the accept, and few bytes.

use bytes::BytesMut;
use chordae_base::limits;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::{self, Instant},
};

use super::{DoorParts, connection::Connection, websocket};
use crate::{
    core::{identify::Peer, ports::DeviceEntry},
    doors::{
        capped::Capped,
        gate::Unknown,
        tls::{self, Identity, Tls},
    },
};

/// Bytes of the first read: a whole CONNECT, mostly.
const FIRST: usize = 1024;

/// Who is at the door, and for how long that holds.
pub(super) struct Guest {
    pub(super) peer: Peer,
    /// What its certificate proved, and where its revocation would be found.
    proof: Option<(Identity, Tls)>,
    /// Its place among those we do not know yet.
    unknown: Option<Unknown>,
}

impl Guest {
    /// It is known now.
    pub(super) fn is_known(&mut self) {
        self.unknown = None;
    }

    pub(super) fn has_expired(&self, wall_ns: i64) -> bool {
        let proof = self.proof.as_ref();
        proof.is_some_and(|(identity, _)| wall_ns >= identity.expires_ns)
    }

    pub(super) fn is_revoked(&self, entry: &DeviceEntry) -> bool {
        self.proof.as_ref().is_some_and(|(identity, tls)| {
            tls.revoked(&identity.serial) || entry.revoked.contains(&identity.serial)
        })
    }
}

/// The whole life of a socket. Counts what it refuses.
pub(super) async fn greet(
    socket: TcpStream,
    unknown: Unknown,
    tls: Option<Tls>,
    parts: DoorParts,
    stopped: watch::Receiver<bool>,
) {
    let deadline = Instant::now() + limits::HANDSHAKE_TIMEOUT;
    // Acknowledgements are small and many: they must not wait for each other.
    socket.set_nodelay(true).ok();
    let mut capped = Capped::new(socket, limits::CONNECT_BYTES_MAX);
    let Some(tls) = tls else {
        let guest = Guest {
            peer: Peer::Plain,
            proof: None,
            unknown: Some(unknown),
        };
        // The session bounds what it reads before CONNECT, and so does the upgrade.
        capped.lift();
        return enter(capped, None, guest, parts, stopped, deadline).await;
    };
    let mut stream = match time::timeout_at(deadline, tls.acceptor().accept(capped)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(err)) => {
            tracing::debug!(%err, "MQTT: TLS handshake failed");
            return parts.metrics.refuse("tls");
        }
        Err(_) => return parts.metrics.refuse("handshake-timeout"),
    };
    stream.get_mut().0.lift();
    match tls::identity(stream.get_ref().1) {
        Ok(identity) => {
            let guest = Guest {
                peer: identity.peer.clone(),
                proof: Some((identity, tls)),
                unknown: Some(unknown),
            };
            let named = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            enter(stream, named, guest, parts, stopped, deadline).await;
        }
        Err(failure) => {
            tracing::warn!(%failure, "MQTT: a certificate without an identity of ours");
            parts.metrics.refuse("certificate");
        }
    }
}

/// What speaks must be what was named in the handshake (ALPN), if anything was.
async fn enter<S>(
    mut stream: S,
    named: Option<Vec<u8>>,
    guest: Guest,
    parts: DoorParts,
    stopped: watch::Receiver<bool>,
    deadline: Instant,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut buf = BytesMut::with_capacity(FIRST);
    match time::timeout_at(deadline, stream.read_buf(&mut buf)).await {
        Ok(Ok(1..)) => {}
        Ok(_) => return,
        Err(_) => return parts.metrics.refuse("handshake-timeout"),
    }
    let conn = parts.next_conn();
    let upgrade = buf.first() == Some(&b'G');
    let speaks = if upgrade { tls::HTTP } else { tls::MQTT };
    if named.is_some_and(|named| named != speaks) {
        return parts.metrics.refuse("alpn");
    }
    if !upgrade {
        let connection = Connection::new(conn, guest, parts);
        return connection.run(stream, buf, deadline, stopped).await;
    }
    let upgraded = websocket::upgrade(stream, buf, &parts.origins);
    match time::timeout_at(deadline, upgraded).await {
        Ok(Ok(socket)) => {
            let connection = Connection::new(conn, guest, parts);
            connection
                .run(socket, BytesMut::new(), deadline, stopped)
                .await;
        }
        Ok(Err(err)) => {
            tracing::debug!(%err, "MQTT: no WebSocket of ours");
            parts.metrics.refuse("websocket");
        }
        Err(_) => parts.metrics.refuse("handshake-timeout"),
    }
}
