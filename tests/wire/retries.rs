//! `retry_policy`: what is sent again, how often, and what is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Method, Request, StatusCode};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::socket::rest;
use crate::support::client::request;
use crate::support::peer::{Upstream, read_head};
use crate::support::program::{Gateway, free_port, mapping};
use crate::support::refusal::assert_holds;

/// Answers each request in turn with these; the last goes on for ever. An empty answer is none at all.
async fn answering(statuses: &'static [u16]) -> Upstream {
    let asked = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream::raw(move |mut stream: TcpStream| {
        let asked = Arc::clone(&asked);
        async move {
            let head = read_head(&mut stream).await;
            if head.contains("content-length: 4") {
                stream.read_exact(&mut [0; 4]).await.unwrap();
            }
            let turn = asked.fetch_add(1, Ordering::Relaxed).min(statuses.len() - 1);
            match statuses[turn] {
                0 => {
                    rest(&mut stream).await;
                }
                status => {
                    let answer =
                        format!("HTTP/1.1 {status} x\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        }
    });
    upstream.await
}

/// A Mapping `m` to this upstream with this policy.
async fn gateway(upstream: &Upstream, policy: &str, more: &[&str]) -> Gateway {
    let policy = format!("retry_policy: {policy}");
    let service = format!("http://{}", upstream.address);
    Gateway::start(mapping("m", "/", &service, &[&[&*policy], more].concat())).await
}

/// Status of the answer, and how often it was asked for.
async fn asked(gateway: &Gateway, request: Request<Full<bytes::Bytes>>) -> (u16, u64) {
    let path = request.uri().path().to_owned();
    let answer = gateway.send(request).await;
    let entry = gateway.access_log(&path).await;
    assert_eq!(entry["status"], answer.status.as_u16(), "{entry:#}");
    (answer.status.as_u16(), entry["attempts"].as_u64().unwrap())
}

fn get(gateway: &Gateway, path: &str) -> Request<Full<bytes::Bytes>> {
    request(Method::GET, &gateway.authority(), path, "")
}

#[tokio::test]
async fn answers_are_asked_for_again_as_the_policy_says() {
    for (on, first, expected) in [
        ("5xx", 500, (200, 2)),
        ("gateway-error", 500, (500, 1)),
        ("gateway-error", 503, (200, 2)),
        ("retriable-4xx", 409, (200, 2)),
        ("retriable-4xx", 404, (404, 1)),
        ("connect-failure", 503, (503, 1)),
        ("retriable-status-codes", 503, (503, 1)),
    ] {
        let statuses: &[u16] = match first {
            404 => &[404, 200],
            409 => &[409, 200],
            500 => &[500, 200],
            _ => &[503, 200],
        };
        let upstream = answering(statuses).await;
        let gateway = gateway(&upstream, &format!("{{retry_on: {on}}}"), &[]).await;
        assert_eq!(
            asked(&gateway, get(&gateway, "/x")).await,
            expected,
            "{on} {first}"
        );
        let seen = expected.1 as usize;
        assert_eq!(upstream.connections().len(), seen, "{on} {first}");
    }
}

#[tokio::test]
async fn when_no_retry_is_left_the_last_answer_is_the_answer() {
    let upstream = answering(&[503]).await;
    let gateway = gateway(&upstream, "{retry_on: 5xx, num_retries: 2}", &[]).await;
    assert_eq!(asked(&gateway, get(&gateway, "/x")).await, (503, 3));
    assert_eq!(upstream.connections().len(), 3);
    let answer = gateway.get("/y").await;
    assert_eq!(
        (answer.reason(), answer.text()),
        ("", "ok"),
        "the upstream's own words"
    );
    let metrics = gateway.admin("/metrics").await;
    let counted = |line: &&str| line.starts_with("nuncio_upstream_requests_total") && line.ends_with(" 6");
    assert!(
        metrics.text().lines().any(|line| counted(&line)),
        "{}",
        metrics.text()
    );
}

/// Retries begin and end within `timeout_ms`.
#[tokio::test]
async fn the_time_of_the_request_is_the_time_of_its_retries() {
    let upstream = answering(&[503]).await;
    let more = ["timeout_ms: 2000"];
    let gateway = gateway(&upstream, "{retry_on: 5xx, num_retries: 100}", &more).await;
    let (status, attempts) = asked(&gateway, get(&gateway, "/x")).await;
    assert_eq!(status, 503);
    assert!((2..100).contains(&attempts), "{attempts}");
}

/// A method that does something may be sent again where the policy says so; a body is kept nowhere.
#[tokio::test]
async fn a_body_that_was_sent_is_not_sent_again() {
    let upstream = answering(&[503]).await;
    let gateway = gateway(&upstream, "{retry_on: 5xx}", &[]).await;
    let post = |path: &str, body: &'static str| request(Method::POST, &gateway.authority(), path, body);
    assert_eq!(asked(&gateway, post("/empty", "")).await, (503, 2));
    assert_eq!(asked(&gateway, post("/body", "body")).await, (503, 1));
    assert_eq!(upstream.connections().len(), 3);
}

#[tokio::test]
async fn an_attempt_without_an_answer_is_given_up_for_the_next() {
    let upstream = answering(&[0, 200]).await;
    let policy = "{retry_on: gateway-error, per_try_timeout: 1s}";
    let gateway = gateway(&upstream, policy, &["timeout_ms: 30000"]).await;
    assert_eq!(asked(&gateway, get(&gateway, "/x")).await, (200, 2));
    let failures = &gateway.upstream_of("m").await["failures"][0];
    assert_eq!(failures["reason"], "response_timeout", "{failures:#}");
}

#[tokio::test]
async fn the_last_attempt_without_an_answer_is_a_timeout() {
    let upstream = answering(&[0]).await;
    let policy = "{retry_on: 5xx, per_try_timeout: 50ms}";
    let gateway = gateway(&upstream, policy, &["timeout_ms: 30000"]).await;
    let answer = gateway.get("/x").await;
    assert_eq!(
        (answer.status, answer.reason()),
        (StatusCode::GATEWAY_TIMEOUT, "response_timeout")
    );
    let entry = gateway.access_log("/x").await;
    assert_eq!(entry["attempts"], 2, "{entry:#}");
    assert_eq!(
        entry["message"], "no response within the 50 ms of one attempt",
        "{entry:#}"
    );
}

/// Nobody listens: each attempt fails before anything of the body was read.
#[tokio::test]
async fn connect_failures_are_counted_out_and_told() {
    let service = format!("http://127.0.0.1:{}", free_port());
    let policy = "retry_policy: {retry_on: connect-failure, num_retries: 3}";
    let gateway = Gateway::start(mapping("m", "/", &service, &[policy])).await;
    gateway.get("/x").await.assert_refused("connect_refused");
    assert_eq!(gateway.access_log("/x").await["attempts"], 4);
    let failures = &gateway.upstream_of("m").await["failures"][0];
    assert_eq!(failures["count"], 4, "{failures:#}");
}

const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;

/// HTTP/2 that refuses the first stream and answers 200 on all others.
async fn refusing_once(mut stream: TcpStream) {
    stream.read_exact(&mut [0; 24]).await.unwrap();
    stream.write_all(&SETTINGS).await.unwrap();
    let mut refused = false;
    let mut header = [0; 9];
    while stream.read_exact(&mut header).await.is_ok() {
        let length = usize::from(header[1]) << 8 | usize::from(header[2]);
        stream.read_exact(&mut vec![0; length]).await.unwrap();
        if header[3] != HEADERS {
            continue;
        }
        let id = &header[5..];
        let answer = if refused {
            // END_STREAM and END_HEADERS; 0x88 is `:status: 200` in HPACK's table.
            [&[0, 0, 1, HEADERS, 5], id, &[0x88]].concat()
        } else {
            // REFUSED_STREAM
            [&[0, 0, 4, RST_STREAM, 0], id, &[0, 0, 0, 7]].concat()
        };
        refused = true;
        stream.write_all(&answer).await.unwrap();
    }
}

#[tokio::test]
async fn a_refused_stream_is_opened_again() {
    for (on, expected) in [("refused-stream", (200, 2)), ("connect-failure", (503, 1))] {
        let upstream = Upstream::raw(refusing_once).await;
        let policy = format!("{{retry_on: {on}}}");
        let gateway = gateway(&upstream, &policy, &["grpc: true"]).await;
        let post = request(Method::POST, &gateway.authority(), "/x", "");
        assert_eq!(asked(&gateway, post).await, expected, "{on}");
    }
}

/// What cuts a connect off is what has to be raised.
#[tokio::test]
async fn a_connect_that_is_cut_off_by_the_time_of_one_attempt_says_so() {
    let upstream = Upstream::raw(async |mut stream: TcpStream| {
        rest(&mut stream).await;
    })
    .await;
    let policy = "retry_policy: {retry_on: connect-failure, per_try_timeout: 100ms}";
    let service = format!("https://{}", upstream.address);
    for (lines, field) in [
        (&[policy][..], "spec.retry_policy.per_try_timeout"),
        (&[policy, "connect_timeout_ms: 50"], "connect_timeout_ms"),
    ] {
        let gateway = Gateway::start(mapping("m", "/", &service, lines)).await;
        gateway.get("/x").await.assert_refused("handshake_timeout");
        let upstream = gateway.upstream_of("m").await;
        let remedy = &upstream["endpoints"][0]["last_handshake"]["remedy"];
        let other = if field.contains("retry") {
            "connect_timeout_ms"
        } else {
            "per_try_timeout"
        };
        assert_holds(remedy, &["raise", field]);
        assert!(!remedy.as_str().unwrap().contains(other), "{remedy}");
    }
}
