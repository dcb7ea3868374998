//! MQTT over WebSocket on the same port (docs/decisions/0015): a stream of bytes made of binary messages.
//!
//! ```text
//! GET .. Upgrade: websocket, subprotocol mqtt ──▶ 101 ──▶ binary messages, each a piece of the stream
//! ```
//!
//! A browser sends its certificate to whoever asks it to, so that a page of a stranger could read a ward
//! through its user's browser: a request that names an origin must name this host, or one that the operator
//! has listed. No extensions are offered, so nothing is compressed; text messages, frames that are too long
//! and broken frames end the connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use chordae_base::limits;
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        Error, Message,
        handshake::server::{ErrorResponse, Request, Response},
        http::{HeaderMap, HeaderValue, StatusCode, header},
        protocol::WebSocketConfig,
    },
};

use crate::doors::capped::Capped;

/// The subprotocol, as registered.
const MQTT: &str = "mqtt";
/// Bytes of a connection's read buffer.
const READ: usize = 4 * 1024;
/// Bytes of messages that wait to be written: one round of the connection, and its framing.
const WRITE_MAX: usize = 2 * limits::PACKET_BYTES_MAX;

/// What was read already, then the rest.
struct Resumed<S> {
    head: BytesMut,
    rest: S,
}

/// A WebSocket as a stream of bytes.
pub struct Socket<S> {
    inner: WebSocketStream<Capped<Resumed<S>>>,
    left: Bytes,
}

/// The upgrade, of which `head` has been read.
///
/// # Errors
/// Whatever was wrong with the request; it has been answered.
pub async fn upgrade<S>(stream: S, head: BytesMut, origins: &[String]) -> Result<Socket<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let resumed = Resumed { head, rest: stream };
    let capped = Capped::new(resumed, limits::CONNECT_BYTES_MAX);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_MAX)
        .max_message_size(Some(limits::PACKET_BYTES_MAX))
        .max_frame_size(Some(limits::PACKET_BYTES_MAX));
    #[expect(
        clippy::result_large_err,
        reason = "the shape that the library asks for"
    )]
    let check = |request: &Request, mut response: Response| {
        let headers = request.headers();
        if !asks_for_mqtt(headers) {
            return Err(no(StatusCode::BAD_REQUEST, "the subprotocol must be mqtt"));
        }
        if !is_welcome(headers, origins) {
            return Err(no(StatusCode::FORBIDDEN, "a page of another origin"));
        }
        let named = HeaderValue::from_static(MQTT);
        response
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, named);
        Ok(response)
    };
    let mut inner = accept_hdr_async_with_config(capped, check, Some(config)).await?;
    inner.get_mut().lift();
    Ok(Socket {
        inner,
        left: Bytes::new(),
    })
}

fn no(status: StatusCode, why: &str) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(why.to_owned()));
    *response.status_mut() = status;
    response
}

fn asks_for_mqtt(headers: &HeaderMap) -> bool {
    let named = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut named = named.filter_map(|value| value.to_str().ok());
    named.any(|list| list.split(',').any(|name| name.trim() == MQTT))
}

/// Whether the page that asks is ours, or a friend's; what is no browser names none.
fn is_welcome(headers: &HeaderMap, origins: &[String]) -> bool {
    let text = |name| {
        headers
            .get(name)
            .map(|v: &HeaderValue| v.to_str().unwrap_or_default())
    };
    let Some(origin) = text(header::ORIGIN) else {
        return true;
    };
    if origins.iter().any(|friend| friend == origin) {
        return true;
    }
    let of = origin.split_once("://").map(|(_, host)| host);
    match (of, text(header::HOST)) {
        (Some(of), Some(host)) => name_of(of) == name_of(host) && !name_of(of).is_empty(),
        _ => false,
    }
}

/// A host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

fn broken(err: Error) -> io::Error {
    match err {
        Error::Io(err) => err,
        err => io::Error::new(io::ErrorKind::InvalidData, err),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.left.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.left = bytes,
                // The library answers these itself, with the next write or read.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                    let why = "MQTT comes in binary messages";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
                }
                Some(Err(err)) => return Poll::Ready(Err(broken(err))),
            }
        }
        let most = buf.remaining().min(self.left.len());
        buf.put_slice(self.left.split_to(most).as_ref());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.inner).poll_ready(cx)).map_err(broken)?;
        let message = Message::Binary(Bytes::copy_from_slice(buf));
        Pin::new(&mut self.inner)
            .start_send(message)
            .map_err(broken)?;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx).map_err(broken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx).map_err(broken)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Resumed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.head.is_empty() {
            return Pin::new(&mut self.rest).poll_read(cx, buf);
        }
        let most = buf.remaining().min(self.head.len());
        buf.put_slice(self.head.get(..most).unwrap_or_default());
        self.head.advance(most);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Resumed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_shutdown(cx)
    }
}
