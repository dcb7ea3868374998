//! A distance: a TCP proxy that hands on what goes to the ledger after a delay, and what comes back at once. So each
//! question costs one delay more, as over a wire of that round trip; how much is under way is not limited by it.

use std::{net::SocketAddr, time::Duration};

use chordae_base::{Failure, Outcome};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// Pieces that may be under way on a connection, and bytes of each.
const PIECES: usize = 1024;
const PIECE: usize = 16 * 1024;

/// Starts a proxy in front of `to`; where it listens.
///
/// # Errors
/// `Io` when there is no port.
pub(super) async fn start(to: SocketAddr, delay: Duration) -> Outcome<SocketAddr> {
    let os = |e: std::io::Error| Failure::os("start the proxy", &e);
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(os)?;
    let address = listener.local_addr().map_err(os)?;
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            // A connection that breaks is seen by whoever asked over it.
            tokio::spawn(async move { join(near, to, delay).await.ok() });
        }
    });
    Ok(address)
}

async fn join(near: TcpStream, to: SocketAddr, delay: Duration) -> std::io::Result<()> {
    let far = TcpStream::connect(to).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((near_read, mut near_write), (mut far_read, far_write)) =
        (near.into_split(), far.into_split());
    let (put, take) = mpsc::channel(PIECES);
    tokio::spawn(late(take, far_write));
    tokio::spawn(read(near_read, delay, put));
    copy(&mut far_read, &mut near_write).await?;
    Ok(())
}

type Piece = (Instant, Vec<u8>);

async fn read(mut from: OwnedReadHalf, delay: Duration, put: mpsc::Sender<Piece>) {
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        match from.read_buf(&mut piece).await {
            Ok(n) if n > 0 => {}
            _ => return,
        }
        if put.send((Instant::now() + delay, piece)).await.is_err() {
            return;
        }
    }
}

async fn late(mut take: mpsc::Receiver<Piece>, mut to: OwnedWriteHalf) {
    while let Some((due, piece)) = take.recv().await {
        sleep_until(due).await;
        if to.write_all(&piece).await.is_err() {
            return;
        }
    }
}
