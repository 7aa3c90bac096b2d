//! Clients of HTTP/2: their connections, and the answer to each stream.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use h2::server::{Builder, Handshake, SendResponse};
use h2::{Reason, RecvStream};
use http::header::{CONTENT_LENGTH, DATE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;

use super::connection::Client;
use super::interim::Interim;
use super::io::FramedTcp;
use crate::body::ResponseBody;
use crate::headers;
use crate::http2::{MAX_FAULTY_STREAMS, MAX_FRAME_SIZE, Received, Sending};
use crate::incoming::Incoming;
use crate::request;
use crate::worker::Worker;

/// Streams that a client may have open at once.
const MAX_STREAMS: u32 = 256;
/// Bytes that a client may send of a stream, and of all together, before they are taken from it. hyper's defaults, as
/// the next.
const WINDOW: u32 = 1024 * 1024;
/// Bytes of an answer that may wait to be written.
const MOST_WAITING: usize = 400 * 1024;

/// A client's connection, until it ends.
pub(super) struct Connection<S> {
    state: State,
    /// Begins to answer a stream.
    begin: S,
    /// It was asked to end before it stood.
    ends: bool,
}

enum State {
    Opening(Handshake<FramedTcp, Bytes>),
    Serving(h2::server::Connection<FramedTcp, Bytes>),
}

impl<S: FnMut(Request<RecvStream>, SendResponse<Bytes>) + Unpin> Connection<S> {
    /// `most_header_bytes` is for h2, which ends the connection beyond it.
    pub(super) fn new(io: FramedTcp, most_header_bytes: u32, begin: S) -> Self {
        let mut builder = Builder::new();
        builder
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_frame_size(MAX_FRAME_SIZE)
            .max_header_list_size(most_header_bytes)
            .max_concurrent_streams(MAX_STREAMS)
            .max_local_error_reset_streams(Some(MAX_FAULTY_STREAMS))
            .max_send_buffer_size(MOST_WAITING);
        Self {
            state: State::Opening(builder.handshake(io)),
            begin,
            ends: false,
        }
    }

    /// Has it end after the streams that are under way, and tells the client which was the last.
    pub(super) fn graceful_shutdown(self: Pin<&mut Self>) {
        let this = self.get_mut();
        match &mut this.state {
            State::Opening(_) => this.ends = true,
            State::Serving(connection) => connection.graceful_shutdown(),
        }
    }
}

impl<S: FnMut(Request<RecvStream>, SendResponse<Bytes>) + Unpin> Future for Connection<S> {
    type Output = Result<(), h2::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                State::Opening(handshake) => {
                    let mut connection = ready!(Pin::new(handshake).poll(cx))?;
                    if this.ends {
                        connection.graceful_shutdown();
                    }
                    this.state = State::Serving(connection);
                }
                State::Serving(connection) => match ready!(connection.poll_accept(cx)) {
                    Some(Ok((request, respond))) => (this.begin)(request, respond),
                    Some(Err(error)) => return Poll::Ready(Err(error)),
                    None => return Poll::Ready(Ok(())),
                },
            }
        }
    }
}

/// Answers one stream. When the client resets it, whatever is done for it ends.
pub(super) fn answer(
    worker: Rc<Worker>,
    client: Rc<Client>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) -> impl Future<Output = ()> {
    let to_head = request.method() == Method::HEAD;
    let (parts, stream) = request.into_parts();
    let body = Incoming::Http2(Received::new(stream, &parts.headers));
    let request = Request::from_parts(parts, body);
    let interim = Arc::<Interim>::default();
    // It is large, and gone once the answer begins.
    let handled = Box::pin(request::handle(worker, client, Arc::clone(&interim), request));
    reply(handled, interim, respond, to_head)
}

async fn reply(
    handled: Pin<Box<impl Future<Output = Result<Response<ResponseBody>, Infallible>>>>,
    interim: Arc<Interim>,
    mut respond: SendResponse<Bytes>,
    to_head: bool,
) {
    let Some(response) = head(handled, interim, &mut respond).await else {
        return;
    };
    let (mut parts, body) = response.into_parts();
    headers::remove_connection_fields(&mut parts.headers);
    parts.headers.entry(DATE).or_insert_with(date);
    let is_empty = body.is_end_stream();
    if !is_empty && let Some(length) = body.size_hint().exact() {
        parts
            .headers
            .entry(CONTENT_LENGTH)
            .or_insert_with(|| HeaderValue::from(length));
    }
    let without = to_head || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let ends = is_empty || without;
    match respond.send_response(Response::from_parts(parts, ()), ends) {
        Ok(stream) if !ends => Sending::new(body, stream, Reason::INTERNAL_ERROR).await,
        Ok(_) => {}
        Err(_) => respond.send_reset(Reason::INTERNAL_ERROR),
    }
}

/// Waits for the head of the answer, and sends interim ones meanwhile; none where the client resets the stream.
async fn head(
    mut handled: Pin<Box<impl Future<Output = Result<Response<ResponseBody>, Infallible>>>>,
    interim: Arc<Interim>,
    respond: &mut SendResponse<Bytes>,
) -> Option<Response<ResponseBody>> {
    let handled = poll_fn(|cx| {
        let handled = handled.as_mut().poll(cx);
        if handled.is_pending() {
            if respond.poll_reset(cx).is_ready() {
                return Poll::Ready(None);
            }
            interim.wake_by(cx.waker());
        }
        if interim.has_some() {
            send_interim(&interim, respond, cx);
        }
        handled.map(Some)
    });
    let Ok(response) = handled.await?;
    Some(response)
}

/// h2 would send them on a stream that was reset as well.
fn send_interim(interim: &Interim, respond: &mut SendResponse<Bytes>, cx: &mut Context<'_>) {
    let waiting = interim.take();
    if respond.poll_reset(cx).is_ready() {
        return;
    }
    for (status, headers) in waiting {
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        // One that h2 does not take is left out.
        let _ = respond.send_informational(response);
    }
}

/// The time of day as answers give it (RFC 9110 section 6.6.1).
fn date() -> HeaderValue {
    thread_local! {
        /// The second that it was last written for.
        static WRITTEN: RefCell<(u64, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static(""))) };
    }
    let now = SystemTime::now();
    let second = now
        .duration_since(UNIX_EPOCH)
        .as_ref()
        .map_or(0, Duration::as_secs);
    WRITTEN.with_borrow_mut(|(written, value)| {
        if *written != second {
            let text = httpdate::fmt_http_date(now);
            *value = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
            *written = second;
        }
        value.clone()
    })
}
