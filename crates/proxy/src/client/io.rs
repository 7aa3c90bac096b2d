//! A client's socket with the framing guard in its read path.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use crate::framing::Guard;

/// Most bytes that are read in one go.
const SCRATCH: usize = 64 * 1024;

thread_local! {
    /// One buffer a worker: bytes stay in it only for the time of a read.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// The socket of a client that speaks HTTP/1.1.
pub(crate) struct GuardedIo {
    socket: TokioIo<TcpStream>,
    guard: Guard,
    in_head: Arc<AtomicBool>,
}

impl GuardedIo {
    /// `in_head` follows whether part of a request's head is there and the rest is not.
    pub(crate) fn new(tcp: TcpStream, guard: Guard, in_head: Arc<AtomicBool>) -> Self {
        Self {
            socket: TokioIo::new(tcp),
            guard,
            in_head,
        }
    }
}

impl Read for GuardedIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        BUFFER.with_borrow_mut(|buffer| {
            let room = buf.remaining().min(buffer.len());
            let mut bytes = ReadBuf::new(&mut buffer[..room]);
            ready!(Pin::new(this.socket.inner_mut()).poll_read(cx, &mut bytes))?;
            this.guard.watch(bytes.filled());
            let in_head = this.guard.in_head();
            if in_head != this.in_head.load(Ordering::Relaxed) {
                this.in_head.store(in_head, Ordering::Relaxed);
            }
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
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
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
