//! HTTP/2 by way of h2: content as it comes and as it goes, the same for clients and upstreams.
//!
//! hyper speaks HTTP/2 by way of h2 as well, and gives none of its interim answers away (RFC 9110 section 15.2). So
//! h2 is used without hyper, which also saves the tasks and channels that hyper has between the two.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};

use crate::answer::number;

/// The most bytes of a DATA frame that a peer may send, and the streams that may be reset here for faults of the peer
/// before the connection ends. hyper's defaults.
pub(crate) const MAX_FRAME_SIZE: u32 = 16 * 1024;
pub(crate) const MAX_FAULTY_STREAMS: usize = 1024;

/// The content of a message that a peer sends.
pub(crate) struct Received {
    stream: RecvStream,
    /// Bytes that its content-length still announces.
    left: Option<u64>,
    /// Nothing but trailers may follow.
    data_done: bool,
}

impl Received {
    pub(crate) fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        let left = if stream.is_end_stream() {
            Some(0)
        } else {
            announced(headers)
        };
        Self {
            stream,
            left,
            data_done: false,
        }
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_done {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(bytes)) => {
                    // More is asked for only once this has been passed on. A stream that was reset has no window.
                    let _ = self.stream.flow_control().release_capacity(bytes.len());
                    if let Some(left) = &mut self.left {
                        *left = left.saturating_sub(bytes.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Err(error)) => return Poll::Ready(self.end(error)),
                None => self.data_done = true,
            }
        }
        Poll::Ready(match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => trailers.map(Frame::trailers).map(Ok),
            Err(error) => self.end(error),
        })
    }

    /// A peer that has sent all of a message may reset its stream with NO_ERROR (RFC 9113 section 8.1). h2 reports
    /// the reset where the content ends.
    fn end<T>(&self, error: h2::Error) -> Option<Result<T, h2::Error>> {
        let harmless = error.is_reset() && error.reason() == Some(Reason::NO_ERROR);
        let is_whole = self.left.is_none_or(|left| left == 0);
        (!harmless || !is_whole).then_some(Err(error))
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.left.map(SizeHint::with_exact).unwrap_or_default()
    }
}

/// The length that all fields agree on.
fn announced(headers: &HeaderMap) -> Option<u64> {
    let mut lengths = headers
        .get_all(CONTENT_LENGTH)
        .iter()
        .map(|length| number(length.as_bytes()));
    let first = lengths.next()??;
    lengths.all(|length| length == Some(first)).then_some(first)
}

/// Content on its way to a peer. It is over when all is handed to h2, or the peer wants no more.
pub(crate) struct Sending<B> {
    body: B,
    stream: SendStream<Bytes>,
    /// Content that the peer has no window for yet, and whether it is the last.
    held: Option<(Bytes, bool)>,
    /// What the peer is told where the content breaks off.
    broken: Reason,
}

impl<B: Body<Data = Bytes> + Unpin> Sending<B> {
    pub(crate) fn new(body: B, stream: SendStream<Bytes>, broken: Reason) -> Self {
        Self {
            body,
            stream,
            held: None,
            broken,
        }
    }

    /// Waits until the peer takes some bytes; false where it never will.
    fn poll_window(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(false),
            }
        }
        Poll::Ready(true)
    }

    /// Hands content to h2. Says whether more may follow.
    fn send(&mut self, data: Bytes, last: bool) -> bool {
        self.stream.send_data(data, last).is_ok() && !last
    }

    /// Does with the next part of the body what can be done now. Says whether more may follow.
    fn take(&mut self, frame: Option<Result<Frame<Bytes>, B::Error>>) -> bool {
        match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(data))) => {
                let last = self.body.is_end_stream();
                if data.is_empty() {
                    return self.send(data, last);
                }
                // h2 asks for the rest when it is given the data. What is asked for here is kept from other streams
                // until then.
                self.stream.reserve_capacity(1);
                self.held = Some((data, last));
                true
            }
            Some(Ok(Err(frame))) => match frame.into_trailers() {
                Ok(trailers) => {
                    self.stream.reserve_capacity(0);
                    let _ = self.stream.send_trailers(trailers);
                    false
                }
                Err(_) => true,
            },
            Some(Err(_)) => {
                self.stream.send_reset(self.broken);
                false
            }
            None => self.send(Bytes::new(), true),
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Future for Sending<B> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            // Whatever is waited for, a reset wakes the task.
            if this.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(());
            }
            let goes_on = if this.held.is_some() {
                let takes = ready!(this.poll_window(cx));
                let held = this.held.take().filter(|_| takes);
                held.is_some_and(|(data, last)| this.send(data, last))
            } else {
                let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
                this.take(frame)
            };
            if !goes_on {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_length_counts_where_all_fields_agree() {
        for (values, length) in [
            (&[][..], None),
            (&["3"], Some(3)),
            (&["3", "3"], Some(3)),
            (&["3", "4"], None),
            (&["3", "x"], None),
            (&["+3"], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_LENGTH, HeaderValue::from_static(value));
            }
            assert_eq!(announced(&headers), length, "{values:?}");
        }
    }
}
