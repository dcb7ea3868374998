//! Listeners for HTTP: plain on loopback, or TLS with every handshake in a task of its own, so that a peer
//! that says nothing delays nobody.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::serve::Listener;
use chordae_base::{Failure, Outcome, limits};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::tls::Readers;

/// Handshakes at work at one time.
const HANDSHAKES_MAX: usize = 256;
/// Established connections waiting to be served.
const ESTABLISHED_QUEUE: usize = 64;

/// Binds an address; the failure says which, and what to do.
///
/// Accepted connections inherit the send buffer. It is small, because the least rate of a reader is seen by what the
/// kernel takes from us, and that takes nothing before a third of its buffer is empty: with the megabytes that it
/// would choose itself, a reader of 100 KB/s looks as if it took nothing for ten seconds.
///
/// # Errors
/// `Busy` when the port is taken.
pub async fn bind(what: &str, addr: SocketAddr) -> Outcome<TcpListener> {
    let listening = || {
        let socket = match addr {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.set_send_buffer_size(limits::HTTP_SEND_BUFFER_BYTES)?;
        socket.bind(addr)?;
        socket.listen(limits::HTTP_BACKLOG)
    };
    listening().map_err(|e: io::Error| {
        Failure::busy(format!(
            "{what}: cannot listen on {addr} ({e}); free the port or set {what} to another"
        ))
    })
}

/// A plain or TLS connection.
#[derive(Debug)]
pub enum Stream {
    /// Loopback.
    Plain(TcpStream),
    /// TLS, established.
    Tls(Box<TlsStream<TcpStream>>),
}

/// TLS connections, handed over once established.
#[derive(Debug)]
pub struct TlsListener {
    established: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    addr: SocketAddr,
}

impl TlsListener {
    /// Accepts and shakes hands in tasks of their own.
    ///
    /// # Errors
    /// `Io` when the listener has no address.
    pub fn new(listener: TcpListener, config: Readers) -> Outcome<Self> {
        let addr = listener
            .local_addr()
            .map_err(|e| Failure::os("listener", &e))?;
        let (ready, established) = mpsc::channel(ESTABLISHED_QUEUE);
        let room = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        tokio::spawn(async move {
            while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
                let (stream, peer) = tokio::select! {
                    // The server is gone: so is this task.
                    () = ready.closed() => return,
                    accepted = accept(&listener) => accepted,
                };
                // The certificate as it is now.
                let acceptor = TlsAcceptor::from(Arc::clone(&config.borrow()));
                let ready = ready.clone();
                tokio::spawn(async move {
                    let shaken =
                        tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, acceptor.accept(stream));
                    if let Ok(Ok(stream)) = shaken.await {
                        // A send fails only when the server has stopped.
                        ready.send((stream, peer)).await.ok();
                    }
                    drop(permit);
                });
            }
        });
        Ok(Self { established, addr })
    }
}

/// Accepts; out of file descriptors it waits instead of spinning.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Headers and the last piece of a body go out at once, not after the reader's delayed ACK.
                if let Err(e) = stream.set_nodelay(true) {
                    tracing::debug!(error = %e, "nodelay");
                }
                return (stream, peer);
            }
            Err(e) => {
                tracing::warn!(error = %e, "accept");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

impl Listener for TlsListener {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.established.recv().await {
            Some((stream, peer)) => (Stream::Tls(Box::new(stream)), peer),
            // The accepting task ends only with us.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(s) => s.is_write_vectored(),
            Self::Tls(s) => s.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_shutdown(cx),
        }
    }
}
