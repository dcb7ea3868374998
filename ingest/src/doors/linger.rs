//! How a connection is closed so that the peer learns why.

use chordae_base::limits;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time,
};

/// Bytes of a read that nobody looks at.
const READ: usize = 4096;

/// Ends our side, and hears the peer out, for [`limits::LINGER`] at most: a close that leaves bytes unread
/// is a reset, which takes from the peer what we said last, and that is why it was closed. It may be gone,
/// or not listening.
pub(super) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    let hear_out = async {
        stream.shutdown().await?;
        let (mut said, mut unheard) = (vec![0; READ], limits::LINGER_BYTES_MAX);
        while unheard > 0 {
            match stream.read(&mut said).await? {
                0 => break,
                n => unheard = unheard.saturating_sub(n),
            }
        }
        Ok::<_, std::io::Error>(())
    };
    time::timeout(limits::LINGER, hear_out).await.ok();
}
