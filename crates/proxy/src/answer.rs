//! What an upstream's answer says of its own framing and of its connection, where hyper takes more than may
//! go on.

use std::fmt;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};

use crate::headers::names;

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// Fields in the head of an answer, as hyper counts them.
const MOST_FIELDS: usize = 100;
/// Bytes that hyper reads of a head before it gives up.
const MOST_HEAD_BYTES: usize = 8192 + 4096 * 100;

/// Where the body of an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Where hyper says.
    AsRead,
    /// After so many bytes, although hyper reads to the end of the connection.
    Bytes(u64),
}

/// An answer whose end two readers may see in different places, so it goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unframed {
    /// Transfer codings other than chunked, as they were written.
    Codings(String),
    /// Chunked, and a length beside it.
    Both,
    /// A content-length that is no number, or several that differ.
    Length(String),
}

impl fmt::Display for Unframed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Codings(codings) => {
                write!(
                    f,
                    "transfer-encoding {codings:?}, of which only chunked can be read"
                )
            }
            Self::Both => f.write_str(
                "both transfer-encoding and content-length, so its body may end in two different places",
            ),
            Self::Length(lengths) => {
                write!(f, "content-length {lengths:?}, which is not one number of bytes")
            }
        }
    }
}

impl Unframed {
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Codings(_) => "have the upstream send content-encoding instead, or no coding",
            Self::Both | Self::Length(_) => "have the upstream send one content-length, or chunked alone",
        }
    }
}

/// Finds out where the body of an answer ends (RFC 9112 section 6.3), and leaves one content-length at most
/// (RFC 9110 section 8.6). `to_head` is whether HEAD was asked.
pub(crate) fn framing(
    status: StatusCode,
    headers: &mut HeaderMap,
    to_head: bool,
) -> Result<Framing, Unframed> {
    let bodiless = to_head || matches!(status.as_u16(), 204 | 304);
    let coded = headers.contains_key(TRANSFER_ENCODING) && !bodiless;
    if bodiless {
        headers.remove(TRANSFER_ENCODING);
    }
    if status == StatusCode::NO_CONTENT {
        headers.remove(CONTENT_LENGTH);
    }
    let length = match one_length(headers) {
        Err(_) if bodiless => {
            headers.remove(CONTENT_LENGTH);
            None
        }
        length => length?,
    };
    if !coded {
        return Ok(Framing::AsRead);
    }
    if is_chunked(headers)? {
        return if length.is_some() {
            Err(Unframed::Both)
        } else {
            Ok(Framing::AsRead)
        };
    }
    // RFC 2616 had identity for no coding, and its section 4.4 left the length in force.
    headers.remove(TRANSFER_ENCODING);
    Ok(length.map_or(Framing::AsRead, Framing::Bytes))
}

/// Whether the one coding is chunked. Otherwise there is none but identity.
fn is_chunked(headers: &HeaderMap) -> Result<bool, Unframed> {
    let lines = headers.get_all(TRANSFER_ENCODING);
    let is_identity = |coding: &&str| coding.eq_ignore_ascii_case("identity");
    let readable = lines.iter().all(|line| line.to_str().is_ok());
    let mut codings = lines.iter().flat_map(names).skip_while(is_identity);
    match (codings.next(), codings.next()) {
        (None, _) if readable => Ok(false),
        (Some(only), None) if readable && only.eq_ignore_ascii_case("chunked") => Ok(true),
        _ => Err(Unframed::Codings(joined(headers, &TRANSFER_ENCODING))),
    }
}

/// The length that the answer gives; equal ones become one.
fn one_length(headers: &mut HeaderMap) -> Result<Option<u64>, Unframed> {
    let mut lines = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lines.next() else {
        return Ok(None);
    };
    if lines.next().is_none()
        && let Some(length) = number(first.as_bytes())
    {
        return Ok(Some(length));
    }
    let mut lengths = headers
        .get_all(CONTENT_LENGTH)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(|length| number(length.trim_ascii()));
    let first = lengths.next().flatten();
    match first.filter(|_| lengths.all(|length| length == first)) {
        Some(length) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            Ok(Some(length))
        }
        None => Err(Unframed::Length(joined(headers, &CONTENT_LENGTH))),
    }
}

/// Digits alone; no sign, which `parse` would take.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    let digits = Some(digits).filter(|digits| !digits.is_empty())?;
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// The values of a field for an error message, at most 64 characters.
fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let values: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    values.join(", ").chars().take(64).collect()
}

/// How long a connection of HTTP/1.1 may be used after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stay {
    /// As long as the pool keeps connections.
    Open,
    /// For so long while it is idle.
    Idle(Duration),
    /// Not at all.
    Closed,
}

