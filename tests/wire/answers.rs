//! Answers of upstreams that are old, careless or hostile: what goes on to the client, and what becomes of the
//! connection they came on.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::socket::{OK, Script, message, raw};
use crate::support::certificates::Certificates;
use crate::support::client::{Client, request};
use crate::support::peer::{Tls, Upstream, read_head};
use crate::support::program::{Gateway, mapping};
use crate::support::waiting::eventually;

const CLOSING_GET: &str = "GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// Bytes of a body that no socket buffer takes whole.
const LARGE: usize = 8 << 20;

/// What a client of HTTP/1.1 gets, by the byte.
async fn relayed(answer: &str) -> String {
    let script = Script::closing(answer).await;
    let gateway = script.gateway(&[]).await;
    raw(gateway.address, CLOSING_GET).await.to_ascii_lowercase()
}

/// The entry in the access log of an answer that does not go on to the client.
async fn refused(answer: &str) -> Value {
    let script = Script::answering(answer).await;
    let gateway = script.gateway(&[]).await;
    let got = gateway.get("/x").await;
    assert_eq!(got.status, StatusCode::BAD_GATEWAY, "{answer:?}");
    assert_eq!(got.reason(), "upstream_protocol_error", "{answer:?}");
    gateway.access_log("/x").await
}

#[tokio::test]
async fn equal_content_lengths_become_one() {
    for lengths in ["content-length: 2, 2", "content-length: 2\r\ncontent-length: 2"] {
        let got = relayed(&format!("HTTP/1.1 200 OK\r\n{lengths}\r\n\r\nok")).await;
        assert!(got.starts_with("http/1.1 200"), "{got}");
        assert_eq!(got.matches("content-length: 2\r\n").count(), 1, "{got}");
        assert!(got.ends_with("\r\n\r\nok"), "{got}");
    }
}

