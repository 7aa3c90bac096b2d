//! Bodies as they pass: counted, timed, never buffered.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep_until};

use crate::exchange::Exchange;
use crate::patience::{STREAM_IDLE, Upload};
use crate::upstream::pool::Lease;

/// A request's body on its way to the upstream.
pub(crate) enum RequestBody {
    /// There is none.
    Empty,
    /// The client's, and how far it has come.
    Client(Incoming, Rc<Upload>),
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        // An upstream that has answered may not want the rest.
        if let Self::Client(_, upload) = self {
            upload.ended();
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Client(body, upload) => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                if let Some(Ok(frame)) = &frame {
                    let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                    upload.bytes.set(upload.bytes.get() + bytes);
                }
                if frame.is_none() || body.is_end_stream() {
                    upload.ended();
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body, _) => body.size_hint(),
        }
    }
}

/// A response's body on its way to the client. Its end, or its drop, completes the exchange.
pub(crate) struct ResponseBody {
    source: Source,
    exchange: Option<Box<Exchange>>,
}

enum Source {
    /// The gateway's own words, or none.
    Own(Bytes),
    /// The upstream's.
    Upstream(Box<Streaming>),
}

struct Streaming {
    body: Incoming,
    /// Given back at the end; dropped earlier, the connection closes.
    lease: Option<Lease>,
    /// None for no limit but that it must not stand still.
    deadline: Option<Instant>,
    /// Made when the body has to be waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl ResponseBody {
    /// An answer of the gateway's own.
    pub(crate) fn own(text: Bytes, exchange: Box<Exchange>) -> Self {
        Self {
            source: Source::Own(text),
            exchange: Some(exchange),
        }
    }

    /// No body, of an exchange that goes on elsewhere.
    pub(crate) fn none() -> Self {
        Self {
            source: Source::Own(Bytes::new()),
            exchange: None,
        }
    }

    /// The upstream's body. What arrives after `deadline` does not count.
    pub(crate) fn upstream(
        body: Incoming,
        lease: Option<Lease>,
        deadline: Option<Instant>,
        exchange: Box<Exchange>,
    ) -> Self {
        if body.is_end_stream() {
            if let Some(lease) = lease {
                lease.finish();
            }
            return Self::own(Bytes::new(), exchange);
        }
        let streaming = Streaming {
            body,
            lease,
            deadline,
            timer: None,
        };
        Self {
            source: Source::Upstream(Box::new(streaming)),
            exchange: Some(exchange),
        }
    }

    fn complete(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.complete();
        }
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
        let this = self.get_mut();
        let streaming = match &mut this.source {
            Source::Own(text) => {
                let text = std::mem::take(text);
                if text.is_empty() {
                    this.complete();
                    return Poll::Ready(None);
                }
                this.count(text.len());
                return Poll::Ready(Some(Ok(Frame::data(text))));
            }
            Source::Upstream(streaming) => streaming,
        };
        let frame = match Pin::new(&mut streaming.body).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(streaming.poll_timeout(cx));
                if let Some(exchange) = this.exchange.take() {
                    exchange.timed_out();
                }
                this.source = Source::Own(Bytes::new());
                return Poll::Ready(Some(Err(CutShort)));
            }
        };
        match frame {
            Some(Ok(frame)) => {
                if streaming.body.is_end_stream() {
                    streaming.finish();
                } else if streaming.deadline.is_none() {
                    // It moves: it may stand still as long again.
                    streaming.timer = None;
                }
                this.count(frame.data_ref().map_or(0, Bytes::len));
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                if let Some(exchange) = this.exchange.take() {
                    exchange.cut_short(streaming.lease.as_ref(), &error);
                }
                Poll::Ready(Some(Err(CutShort)))
            }
            None => {
                streaming.finish();
                this.complete();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(text) => text.is_empty(),
            Source::Upstream(streaming) => streaming.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(text) => SizeHint::with_exact(text.len() as u64),
            Source::Upstream(streaming) => streaming.body.size_hint(),
        }
    }
}

impl ResponseBody {
    fn count(&mut self, bytes: usize) {
        if let Some(exchange) = &mut self.exchange {
            exchange.bytes_out += bytes as u64;
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // hyper need not ask for the end of a body that it knows to be over.
        if self.is_end_stream() {
            self.complete();
        }
    }
}

impl Streaming {
    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.finish();
        }
    }

    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = || self.deadline.unwrap_or_else(|| Instant::now() + STREAM_IDLE);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(until().into())));
        timer.as_mut().poll(cx)
    }
}
