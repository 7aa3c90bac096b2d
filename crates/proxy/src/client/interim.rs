//! Interim answers (RFC 9110 section 15.2) on their way to a client.
//!
//! hyper's server of HTTP/1.1 writes none but 100. It has nothing of its own to write between the end of one answer
//! and the head of the next, so what an upstream says meanwhile is written then, by [`super::io::GuardedIo`]. For a
//! client of HTTP/2 the task that answers the stream takes them out, in [`super::http2`].

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Waker;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::expectation::Continued;
use crate::headers;
use crate::upstream::live::lock;

/// Bytes of interim answers that one request may have. What is more is left out, as any interim answer may be.
const MOST_BYTES: usize = 64 * 1024;
/// Interim answers that one request may have; an upstream could send them without end.
const MOST_OF_A_REQUEST: usize = 64;

/// The interim answers to the request that a client waits for. Upstreams' connections put them in.
#[derive(Debug, Default)]
pub(crate) struct Interim {
    /// The number of the request that may have some; zero where its answer has begun.
    request: AtomicU32,
    waiting: AtomicBool,
    queue: Mutex<Queue>,
    /// What writes to the client.
    task: OnceLock<Waker>,
}

#[derive(Debug, Default)]
struct Queue {
    /// The request that it is for.
    request: u32,
    waiting: Vec<(StatusCode, HeaderMap)>,
    /// All that the request had so far.
    answers: usize,
    bytes: usize,
}

impl Interim {
    /// The request of this number waits for its answer.
    fn open(&self, request: u32) {
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

    pub(super) fn take(&self) -> Vec<(StatusCode, HeaderMap)> {
        self.waiting.store(false, Ordering::Relaxed);
        std::mem::take(&mut lock(&self.queue).waiting)
    }

    /// The same as HTTP/1.1 writes it.
    pub(super) fn take_bytes(&self) -> Bytes {
        let mut bytes = Vec::new();
        for (status, headers) in self.take() {
            write(&mut bytes, status, &headers);
        }
        bytes.into()
    }

    /// The task that is woken when something came.
    pub(super) fn wake_by(&self, waker: &Waker) {
        self.task.get_or_init(|| waker.clone());
    }

    fn put(&self, request: u32, status: StatusCode, headers: HeaderMap, limited: bool) {
        let mut queue = lock(&self.queue);
        if queue.request != request {
            *queue = Queue {
                request,
                ..Queue::default()
            };
        }
        let bytes = queue.bytes + headers::section_length(&headers);
        if limited && (queue.answers == MOST_OF_A_REQUEST || bytes > MOST_BYTES) {
            return;
        }
        queue.answers += usize::from(limited);
        queue.bytes = bytes;
        queue.waiting.push((status, headers));
        drop(queue);
        self.waiting.store(true, Ordering::Relaxed);
        self.task.get().into_iter().for_each(Waker::wake_by_ref);
    }
}

fn write(bytes: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    bytes.extend_from_slice(b"HTTP/1.1 ");
    bytes.extend_from_slice(status.as_str().as_bytes());
    bytes.push(b' ');
    bytes.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    bytes.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
}

/// Where the interim answers to one request go out.
#[derive(Clone, Debug)]
pub(crate) struct Outlet {
    interim: Arc<Interim>,
    request: u32,
    /// Bytes that a header section may have.
    most: usize,
}

impl Outlet {
    /// For the request of this number, which waits for its answer from now on.
    pub(crate) fn open(interim: Arc<Interim>, request: u32, most: usize) -> Self {
        interim.open(request);
        Self {
            interim,
            request,
            most,
        }
    }

    fn is_open(&self) -> bool {
        self.interim.request.load(Ordering::Relaxed) == self.request
    }

    /// An upstream gave an interim answer.
    fn put(&self, status: StatusCode, headers: &HeaderMap) {
        // 101 is no interim answer of HTTP/2, and hyper takes it for a final one of HTTP/1.1.
        let passes = status != StatusCode::SWITCHING_PROTOCOLS;
        if !passes || !self.is_open() || headers::excess(0, headers, self.most).is_some() {
            return;
        }
        let mut headers = headers.clone();
        headers::sanitise_response(&mut headers);
        // An interim answer has no content.
        headers.remove(http::header::CONTENT_LENGTH);
        self.interim.put(self.request, status, headers, true);
    }

    /// The client may send its content. It waits for this, whatever else it was sent.
    pub(crate) fn put_continue(&self) {
        if self.is_open() {
            let headers = HeaderMap::new();
            self.interim
                .put(self.request, StatusCode::CONTINUE, headers, false);
        }
    }
}

/// What is done with the interim answers to one attempt of a request.
#[derive(Clone, Debug)]
pub(crate) struct Ear {
    outlet: Outlet,
    /// Set where content is held back until 100 comes.
    continued: Option<Arc<Continued>>,
}

impl Ear {
    pub(crate) fn new(outlet: Outlet, continued: Option<Arc<Continued>>) -> Self {
        Self { outlet, continued }
    }

    pub(crate) fn hear(&self, status: StatusCode, headers: &HeaderMap) {
        match &self.continued {
            // It is sent to the client when the content is read.
            Some(continued) if status == StatusCode::CONTINUE => continued.set(),
            _ => self.outlet.put(status, headers),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{CONNECTION, CONTENT_LENGTH, LINK};

    use super::*;

    const HINTS: StatusCode = StatusCode::EARLY_HINTS;

    fn hints() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(LINK, HeaderValue::from_static("</a.css>; rel=preload"));
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        headers
    }

    #[test]
    fn only_the_request_that_waits_has_interim_answers() {
        let interim = Arc::<Interim>::default();
        let first = Outlet::open(Arc::clone(&interim), 1, 1000);
        first.put(HINTS, &hints());
        assert!(interim.has_some());
        let written = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";
        assert_eq!(interim.take_bytes(), written);
        assert!(!interim.has_some());
        let second = Outlet::open(Arc::clone(&interim), 2, 10);
        first.put(HINTS, &hints());
        second.put(HINTS, &hints());
        assert!(!interim.has_some(), "of another request, and larger than may be");
        second.put(StatusCode::SWITCHING_PROTOCOLS, &HeaderMap::new());
        assert!(!interim.has_some(), "it is no interim answer");
        second.put(HINTS, &HeaderMap::new());
        assert!(interim.has_some());
        interim.close();
        interim.take();
        second.put(HINTS, &HeaderMap::new());
        second.put_continue();
        assert!(!interim.has_some(), "its answer has begun");
    }

    #[test]
    fn interim_answers_without_end_are_left_out() {
        let interim = Arc::<Interim>::default();
        let outlet = Outlet::open(Arc::clone(&interim), 1, 100_000);
        let large = || [(LINK, HeaderValue::from_static(LARGE))].into_iter().collect();
        for headers in [hints(), large()] {
            for _ in 0..1000 {
                outlet.put(HINTS, &headers);
            }
        }
        assert_eq!(interim.take().len(), MOST_OF_A_REQUEST);
        outlet.put_continue();
        assert_eq!(interim.take().len(), 1, "the client waits for it");

        let outlet = Outlet::open(Arc::clone(&interim), 2, 100_000);
        for _ in 0..1000 {
            outlet.put(HINTS, &large());
        }
        let bytes = interim.take_bytes().len();
        assert!((MOST_BYTES - LARGE.len()..MOST_BYTES).contains(&bytes), "{bytes}");
    }

    const LARGE: &str = const {
        match std::str::from_utf8(&[b'a'; 5000]) {
            Ok(text) => text,
            Err(_) => panic!("ASCII"),
        }
    };
}
