//! The version in the status line of an HTTP/1.1 upstream's answer.
//!
//! Old servers and appliances write `HTTP/1.2` or `HTTP/2.0` there while they speak HTTP/1.1, or write
//! `HTTP/1.0` above a chunked body. Envoy and HAProxy take such answers; hyper refuses them. The version is
//! therefore read as HTTP/1.1 on its way to hyper, digit by digit, and what it said is kept: an answer of
//! HTTP/1.0 lets the connection live on only where it says so (RFC 9112 section 9.3).

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::super::stream::UpstreamIo;
use crate::answer::head_fault;

/// The first bytes of an answer that are kept for an error message.
const KEPT: usize = 512;
/// How long the rest of a body waits for a server that refuses it at once.
const HOLD: Duration = Duration::from_millis(1);
/// What a status line begins with; `_` stands for a digit.
const VERSION: &[u8; 8] = b"HTTP/_._";
const MAJOR: usize = 5;
const MINOR: usize = 7;

/// The answer that a connection brings now, as the request that waits for it knows it. Only one task writes
/// at a time, and the runtime that runs them is the worker's.
#[derive(Debug, Default)]
pub(super) struct AnswerLine {
    /// Answers that were waited for so far.
    expected: AtomicU32,
    /// The head of the latest is not complete.
    in_head: AtomicBool,
    is_http10: AtomicBool,
    /// The request has a body, and is the first on a TLS connection.
    is_early: AtomicBool,
    /// The beginning of a head that never was complete, and all bytes that came of it.
    unread: OnceLock<(Vec<u8>, usize)>,
}

impl AnswerLine {
    /// A request goes out: what comes next is the status line of its answer. `is_early` says that the request
    /// has a body and is the first on a TLS connection.
    ///
    /// A server that does not want a body answers and closes at once. On a new connection its answer waits in
    /// its kernel for the acknowledgement of its session tickets (RFC 9293 section 3.7.4), and is thrown away
    /// if more of the body arrives before the server has closed. The tickets are therefore acknowledged without
    /// delay, and what does not fit into the first write waits for [`HOLD`].
    pub(super) fn expect(&self, is_early: bool) {
        self.is_early.store(is_early, Ordering::Relaxed);
        self.is_http10.store(false, Ordering::Relaxed);
        self.in_head.store(true, Ordering::Relaxed);
        let expected = self.expected.load(Ordering::Relaxed);
        self.expected.store(expected.wrapping_add(1), Ordering::Relaxed);
    }

    /// The head has been read.
    pub(super) fn complete(&self) {
        self.in_head.store(false, Ordering::Relaxed);
    }

    /// Whether the answer says that it is of HTTP/1.0.
    pub(super) fn is_http10(&self) -> bool {
        self.is_http10.load(Ordering::Relaxed)
    }

    /// What is wrong with a head that hyper could not read, where that shows.
    pub(super) fn fault(&self, too_large: bool) -> Option<String> {
        let (first, seen) = self.unread.get()?;
        head_fault(first, *seen, too_large)
    }
}

/// The bytes of an HTTP/1.1 connection with its answers' versions read as HTTP/1.1.
pub(super) struct Http1Io {
    io: UpstreamIo,
    reader: Reader,
    /// Runs since the first write of a request whose body may be refused.
    hold: Option<Pin<Box<Sleep>>>,
}

impl Http1Io {
    pub(super) fn new(io: UpstreamIo, line: Arc<AnswerLine>) -> Self {
        let reader = Reader {
            line,
            answer: 0,
            next: None,
            first: Vec::new(),
            seen: 0,
        };
        Self {
            io,
            reader,
            hold: None,
        }
    }

    /// Bytes were written.
    fn wrote(&mut self) {
        if self.reader.line.is_early.load(Ordering::Relaxed) {
            self.reader.line.is_early.store(false, Ordering::Relaxed);
            self.hold = Some(Box::pin(sleep(HOLD)));
            self.io.acknowledge_at_once();
        }
    }

    fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(hold) = &mut self.hold {
            ready!(hold.as_mut().poll(cx));
            self.hold = None;
        }
        Poll::Ready(())
    }
}

/// What looks at the bytes of answers as they arrive.
struct Reader {
    line: Arc<AnswerLine>,
    /// The number of the answer that the rest is about.
    answer: u32,
    /// The place in the version of the next byte; none once the version is over.
    next: Option<usize>,
    /// How it began, as it came.
    first: Vec<u8>,
    seen: usize,
}

impl Reader {
    fn pass(&mut self, bytes: &mut [u8]) {
        if !self.line.in_head.load(Ordering::Relaxed) {
            return;
        }
        let answer = self.line.expected.load(Ordering::Relaxed);
        if self.answer != answer {
            self.answer = answer;
            self.next = Some(0);
            self.first.clear();
            self.seen = 0;
        }
        self.seen += bytes.len();
        let room = KEPT.saturating_sub(self.first.len()).min(bytes.len());
        self.first.extend_from_slice(&bytes[..room]);
        self.read_version(bytes);
    }

