//! A connection of HTTP/2 to an upstream, and the requests on it.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason};
use http::{Request, Response};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep};

use super::super::stream::UpstreamIo;
use super::lease::SendError;
use super::{EndpointPool, Facts};
use crate::body::RequestBody;
use crate::client::interim::Ear;
use crate::headers;
use crate::http2::{MAX_FAULTY_STREAMS, MAX_FRAME_SIZE, Received, Sending};
use crate::incoming::{HttpError, Incoming};

/// A busy connection of which nothing was heard for so long is asked whether it is still there,
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// and has this long to answer.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams that one connection carries at most, where its peer allows as many, before another is opened.
const MAX_STREAMS: usize = 1024;
/// Streams that the peer is taken to allow until it says what it allows: the least that RFC 9113 section 6.5.2
/// recommends.
const FIRST_STREAMS: usize = 100;
/// Bytes that an upstream may send of a stream, and of all together, before they are taken from it. hyper's defaults,
/// as the next.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 5 * 1024 * 1024;
/// Bytes of a request that may wait to be written.
const MOST_WAITING: usize = 1024 * 1024;

/// Begins to speak HTTP/2. h2 ends the connection over header sections of more than `most_header_bytes`.
pub(super) async fn handshake(
    io: UpstreamIo,
    most_header_bytes: u32,
) -> Result<(SendRequest<Bytes>, Driven), h2::Error> {
    let vitals = Rc::new(Vitals {
        heard: Cell::new(Instant::now()),
        streams: Cell::new(0),
        silent: Cell::new(false),
    });
    let io = Heard {
        io,
        vitals: Rc::clone(&vitals),
    };
    let mut builder = Builder::new();
    builder
        .initial_max_send_streams(FIRST_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME_SIZE)
        .max_header_list_size(most_header_bytes)
        .max_local_error_reset_streams(Some(MAX_FAULTY_STREAMS))
        .max_send_buffer_size(MOST_WAITING)
        .enable_push(false);
    let (sender, mut connection) = builder.handshake(io).await?;
    let ping = connection.ping_pong();
    let keep_alive = KeepAlive {
        ping,
        timer: Box::pin(sleep(KEEP_ALIVE)),
        state: Asking::Rests,
        interval: KEEP_ALIVE,
        limit: KEEP_ALIVE_TIMEOUT,
    };
    Ok((
        sender,
        Driven {
            connection,
            keep_alive,
            vitals,
        },
    ))
}

/// What the requests on a connection and what drives it know of each other.
pub(super) struct Vitals {
    /// When the peer last sent something.
    heard: Cell<Instant>,
    /// Requests under way.
    pub(super) streams: Cell<usize>,
    /// It ended because its peer did not answer.
    silent: Cell<bool>,
}

/// The bytes of a connection, with a note of when the peer last sent some.
struct Heard {
    io: UpstreamIo,
    vitals: Rc<Vitals>,
}

impl AsyncRead for Heard {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        this.vitals.heard.set(Instant::now());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Heard {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }
}

/// A connection, driven until it ends. h2 ends it when nothing uses it any more.
pub(super) struct Driven {
    connection: Connection<Heard, Bytes>,
    keep_alive: KeepAlive,
    vitals: Rc<Vitals>,
}

impl Driven {
    pub(super) fn vitals(&self) -> Rc<Vitals> {
        Rc::clone(&self.vitals)
    }
}

impl Future for Driven {
    type Output = ();

    /// The requests on it learn of its end themselves.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        // What has come is read before anybody says that nothing came.
        if Pin::new(&mut this.connection).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        ready!(this.keep_alive.poll(&this.vitals, cx));
        this.vitals.silent.set(true);
        Poll::Ready(())
    }
}

/// Finds out whether the peer of a busy connection is still there.
struct KeepAlive {
    ping: Option<PingPong>,
    timer: Pin<Box<Sleep>>,
    state: Asking,
    interval: Duration,
    limit: Duration,
}

enum Asking {
    /// No request was under way.
    Rests,
    /// The timer runs to when nothing was heard for long enough to ask.
    Waits,
    /// It was asked then, and the timer runs to when the answer is due.
    Asked(Instant),
}

