//! The guard at the door of HTTP/1.1: requests whose framing two parsers could read differently.
//!
//! hyper parses requests; it forgives a bare line feed and a `Content-Length` beside a
//! `Transfer-Encoding`, and does not say that it did. A gateway in front of or behind us may read
//! such a request otherwise, which is how requests are smuggled. This guard watches the bytes on
//! their way to hyper and raises a flag; the request is then answered 400 and the connection
//! closed. It decides nothing else: what a request means is hyper's business alone, and a guard
//! that loses its way can only refuse.
//!
//! hyper's own answer to a head that it cannot read has no words. So the guard ends such a head before the line
//! that cannot be read, and hyper hands over the rest of the request, to be refused by name.

use std::sync::{Arc, OnceLock};

use http::StatusCode;

use crate::headers::MOST_FIELDS;

/// Says from which request on the connection cannot be trusted. Shared by the guard and the request path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ambiguous(Arc<OnceLock<(u32, Refusal)>>);

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

impl Ambiguous {
    /// Why the connection's request of this number, counted from one, is refused: it or one before it was ambiguous.
    pub(crate) fn concerns(&self, request: u32) -> Option<&Refusal> {
        let (first, refusal) = self.0.get()?;
        (request >= *first).then_some(refusal)
    }

    fn set(&self, request: u32, refusal: Refusal) {
        let _ = self.0.set((request, refusal));
    }
}

/// Where a head ends that cannot be read further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// So many of the bytes that were just watched are part of it.
    pub(crate) at: usize,
    /// What makes a whole head of it.
    pub(crate) end: &'static [u8],
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
    /// Where its first colon is.
    colon: Option<usize>,
    head: Head,
    /// Heads that are complete.
    heads: u32,
    /// Empty lines since the last of them. Old clients send one after a body.
    empty_lines: u8,
    /// Bytes that a head may have.
    most: usize,
    /// The head is cut here.
    cut: Option<Cut>,
}

const LINE: usize = 48;
const TRANSFER_ENCODING: &[u8] = b"transfer-encoding";
const CONTENT_LENGTH: &[u8] = b"content-length";
/// No end of a cut head is longer.
pub(crate) const LONGEST_END: usize = END_OF_TARGET.len();
const END_OF_TARGET: &[u8] = b" HTTP/1.1\r\n\r\n";

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
    bytes: usize,
    fields: usize,
    chunked: bool,
    content_length: Option<u64>,
}

