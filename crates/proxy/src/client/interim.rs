//! Interim answers (RFC 9110 section 15.2) on their way to a client of HTTP/1.1.
//!
//! hyper's server writes none but 100. It has nothing of its own to write between the end of one answer and the
//! head of the next, so what an upstream says meanwhile is written then, by [`super::io::GuardedIo`].

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::task::Waker;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::headers;
use crate::upstream::live::lock;

/// Bytes that may wait for a client. What is more is left out, as any interim answer may be.
const MOST_WAITING: usize = 64 * 1024;
/// Interim answers that one request may have; an upstream could send them without end.
const MOST_OF_A_REQUEST: usize = 64;

/// The interim answers to the request that a client waits for. Upstreams' connections put them in.
#[derive(Debug, Default)]
pub(crate) struct Interim {
    /// The number of the request that may have some; zero where its answer has begun.
    request: AtomicU32,
    waiting: AtomicBool,
    queue: Mutex<Queue>,
    /// What drives the client's connection.
    task: OnceLock<Waker>,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    answers: usize,
}

impl Interim {
    /// The request of this number waits for its answer.
    pub(crate) fn open(&self, request: u32) {
        *lock(&self.queue) = Queue::default();
        self.waiting.store(false, Ordering::Relaxed);
        self.request.store(request, Ordering::Relaxed);
    }

    /// The answer begins. What is there already goes out before it.
    pub(crate) fn close(&self) {
        self.request.store(0, Ordering::Relaxed);
    }

    /// Whether something is to be written. Where bytes of an answer may be on their way it is too late.
    pub(super) fn has_some(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self) -> Bytes {
        self.waiting.store(false, Ordering::Relaxed);
        std::mem::take(&mut lock(&self.queue).bytes).into()
    }

    /// The task that is woken when something came.
    pub(super) fn wake_by(&self, waker: &Waker) {
        self.task.get_or_init(|| waker.clone());
    }

    /// An upstream gave an interim answer to the request of this number.
    pub(crate) fn put(&self, request: u32, status: StatusCode, headers: &HeaderMap, most: usize) {
        if self.request.load(Ordering::Relaxed) != request || headers::excess(0, headers, most).is_some() {
            return;
        }
        let mut queue = lock(&self.queue);
        if queue.answers == MOST_OF_A_REQUEST || queue.bytes.len() > MOST_WAITING {
            return;
        }
        queue.answers += 1;
        write(&mut queue.bytes, status, headers.clone());
        drop(queue);
        self.waiting.store(true, Ordering::Relaxed);
        self.task.get().into_iter().for_each(Waker::wake_by_ref);
    }
}

fn write(bytes: &mut Vec<u8>, status: StatusCode, mut headers: HeaderMap) {
    headers::sanitise_response(&mut headers);
    // An interim answer has no content.
    headers.remove(http::header::CONTENT_LENGTH);
    bytes.extend_from_slice(b"HTTP/1.1 ");
    bytes.extend_from_slice(status.as_str().as_bytes());
    bytes.push(b' ');
    bytes.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    bytes.extend_from_slice(b"\r\n");
    for (name, value) in &headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{CONNECTION, LINK};

    use super::*;

    const HINTS: StatusCode = StatusCode::EARLY_HINTS;

    fn hints() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(LINK, HeaderValue::from_static("</a.css>; rel=preload"));
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
        headers
    }

    #[test]
    fn only_the_request_that_waits_has_interim_answers() {
        let interim = Interim::default();
        interim.put(1, HINTS, &hints(), 1000);
        assert!(!interim.has_some());
        interim.open(1);
        interim.put(2, HINTS, &hints(), 1000);
        interim.put(1, HINTS, &hints(), 10);
        assert!(!interim.has_some(), "of another request, and larger than may be");
        interim.put(1, HINTS, &hints(), 1000);
        assert!(interim.has_some());
        let written = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";
        assert_eq!(interim.take(), written);
        assert!(!interim.has_some());
        interim.close();
        interim.put(1, HINTS, &hints(), 1000);
        assert!(!interim.has_some());
    }

    #[test]
    fn interim_answers_without_end_are_left_out() {
        let interim = Interim::default();
        interim.open(1);
        for _ in 0..1000 {
            interim.put(1, HINTS, &hints(), 1000);
        }
        let bytes = interim.take();
        let written = String::from_utf8_lossy(&bytes);
        assert_eq!(written.matches("103 Early Hints").count(), MOST_OF_A_REQUEST);
    }
}
