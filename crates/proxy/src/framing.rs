//! The guard at the door of HTTP/1.1: requests whose framing two parsers could read differently.
//!
//! hyper parses requests; it forgives a bare line feed and a `Content-Length` beside a
//! `Transfer-Encoding`, and does not say that it did. A gateway in front of or behind us may read
//! such a request otherwise, which is how requests are smuggled. This guard watches the bytes on
//! their way to hyper and raises a flag; the request is then answered 400 and the connection
//! closed. It decides nothing else: what a request means is hyper's business alone, and a guard
//! that loses its way can only refuse.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Says from which request on the connection cannot be trusted. Shared by the guard and the request path.
#[derive(Clone, Debug)]
pub(crate) struct Ambiguous(Arc<AtomicU32>);

impl Default for Ambiguous {
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(u32::MAX)))
    }
}

impl Ambiguous {
    /// Whether the connection's request of this number, counted from one, or one before it was ambiguous.
    pub(crate) fn concerns(&self, request: u32) -> bool {
        request >= self.0.load(Ordering::Relaxed)
    }

    fn set(&self, request: u32) {
        self.0.store(request, Ordering::Relaxed);
    }
}

/// Follows the framing of one connection.
#[derive(Debug)]
pub(crate) struct Guard {
    state: State,
    ambiguous: Ambiguous,
    /// Of the line that is being read: its first bytes, as many as the longest name and a number need.
    line: [u8; LINE],
    length: usize,
    last: u8,
    head: Head,
    /// Heads that are complete.
    heads: u32,
    /// Empty lines since the last of them. Old clients send one after a body.
    empty_lines: u8,
}

const LINE: usize = 48;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the request line, a header, or the empty lines before a request.
    Head,
    /// In a body of this many more bytes.
    Body(u64),
    /// In the line with a chunk's size.
    ChunkSize,
    /// In a chunk, its line end included.
    Chunk(u64),
    /// In the trailers.
    Trailers,
    /// Something ambiguous came; the connection is to be closed.
    Off,
}

#[derive(Clone, Copy, Debug, Default)]
struct Head {
    begun: bool,
    /// The request line has a `#`: hyper cuts fragments off targets, which have none by RFC 9112 section 3.2.
    fragment: bool,
    chunked: bool,
    content_length: Option<u64>,
}

impl Guard {
    pub(crate) fn new(ambiguous: Ambiguous) -> Self {
        Self {
            state: State::Head,
            ambiguous,
            line: [0; LINE],
            length: 0,
            last: 0,
            head: Head::default(),
            heads: 0,
            empty_lines: 0,
        }
    }

    /// Whether a request's head is being read: some of it came, not all. Several empty lines are the
    /// beginning of one that need not come.
    pub(crate) fn in_head(&self) -> bool {
        self.state == State::Head && (self.head.begun || self.length > 0 || self.empty_lines > 1)
    }

    /// Whether the client may be in the middle of sending something.
    pub(crate) fn expects_more(&self) -> bool {
        self.state != State::Head || self.in_head()
    }

    /// How many bytes may pass unwatched.
    fn unwatched(&self) -> usize {
        match self.state {
            State::Body(left) | State::Chunk(left) => usize::try_from(left).unwrap_or(usize::MAX),
            State::Off => usize::MAX,
            State::Head | State::ChunkSize | State::Trailers => 0,
        }
    }

    /// `n` of the unwatched bytes passed.
    fn passed(&mut self, n: usize) {
        match &mut self.state {
            State::Body(left) | State::Chunk(left) => {
                *left = left.saturating_sub(n as u64);
                if *left == 0 {
                    self.state = if matches!(self.state, State::Body(_)) {
                        State::Head
                    } else {
                        State::ChunkSize
                    };
                }
            }
            _ => {}
        }
    }

