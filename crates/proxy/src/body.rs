//! Bodies as they pass: counted, timed, never buffered.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep_until};

use crate::answer::Framing;
use crate::exchange::Exchange;
use crate::failure::ProxyError;
use crate::headers::{Content, Excess, excess, sanitise_request_trailers, sanitise_response_trailers};
use crate::incoming::{HttpError, Incoming};
use crate::patience::{STREAM_IDLE, Upload};
use crate::upstream::pool::Lease;

/// A request's body on its way to the upstream.
pub(crate) enum RequestBody {
    /// There is none.
    Empty,
    /// The client's, as one attempt sends it.
    Client(Turn),
}

/// The right to read an upload, until another attempt takes it.
pub(crate) struct Turn {
    upload: Rc<Upload>,
    number: u32,
}

impl Turn {
    fn is_over(&self) -> bool {
        self.upload.turn.get() != self.number
    }

    fn of_body<T>(&self, look: impl FnOnce(&Incoming) -> T) -> Option<T> {
        self.upload.body.borrow().as_ref().map(look)
    }
}

impl Upload {
    /// Its body, to be read from now on by the holder of this; none where some of it was read already, for
    /// that is kept nowhere.
    pub(crate) fn next_turn(self: &Rc<Self>) -> Option<RequestBody> {
        if self.begun.get() {
            return None;
        }
        self.turn.set(self.turn.get() + 1);
        self.go_on();
        Some(RequestBody::Client(Turn {
            number: self.turn.get(),
            upload: Rc::clone(self),
        }))
    }
}

/// Why a request's body ended before it was complete.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Interrupted {
    #[error("the client broke off its request: {0}")]
    Client(Arc<HttpError>),
    #[error("the trailers of the request are too large: {0}")]
    Trailers(Excess),
    #[error("another attempt sends the request")]
    Taken,
    #[error(
        "the body came at less than {0} bytes a second, which is min_request_rate of the Module ambassador"
    )]
    TooSlow(u64),
    #[error(
        "the body came at less than {0} bytes a second, and its upstream had no connection left for others"
    )]
    Spared(u64),
    #[error("the upstream gave its answer without it")]
    Unwanted,
}

impl Interrupted {
    pub(crate) fn is_slowness(&self) -> bool {
        matches!(self, Self::TooSlow(_) | Self::Spared(_))
    }
}

impl RequestBody {
    pub(crate) fn upload(&self) -> Option<&Rc<Upload>> {
        match self {
            Self::Empty => None,
            Self::Client(turn) => Some(&turn.upload),
        }
    }

    /// How long it is, as far as is known before it is read.
    pub(crate) fn content(&self) -> Content {
        if self.is_end_stream() {
            return Content::None;
        }
        match self.size_hint().exact() {
            Some(length) => Content::Bytes(length),
            None => Content::Streamed,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // An upstream that has answered may not want the rest.
        if !self.is_over() {
            self.upload.ended();
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Interrupted;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Client(turn) if turn.is_over() => Poll::Ready(Some(Err(Interrupted::Taken))),
            Self::Client(turn) => {
                let frame = turn.upload.poll_frame(cx);
                match frame {
                    Poll::Pending => turn.upload.waits(cx.waker()),
                    Poll::Ready(_) => turn.upload.pace.moves(),
                }
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(turn) => turn.of_body(Body::is_end_stream).unwrap_or(true),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(turn) => turn.of_body(Body::size_hint).unwrap_or_default(),
        }
    }
}

impl Upload {
    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        if let Some(interrupted) = self.interrupted.get() {
            return Poll::Ready(Some(Err(interrupted.clone())));
        }
        ready!(self.gate.poll(cx))?;
        let mut body = self.body.borrow_mut();
        let Some(body) = &mut *body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        self.begun.set(true);
        let frame = frame.map(|frame| within(frame, self.most_trailers));
        match &frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.bytes.set(self.bytes.get() + bytes);
            }
            Some(Err(interrupted)) => drop(self.interrupted.set(interrupted.clone())),
            None => {}
        }
        if !matches!(frame, Some(Ok(_))) || body.is_end_stream() {
            self.ended();
        }
        Poll::Ready(frame)
    }
}

/// The frame, unless it is one of trailers that are larger than may be.
fn within(frame: Result<Frame<Bytes>, HttpError>, most_trailers: usize) -> Result<Frame<Bytes>, Interrupted> {
    let mut frame = frame.map_err(|error| Interrupted::Client(Arc::new(error)))?;
    if let Some(trailers) = frame.trailers_mut() {
        sanitise_request_trailers(trailers);
    }
    match frame
        .trailers_ref()
        .and_then(|trailers| excess(0, trailers, most_trailers))
    {
        Some(excess) => Err(Interrupted::Trailers(excess)),
        None => Ok(frame),
    }
}

/// A response's body on its way to the client. Its end, or its drop, completes the exchange.
pub(crate) enum ResponseBody {
    /// The gateway's own words, or none; without an exchange where that goes on elsewhere.
    Own(Bytes, Option<Box<Exchange>>),
    /// The upstream's.
    Upstream(Rc<RefCell<Flow>>),
}