impl Guard {
    /// `most`: bytes that a head may have.
    pub(crate) fn new(ambiguous: Ambiguous, most: usize) -> Self {
        Self {
            state: State::Head,
            ambiguous,
            line: [0; LINE],
            length: 0,
            last: 0,
            colon: None,
            head: Head::default(),
            heads: 0,
            empty_lines: 0,
            most,
            cut: None,
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

    /// Watches bytes on their way. What follows a cut is not for hyper.
    pub(crate) fn watch(&mut self, bytes: &[u8]) -> Option<Cut> {
        let mut at = 0;
        while at < bytes.len() {
            let unwatched = self.unwatched().min(bytes.len() - at);
            if unwatched > 0 {
                self.passed(unwatched);
                at += unwatched;
                continue;
            }
            let (begins, before) = (at, self.length);
            let end = memchr::memchr(b'\n', &bytes[at..]);
            let part = &bytes[at..end.map_or(bytes.len(), |end| at + end)];
            at += part.len();
            let in_fields = self.state == State::Head && self.head.begun;
            if in_fields && before == 0 && end.is_some() && self.takes_at_once(part) {
                at += 1;
                continue;
            }
            self.look_at(part, begins, before);
            let ends_head = self.length == 1;
            if end.is_some() {
                at += 1;
                self.head.bytes += 1;
                if self.state != State::Off {
                    self.line_ended();
                }
            }
            if self.state == State::Off && in_fields && !ends_head && self.cut.is_none() {
                self.cut_line(begins, before);
            }
            if self.cut.is_some() {
                return self.cut;
            }
        }
        None
    }

    /// Takes the whole line of a field that every parser reads alike and that has no say in the framing, as
    /// most do, without keeping any of it. Other lines go through [`Self::look_at`].
    fn takes_at_once(&mut self, line: &[u8]) -> bool {
        let bytes = self.head.bytes + line.len();
        let takes = bytes <= self.most && self.head.fields < MOST_FIELDS && is_plain_field(line);
        if takes {
            self.head.bytes = bytes + 1;
            self.head.fields += 1;
        }
        takes
    }

    /// The head ends before the line that begins at `begins`, of which `before` bytes came earlier.
    fn cut_line(&mut self, begins: usize, before: usize) {
        let end: &[u8] = match self.colon {
            _ if before == 0 => b"\r\n",
            Some(colon) if colon < before => b"\r\n\r\n",
            _ => b":\r\n\r\n",
        };
        self.cut = Some(Cut { at: begins, end });
    }

    /// Takes a part of a line that begins at `begins`, or of which `before` bytes came earlier.
    fn look_at(&mut self, part: &[u8], begins: usize, before: usize) {
        let Some(last) = part.last() else { return };
        let was_return = before > 0 && self.last == b'\r';
        self.last = *last;
        if self.state == State::Head && !self.head.begun {
            self.head.fragment |= memchr::memchr(b'#', part).is_some();
        }
        if self.colon.is_none() {
            self.colon = memchr::memchr(b':', part).map(|colon| before + colon);
        }
        let kept = self.length.min(LINE);
        let room = (LINE - kept).min(part.len());
        self.line[kept..kept + room].copy_from_slice(&part[..room]);
        self.length += part.len();
        if self.state != State::Head {
            return;
        }
        self.head.bytes += part.len();
        if self.head.bytes > self.most {
            self.too_large(begins, before);
        } else if self.head.begun {
            self.check(part, before, was_return);
        }
    }

    /// The head has more bytes than it may.
    fn too_large(&mut self, begins: usize, before: usize) {
        let most = self.most;
        if self.head.begun {
            let message = format!("the header section has more than {most} bytes{}", self.at_field());
            return self.refuse_with(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, message);
        }
        let message = format!("the request target has more than {most} bytes");
        self.refuse_with(StatusCode::URI_TOO_LONG, message);
        self.cut = Some(Cut {
            at: begins + most.saturating_sub(before + LONGEST_END),
            end: END_OF_TARGET,
        });
    }

    /// Whether a part of a field's line has only what may stand there (RFC 9110 section 5). hyper refuses the same.
    fn check(&mut self, part: &[u8], before: usize, was_return: bool) {
        let name = self
            .colon
            .map_or(part.len(), |colon| colon.saturating_sub(before));
        let (name, value) = part.split_at(name.min(part.len()));
        let value = value.strip_suffix(b"\r").unwrap_or(value);
        let name = if self.colon.is_none() {
            name.strip_suffix(b"\r").unwrap_or(name)
        } else {
            name
        };
        let folded = before == 0 && matches!(part.first(), Some(b' ' | b'\t'));
        if was_return {
            let message = format!("a carriage return stands inside{}", self.at_field());
            self.refuse_with(StatusCode::BAD_REQUEST, message);
        } else if !folded && let Some(byte) = name.iter().find(|byte| !is_of_name(**byte)) {
            let message = format!(
                "byte 0x{byte:02x} stands in the name of a field{}",
                self.at_field()
            );
            self.refuse_with(StatusCode::BAD_REQUEST, message);
        } else if has_control(value)
            && let Some(byte) = value.iter().find(|byte| is_control(**byte))
        {
            let message = format!(
                "byte 0x{byte:02x} stands in the value of a field{}",
                self.at_field()
            );
            self.refuse_with(StatusCode::BAD_REQUEST, message);
        }
    }

    /// Where in the head the guard is: the field by its name, as far as that can be printed, and its number.
    fn at_field(&self) -> String {
        let length = self.length.min(LINE).min(self.colon.unwrap_or(LINE));
        let name = self.line[..length].escape_ascii();
        format!(", at field {} (`{name}`)", self.head.fields + 1)
    }

    fn line_ended(&mut self) {
        if self.last != b'\r' {
            let message = format!("a line ends with a bare line feed{}", self.where_it_is());
            return self.refuse_with(StatusCode::BAD_REQUEST, message);
        }
        let (length, whole) = (self.length, self.length <= LINE);
        let line = self.line;
        self.read_line(&line[..(length - 1).min(LINE)], length, whole);
        (self.length, self.last, self.colon) = (0, 0, None);
    }

    fn where_it_is(&self) -> String {
        match (self.state, self.head.begun) {
            (State::Head, true) => self.at_field(),
            (State::Head, false) => " in the request line".to_owned(),
            _ => " in the content".to_owned(),
        }
    }

    fn read_line(&mut self, line: &[u8], length: usize, whole: bool) {
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
                self.refuse("the request target has a fragment");
            }
            return;
        }
        let refused = if self.head.fields == MOST_FIELDS {
            let message = format!("the header section has more than {MOST_FIELDS} fields");
            return self.refuse_with(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, message);
        } else if line.starts_with(b" ") || line.starts_with(b"\t") {
            Some("a field is folded over two lines")
        } else if self.colon.is_none_or(|colon| colon == 0) {
            Some("a field has no name before a colon")
        } else if let Some(value) = header(line, TRANSFER_ENCODING) {
            // We take off what we understand, which is this and nothing else.
            let known = !self.head.chunked && whole && value.trim_ascii().eq_ignore_ascii_case(b"chunked");
            self.head.chunked = true;
            (!known).then_some("the only transfer coding that is understood is chunked, once")
        } else if let Some(value) = header(line, CONTENT_LENGTH) {
            match number(value, 10).filter(|_| whole) {
                Some(n) if self.head.content_length.is_none_or(|before| before == n) => {
                    self.head.content_length = Some(n);
                    None
                }
                Some(_) => Some("two values of Content-Length differ"),
                None => Some("Content-Length is not one number"),
            }
        } else {
            None
        };
        if let Some(why) = refused {
            let message = format!("{why}{}", self.at_field());
            return self.refuse_with(StatusCode::BAD_REQUEST, message);
        }
        self.head.fields += 1;
    }

