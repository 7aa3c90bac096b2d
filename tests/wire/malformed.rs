//! Requests of HTTP/2 that are malformed (RFC 9113 section 8.1.1), and what HTTP/1.0 does not know.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::floods::{END_HEADERS, GOAWAY, HEADERS, RST_STREAM, SETTINGS, frame};
use super::socket::{OK, Script};
use crate::support::program::Gateway;
use crate::support::waiting::PATIENCE;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const END_STREAM: u8 = 1;
/// `:status: 200` and `:status: 400` of the static table (RFC 7541, appendix A).
const STATUS_200: u8 = 0x88;
const STATUS_400: u8 = 0x8c;
const PROTOCOL_ERROR: u8 = 1;

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The first byte of its header block.
    Answered(u8),
    Reset(u8),
    /// The connection ended.
    GoAway(u8),
}

type Field<'a> = (&'a [u8], &'a [u8]);

/// A header block of literals that nothing remembers (RFC 7541 section 6.2.2).
fn block(fields: &[Field<'_>]) -> Vec<u8> {
    let text = |bytes: &[u8]| [&[u8::try_from(bytes.len()).unwrap()][..], bytes].concat();
    let field = |(name, value): &Field<'_>| [&[0][..], &text(name), &text(value)].concat();
    fields.iter().flat_map(field).collect()
}

const REQUEST: [Field<'_>; 4] = [
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":authority", b"a"),
    (b":path", b"/"),
];

fn with<'a>(more: &[Field<'a>]) -> Vec<Field<'a>> {
    REQUEST.iter().chain(more).copied().collect()
}

/// What becomes of a request with these fields, and of the one behind it on the same connection.
async fn ask(gateway: &Gateway, fields: &[Field<'_>]) -> (Outcome, Option<Outcome>) {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let flags = END_HEADERS | END_STREAM;
    let bytes = [
        PREFACE.to_vec(),
        frame(SETTINGS, 0, 0, &[]),
        frame(HEADERS, flags, 1, &block(fields)),
        frame(HEADERS, flags, 3, &block(&REQUEST)),
    ];
    stream.write_all(&bytes.concat()).await.unwrap();
    let mut found = [None, None];
    while found.contains(&None) {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            break;
        }
        let [a, b, c, kind, _, .., id] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).await.unwrap();
        let outcome = match kind {
            HEADERS => Outcome::Answered(payload[0]),
            RST_STREAM => Outcome::Reset(payload[3]),
            GOAWAY => {
                found[0].get_or_insert(Outcome::GoAway(payload[7]));
                break;
            }
            _ => continue,
        };
        found[usize::from(id / 2)].get_or_insert(outcome);
    }
    (found[0].expect("an end of the first stream"), found[1])
}

fn without<'a>(name: &[u8], more: &[Field<'a>]) -> Vec<Field<'a>> {
    let rest = REQUEST.iter().filter(|field| field.0 != name);
    rest.chain(more).copied().collect()
}

#[tokio::test]
async fn a_malformed_http2_request_goes_nowhere() {
    let script = Script::answering(OK).await;
    let gateway = script.gateway(&[]).await;
    let reset = Outcome::Reset(PROTOCOL_ERROR);
    let refused = Outcome::Answered(STATUS_400);
    // h2 reads no further where a field is none.
    let ended = Outcome::GoAway(PROTOCOL_ERROR);
    let cases: &[(&str, Vec<Field<'_>>, Outcome)] = &[
        ("upper case", with(&[(b"X-Upper", b"1")]), ended),
        ("CR LF in a value", with(&[(b"x-a", b"b\r\nx-c: d")]), ended),
        ("NUL in a value", with(&[(b"x-a", b"b\0c")]), ended),
        ("a space in a name", with(&[(b"x a", b"1")]), ended),
        ("a colon in a name", with(&[(b"x:a", b"1")]), ended),
        ("an empty name", with(&[(b"", b"1")]), ended),
        (
            "a pseudo-field that nobody knows",
            with(&[(b":foo", b"1")]),
            ended,
        ),
        (
            "a path of no text",
            without(b":path", &[(b":path", b"/\xff")]),
            ended,
        ),
        ("connection", with(&[(b"connection", b"close")]), reset),
        ("keep-alive", with(&[(b"keep-alive", b"timeout=5")]), reset),
        ("a coding", with(&[(b"transfer-encoding", b"chunked")]), reset),
        ("upgrade", with(&[(b"upgrade", b"websocket")]), reset),
        ("te", with(&[(b"te", b"gzip")]), reset),
        ("a pseudo-field twice", with(&[(b":path", b"/b")]), reset),
        ("one of responses", with(&[(b":status", b"200")]), reset),
        (
            "one behind a field",
            with(&[(b"x-a", b"1"), (b":path", b"/")]),
            reset,
        ),
        ("no method", without(b":method", &[]), reset),
        ("no path", without(b":path", &[]), reset),
        (
            "two lines of a path",
            without(b":path", &[(b":path", b"/\r\nx: y")]),
            reset,
        ),
        (
            "a user",
            without(b":authority", &[(b":authority", b"u@a")]),
            refused,
        ),
        ("two hosts", with(&[(b"host", b"b"), (b"host", b"c")]), refused),
    ];
    for (name, fields, outcome) in cases {
        let before = script.requests().len();
        let asked = timeout(PATIENCE, ask(&gateway, fields)).await;
        let (first, second) = asked.unwrap_or_else(|_| panic!("{name}: nothing comes"));
        let arrived = script.requests().len() - before;
        let survives = *outcome != ended;
        let answered = survives.then_some(Outcome::Answered(STATUS_200));
        let expected = (*outcome, answered, usize::from(survives));
        assert_eq!((first, second, arrived), expected, "{name}");
    }
    gateway.get("/").await.assert_ok();
}

/// RFC 9110 section 10.1.1: a client of HTTP/1.0 knows no 100.
#[tokio::test]
async fn the_expectation_of_an_http1_0_request_is_taken_off() {
    let script = Script::answering(OK).await;
    let module = "---\napiVersion: getambassador.io/v3alpha1\nkind: Module\nmetadata:\n  name: ambassador\nspec:\n  \
                  config:\n    enable_http10: true\n";
    let gateway = Gateway::start(script.mapping(&[]) + module).await;
    let asked = "POST / HTTP/1.0\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\nbody";
    let answer = super::socket::raw(gateway.address, asked).await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    let request = script.request();
    assert_eq!((request.values("expect"), &*request.body), (vec![], "body"));
}