/// The body of an upstream's answer, as it is read.
pub(crate) struct UpstreamBody {
    incoming: Incoming,
    /// What came together with the head.
    first: Option<Frame<Bytes>>,
    /// Bytes to its end, where that is not where hyper sees it.
    left: Option<u64>,
}

/// Why the body of an answer cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// What hyper or h2 says of it.
    #[error(transparent)]
    Read(HttpError),
    /// The connection ended first.
    #[error("it ended {0} bytes before its content-length")]
    Short(u64),
}

impl UpstreamBody {
    /// Begins to read. A body that is broken from its first byte is an error here, while nothing has been
    /// sent to the client.
    pub(crate) fn begin(incoming: Incoming, framing: Framing) -> Result<Self, Broken> {
        let left = match framing {
            Framing::AsRead => None,
            Framing::Bytes(length) => Some(length),
        };
        let mut body = Self {
            incoming,
            first: None,
            left,
        };
        if !body.is_end_stream() {
            // What came with the head has been read. The next poll is woken for the rest.
            let now = &mut Context::from_waker(Waker::noop());
            if let Poll::Ready(Some(frame)) = Pin::new(&mut body.incoming).poll_frame(now) {
                body.first = Some(frame.map_err(Broken::Read)?);
            }
        }
        Ok(body)
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let frame = match self.first.take() {
            Some(frame) => Some(Ok(frame)),
            None => ready!(Pin::new(&mut self.incoming).poll_frame(cx)),
        };
        let frame = match (frame, &mut self.left) {
            (None, Some(left @ 1..)) => Some(Err(Broken::Short(*left))),
            (Some(Ok(frame)), Some(left)) => Some(Ok(cut_to(frame, left))),
            (frame, _) => frame.map(|frame| frame.map_err(Broken::Read)),
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && (self.left == Some(0) || self.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if let Some(left) = self.left {
            return SizeHint::with_exact(left);
        }
        let first = self
            .first
            .as_ref()
            .and_then(Frame::data_ref)
            .map_or(0, Bytes::len) as u64;
        let rest = self.incoming.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + first);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + first);
        }
        hint
    }
}

/// What of a frame belongs to a body that has `left` bytes to come.
fn cut_to(frame: Frame<Bytes>, left: &mut u64) -> Frame<Bytes> {
    frame.map_data(|mut data| {
        data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
        *left -= data.len() as u64;
        data
    })
}

/// The upstream's body. Shared with the worker where the client may keep it waiting.
pub(crate) struct Flow {
    /// None once it was cut.
    body: Option<UpstreamBody>,
    /// Given back at the end; dropped earlier, the connection closes.
    lease: Option<Lease>,
    /// None for no limit but that it must not stand still.
    deadline: Option<Instant>,
    /// Made when the body has to be waited for.
    timer: Option<Pin<Box<Sleep>>>,
    /// None once it is complete.
    exchange: Option<Box<Exchange>>,
    watch: Watch,
    /// Bytes that its trailers may have.
    most_trailers: usize,
}

/// Whether the worker looks after a body that nobody asks for more of.
enum Watch {
    /// Not yet: what remains fits into the buffers of the connection, or the client has shown that it reads.
    No,
    /// It does. So many bytes had passed when it last looked, which was then.
    Since(u64, Instant),
}

/// A body that is longer than this is watched: a client may stop reading in the middle of it. What is
/// shorter is taken by the buffers of the client's connection, and holds up nobody.
const WATCHED: u64 = 64 * 1024;
/// Who is asked for more notices the deadline itself; a watched body is cut this much later.
const LATE: Duration = Duration::from_secs(1);

impl ResponseBody {
    /// An answer of the gateway's own.
    pub(crate) fn own(text: Bytes, exchange: Box<Exchange>) -> Self {
        Self::Own(text, Some(exchange))
    }

    /// No body, of an exchange that goes on elsewhere.
    pub(crate) fn none() -> Self {
        Self::Own(Bytes::new(), None)
    }

    /// The upstream's body. What arrives after `deadline` does not count, nor do trailers of more than
    /// `most_trailers` bytes.
    pub(crate) fn upstream(
        body: UpstreamBody,
        lease: Lease,
        deadline: Option<Instant>,
        most_trailers: usize,
        exchange: Box<Exchange>,
    ) -> Self {
        if body.is_end_stream() {
            lease.finish();
            return Self::own(Bytes::new(), exchange);
        }
        // The window of an HTTP/2 stream may be closed from the start.
        let watched = exchange.client().speaks_http2();
        let flow = Rc::new(RefCell::new(Flow {
            body: Some(body),
            lease: Some(lease),
            deadline,
            timer: None,
            exchange: Some(exchange),
            watch: Watch::No,
            most_trailers,
        }));
        if watched {
            flow.borrow_mut().watch(&flow);
        }
        Self::Upstream(flow)
    }
}