#[tokio::test]
async fn an_answer_with_two_readings_of_its_end_is_refused() {
    for (fields, words) in [
        ("content-length: 2, 3", "content-length"),
        ("content-length: +2", "content-length"),
        ("content-length: 2\r\ncontent-length: 3", "content-length"),
        (
            "content-length: 2\r\ntransfer-encoding: chunked",
            "content-length",
        ),
        ("transfer-encoding: gzip, chunked", "\"gzip, chunked\""),
        ("transfer-encoding: chunked, chunked", "\"chunked, chunked\""),
        ("transfer-encoding: chunked, identity", "\"chunked, identity\""),
        (
            "transfer-encoding: gzip\r\ntransfer-encoding: chunked",
            "\"gzip, chunked\"",
        ),
        ("transfer-encoding: xchunked", "\"xchunked\""),
    ] {
        let entry = refused(&format!(
            "HTTP/1.1 200 OK\r\n{fields}\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        ))
        .await;
        let message = entry["message"].as_str().unwrap_or_default();
        assert!(message.contains(words), "{fields}: {message}");
    }
}

#[tokio::test]
async fn identity_is_no_coding_and_leaves_the_length_in_force() {
    // The upstream keeps its connection, so its end says nothing.
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\ncontent-length: 2\r\n\r\nok";
    let script = Script::answering(answer).await;
    let gateway = script.gateway(&[]).await;
    for _ in 0..2 {
        let got = gateway.get("/x").await;
        assert_eq!((got.text(), got.header("content-length")), ("ok", "2"));
    }
    let short =
        relayed("HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\ncontent-length: 9\r\n\r\nok").await;
    assert!(
        short.contains("content-length: 9\r\n") && short.ends_with("\r\n\r\nok"),
        "{short}"
    );
    let closed = relayed("HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nok").await;
    assert!(closed.ends_with("2\r\nok\r\n0\r\n\r\n"), "{closed}");
}

#[tokio::test]
async fn answers_of_old_servers_are_taken() {
    for (answer, header) in [
        (
            "HTTP/1.1 200 OK\r\nx-odd: a;\r\n  b;\r\n\tc\r\ncontent-length: 2\r\n\r\nok",
            "a; b; c",
        ),
        ("HTTP/1.1 200 OK\r\nx-odd : 1\r\ncontent-length: 2\r\n\r\nok", "1"),
        (
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "",
        ),
        ("HTTP/1.0 200 OK\r\n\r\nok", ""),
        ("HTTP/1.2 200 OK\r\ncontent-length: 2\r\n\r\nok", ""),
        ("HTTP/2.0 200 OK\r\ncontent-length: 2\r\n\r\nok", ""),
        ("HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok", ""),
        ("HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\nok", ""),
        ("HTTP/1.1 200 Tr\u{e8}s bien\r\ncontent-length: 2\r\n\r\nok", ""),
        ("HTTP/1.1 200 OK\nx-odd: lf\ncontent-length: 2\n\nok", "lf"),
        ("\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", ""),
    ] {
        let script = Script::closing(answer).await;
        let gateway = script.gateway(&[]).await;
        let got = gateway.get("/x").await;
        assert_eq!((got.status, got.text()), (StatusCode::OK, "ok"), "{answer:?}");
        assert_eq!(got.header("x-odd"), header, "{answer:?}");
    }
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_named_by_its_fault() {
    let many = "x-a: 1\r\n".repeat(101);
    for (head, words) in [
        (
            "HTTP/1.1 200 OK\r\nx-odd: a\0b\r\n\r\n",
            "the value of x-odd has the byte 0x00",
        ),
        (
            "HTTP/1.1 200 OK\r\nserver: a\r\nnonsense\r\n\r\n",
            "its line \"nonsense\" has no colon",
        ),
        ("HTTP/1.1 200 OK\r\nx y: 1\r\n\r\n", "\"x y\" is no field name"),
        (
            "SSH-2.0-OpenSSH_9.2\r\n",
            "its first line is \"SSH-2.0-OpenSSH_9.2\"",
        ),
        (&format!("HTTP/1.1 200 OK\r\n{many}\r\n"), "more than 100 fields"),
    ] {
        let entry = refused(head).await;
        let message = entry["message"].as_str().unwrap_or_default();
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test]
async fn a_body_that_is_broken_at_once_is_answered_502() {
    for chunk in [
        "ZZ\r\nok\r\n0\r\n\r\n",
        "-2\r\nok\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nok\r\n",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunk}");
        let entry = refused(&answer).await;
        let message = entry["message"].as_str().unwrap_or_default();
        assert!(message.contains("the body that"), "{message}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_later_is_cut_behind_its_head() {
    let broken = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nZZ\r\n";
    let script = Script::answering(broken).await;
    let gateway = script.gateway(&[]).await;
    let got = raw(gateway.address, CLOSING_GET).await;
    assert!(got.starts_with("HTTP/1.1 200 OK\r\n"), "{got:?}");
    assert!(got.ends_with("2\r\nok\r\n"), "{got:?}");
    let entry = gateway.access_log("/x").await;
    assert_eq!(
        (&entry["status"], &entry["flags"], &entry["reason"]),
        (&200.into(), &"UPE".into(), &"upstream_protocol_error".into()),
        "{entry:#}"
    );
    let mut http2 = Client::http2(gateway.address).await;
    let got = http2.send(request(Method::GET, "a", "http://a/y", "")).await;
    assert!(
        got.is_err_and(|error| error.to_string().contains("body")),
        "HTTP/2 has no error"
    );
}

#[tokio::test]
async fn bytes_behind_a_body_are_no_answer_to_the_next_request() {
    let twice = format!("{OK}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged");
    let script = Script::answering(twice).await;
    let gateway = script.gateway(&[]).await;
    for _ in 0..5 {
        assert_eq!(gateway.get("/x").await.text(), "ok");
    }
    assert_eq!(script.upstream.connections().len(), 5);
}

#[tokio::test]
async fn what_has_no_body_gets_none() {
    for (method, status, fields) in [
        ("HEAD", "200 OK", "content-length: 9\r\n"),
        ("HEAD", "200 OK", "transfer-encoding: gzip\r\n"),
        ("GET", "204 No Content", "content-length: 0\r\n"),
        ("GET", "304 Not Modified", "content-length: 9\r\n"),
    ] {
        let script = Script::answering(format!("HTTP/1.1 {status}\r\n{fields}\r\n")).await;
        let gateway = script.gateway(&[]).await;
        let asked = CLOSING_GET.replace("GET", method);
        let got = raw(gateway.address, &asked).await;
        assert!(got.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{got}");
        assert!(got.ends_with("\r\n\r\n"), "{got}");
        assert!(!got.contains("transfer-encoding"), "{got}");
        // hyper leaves the length out of a 304, which may have it or not (RFC 9110 section 8.6).
        let keeps_length = method == "HEAD" && fields.starts_with("content-length: 9");
        assert_eq!(got.contains("content-length: 9\r\n"), keeps_length, "{got}");
        assert!(!got.contains("content-length: 0"), "{got}");
    }
}

#[tokio::test]
async fn an_idle_connection_closes_before_its_upstream_would() {
    let answer = "HTTP/1.1 200 OK\r\nkeep-alive: timeout=1, max=9\r\ncontent-length: 2\r\n\r\nok";
    let script = Script::answering(answer).await;
    let gateway = script.gateway(&[]).await;
    let got = gateway.get("/x").await;
    assert_eq!((got.text(), got.header("keep-alive")), ("ok", ""));
    eventually("the gateway closes the connection", async || {
        script.upstream.connections()[0].closed.then_some(())
    })
    .await;
    assert_eq!(gateway.get("/x").await.text(), "ok");
    assert_eq!(script.upstream.connections().len(), 2);
}

#[tokio::test]
async fn a_connection_at_its_last_request_carries_no_other() {
    for head in [
        "HTTP/1.1 200 OK\r\nkeep-alive: timeout=5, max=0\r\n",
        "HTTP/1.1 200 OK\r\nkeep-alive: timeout=0\r\n",
        "HTTP/1.0 200 OK\r\n",
    ] {
        let script = Script::answering(format!("{head}content-length: 2\r\n\r\nok")).await;
        let gateway = script.gateway(&[]).await;
        for _ in 0..3 {
            assert_eq!(gateway.get("/x").await.text(), "ok");
        }
        assert_eq!(script.upstream.connections().len(), 3, "{head}");
    }
    let kept = "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok";
    let script = Script::answering(kept).await;
    let gateway = script.gateway(&[]).await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/x").await.text(), "ok");
    }
    assert_eq!(script.upstream.connections().len(), 1);
}

/// An answer that comes before the upload is read, followed by a reset.
const TOO_LARGE: &[u8] =
    b"HTTP/1.1 413 Payload Too Large\r\nconnection: close\r\ncontent-length: 7\r\n\r\ntoo big";

/// Uploads more than the upstream reads, and is given its answer, each time.
async fn assert_early_answer_arrives(gateway: &Gateway) {
    let mut http2 = Client::http2(gateway.address).await;
    for _ in 0..5 {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let head = format!("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: {LARGE}\r\n\r\n");
        let (mut read, mut write) = stream.split();
        let upload = async {
            // The gateway may close before it has all.
            let _ = write.write_all(head.as_bytes()).await;
            let _ = write.write_all(&vec![b'a'; LARGE]).await;
        };
        let (_, answer) = tokio::join!(upload, message(&mut read));
        let answer = answer.expect("an answer");
        assert!(answer.first_line().starts_with("HTTP/1.1 413"), "{}", answer.head);
        assert_eq!(answer.body, "too big");
        let upload = request(Method::POST, "a", "http://a/x", vec![b'a'; LARGE]);
        let answer = http2.send(upload).await.expect("an answer");
        assert_eq!(
            (answer.status, answer.text()),
            (StatusCode::PAYLOAD_TOO_LARGE, "too big")
        );
    }
}

#[tokio::test]
async fn an_early_answer_over_tls_survives_the_reset() {
    let identity = Certificates::new().server(&["a.test"]);
    let upstream = Tls::with(&identity).start_with(async |mut stream, _| {
        read_head(&mut stream).await;
        let _ = stream.write_all(TOO_LARGE).await;
        // Closed with the upload unread, the socket is reset.
    });
    let upstream = upstream.await;
    let plan = Gateway::with(mapping("m", "/", "https://a.test", &[]));
    let gateway = plan.resolve("a.test:443", upstream.address).start().await;
    assert_early_answer_arrives(&gateway).await;
}

#[tokio::test]
async fn an_early_answer_in_cleartext_survives_the_reset() {
    let upstream = Upstream::raw(async |mut stream: TcpStream| {
        read_head(&mut stream).await;
        let _ = stream.write_all(TOO_LARGE).await;
    });
    let upstream = upstream.await;
    let gateway = Gateway::start(mapping("m", "/", &format!("http://{}", upstream.address), &[])).await;
    assert_early_answer_arrives(&gateway).await;
}

#[tokio::test]
async fn a_reset_in_a_body_without_a_length_is_no_end() {
    let upstream = Upstream::raw(async |mut stream: TcpStream| {
        read_head(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\npart";
        stream.write_all(head).await.unwrap();
        // Until more of the upload has come than is read.
        let mut some = [0; 1];
        let _ = stream.read_exact(&mut some).await;
    });
    let upstream = Arc::new(upstream.await);
    let gateway = Gateway::start(mapping("m", "/", &format!("http://{}", upstream.address), &[])).await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!("POST /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {LARGE}\r\n\r\n");
    let (mut read, mut write) = stream.split();
    let upload = async {
        let _ = write.write_all(head.as_bytes()).await;
        let _ = write.write_all(&vec![b'a'; LARGE]).await;
    };
    let (_, got) = tokio::join!(upload, super::socket::rest(&mut read));
    assert!(got.contains("part"), "{got:?}");
    assert!(!got.ends_with("0\r\n\r\n"), "{got:?}");
}
