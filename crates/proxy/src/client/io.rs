//! A client's socket with the framing guard in its read path.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::interim::Interim;
use crate::frames::Frames;
use crate::framing::{Guard, LONGEST_END};

/// Most bytes that are read in one go.
const SCRATCH: usize = 64 * 1024;
/// A client that was answered before it had sent all is listened to for so long. Closing at once would
/// reset the connection, and the client would lose the answer.
const LINGER: Duration = Duration::from_secs(5);

thread_local! {
    /// One buffer a worker: bytes stay in it only for the time of a read.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// What a client's socket and those who look after its connection tell each other.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    /// Part of a request's head is there and the rest is not.
    in_head: AtomicBool,
    /// What comes is no HTTP any more.
    upgraded: AtomicBool,
    /// Frames of HTTP/2 come without end.
    flooded: AtomicBool,
    /// Interim answers to the request of HTTP/1.1 that waits.
    pub(crate) interim: Arc<Interim>,
}

impl Wire {
    pub(crate) fn in_head(&self) -> bool {
        self.in_head.load(Ordering::Relaxed)
    }

    fn set_in_head(&self, in_head: bool) {
        if in_head != self.in_head() {
            self.in_head.store(in_head, Ordering::Relaxed);
        }
    }

    pub(crate) fn upgrade(&self) {
        self.upgraded.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_flooded(&self) -> bool {
        self.flooded.load(Ordering::Relaxed)
    }

    fn is_upgraded(&self) -> bool {
        self.upgraded.load(Ordering::Relaxed)
    }
}

/// The socket of a client that speaks HTTP/2.
pub(crate) struct FramedTcp {
    tcp: TcpStream,
    frames: Frames,
    wire: Arc<Wire>,
}

impl FramedTcp {
    pub(crate) fn new(tcp: TcpStream, wire: Arc<Wire>) -> Self {
        Self {
            tcp,
            frames: Frames::default(),
            wire,
        }
    }

    fn wrote(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(n)) = written {
            self.frames.sent(n);
        }
        written
    }
}

impl AsyncRead for FramedTcp {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.tcp).poll_read(cx, buf))?;
        if let Err(flood) = this.frames.watch(&buf.filled()[before..]) {
            this.wire.flooded.store(true, Ordering::Relaxed);
            return Poll::Ready(Err(io::Error::other(flood)));
        }
        this.wire.set_in_head(this.frames.in_head());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for FramedTcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.tcp).poll_write(cx, bytes);
        this.wrote(written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.tcp).poll_write_vectored(cx, bufs);
        this.wrote(written)
    }
}

/// The socket of a client that speaks HTTP/1.1.
pub(crate) struct GuardedIo {
    socket: TokioIo<TcpStream>,
    guard: Guard,
    wire: Arc<Wire>,
    /// Runs since our side was closed.
    linger: Option<Pin<Box<Sleep>>>,
    /// All that hyper wrote is out, so what it writes next begins a message or goes on with a body.
    flushed: bool,
    /// An interim answer that is being written.
    interim: Bytes,
    /// The last head is cut, and nothing comes after it.
    cut: bool,
}

impl GuardedIo {
    pub(crate) fn new(tcp: TcpStream, guard: Guard, wire: Arc<Wire>) -> Self {
        Self {
            socket: TokioIo::new(tcp),
            guard,
            wire,
            linger: None,
            flushed: true,
            interim: Bytes::new(),
            cut: false,
        }
    }

    /// Writes the interim answers that wait, unless bytes of another message may be on their way. An answer
    /// has no more of them once it has begun, so those that are still there come before it.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.interim.is_empty() && self.wire.interim.has_some() {
            let waiting = self.wire.interim.take_bytes();
            if self.flushed {
                self.interim = waiting;
            }
        }
        while !self.interim.is_empty() {
            let n = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.interim))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.interim.advance(n);
        }
        Poll::Ready(Ok(()))
    }

    /// What hyper writes is on its way.
    fn wrote(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.flushed &= !matches!(written, Poll::Ready(Ok(1..)));
        written
    }

    /// Reads and drops what the client still sends, to its end or that of its time.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let linger = self.linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        if linger.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        BUFFER.with_borrow_mut(|buffer| {
            loop {
                let mut bytes = ReadBuf::new(buffer);
                ready!(Pin::new(self.socket.inner_mut()).poll_read(cx, &mut bytes))?;
                if bytes.filled().is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
        })
    }
}

impl Read for GuardedIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.wire.is_upgraded() {
            return Pin::new(&mut this.socket).poll_read(cx, buf);
        }
        if this.cut {
            return Poll::Ready(Ok(()));
        }
        this.wire.interim.wake_by(cx.waker());
        BUFFER.with_borrow_mut(|buffer| {
            // A head that is cut may need some for its end.
            let room = buf.remaining().min(buffer.len());
            let room = room
                .checked_sub(LONGEST_END)
                .filter(|room| *room > 0)
                .unwrap_or(room);
            let mut bytes = ReadBuf::new(&mut buffer[..room]);
            ready!(Pin::new(this.socket.inner_mut()).poll_read(cx, &mut bytes))?;
            let bytes = bytes.filled();
            let cut = this.guard.watch(bytes);
            this.wire.set_in_head(this.guard.in_head());
            match cut {
                Some(cut) if cut.at + cut.end.len() <= buf.remaining() => {
                    buf.put_slice(&bytes[..cut.at]);
                    buf.put_slice(cut.end);
                    this.cut = true;
                }
                // hyper refuses it without a word.
                _ => buf.put_slice(bytes),
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl Write for GuardedIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_interim(cx))?;
        let written = Pin::new(&mut this.socket).poll_write(cx, buf);
        this.wrote(written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // hyper asks for this when it has nothing left to write.
        this.flushed = true;
        ready!(this.poll_interim(cx))?;
        Pin::new(&mut this.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
        }
        if this.guard.expects_more() && !this.wire.is_upgraded() {
            ready!(this.poll_linger(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_interim(cx))?;
        let written = Pin::new(&mut this.socket).poll_write_vectored(cx, bufs);
        this.wrote(written)
    }
}
