//! The bytes of one upstream connection, cleartext or TLS, whatever is spoken over it: HTTP, a health
//! check or a passed-on TCP connection.
//!
//! TLS is rustls driven directly over the socket, without an adapter in between, for three things
//! that an adapter hides: an alert that arrives together with a reset is still read when a write
//! fails, so the first cause wins; a close without close_notify is an error and no end; and no
//! buffer is held besides those of rustls.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use nuncio_model::{Failure, Reason, TlsSettings};
use nuncio_tls::{Closed, Evidence, Seen, ended_at_once, ended_in_silence, process_established};
use rustls::ClientConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A peer that ends a connection later than this after the handshake has another reason than a client certificate that
/// it dislikes: no data may have come because nobody asked for any.
const VERDICT_WITHIN: Duration = Duration::from_secs(5);

/// Why a connection failed, told by whoever knew first.
pub(crate) type FirstCause = Arc<OnceLock<Failure>>;

/// An upstream connection, ready for whatever is spoken over it.
pub(crate) enum UpstreamIo {
    /// Without TLS.
    Plain(PlainIo),
    /// With TLS, after the handshake.
    Tls(Box<TlsIo>),
}

/// The socket alone.
pub(crate) struct PlainIo {
    tcp: TcpStream,
    cause: FirstCause,
    /// Nothing has arrived yet.
    is_new: bool,
    writes: Writes,
}

/// TLS after the handshake.
pub(crate) struct TlsIo {
    pub(crate) tcp: TcpStream,
    pub(crate) tls: ClientConnection,
    pub(crate) seen: Seen,
    pub(crate) settings: Arc<TlsSettings>,
    pub(crate) cause: FirstCause,
    /// When the handshake was over.
    pub(crate) since: Instant,
    /// The peer has sent data.
    pub(crate) has_answered: bool,
    pub(crate) writes: Writes,
}

/// Whether the peer still takes bytes.
///
/// A server may answer a request that it does not want to read and close. A write then fails before the
/// answer was read, and the writer would give up the connection with the answer in it. A failed write
/// is therefore not reported: what is written from then on is dropped, and the reads, which give what the
/// kernel still holds and then the end of the connection, report how it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Writes {
    #[default]
    Sent,
    /// A write failed.
    Dropped,
}

impl Writes {
    /// The result of a write of `len` bytes, which counts as done where it failed.
    fn settle(&mut self, len: usize, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Err(_)) => {
                *self = Self::Dropped;
                Poll::Ready(Ok(len))
            }
            result => result,
        }
    }
}