    fn head_ended(&mut self) {
        if !self.head.begun {
            self.empty_lines = self.empty_lines.saturating_add(1);
            self.head = Head::default();
            return;
        }
        self.empty_lines = 0;
        if let Head {
            chunked: true,
            content_length: Some(_),
            ..
        } = self.head
        {
            return self.refuse("the request has both Content-Length and Transfer-Encoding");
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
            None => self.refuse("the size of a chunk is not a number"),
        }
    }

    fn refuse(&mut self, why: &str) {
        self.refuse_with(StatusCode::BAD_REQUEST, why.to_owned());
    }

    fn refuse_with(&mut self, status: StatusCode, message: String) {
        // The head that is being read, or the one whose body is.
        let request = if self.state == State::Head {
            self.heads.saturating_add(1)
        } else {
            self.heads
        };
        self.ambiguous.set(request, Refusal { status, message });
        self.state = State::Off;
    }
}

/// Whether a line, without its line feed, is a field that cannot be read in two ways and that does not frame the
/// content.
fn is_plain_field(line: &[u8]) -> bool {
    let name = line.iter().take_while(|byte| is_of_name(**byte)).count();
    let Some((b':', value)) = line[name..].split_first() else {
        return false;
    };
    let Some(value) = value.strip_suffix(b"\r") else {
        return false;
    };
    let may_frame = name == TRANSFER_ENCODING.len() || name == CONTENT_LENGTH.len();
    name > 0 && !may_frame && !has_control(value)
}

/// RFC 9110 section 5.6.2.
fn is_of_name(byte: u8) -> bool {
    NAME[usize::from(byte)]
}

static NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "the loop ends at 256")]
        let character = byte as u8;
        table[byte] = character.is_ascii_alphanumeric()
            || matches!(
                character,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};

/// One pass without a branch for each byte: most values have none.
fn has_control(value: &[u8]) -> bool {
    value.iter().fold(false, |bad, byte| bad | is_control(*byte))
}

/// RFC 9110 section 5.5: of these, a value may have the tab alone.
fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
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
mod tests;