    fn read_version(&mut self, bytes: &mut [u8]) {
        let Some(mut next) = self.next else { return };
        for byte in bytes {
            match (VERSION.get(next), *byte) {
                // RFC 9112 section 2.2 lets a reader skip an empty line before the status line.
                (_, b'\r' | b'\n') if next == 0 => continue,
                (Some(b'_'), digit) if digit.is_ascii_digit() => {
                    self.note_digit(next, digit);
                    if next == MINOR || matches!(digit, b'2' | b'3') {
                        *byte = b'1';
                    }
                }
                (Some(expected), found) if *expected == found => {}
                // The version is over, or it is none: hyper says so.
                _ => {
                    self.next = None;
                    return;
                }
            }
            next += 1;
        }
        self.next = Some(next);
    }

    fn note_digit(&self, place: usize, digit: u8) {
        let http10 = match place {
            MAJOR => digit == b'1',
            _ => digit == b'0' && self.line.is_http10(),
        };
        self.line.is_http10.store(http10, Ordering::Relaxed);
    }
}

impl Drop for Http1Io {
    /// hyper lets go of a connection whose answer it cannot read, and only then is it asked why.
    fn drop(&mut self) {
        if self.reader.line.in_head.load(Ordering::Relaxed) {
            let first = std::mem::take(&mut self.reader.first);
            // A connection ends once.
            let _ = self.reader.line.unread.set((first, self.reader.seen));
        }
    }
}

impl AsyncRead for Http1Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        this.reader.pass(&mut buf.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Http1Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_hold(cx));
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, buf))?;
        this.wrote();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_hold(cx));
        let written = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, bufs))?;
        this.wrote();
        Poll::Ready(Ok(written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> Reader {
        let line = Arc::new(AnswerLine::default());
        line.expect(false);
        Reader {
            line,
            answer: 0,
            next: None,
            first: Vec::new(),
            seen: 0,
        }
    }

    /// What hyper gets of an answer that arrives in pieces of `size` bytes, and whether it was of HTTP/1.0.
    fn passed(answer: &[u8], size: usize) -> (Vec<u8>, bool) {
        let mut reader = reader();
        let mut bytes = answer.to_vec();
        bytes.chunks_mut(size).for_each(|piece| reader.pass(piece));
        (bytes, reader.line.is_http10())
    }

    #[test]
    fn every_version_of_the_family_is_read_as_http_1_1() {
        let cases = [
            ("HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\n", false),
            ("HTTP/1.0 200 OK\r\n", "HTTP/1.1 200 OK\r\n", true),
            ("HTTP/1.2 200 OK\r\n", "HTTP/1.1 200 OK\r\n", false),
            ("HTTP/2.0 200 OK\r\n", "HTTP/1.1 200 OK\r\n", false),
            ("\r\nHTTP/1.0 200 OK\r\n", "\r\nHTTP/1.1 200 OK\r\n", true),
            ("HTTP/1.1 200 HTTP/1.0\r\n", "HTTP/1.1 200 HTTP/1.0\r\n", false),
            ("ICY 200 HTTP/1.0\r\n", "ICY 200 HTTP/1.0\r\n", false),
            ("HTTP/9.0 200 OK\r\n", "HTTP/9.1 200 OK\r\n", false),
            ("HTTP/x.0 200 OK\r\n", "HTTP/x.0 200 OK\r\n", false),
        ];
        for (answer, expected, http10) in cases {
            for size in [1, 3, answer.len()] {
                let (bytes, was_http10) = passed(answer.as_bytes(), size);
                assert_eq!(String::from_utf8_lossy(&bytes), expected, "pieces of {size}");
                assert_eq!(was_http10, http10, "{answer:?}");
            }
        }
    }

    #[test]
    fn the_body_is_left_as_it_is() {
        let answer = b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.0";
        assert_eq!(passed(answer, 1).0, answer);
    }

    #[test]
    fn each_answer_is_read_anew() {
        let mut reader = reader();
        for (answer, http10) in [
            ("HTTP/1.0 200 OK\r\n\r\n", true),
            ("HTTP/1.1 204 OK\r\n\r\n", false),
        ] {
            reader.line.expect(false);
            reader.pass(&mut answer.as_bytes().to_vec());
            reader.line.complete();
            reader.pass(&mut b"HTTP/1.0".to_vec());
            assert_eq!(reader.line.is_http10(), http10);
            assert_eq!(reader.first, answer.as_bytes());
        }
    }

    #[test]
    fn the_kept_beginning_is_bounded() {
        let mut reader = reader();
        reader.pass(&mut [b'a'; KEPT + 1]);
        reader.pass(&mut [b'a'; KEPT]);
        assert_eq!((reader.first.len(), reader.seen), (KEPT, 2 * KEPT + 1));
    }
}
