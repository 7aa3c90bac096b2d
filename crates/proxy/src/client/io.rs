//! A client's socket with the framing guard in its read path.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::frames::Frames;
use crate::framing::Guard;

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
}

impl AsyncRead for FramedTcp {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.tcp).poll_read(cx, buf))?;
        this.frames.watch(&buf.filled()[before..]);
        this.wire.set_in_head(this.frames.in_head());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for FramedTcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write(cx, bytes)
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
        Pin::new(&mut self.get_mut().tcp).poll_write_vectored(cx, bufs)
    }
}

/// The socket of a client that speaks HTTP/1.1.
pub(crate) struct GuardedIo {
    socket: TokioIo<TcpStream>,
    guard: Guard,
    wire: Arc<Wire>,
    /// Runs since our side was closed.
    linger: Option<Pin<Box<Sleep>>>,
}

impl GuardedIo {
    pub(crate) fn new(tcp: TcpStream, guard: Guard, wire: Arc<Wire>) -> Self {
        Self {
            socket: TokioIo::new(tcp),
            guard,
            wire,
            linger: None,
        }
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
        BUFFER.with_borrow_mut(|buffer| {
            let room = buf.remaining().min(buffer.len());
            let mut bytes = ReadBuf::new(&mut buffer[..room]);
            ready!(Pin::new(this.socket.inner_mut()).poll_read(cx, &mut bytes))?;
            this.guard.watch(bytes.filled());
            this.wire.set_in_head(this.guard.in_head());
            buf.put_slice(bytes.filled());
            Poll::Ready(Ok(()))
        })
    }
}

impl Write for GuardedIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
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
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, bufs)
    }
}
