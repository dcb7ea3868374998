//! A connection whose peer must take what it asked for: a slow reader is cut by a least rate, so that
//! nobody holds an answer by taking one byte at a time.
//!
//! ```text
//! write ──▶ peer takes all of it: no clock runs
//!      └──▶ peer lets us wait: so many bytes in each span of time, or the connection is an error
//! ```

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use chordae_base::limits;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// See the module.
pub(crate) struct Paced<I> {
    inner: I,
    /// The least rate: so many bytes in so much time.
    least: (u64, Duration),
    /// Runs while the peer lets us wait.
    span: Option<Pin<Box<Sleep>>>,
    /// Bytes taken since it was set.
    taken: u64,
}

impl<I> Paced<I> {
    pub(crate) fn new(inner: I) -> Self {
        Self::with(inner, (limits::HTTP_TAKE_BYTES_MIN, limits::HTTP_TAKE_SPAN))
    }

    fn with(inner: I, least: (u64, Duration)) -> Self {
        Self {
            inner,
            least,
            span: None,
            taken: 0,
        }
    }

    /// Judges what a write came to; a peer that takes too little is cut.
    fn judge(
        &mut self,
        cx: &mut Context<'_>,
        wrote: Poll<io::Result<usize>>,
        asked: usize,
    ) -> Poll<io::Result<usize>> {
        match wrote {
            Poll::Ready(Ok(n)) => {
                self.taken = self.taken.saturating_add(n as u64);
                // Taken whole: nobody waits. A part of it: the clock goes on.
                if n == asked {
                    self.span = None;
                }
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Pending => {
                let (taken, (bytes_min, time)) = (&mut self.taken, self.least);
                let span = self.span.get_or_insert_with(|| {
                    *taken = 0;
                    Box::pin(sleep_until(Instant::now() + time))
                });
                loop {
                    ready!(span.as_mut().poll(cx));
                    if *taken < bytes_min {
                        let why = "the reader takes its answer too slowly";
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
                    }
                    *taken = 0;
                    span.as_mut().reset(Instant::now() + time);
                }
            }
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Paced<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Paced<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.judge(cx, wrote, buf.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        let asked = bufs.iter().map(|b| b.len()).sum();
        self.judge(cx, wrote, asked)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS writes here: what it holds has been counted when it was taken over.
        match Pin::new(&mut self.inner).poll_flush(cx) {
            Poll::Pending => self.judge(cx, Poll::Pending, 0).map_ok(|_| ()),
            done => done,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// The time of a test, not of the product.
    const SPAN: Duration = Duration::from_millis(500);
    const LEAST: usize = 40_000;

    #[tokio::test]
    async fn h03_a_slow_reader_is_cut_by_a_least_rate_and_a_fair_one_is_not() {
        for (step, fair) in [(LEAST / 100, false), (LEAST, true)] {
            let (ours, mut theirs) = tokio::io::duplex(1024);
            let mut ours = Paced::with(ours, (LEAST as u64, SPAN));
            let writing = tokio::spawn(async move {
                let bytes = vec![7; 16 * LEAST];
                ours.write_all(&bytes).await.map_err(|e| e.kind())
            });
            let (mut got, mut taken) = (vec![0; step], 0);
            while taken < 16 * LEAST && theirs.read_exact(&mut got).await.is_ok() {
                taken += step;
                tokio::time::sleep(SPAN / 10).await;
            }
            let cut = writing.await.unwrap() == Err(io::ErrorKind::TimedOut);
            assert_eq!((cut, taken == 16 * LEAST), (!fair, fair), "{step}");
        }
    }
}