impl KeepAlive {
    /// Ready once the peer has not answered.
    fn poll(&mut self, vitals: &Vitals, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.state {
                Asking::Rests if vitals.streams.get() == 0 => return Poll::Pending,
                Asking::Rests => self.wait_from(vitals.heard.get()),
                Asking::Waits => {
                    ready!(self.timer.as_mut().poll(cx));
                    if vitals.streams.get() == 0 {
                        self.state = Asking::Rests;
                    } else if vitals.heard.get().elapsed() < self.interval {
                        self.wait_from(vitals.heard.get());
                    } else {
                        self.ask();
                    }
                }
                Asking::Asked(at) => {
                    let pong = self.ping.as_mut().map(|ping| ping.poll_pong(cx));
                    if matches!(pong, Some(Poll::Ready(Ok(_)))) {
                        self.wait_from(vitals.heard.get());
                        continue;
                    }
                    ready!(self.timer.as_mut().poll(cx));
                    if vitals.heard.get() <= at {
                        return Poll::Ready(());
                    }
                    // It sends, if not the answer.
                    self.expect_answer();
                }
            }
        }
    }

    fn wait_from(&mut self, heard: Instant) {
        self.state = Asking::Waits;
        self.timer.as_mut().reset(heard + self.interval);
    }

    fn ask(&mut self) {
        // It fails where the answer to an earlier one is still due, or the connection has ended.
        if let Some(ping) = &mut self.ping {
            let _ = ping.send_ping(Ping::opaque());
        }
        self.expect_answer();
    }

    fn expect_answer(&mut self) {
        let now = Instant::now();
        self.state = Asking::Asked(now);
        self.timer.as_mut().reset(now + self.limit);
    }
}

/// A connection that requests share.
pub(super) struct Shared {
    sender: RefCell<SendRequest<Bytes>>,
    pub(super) vitals: Rc<Vitals>,
    pub(super) facts: Rc<Facts>,
    /// It can be picked for a request.
    pub(super) pooled: Cell<bool>,
    /// When its last stream ended.
    pub(super) idle_since: Cell<std::time::Instant>,
}

impl Shared {
    pub(super) fn new(
        sender: SendRequest<Bytes>,
        vitals: Rc<Vitals>,
        facts: Rc<Facts>,
        pooled: bool,
    ) -> Self {
        Self {
            sender: RefCell::new(sender),
            vitals,
            facts,
            pooled: Cell::new(pooled),
            idle_since: Cell::new(std::time::Instant::now()),
        }
    }

    /// Why it takes no more requests; none where it does.
    fn end(&self) -> Option<h2::Error> {
        let now = &mut Context::from_waker(Waker::noop());
        match self.sender.borrow_mut().poll_ready(now) {
            Poll::Ready(Err(error)) => Some(error),
            Poll::Ready(Ok(())) | Poll::Pending => None,
        }
    }

    /// Whether it takes requests: it stands, and its peer has not said that it ends.
    pub(super) fn is_open(&self) -> bool {
        self.end().is_none()
    }

    /// Whether it ended, or is ending, because its peer requires HTTP/1.1.
    pub(super) fn requires_http1(&self) -> bool {
        self.end()
            .is_some_and(|end| HttpError::Http2(end).requires_http1())
    }

    pub(super) fn has_room(&self) -> bool {
        let allowed = self.sender.borrow().current_max_send_streams();
        self.is_open() && self.vitals.streams.get() < allowed.min(MAX_STREAMS)
    }
}

/// A stream of a shared connection. Dropped before the response's end, the stream is reset.
pub(crate) struct Http2Lease {
    pub(super) shared: Rc<Shared>,
    pub(super) endpoint: Rc<EndpointPool>,
    pub(super) reused: bool,
    /// What sends the content, where that takes longer.
    sending: Option<AbortHandle>,
    /// The upstream has answered without the content, which is not sent.
    pub(super) unwanted: bool,
}

impl Http2Lease {
    pub(super) fn new(shared: Rc<Shared>, endpoint: Rc<EndpointPool>, reused: bool) -> Self {
        Self {
            shared,
            endpoint,
            reused,
            sending: None,
            unwanted: false,
        }
    }

    /// Sends a request, as far as that can be done at once. `ear` is for the interim answers.
    pub(super) fn begin(
        &mut self,
        request: Request<RequestBody>,
        ear: Option<Ear>,
    ) -> Result<Answering, SendError> {
        let now = &mut Context::from_waker(Waker::noop());
        let mut sender = self.shared.sender.borrow().clone();
        if let Poll::Ready(Err(error)) = sender.poll_ready(now) {
            return Err(SendError {
                error: Some(self.error(error)),
                unsent: Some(Box::new(request)),
            });
        }
        let (mut head, body) = request.into_parts();
        headers::remove_connection_fields(&mut head.headers);
        let ends = body.is_end_stream();
        let sent = sender.send_request(Request::from_parts(head, ()), ends);
        let (answer, stream) = sent.map_err(|error| self.error(error))?;
        if !ends {
            let mut sending = Sending::new(body, stream, Reason::CANCEL);
            // Most content is there already. What is not has a task of its own, which polls it again.
            if Pin::new(&mut sending).poll(now).is_pending() {
                self.sending = Some(self.endpoint.tasks.run(sending));
            }
        }
        Ok(Answering { answer, ear })
    }