    /// Watches bytes on their way.
    pub(crate) fn watch(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let unwatched = self.unwatched().min(bytes.len());
            if unwatched > 0 {
                self.passed(unwatched);
                bytes = &bytes[unwatched..];
                continue;
            }
            match memchr::memchr(b'\n', bytes) {
                Some(end) => {
                    self.collect(&bytes[..end]);
                    bytes = &bytes[end + 1..];
                    self.line_ended();
                }
                None => {
                    self.collect(bytes);
                    return;
                }
            }
        }
    }

    fn collect(&mut self, part: &[u8]) {
        let Some(last) = part.last() else { return };
        self.last = *last;
        if self.state == State::Head && !self.head.begun {
            self.head.fragment |= memchr::memchr(b'#', part).is_some();
        }
        let kept = self.length.min(LINE);
        let room = (LINE - kept).min(part.len());
        self.line[kept..kept + room].copy_from_slice(&part[..room]);
        self.length += part.len();
    }

    fn line_ended(&mut self) {
        let (length, last) = (std::mem::take(&mut self.length), std::mem::take(&mut self.last));
        if last != b'\r' {
            return self.refuse();
        }
        let (line, whole) = (self.line, length <= LINE);
        let line = &line[..(length - 1).min(LINE)];
        match self.state {
            State::Head if length == 1 => self.head_ended(),
            State::Head => self.head_line(line, whole),
            State::ChunkSize => self.chunk_size(line),
            State::Trailers if length == 1 => self.state = State::Head,
            _ => {}
        }
    }

    /// `whole` is false where only the line's beginning was kept.
    fn head_line(&mut self, line: &[u8], whole: bool) {
        if !std::mem::replace(&mut self.head.begun, true) {
            if self.head.fragment {
                self.refuse();
            }
            return;
        }
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            self.refuse();
        } else if let Some(value) = header(line, b"transfer-encoding") {
            // We take off what we understand, which is this and nothing else.
            if self.head.chunked || !whole || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return self.refuse();
            }
            self.head.chunked = true;
        } else if let Some(value) = header(line, b"content-length") {
            match number(value, 10).filter(|_| whole) {
                Some(n) if self.head.content_length.is_none_or(|before| before == n) => {
                    self.head.content_length = Some(n);
                }
                _ => self.refuse(),
            }
        }
    }

    fn head_ended(&mut self) {
        if !self.head.begun {
            self.empty_lines = self.empty_lines.saturating_add(1);
            return;
        }
        self.empty_lines = 0;
        if let Head {
            chunked: true,
            content_length: Some(_),
            ..
        } = self.head
        {
            return self.refuse();
        }
        self.heads = self.heads.saturating_add(1);
        self.state = match self.head {
            Head { chunked: true, .. } => State::ChunkSize,
            Head {
                content_length: Some(1..),
                ..
            } => State::Body(self.head.content_length.unwrap_or(0)),
            _ => State::Head,
        };
        self.head = Head::default();
    }

    fn chunk_size(&mut self, line: &[u8]) {
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        match number(digits, 16) {
            Some(0) => self.state = State::Trailers,
            // The chunk ends with a line end of its own.
            Some(n) => self.state = State::Chunk(n.saturating_add(2)),
            None => self.refuse(),
        }
    }

    fn refuse(&mut self) {
        // The head that is being read, or the one whose body is.
        let request = if self.state == State::Head {
            self.heads.saturating_add(1)
        } else {
            self.heads
        };
        self.ambiguous.set(request);
        self.state = State::Off;
    }
}

fn header<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, value) = line.split_at_checked(name.len())?;
    let value = value.strip_prefix(b":")?;
    found.eq_ignore_ascii_case(name).then_some(value)
}

