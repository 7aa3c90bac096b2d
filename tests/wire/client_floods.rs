//! Clients that send frames of HTTP/2 without end, or heads that cannot be read. Their connection ends, it is counted,
//! and others are served meanwhile.

use tokio::io::{AsyncWriteExt, copy, sink};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::floods::{
    CONTINUATION, DATA, END_HEADERS, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame,
};
use super::socket::{OK, Script, raw, rest};
use crate::support::peer::Upstream;
use crate::support::program::{Gateway, mapping};
use crate::support::waiting::{PATIENCE, eventually};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const END_STREAM: u8 = 1;
/// `GET http://a/` by the static table (RFC 7541, appendix A).
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];

/// A client that has greeted, and reads whatever comes.
async fn greeted(gateway: &Gateway) -> tokio::net::tcp::OwnedWriteHalf {
    let (mut heard, mut said) = TcpStream::connect(gateway.address).await.unwrap().into_split();
    tokio::spawn(async move { copy(&mut heard, &mut sink()).await });
    said.write_all(PREFACE).await.unwrap();
    said.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    said
}

async fn counted(gateway: &Gateway, cause: &str) -> u64 {
    let metrics = gateway.admin("/metrics").await;
    let line = format!("nuncio_client_protocol_errors_total{{cause=\"{cause}\"}} ");
    let mut values = metrics
        .text()
        .lines()
        .filter_map(|text| text.strip_prefix(&*line));
    values.next().map_or(0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn frames_without_end_end_the_connection() {
    let script = Script::answering(OK).await;
    let gateway = script.gateway(&[]).await;
    let opened = frame(HEADERS, END_HEADERS, 1, GET);
    let (flood, rules) = ("http2_flood", "http2_protocol");
    let floods = [
        ("pings", vec![], frame(PING, 0, 0, &[7; 8]), flood),
        (
            "settings",
            vec![],
            frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]),
            flood,
        ),
        ("empty settings", vec![], frame(SETTINGS, 0, 0, &[]), flood),
        (
            "priorities",
            vec![],
            frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 9]),
            flood,
        ),
        ("unknown frames", vec![], frame(0xee, 0, 0, &[9; 99]), flood),
        (
            "windows",
            vec![],
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
            flood,
        ),
        (
            "windows of a stream",
            opened.clone(),
            frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
            flood,
        ),
        (
            "resets of nothing",
            vec![],
            frame(RST_STREAM, 0, 101, &[0, 0, 0, 8]),
            rules,
        ),
        (
            "continuations",
            frame(HEADERS, 0, 1, GET),
            frame(CONTINUATION, 0, 1, &[0, 1, b'x', 1, b'y']),
            rules,
        ),
        (
            "empty continuations",
            frame(HEADERS, 0, 1, GET),
            frame(CONTINUATION, 0, 1, &[]),
            rules,
        ),
        ("empty data", opened, frame(DATA, 0, 1, &[]), rules),
    ];
    for (name, first, again, cause) in floods {
        let before = counted(&gateway, cause).await;
        let mut client = greeted(&gateway).await;
        client.write_all(&first).await.unwrap();
        let many = again.repeat(1 + 60_000 / again.len());
        let ended = timeout(PATIENCE, async { while client.write_all(&many).await.is_ok() {} }).await;
        assert!(ended.is_ok(), "{name}: the connection goes on");
        gateway.get("/").await.assert_ok();
        eventually(name, async || {
            (counted(&gateway, cause).await > before).then_some(())
        })
        .await;
    }
}

