//! WebSocket: any bytes as an upgrade and the frames after it. What comes through is at most what came.

use std::sync::OnceLock;

use bytes::BytesMut;
use chordae_ingest::doors::mqtt::websocket;
use tokio::{
    io::{self, AsyncRead, AsyncReadExt},
    runtime::{Builder, Runtime},
};

/// Any bytes of a client.
pub fn stream(data: &[u8]) {
    static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| Builder::new_current_thread().build().ok());
    let Some(runtime) = runtime else { return };
    runtime.block_on(async {
        let client = io::join(two_reads(data), io::sink());
        let Ok(mut socket) = websocket::upgrade(client, BytesMut::new(), &[]).await else {
            return;
        };
        let mut through = Vec::new();
        // It ends with the bytes, orderly or not.
        socket.read_to_end(&mut through).await.ok();
        assert!(through.len() <= data.len(), "more came out than went in");
    });
}

/// The request, and apart from it what follows: who says more before it is answered is refused.
fn two_reads(data: &[u8]) -> impl AsyncRead + Unpin {
    let end = data.windows(4).position(|four| four == b"\r\n\r\n");
    let (request, frames) = data.split_at(end.map_or(data.len(), |at| at + 4));
    request.chain(frames)
}

/// An upgrade with nothing after it, and with frames: binary, fragmented, ping, text, close.
pub fn seeds() -> Vec<Vec<u8>> {
    let request =
        b"GET /mqtt HTTP/1.1\r\nHost: ward\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: mqtt\r\n\r\n";
    let frames: [&[u8]; 6] = [
        b"",
        b"\x82\x85\0\0\0\0hello",
        b"\x02\x82\0\0\0\0ab\x80\x81\0\0\0\0c",
        b"\x89\x80\0\0\0\0",
        b"\x81\x81\0\0\0\0x",
        b"\x88\x82\0\0\0\0\x03\xe8",
    ];
    let with = |frame: &&[u8]| [request.as_slice(), frame].concat();
    frames.iter().map(with).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_upgrades() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let binary = &seeds()[1];
        let through = runtime.block_on(async {
            let client = io::join(two_reads(binary), io::sink());
            let mut socket = websocket::upgrade(client, BytesMut::new(), &[])
                .await
                .unwrap();
            let mut five = [0; 5];
            socket.read_exact(&mut five).await.unwrap();
            five
        });
        assert_eq!(&through, b"hello");
    }
}