fn number(text: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    // `from_str_radix` takes a sign, HTTP does not.
    let digits = !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    digits.then(|| u64::from_str_radix(text, radix).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` whole, then byte by byte: both must say the same.
    fn refused(bytes: &[u8]) -> bool {
        let whole = Ambiguous::default();
        Guard::new(whole.clone()).watch(bytes);
        let single = Ambiguous::default();
        let mut guard = Guard::new(single.clone());
        bytes
            .iter()
            .for_each(|byte| guard.watch(std::slice::from_ref(byte)));
        let last = u32::MAX - 1;
        assert_eq!(
            whole.concerns(last),
            single.concerns(last),
            "{}",
            String::from_utf8_lossy(bytes)
        );
        whole.concerns(last)
    }

    #[test]
    fn ordinary_requests_pass() {
        assert!(!refused(
            b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n"
        ));
        assert!(!refused(
            b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\na\nbGET / HTTP/1.1\r\nhost: a\r\n\r\n"
        ));
        assert!(!refused(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\na\nb\r\n0\r\nt: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n"
        ));
        assert!(!refused(b"\r\n\r\nGET / HTTP/1.1\r\ncontent-length: 0\r\n\r\n"));
    }

    #[test]
    fn ambiguous_requests_are_refused() {
        assert!(
            refused(b"GET / HTTP/1.1\nhost: a\r\n\r\n"),
            "bare line feed after the request line"
        );
        assert!(
            refused(b"GET / HTTP/1.1\r\nhost: a\n\r\n"),
            "bare line feed after a header"
        );
        assert!(
            refused(b"GET / HTTP/1.1\r\nhost: a\r\n b\r\n\r\n"),
            "folded header"
        );
        assert!(refused(
            b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n"
        ));
        assert!(refused(
            b"POST / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\nContent-Length: 3\r\n\r\n"
        ));
        assert!(refused(
            b"POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n"
        ));
        assert!(refused(b"POST / HTTP/1.1\r\ncontent-length: +3\r\n\r\n"));
    }

    #[test]
    fn a_fragment_in_the_request_line_is_refused() {
        assert!(refused(b"GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n"));
        assert!(refused(b"GET /a?b# HTTP/1.1\r\nhost: a\r\n\r\n"));
        assert!(refused(
            b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET http://a#b HTTP/1.1\r\nhost: a\r\n\r\n"
        ));
        assert!(!refused(
            b"POST / HTTP/1.1\r\nx: #\r\ncontent-length: 3\r\n\r\n#\r\n"
        ));
    }

    #[test]
    fn only_what_can_be_taken_off_is_a_coding() {
        for coding in [
            "gzip",
            "gzip, chunked",
            "xchunked",
            "chunked\r\nTransfer-Encoding: chunked",
        ] {
            let head = format!("POST / HTTP/1.1\r\nTransfer-Encoding: {coding}\r\n\r\n");
            assert!(refused(head.as_bytes()), "{coding}");
        }
    }

    #[test]
    fn a_length_beyond_what_is_kept_of_a_line_is_refused() {
        let zeros = "0".repeat(LINE);
        assert!(refused(
            format!("POST / HTTP/1.1\r\ncontent-length: {zeros}5\r\n\r\n").as_bytes()
        ));
    }

    #[test]
    fn requests_before_an_ambiguous_one_are_not_concerned() {
        let good = b"GET / HTTP/1.1\r\n\r\n";
        let ambiguous = Ambiguous::default();
        let mut guard = Guard::new(ambiguous.clone());
        guard.watch(good);
        guard.watch(b"GET / HTTP/1.1\n\r\n");
        assert!(!ambiguous.concerns(1));
        assert!(ambiguous.concerns(2) && ambiguous.concerns(3));

        let ambiguous = Ambiguous::default();
        let mut guard = Guard::new(ambiguous.clone());
        guard.watch(good);
        guard.watch(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n");
        assert!(!ambiguous.concerns(1));
        assert!(ambiguous.concerns(2), "the request whose body it is");
    }

    #[test]
    fn a_pipelined_request_is_watched_too() {
        assert!(refused(b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\n\r\n"));
        assert!(refused(
            b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcGET / HTTP/1.1\n\r\n"
        ));
        assert!(refused(
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\n\r\n"
        ));
    }

    #[test]
    fn a_begun_head_is_told_from_an_idle_connection() {
        let mut guard = Guard::new(Ambiguous::default());
        assert!(!guard.in_head());
        guard.watch(b"GET / HTTP/1.1\r\nho");
        assert!(guard.in_head());
        guard.watch(b"st: a\r\n\r\n");
        assert!(!guard.in_head());
    }

    #[test]
    fn empty_lines_are_the_beginning_of_a_head() {
        let mut guard = Guard::new(Ambiguous::default());
        guard.watch(b"\r\n");
        assert!(!guard.in_head(), "one may follow a body");
        guard.watch(b"\r\n");
        assert!(guard.in_head());
        guard.watch(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(!guard.in_head());
    }
}