/// Requests that are begun and broken off cost an upstream something each time.
#[tokio::test]
async fn requests_that_are_broken_off_without_end_end_the_connection() {
    let upstream =
        Upstream::raw(async |mut stream: TcpStream| drop(copy(&mut stream, &mut sink()).await)).await;
    let gateway = Gateway::start(mapping("m", "/", &format!("http://{}", upstream.address), &[])).await;
    let mut client = greeted(&gateway).await;
    let streams: Vec<u32> = (0..600).map(|n| 2 * n + 1).collect();
    for some in streams.chunks(100) {
        let begin: Vec<u8> = some
            .iter()
            .flat_map(|id| frame(HEADERS, END_HEADERS | END_STREAM, *id, GET))
            .collect();
        let all = usize::try_from(some[some.len() - 1] / 2 + 1).unwrap();
        if client.write_all(&begin).await.is_err() {
            break;
        }
        if all <= 500 {
            eventually("each is sent to the upstream", async || {
                upstream.look(|seen| seen.len() == all).then_some(())
            })
            .await;
        }
        let end = some
            .iter()
            .flat_map(|id| frame(RST_STREAM, 0, *id, &[0, 0, 0, 8]));
        let _ = client.write_all(&end.collect::<Vec<u8>>()).await;
    }
    eventually("it is counted", async || {
        (counted(&gateway, "http2_resets").await == 1).then_some(())
    })
    .await;
    let written = async { while client.write_all(&frame(PING, 0, 0, &[0; 8])).await.is_ok() {} };
    assert!(timeout(PATIENCE, written).await.is_ok(), "the connection goes on");
}

/// Fields after `host`, and the answer to a client that sends them.
const UNREADABLE: [(&str, &str); 7] = [
    ("x a: b", "byte 0x20 stands in the name of a field, at field 2"),
    (
        "x-a: b\0c",
        "byte 0x00 stands in the value of a field, at field 2 (`x-a`)",
    ),
    (
        "x-a: b\x7f",
        "byte 0x7f stands in the value of a field, at field 2 (`x-a`)",
    ),
    ("no colon", "byte 0x20 stands in the name of a field"),
    (
        "content-length: 5, 5",
        "Content-Length is not one number, at field 2 (`content-length`)",
    ),
    (
        "transfer-encoding: gzip",
        "the only transfer coding that is understood is chunked",
    ),
    ("x-a: b\r\n c", "a field is folded over two lines, at field 3"),
];

#[tokio::test]
async fn a_head_that_cannot_be_read_is_refused_by_name() {
    let script = Script::answering(OK).await;
    let gateway = script.gateway(&[]).await;
    let (many, long) = ("x-one: 1\r\n".repeat(100), "x".repeat(62 * 1024));
    let too_large = [
        (&*many, "the header section has more than 100 fields"),
        (
            &*format!("x-long: {long}"),
            "more than 61440 bytes, at field 2 (`x-long`)",
        ),
    ];
    let unreadable = UNREADABLE.iter().map(|(fields, why)| (*fields, "400", *why));
    let too_large = too_large.iter().map(|(fields, why)| (*fields, "431", *why));
    for (path, (fields, status, why)) in unreadable.chain(too_large).enumerate() {
        let path = format!("/{path}");
        // In one piece, and in two.
        for cut in [0, 30] {
            let asked = format!("GET {path}/{cut} HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n");
            let mut client = TcpStream::connect(gateway.address).await.unwrap();
            client.write_all(&asked.as_bytes()[..cut]).await.unwrap();
            client.flush().await.unwrap();
            let _ = client.write_all(&asked.as_bytes()[cut..]).await;
            let answer = rest(&mut client).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{path}: {answer}"
            );
            assert!(
                answer.contains(why) && answer.contains("\r\nconnection: close\r\n"),
                "{path}: {answer}"
            );
            let entry = gateway.access_log(&format!("{path}/{cut}")).await;
            assert!(entry["message"].as_str().unwrap().contains(why), "{entry:#}");
            assert_eq!(entry["flags"], "DPE", "{entry:#}");
        }
    }
    let answer = raw(
        gateway.address,
        format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n"),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 414 URI Too Long\r\n"), "{answer}");
    assert!(
        answer.ends_with("the request target has more than 61440 bytes"),
        "{answer}"
    );
    assert_eq!(script.upstream.connections().len(), 0);
    assert_eq!(counted(&gateway, "malformed_head").await, 14);
    assert_eq!(counted(&gateway, "head_too_large").await, 5);
}