/// The body ended before it was complete. The connection to the client is cut, so that nobody takes
/// the part for the whole.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's response was cut short")]
pub(crate) struct CutShort;

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        match self.get_mut() {
            Self::Own(text, exchange) => {
                let text = std::mem::take(text);
                if text.is_empty() {
                    exchange
                        .take()
                        .into_iter()
                        .for_each(|exchange| exchange.complete());
                    return Poll::Ready(None);
                }
                if let Some(exchange) = exchange {
                    exchange.bytes_out += text.len() as u64;
                }
                Poll::Ready(Some(Ok(Frame::data(text))))
            }
            Self::Upstream(shared) => {
                let mut flow = shared.borrow_mut();
                let frame = flow.poll_frame(cx);
                if flow.should_be_watched() {
                    flow.watch(shared);
                }
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(text, _) => text.is_empty(),
            Self::Upstream(flow) => flow.borrow().is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(text, _) => SizeHint::with_exact(text.len() as u64),
            Self::Upstream(flow) => {
                let flow = flow.borrow();
                flow.body
                    .as_ref()
                    .map(UpstreamBody::size_hint)
                    .unwrap_or_default()
            }
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // hyper need not ask for the end of a body that it knows to be over, or for one of HEAD.
        match self {
            Self::Own(_, exchange) => exchange
                .take()
                .into_iter()
                .for_each(|exchange| exchange.complete()),
            Self::Upstream(flow) => flow.borrow_mut().let_go(),
        }
    }
}

impl Flow {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(Some(Err(CutShort)));
        };
        let Poll::Ready(frame) = body.poll_frame(cx) else {
            ready!(self.poll_timeout(cx));
            self.cut();
            return Self::flush_first(cx);
        };
        match frame {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    sanitise_response_trailers(trailers);
                }
                let trailers = frame.trailers_ref();
                if let Some(excess) = trailers.and_then(|trailers| excess(0, trailers, self.most_trailers)) {
                    self.refuse_trailers(&excess);
                    return Self::flush_first(cx);
                }
                if self.is_end_stream() {
                    self.finish();
                } else if self.deadline.is_none() {
                    // It moves: it may stand still as long again.
                    self.timer = None;
                }
                if let Some(exchange) = &mut self.exchange {
                    exchange.bytes_out += frame.data_ref().map_or(0, Bytes::len) as u64;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                if let Some(exchange) = self.exchange.take() {
                    exchange.cut_short(self.lease.as_ref(), &error);
                }
                self.body = None;
                self.lease = None;
                Self::flush_first(cx)
            }
            None => {
                self.finish();
                self.complete();
                Poll::Ready(None)
            }
        }
    }

    /// The body is gone, which the next poll reports. hyper drops what it has buffered when a body fails, and
    /// writes it when a body has to be waited for: so the head and what came of the body go out first.
    fn flush_first<T>(cx: &mut Context<'_>) -> Poll<T> {
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_some_and(UpstreamBody::is_end_stream)
    }

    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.finish();
        }
    }

    fn complete(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.complete();
        }
    }

    /// Fields of its trailers would have to be left out, which nobody could tell from an upstream that did not
    /// send them.
    fn refuse_trailers(&mut self, excess: &Excess) {
        if let (Some(exchange), Some(lease)) = (self.exchange.take(), &self.lease) {
            exchange.ended_by(&ProxyError::section_too_large(lease, "trailers", excess));
        }
        self.body = None;
        self.lease = None;
    }

    /// Nobody wants more of it.
    fn let_go(&mut self) {
        if self.is_end_stream() {
            self.complete();
        }
        self.exchange = None;
        self.body = None;
        self.lease = None;
    }

    /// Its time is over: the upstream is let go, and the client is told by the next poll.
    fn cut(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.timed_out();
        }
        self.body = None;
        self.lease = None;
    }

    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = || self.deadline.unwrap_or_else(|| Instant::now() + STREAM_IDLE);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(until().into())));
        timer.as_mut().poll(cx)
    }

    fn passed(&self) -> u64 {
        self.exchange.as_ref().map_or(0, |exchange| exchange.bytes_out)
    }

    fn should_be_watched(&self) -> bool {
        matches!(self.watch, Watch::No) && self.passed() > WATCHED && !self.is_end_stream()
    }

    fn watch(&mut self, shared: &Rc<RefCell<Self>>) {
        if let Some(exchange) = &self.exchange {
            self.watch = Watch::Since(self.passed(), Instant::now());
            exchange.worker().flows.borrow_mut().push(Rc::downgrade(shared));
        }
    }

    /// Looks after a body that perhaps nobody polls, since its client does not read. False when there is no
    /// more to look after.
    pub(crate) fn keep_watching(&mut self, now: Instant) -> bool {
        let passed = self.passed();
        let Watch::Since(before, since) = self.watch else {
            return false;
        };
        if self.exchange.is_none() {
            return false;
        }
        if passed != before {
            self.watch = Watch::Since(passed, now);
        }
        let until = self.deadline.unwrap_or(since + STREAM_IDLE);
        if now < until + LATE {
            return true;
        }
        if let Some(exchange) = &self.exchange {
            // Its connection is full and takes no more of anything.
            exchange.client().cut_http1();
        }
        self.cut();
        false
    }
}
