//! The content of a message as a peer sends it, in whatever version of HTTP.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::http2::Received;

/// The content of a message that comes from a client or an upstream.
pub(crate) enum Incoming {
    Http1(hyper::body::Incoming),
    Http2(Received),
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(HttpError::Http1))),
            Self::Http2(body) => body
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(HttpError::Http2))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}

/// What a peer does to a message that makes it unreadable or ends it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error(transparent)]
    Http1(hyper::Error),
    #[error(transparent)]
    Http2(h2::Error),
    #[error("it answered no PING of HTTP/2 within {0} s")]
    Silent(u64),
}

impl HttpError {
    /// The code of HTTP/2 that a stream or its connection ended with.
    fn reason(&self) -> Option<h2::Reason> {
        match self {
            Self::Http2(error) => error.reason(),
            _ => None,
        }
    }

    /// Whether it was found here that the peer breaks the rules of HTTP/2, or floods with what they allow. What the
    /// peer says of us is another matter.
    pub(crate) fn breaks_http2(&self) -> bool {
        matches!(self, Self::Http2(error) if error.is_library())
    }

    /// Whether the head of a message of HTTP/1.1 could not be read.
    pub(crate) fn is_parse(&self) -> bool {
        matches!(self, Self::Http1(error) if error.is_parse())
    }

    /// Whether that is because of its size.
    pub(crate) fn is_too_large(&self) -> bool {
        matches!(self, Self::Http1(error) if error.is_parse_too_large())
    }

    /// Whether the peer says that it serves this over HTTP/1.1 only (RFC 9113 section 7).
    pub(crate) fn requires_http1(&self) -> bool {
        self.reason() == Some(h2::Reason::HTTP_1_1_REQUIRED)
    }

    /// Whether the peer says that it did nothing with the stream (RFC 9113 section 8.7): it refused the stream, or
    /// its GOAWAY names an earlier one as the last.
    pub(crate) fn is_unprocessed(&self) -> bool {
        match self {
            Self::Http2(error) => {
                error.is_remote()
                    && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
            }
            _ => false,
        }
    }
}
