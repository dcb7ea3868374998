//! From the first byte to a connection: MQTT or, by that byte, the upgrade to WebSocket.

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    sync::watch,
    time::{self, Instant},
};

use super::{DoorParts, connection::Connection, websocket};
use crate::doors::{guest::Guest, tls};

/// Bytes of the first read: a whole CONNECT, mostly.
const FIRST: usize = 1024;

/// What speaks must be what was named in the handshake (ALPN), if anything was.
pub(super) async fn greet<S>(
    mut stream: S,
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
    if guest.named.as_ref().is_some_and(|named| named != speaks) {
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