    pub(super) fn error(&self, error: h2::Error) -> HttpError {
        if self.shared.vitals.silent.get() {
            HttpError::Silent(KEEP_ALIVE_TIMEOUT.as_secs())
        } else {
            HttpError::Http2(error)
        }
    }

    /// The response is complete. The upstream may still take the rest of the request, unless it did without.
    pub(super) fn finish(mut self) {
        if !self.unwanted {
            self.sending = None;
        }
    }
}

/// Waits for the head of an answer.
pub(super) struct Answering {
    answer: ResponseFuture,
    ear: Option<Ear>,
}

impl Future for Answering {
    type Output = Result<Response<Incoming>, h2::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        while let Some(interim) = ready!(this.answer.poll_informational(cx)) {
            let interim = interim?;
            if let Some(ear) = &this.ear {
                ear.hear(interim.status(), interim.headers());
            }
        }
        let answer = ready!(Pin::new(&mut this.answer).poll(cx))?;
        let (head, stream) = answer.into_parts();
        let body = Incoming::Http2(Received::new(stream, &head.headers));
        Poll::Ready(Ok(Response::from_parts(head, body)))
    }
}

impl Drop for Http2Lease {
    fn drop(&mut self) {
        if let Some(sending) = &self.sending {
            sending.abort();
        }
        let left = self.shared.vitals.streams.get() - 1;
        self.shared.vitals.streams.set(left);
        self.endpoint.room.notify_one();
        if left > 0 {
            return;
        }
        self.shared.idle_since.set(std::time::Instant::now());
        self.endpoint.counts.active.subtract(1);
        if self.shared.pooled.get() {
            self.endpoint.counts.idle.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::super::super::stream::PlainIo;
    use super::super::tests::on_a_worker;
    use super::*;

    const PREFACE: usize = 24;
    const PING: u8 = 6;
    const ACK: u8 = 1;

    /// Speaks HTTP/2 as far as it answers so many PINGs, and reads on in silence. How many came.
    async fn answer_pings(mut tcp: TcpStream, most: usize) -> usize {
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        tcp.write_all(&settings).await.expect("it is open");
        let mut preface = [0; PREFACE];
        tcp.read_exact(&mut preface).await.expect("a preface");
        let mut seen = 0;
        let mut head = [0; 9];
        while tcp.read_exact(&mut head).await.is_ok() {
            let [a, b, c, kind, flags, ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            if tcp.read_exact(&mut payload).await.is_err() {
                break;
            }
            if (kind, flags) != (PING, 0) {
                continue;
            }
            seen += 1;
            if seen <= most {
                head[4] = ACK;
                let answer = [&head[..], &payload].concat();
                tcp.write_all(&answer).await.expect("it is open");
            }
        }
        seen
    }

    /// A connection with so many requests on it, asked all the time whether it is still there, and its peer.
    #[expect(
        clippy::disallowed_methods,
        reason = "both ends of the connection are the test's"
    )]
    async fn busy(streams: usize) -> (SendRequest<Bytes>, Driven, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let tcp = TcpStream::connect(address).await.expect("it listens");
        let (peer, _) = listener.accept().await.expect("a connection");
        let io = UpstreamIo::Plain(PlainIo::new(tcp, Arc::default()));
        let (sender, mut driven) = handshake(io, 1 << 20)
            .await
            .expect("a socket that takes a preface");
        driven.keep_alive.interval = Duration::from_millis(1);
        driven.keep_alive.limit = Duration::from_secs(1);
        driven.vitals.streams.set(streams);
        (sender, driven, peer)
    }

    #[test]
    fn a_busy_connection_ends_when_a_ping_is_not_answered() {
        on_a_worker(async {
            let (_sender, driven, peer) = busy(1).await;
            let vitals = driven.vitals();
            let peer = tokio::task::spawn_local(answer_pings(peer, 3));
            driven.await;
            assert!(vitals.silent.get());
            assert_eq!(peer.await.expect("no panic"), 4);
        });
    }

    #[test]
    fn an_idle_connection_is_asked_nothing() {
        on_a_worker(async {
            let (sender, driven, peer) = busy(0).await;
            let peer = tokio::task::spawn_local(answer_pings(peer, 0));
            let driven = tokio::task::spawn_local(driven);
            tokio::time::sleep(Duration::from_millis(50)).await;
            // Unused, it ends by itself.
            drop(sender);
            driven.await.expect("no panic");
            assert_eq!(peer.await.expect("no panic"), 0);
        });
    }
}
