//! An answer's body on its way: in pieces, so that it is known when it has been taken.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use crate::places::Place;

/// Bytes that are handed to the connection at once.
const PIECE: usize = 64 * 1024;

/// Until this is dropped, its connection is being answered.
pub(crate) struct AnswerBody {
    left: Bytes,
    place: Arc<Place>,
    /// Others may make an answer once this one has been taken.
    _permit: Option<OwnedSemaphorePermit>,
}

impl AnswerBody {
    pub(crate) fn new(text: Bytes, place: Arc<Place>, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            left: text,
            place,
            _permit: permit,
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let piece = self.left.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.place.listens();
    }
}