impl Stay {
    /// What the upstream says of its connection (RFC 9112 sections 9.3 and 9.6) and in `Keep-Alive`. The
    /// connection is let go of before the upstream closes it, so that no request meets it closing.
    pub(crate) fn of(headers: &HeaderMap, http10: bool) -> Self {
        if http10 && (!is_kept_alive(headers) || headers.contains_key(TRANSFER_ENCODING)) {
            return Self::Closed;
        }
        let Some(value) = headers.get(&KEEP_ALIVE) else {
            return Self::Open;
        };
        let parameter = |wanted: &str| {
            names(value).find_map(|parameter| {
                let (name, value) = parameter.split_once('=')?;
                let digits = value.trim().trim_matches('"').as_bytes();
                name.trim().eq_ignore_ascii_case(wanted).then(|| number(digits))?
            })
        };
        if parameter("max") == Some(0) {
            return Self::Closed;
        }
        match parameter("timeout") {
            None => Self::Open,
            Some(0) => Self::Closed,
            Some(seconds) => {
                let timeout = Duration::from_secs(seconds);
                Self::Idle(timeout - Duration::from_secs(1).min(timeout / 2))
            }
        }
    }
}

fn is_kept_alive(headers: &HeaderMap) -> bool {
    let mut options = headers.get_all(CONNECTION).iter().flat_map(names);
    options.any(|option| option.eq_ignore_ascii_case("keep-alive"))
}

/// What is wrong with the head of an answer of which `first` are the first bytes and `seen` all that came.
/// None where those do not show it.
pub(crate) fn head_fault(first: &[u8], seen: usize, too_large: bool) -> Option<String> {
    if too_large && seen >= MOST_HEAD_BYTES {
        return Some(format!("its head is larger than {MOST_HEAD_BYTES} bytes"));
    }
    if too_large {
        return Some(format!("its head has more than {MOST_FIELDS} fields"));
    }
    let lines = first.split_inclusive(|byte| *byte == b'\n');
    let mut lines = lines.skip_while(|line| line.trim_ascii().is_empty());
    let status = lines.next().unwrap_or(first);
    if !is_status_line(status) {
        return Some(format!("its first line is {}", quoted(status)));
    }
    let mut fields = lines.take_while(|line| line.ends_with(b"\n") && !line.trim_ascii().is_empty());
    fields.find_map(field_fault)
}

/// RFC 9112 section 4, where the reason may be missing with the space before it.
fn is_status_line(line: &[u8]) -> bool {
    let Some((version, rest)) = line.split_at_checked(8) else {
        return false;
    };
    let is_version = version.starts_with(b"HTTP/") && version[6] == b'.';
    let is_code = |code: &[u8]| code.iter().all(u8::is_ascii_digit);
    let [b' ', code @ .., end] = rest.get(..5).unwrap_or_default() else {
        return false;
    };
    is_version && is_code(code) && matches!(end, b' ' | b'\r' | b'\n')
}

fn field_fault(line: &[u8]) -> Option<String> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return None;
    }
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return Some(format!("its line {} has no colon", quoted(line)));
    };
    let (name, value) = (line[..colon].trim_ascii_end(), line[colon + 1..].trim_ascii());
    let Ok(name) = HeaderName::from_bytes(name) else {
        return Some(format!("{} is no field name", quoted(name)));
    };
    let bad = value
        .iter()
        .find(|byte| byte.is_ascii_control() && **byte != b'\t')?;
    Some(format!("the value of {name} has the byte 0x{bad:02x}"))
}

