//! A socket of which only so many bytes may be read until the peer is known: a certificate chain of a
//! megabyte is not read to its end to find that it is worthless.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// See the module.
pub(super) struct Capped {
    socket: TcpStream,
    left: Option<usize>,
}

impl Capped {
    /// At most `bytes` can be read until [`Self::lift`].
    pub(super) fn new(socket: TcpStream, bytes: usize) -> Self {
        Self {
            socket,
            left: Some(bytes),
        }
    }

    /// The peer is known.
    pub(super) fn lift(&mut self) {
        self.left = None;
    }
}

impl AsyncRead for Capped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(left) = self.left else {
            return Pin::new(&mut self.socket).poll_read(cx, buf);
        };
        if left == 0 {
            let why = "too many bytes before the peer is known";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        let mut part = buf.take(left);
        let polled = Pin::new(&mut self.socket).poll_read(cx, &mut part);
        let read = part.filled().len();
        // The part is the same memory; what was read into it is read into the whole.
        let bytes = part.filled().to_vec();
        if let Poll::Ready(Ok(())) = polled {
            buf.put_slice(&bytes);
            self.left = Some(left - read);
        }
        polled
    }
}

impl AsyncWrite for Capped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
