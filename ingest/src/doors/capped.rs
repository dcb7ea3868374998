//! A socket of which only so many bytes may be read until the peer is known: a certificate chain of a
//! megabyte is not read to its end to find that it is worthless.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// See the module.
#[derive(Debug)]
pub(crate) struct Capped<S> {
    socket: S,
    left: Option<usize>,
}

impl<S> Capped<S> {
    /// At most `bytes` can be read until [`Self::lift`].
    pub(crate) fn new(socket: S, bytes: usize) -> Self {
        Self {
            socket,
            left: Some(bytes),
        }
    }

    /// The peer is known.
    pub(crate) fn lift(&mut self) {
        self.left = None;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Capped<S> {
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
        // The part is the same memory, so that what is read into it is read into the whole.
        let most = buf.remaining().min(left);
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
        let polled = Pin::new(&mut self.socket).poll_read(cx, &mut part);
        let read = part.filled().len();
        if let Poll::Ready(Ok(())) = polled {
            buf.advance(read);
            self.left = Some(left - read);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Capped<S> {
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