impl PlainIo {
    pub(crate) fn new(tcp: TcpStream, cause: FirstCause) -> Self {
        Self {
            tcp,
            cause,
            is_new: true,
            writes: Writes::Sent,
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buf))?;
        if buf.filled().len() == before && buf.remaining() > 0 && self.writes == Writes::Dropped {
            // The failed write took the socket's error with it; this is no clean end.
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if std::mem::take(&mut self.is_new) {
            self.note_tls(&buf.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }

    /// A TLS server that hears cleartext says so with an alert, which HTTP cannot read (row D5).
    fn note_tls(&self, first: &[u8]) {
        const ALERT: u8 = 21;
        const HANDSHAKE: u8 = 22;
        if let [ALERT | HANDSHAKE, 3, ..] = first {
            let peer = self.tcp.peer_addr();
            let peer = peer.map_or_else(|_| "the upstream".to_owned(), |address| address.to_string());
            // Only the first cause is kept.
            let _ = self.cause.set(Failure {
                reason: Reason::UpstreamProtocolError,
                message: format!("{peer} answered cleartext with a TLS record, so its port speaks TLS"),
                remedy: "write https:// before the host in spec.service".to_owned(),
            });
        }
    }
}

impl TlsIo {
    fn poll_plaintext(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match io::BufRead::fill_buf(&mut self.tls.reader()) {
                Ok([]) => {
                    self.note_end(Closed::Eof);
                    return Poll::Ready(Ok(()));
                }
                Ok(plaintext) => {
                    let n = plaintext.len().min(buf.remaining());
                    buf.put_slice(&plaintext[..n]);
                    io::BufRead::consume(&mut self.tls.reader(), n);
                    self.has_answered = true;
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The socket has ended, and TLS has not.
                Err(_) => {
                    self.note_end(Closed::Eof);
                    return Poll::Ready(Err(cut_off()));
                }
            }
            if let Some(failure) = self.cause.get() {
                return Poll::Ready(Err(io::Error::other(failure.message.clone())));
            }
            match ready!(self.poll_records(cx)) {
                // The next fill_buf tells a clean end from a cut one.
                Ok(0) => self.process()?,
                Ok(_) => {}
                // What came before the failure was whole, and goes first.
                Err(_) if self.cause.get().is_some() => {}
                Err(error) => {
                    self.note_end(Closed::Reset);
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    /// The connection has ended. A peer that did so right after it had asked for a client certificate, and never sent
    /// anything, refused what it got (rows P15, P16).
    fn note_end(&self, how: Closed) {
        if self.has_answered || self.since.elapsed() > VERDICT_WITHIN {
            return;
        }
        if let Some(failure) = ended_in_silence(how, &self.tls, &self.seen, &self.settings) {
            // Only the first cause is kept.
            let _ = self.cause.set(failure);
        }
    }

    /// Reads from the socket once and decrypts what came. `Ok(0)` is the end of the socket.
    fn poll_records(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let n = match self.tls.read_tls(&mut Socket {
            tcp: &mut self.tcp,
            cx,
        }) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if self.tls.wants_write() {
            // What waits would be taken for an answer to what came in; if it cannot go, a later write
            // says why.
            let _ = self.tls.write_tls(&mut Socket {
                tcp: &mut self.tcp,
                cx,
            });
        }
        if let Err(error) = self.process() {
            // Our alert, as far as the socket takes it.
            let _ = self.tls.write_tls(&mut Socket {
                tcp: &mut self.tcp,
                cx,
            });
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(n))
    }

    fn process(&mut self) -> io::Result<()> {
        let Err(failure) = process_established(&mut self.tls, &self.seen, &self.settings) else {
            return Ok(());
        };
        let text = failure.message.clone();
        // Only the first cause is kept.
        let _ = self.cause.set(failure);
        Err(io::Error::other(text))
    }

    /// Sends what is encrypted. The only error is what the peer said of the connection's end.
    fn poll_encrypted(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.writes == Writes::Sent && self.tls.wants_write() {
            match self.tls.write_tls(&mut Socket {
                tcp: &mut self.tcp,
                cx,
            }) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Ok(0) | Err(_) => {
                    self.writes = Writes::Dropped;
                    self.last_words()?;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// A write failed: the peer may have said why before it closed. Reads what is there, at most a
    /// few records, so that an alert among it is the cause and not the reset. What is no alert is read
    /// later, in its turn.
    fn last_words(&mut self) -> io::Result<()> {
        for _ in 0..16 {
            match self.tls.read_tls(&mut LastBytes(&self.tcp)) {
                Ok(1..) => self.process()?,
                _ => break,
            }
        }
        // Data that came before the end is an answer, whether anybody has read it or not.
        self.has_answered |= self.has_data();
        self.note_end(Closed::Reset);
        Ok(())
    }

    fn has_data(&mut self) -> bool {
        matches!(io::BufRead::fill_buf(&mut self.tls.reader()), Ok([_, ..]))
    }
}

/// What rustls has more to say of than anybody wants to read.
fn cut_off() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the connection was closed without the close_notify of TLS",
    )
}

/// The rest of what a broken socket holds. The runtime may not know yet that there is something to
/// read, so the socket itself is asked; it does not block.
pub(crate) struct LastBytes<'a>(pub(crate) &'a TcpStream);

impl io::Read for LastBytes<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*socket2::SockRef::from(self.0)).read(buf)
    }
}

/// The socket as rustls wants it: synchronous, with `WouldBlock` where the task must wait.
pub(crate) struct Socket<'a, 'b> {
    pub(crate) tcp: &'a mut TcpStream,
    pub(crate) cx: &'a mut Context<'b>,
}

impl io::Read for Socket<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        match Pin::new(&mut *self.tcp).poll_read(self.cx, &mut buf) {
            Poll::Ready(result) => result.map(|()| buf.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl io::Write for Socket<'_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        would_block(Pin::new(&mut *self.tcp).poll_write(self.cx, buf))
    }

    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match bufs {
            // One record is the common case, and a plain write is the cheaper call.
            [buf] => self.write(buf),
            bufs => would_block(Pin::new(&mut *self.tcp).poll_write_vectored(self.cx, bufs)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn would_block(poll: Poll<io::Result<usize>>) -> io::Result<usize> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// What a peer said by TLS after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// A session ticket.
    Ticket,
    /// Data.
    Data,
    /// An alert, or the end of the connection; it is the connection's cause.
    End,
}

impl UpstreamIo {
    /// Waits for what the peer says after the handshake, besides the tickets that it has sent by now. None without TLS.
    pub(crate) async fn next_word(&mut self) -> Option<Word> {
        let Self::Tls(io) = self else { return None };
        let tickets = io.tls.tls13_tickets_received();
        loop {
            if io.has_data() {
                return Some(Word::Data);
            }
            if io.tls.tls13_tickets_received() > tickets {
                return Some(Word::Ticket);
            }
            let how = match poll_fn(|cx| io.poll_records(cx)).await {
                Ok(0) => Closed::Eof,
                Ok(_) => continue,
                Err(_) => Closed::Reset,
            };
            // An alert was reported already, and only the first cause is kept.
            let _ = io.cause.set(ended_at_once(how, &io.tls, &io.seen, &io.settings));
            return Some(Word::End);
        }
    }
}

impl UpstreamIo {
    /// Has the kernel acknowledge what arrives without delay, for now. A peer whose last bytes wait for their
    /// acknowledgement holds back the next ones (RFC 9293 section 3.7.4), and loses those if it closes.
    pub(crate) fn acknowledge_at_once(&self) {
        let tcp = match self {
            Self::Plain(io) => &io.tcp,
            Self::Tls(io) => &io.tcp,
        };
        // Without it the peer waits for a few milliseconds.
        let _ = socket2::SockRef::from(tcp).set_tcp_quickack(true);
    }

    /// What the peer showed of itself; none in cleartext.
    pub(crate) fn evidence(&self) -> Option<Evidence> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(io) => Evidence::of(&io.tls),
        }
    }
}

impl AsyncRead for UpstreamIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => io.poll_read(cx, buf),
            Self::Tls(io) => io.poll_plaintext(cx, buf),
        }
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) if io.writes == Writes::Dropped => Poll::Ready(Ok(buf.len())),
            Self::Plain(io) => {
                let written = Pin::new(&mut io.tcp).poll_write(cx, buf);
                io.writes.settle(buf.len(), written)
            }
            Self::Tls(io) if io.writes == Writes::Dropped => Poll::Ready(Ok(buf.len())),
            Self::Tls(io) => {
                // What an earlier call left over goes first; rustls bounds what it takes.
                if io.tls.wants_write() {
                    ready!(io.poll_encrypted(cx))?;
                }
                let n = io::Write::write(&mut io.tls.writer(), buf)?;
                match io.poll_encrypted(cx) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    _ => Poll::Ready(Ok(n)),
                }
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(&mut io.tcp).poll_flush(cx),
            Self::Tls(io) => io.poll_encrypted(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(&mut io.tcp).poll_shutdown(cx),
            Self::Tls(io) => {
                if io.writes == Writes::Sent {
                    io.tls.send_close_notify();
                }
                ready!(io.poll_encrypted(cx))?;
                Pin::new(&mut io.tcp).poll_shutdown(cx)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => {
                let len = bufs.iter().map(|buf| buf.len()).sum();
                if io.writes == Writes::Dropped {
                    return Poll::Ready(Ok(len));
                }
                let written = Pin::new(&mut io.tcp).poll_write_vectored(cx, bufs);
                io.writes.settle(len, written)
            }
            tls @ Self::Tls(_) => {
                let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
                Pin::new(tls).poll_write(cx, first)
            }
        }
    }
}

impl fmt::Debug for UpstreamIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "UpstreamIo::Plain",
            Self::Tls(_) => "UpstreamIo::Tls",
        })
    }
}