/// The first of the bytes in quotes, without what a log or a terminal would take for something else.
fn quoted(bytes: &[u8]) -> String {
    let bytes = bytes.trim_ascii_end();
    format!("\"{}\"", bytes[..bytes.len().min(32)].escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            let value = HeaderValue::from_str(value).expect("a header value");
            map.append(HeaderName::from_static(name), value);
        }
        map
    }

    fn framed(lines: &[(&'static str, &str)]) -> (Result<Framing, Unframed>, HeaderMap) {
        let mut headers = map(lines);
        let framing = framing(StatusCode::OK, &mut headers, false);
        (framing, headers)
    }

    #[test]
    fn equal_lengths_become_one() {
        for lines in [
            &[("content-length", "2")][..],
            &[("content-length", "2, 2")],
            &[("content-length", "2"), ("content-length", "2")],
            &[("content-length", "2,2"), ("content-length", "02")],
        ] {
            let expected = (Ok(Framing::AsRead), map(&[("content-length", "2")]));
            assert_eq!(framed(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn lengths_that_are_not_one_number_are_refused() {
        for value in [
            "2, 3",
            "+2",
            "-2",
            "2,",
            ",",
            "0x2",
            "2 2",
            "99999999999999999999999",
        ] {
            let (framing, _) = framed(&[("content-length", value)]);
            assert_eq!(framing, Err(Unframed::Length(value.to_owned())));
        }
    }

    #[test]
    fn chunked_is_the_only_coding() {
        for codings in ["chunked", "Chunked", "identity, chunked", " chunked"] {
            let (framing, _) = framed(&[("transfer-encoding", codings)]);
            assert_eq!(framing, Ok(Framing::AsRead), "{codings}");
        }
        for codings in [
            "gzip",
            "gzip, chunked",
            "chunked, chunked",
            "chunked, identity",
            "chunked;q=1",
            "xchunked",
            "chunked gzip",
        ] {
            let (framing, _) = framed(&[("transfer-encoding", codings)]);
            assert_eq!(framing, Err(Unframed::Codings(codings.to_owned())));
        }
        let (framing, _) = framed(&[("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")]);
        assert_eq!(framing, Err(Unframed::Codings("gzip, chunked".to_owned())));
    }

    #[test]
    fn a_length_beside_chunked_is_refused() {
        let both = [("content-length", "2"), ("transfer-encoding", "chunked")];
        assert_eq!(framed(&both).0, Err(Unframed::Both));
    }

    #[test]
    fn identity_is_no_coding() {
        let none = framed(&[("transfer-encoding", "identity")]);
        assert_eq!(none, (Ok(Framing::AsRead), HeaderMap::new()));
        let length = framed(&[("transfer-encoding", "Identity"), ("content-length", "2")]);
        assert_eq!(length, (Ok(Framing::Bytes(2)), map(&[("content-length", "2")])));
    }

    #[test]
    fn what_has_no_body_keeps_a_true_length_only() {
        let lines = [("content-length", "2, 2"), ("transfer-encoding", "gzip")];
        let bodiless = |status: u16, to_head| {
            let mut headers = map(&lines);
            let status = StatusCode::from_u16(status).expect("a status");
            let framing = framing(status, &mut headers, to_head);
            (framing, headers)
        };
        let length = map(&[("content-length", "2")]);
        assert_eq!(bodiless(200, true), (Ok(Framing::AsRead), length.clone()));
        assert_eq!(bodiless(304, false), (Ok(Framing::AsRead), length));
        assert_eq!(bodiless(204, false), (Ok(Framing::AsRead), HeaderMap::new()));
    }

    #[test]
    fn keep_alive_says_how_long_a_connection_stays() {
        let seconds = |seconds| Stay::Idle(Duration::from_secs(seconds));
        let cases = [
            (&[][..], false, Stay::Open),
            (&[("keep-alive", "timeout=5, max=100")], false, seconds(4)),
            (&[("keep-alive", "Timeout = 60")], false, seconds(59)),
            (
                &[("keep-alive", "timeout=1")],
                false,
                Stay::Idle(Duration::from_millis(500)),
            ),
            (&[("keep-alive", "timeout=0")], false, Stay::Closed),
            (&[("keep-alive", "timeout=5, max=0")], false, Stay::Closed),
            (&[("keep-alive", "300")], false, Stay::Open),
            (&[("keep-alive", "timeout=abc")], false, Stay::Open),
            (&[], true, Stay::Closed),
            (&[("connection", "Keep-Alive")], true, Stay::Open),
            (
                &[("connection", "keep-alive"), ("transfer-encoding", "chunked")],
                true,
                Stay::Closed,
            ),
        ];
        for (lines, http10, stay) in cases {
            assert_eq!(Stay::of(&map(lines), http10), stay, "{lines:?} {http10}");
        }
    }

    #[test]
    fn a_head_that_cannot_be_read_is_named_by_its_fault() {
        let fault = |head: &str| head_fault(head.as_bytes(), head.len(), false).unwrap_or_default();
        assert_eq!(
            fault("SSH-2.0-OpenSSH\r\n"),
            "its first line is \"SSH-2.0-OpenSSH\""
        );
        assert_eq!(fault("\u{1b}[2J"), "its first line is \"\\x1b[2J\"");
        let ok = "HTTP/1.1 200 OK\r\nserver: a\r\n";
        assert_eq!(
            fault(&format!("{ok}nonsense\r\n")),
            "its line \"nonsense\" has no colon"
        );
        assert_eq!(fault(&format!("{ok}x y: 1\r\n")), "\"x y\" is no field name");
        assert_eq!(
            fault(&format!("{ok}x-odd: a\0b\r\n")),
            "the value of x-odd has the byte 0x00"
        );
        assert_eq!(fault(&format!("{ok}\r\nbody\r\n")), "");
        assert_eq!(fault("HTTP/1.1 200\r\n folded\r\nx: 1\r\n"), "");
        assert_eq!(
            head_fault(b"", 9, true).expect("a fault"),
            "its head has more than 100 fields"
        );
        assert_eq!(
            head_fault(b"", usize::MAX, true).expect("a fault"),
            "its head is larger than 417792 bytes"
        );
    }
}
