//! Failures: rows F.

mod chains;
mod endpoints;

use std::time::Duration;

use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::interval;
use tokio_rustls::TlsStream;

use super::origination;
use super::s::service;
use crate::support::certificates::{Certificates, Identity};
use crate::support::client::{Client, raw, request};
use crate::support::peer::{Tls, Upstream, read_head};
use crate::support::program::{Gateway, mapping, tls_context};
use crate::support::refusal::{Refusal, assert_holds};
use crate::support::tls_bytes::{alert, read_record, reset, swallow};

/// Short enough not to be waited for long, and long enough for a busy host to send the first bytes.
const CONNECT_TIMEOUT: &str = "connect_timeout_ms: 1000";

async fn assert_took_the_connect_timeout(gateway: &Gateway, path: &str) {
    let entry = gateway.access_log(path).await;
    assert!(entry["duration_ms"].as_f64().unwrap() >= 1000.0, "{entry:#}");
}

#[tokio::test]
async fn f1_silent_upstream_is_handshake_timeout() {
    let upstream = Upstream::raw(swallow).await;
    let gateway = origination(&upstream, &[CONNECT_TIMEOUT], &[]).start().await;
    let refusal = Refusal {
        reason: "handshake_timeout",
        message: &["accepted the connection and did not answer the ClientHello in time"],
        remedy: &["connect_timeout_ms"],
    };
    refusal.assert_told(&gateway, "m", "/x").await;
    assert_took_the_connect_timeout(&gateway, "/x").await;
    let entry = gateway.access_log("/x").await;
    assert_holds(&entry["message"], &["nor did it answer a smaller one"]);
    // The one and the other hello (decision 19), within the one connect timeout.
    assert_eq!(upstream.connections().len(), 2, "a timeout is not tried again");

    // That it is not about the hello's size is known by now.
    gateway.get("/y").await.assert_refused("handshake_timeout");
    assert_took_the_connect_timeout(&gateway, "/y").await;
    assert_eq!(upstream.connections().len(), 3);
}

#[tokio::test]
async fn f2_upstream_that_trickles_is_handshake_timeout() {
    let upstream = Upstream::raw(async |mut stream| {
        // The beginning of a ServerHello that would be 16 KiB long.
        let mut bytes = vec![22, 3, 3, 0x40, 0, 2, 0, 0x3f, 0xfc, 3, 3];
        bytes.resize(5 + 0x4000, 0);
        let mut pace = interval(Duration::from_millis(10));
        for byte in bytes {
            pace.tick().await;
            if stream.write_all(&[byte]).await.is_err() {
                break;
            }
        }
    });
    let upstream = upstream.await;
    let gateway = origination(&upstream, &[CONNECT_TIMEOUT], &[]).start().await;
    let refusal = Refusal {
        reason: "handshake_timeout",
        message: &["began to answer the ClientHello and did not finish in time"],
        remedy: &["connect_timeout_ms"],
    };
    refusal.assert_told(&gateway, "m", "/x").await;
    assert_took_the_connect_timeout(&gateway, "/x").await;
}

#[tokio::test]
async fn f3_reset_after_the_hello_is_told_and_not_tried_again() {
    let upstream = Upstream::raw(async |mut stream| {
        read_record(&mut stream).await;
        reset(stream);
    });
    let upstream = upstream.await;
    let gateway = origination(&upstream, &[], &[]).start().await;
    let refusal = Refusal {
        reason: "reset_during_handshake",
        message: &[
            "reset the connection before it answered the ClientHello",
            "without an alert",
        ],
        remedy: &["check that TLS is spoken on this port", "spec.sni"],
    };
    refusal.assert_told(&gateway, "m", "/x").await;
    // The second is the smaller hello (decision 19), which is no second try of the request: it had none.
    assert_eq!(upstream.connections().len(), 2);
    gateway.get("/y").await.assert_refused("reset_during_handshake");
    assert_eq!(upstream.connections().len(), 3, "its size made no difference");
}

/// A gateway whose Mapping `m` has this policy and two pods: one that answers, and one that resets every
/// handshake.
async fn half_resetting(policy: &str) -> (Upstream, Upstream, Gateway) {
    let bad = Upstream::raw(async |mut stream| {
        read_record(&mut stream).await;
        reset(stream);
    });
    let bad = bad.await;
    let good = Upstream::tls(&Identity::self_signed(&["a.test"], false)).await;
    let policy = format!("retry_policy: {policy}");
    // One handshake is one connection where the hello is small anyway (decision 19).
    let manifests = tls_context("ctx", &["ecdh_curves: [X25519]"])
        + &mapping("m", "/", "https://svc", &[&policy, "tls: ctx"])
        + &service("svc", &[bad.address, good.address]);
    (bad, good, Gateway::start(manifests).await)
}

#[tokio::test]
async fn f3_a_policy_has_a_reset_handshake_tried_again_at_another_endpoint() {
    for on in ["connect-failure", "5xx", "gateway-error"] {
        let (bad, good, gateway) = half_resetting(&format!("{{retry_on: {on}}}")).await;
        let mut attempts = 0;
        for number in 0..8 {
            // A body that nobody has touched goes along.
            let (path, body) = (format!("/{number}"), format!("body {number}"));
            let post = request(Method::POST, &gateway.authority(), &path, body.clone());
            gateway.send(post).await.assert_ok();
            assert_eq!(good.request().body, body);
            let entry = gateway.access_log(&path).await;
            assert_eq!(entry["endpoint"], good.address.to_string(), "{entry:#}");
            attempts += entry["attempts"].as_u64().unwrap();
        }
        assert!(attempts > 8 && !bad.connections().is_empty(), "{on}: {attempts}");
        // What was tried again is told all the same.
        let failures = &gateway.upstream_of("m").await["failures"][0];
        assert_eq!(failures["reason"], "reset_during_handshake", "{failures:#}");
        assert_eq!(failures["count"], attempts - 8, "{failures:#}");
    }
}

#[tokio::test]
async fn f3_a_policy_of_something_else_has_no_handshake_tried_again() {
    for on in ["retriable-4xx", "refused-stream"] {
        let (_bad, _good, gateway) = half_resetting(&format!("{{retry_on: {on}, num_retries: 5}}")).await;
        let mut refused = 0;
        for number in 0..4 {
            let path = format!("/{number}");
            let answer = gateway.get(&path).await;
            assert_eq!(gateway.access_log(&path).await["attempts"], 1);
            refused += usize::from(answer.reason() == "reset_during_handshake");
        }
        assert!(refused > 0 && refused < 4, "{on}");
    }
}

#[tokio::test]
async fn f4_alert_before_a_reset_is_the_reason() {
    const UNRECOGNIZED_NAME: u8 = 112;
    let upstream = Upstream::raw(async |mut stream| {
        read_record(&mut stream).await;
        // The gateway still listens.
        stream.write_all(&alert(UNRECOGNIZED_NAME, 3)).await.unwrap();
        reset(stream);
    });
    let upstream = upstream.await;
    let gateway = origination(&upstream, &[], &[]).start().await;
    let refusal = Refusal {
        reason: "alert_received:unrecognized_name",
        message: &["alert `unrecognized_name`"],
        remedy: &["set spec.sni"],
    };
    refusal.assert_told(&gateway, "m", "/0").await;
    // What arrives first is a matter of luck, so luck is tried some more; more often than this in a row, and there
    // would be pauses.
    for n in 1..30 {
        gateway
            .get(&format!("/{n}"))
            .await
            .assert_refused("alert_received:unrecognized_name");
    }
    assert_eq!(upstream.connections().len(), 30);
}

/// Answers each connection's first request with these bytes and closes without a close_notify.
async fn closing_rudely(answer: &'static str) -> Upstream {
    let tls = Tls::with(&Certificates::new().server(&["a.test"]));
    tls.start_with(move |mut stream, _| async move {
        read_head(&mut stream).await;
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let TlsStream::Server(stream) = stream else {
            unreachable!("it is a server")
        };
        let (mut tcp, _) = stream.into_inner();
        // A FIN; the gateway may have closed already.
        let _ = tcp.shutdown().await;
        let _ = tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await;
    })
    .await
}

#[tokio::test]
async fn f6_whole_body_before_a_rude_close_is_a_whole_answer() {
    let upstream = closing_rudely("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhole").await;
    let gateway = origination(&upstream, &[], &[]).start().await;
    for path in ["/1", "/2", "/3"] {
        let answer = gateway.get(path).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, "whole"));
        let entry = gateway.access_log(path).await;
        assert_eq!(entry["status"], 200, "{entry:#}");
        assert_eq!(entry["flags"], serde_json::Value::Null, "{entry:#}");
    }
    assert_eq!(gateway.count("nuncio_upstream_failures_total", &[]).await, 0.0);
}

#[tokio::test]
async fn f7_body_that_ends_with_a_rude_close_is_cut_short() {
    let upstream = closing_rudely("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nhalf").await;
    let gateway = origination(&upstream, &[], &[]).start().await;

    let mut client = Client::http1(gateway.address).await;
    let broken = client.send(request(Method::GET, "a", "/1", "")).await;
    assert!(broken.is_err(), "taken for whole: {broken:?}");
    let mut client = Client::http2(gateway.address).await;
    let whole = http::Request::get("http://a/2").body(http_body_util::Full::default());
    let broken = client.send(whole.unwrap()).await;
    assert!(broken.is_err(), "taken for whole: {broken:?}");

    let answer = raw(gateway.address, "GET /3 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(
        answer.contains("\r\n4\r\nhalf\r\n"),
        "what came is passed on: {answer}"
    );
    assert!(!answer.contains("\r\n0\r\n"), "the end is not: {answer}");
    for path in ["/1", "/2", "/3"] {
        let entry = gateway.access_log(path).await;
        assert_eq!(
            (&entry["status"], &entry["flags"]),
            (&200.into(), &"UC".into()),
            "{entry:#}"
        );
        let message = entry["message"].as_str().unwrap_or_default();
        assert!(message.contains("broke off its response"), "{entry:#}");
    }
}

/// The same answer with a proper end is whole.
#[tokio::test]
async fn f7_body_that_ends_with_a_close_notify_is_whole() {
    let tls = Tls::with(&Certificates::new().server(&["a.test"]));
    let upstream = tls.start_with(async |mut stream, _| {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nwhole").await.unwrap();
        let _ = stream.shutdown().await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    });
    let upstream = upstream.await;
    let gateway = origination(&upstream, &[], &[]).start().await;
    assert_eq!(gateway.get("/").await.text(), "whole");
}

/// `localhost` is both 127.0.0.1 and ::1, and the upstream listens on the first only.
#[tokio::test]
async fn f13_name_with_addresses_of_both_families_is_reached_by_the_one_that_works() {
    let upstream = Upstream::tls(&Certificates::new().server(&["localhost"])).await;
    let service = format!("https://localhost:{}", upstream.address.port());
    let gateway = Gateway::start(mapping("m", "/", &service, &[])).await;
    gateway.get("/x").await.assert_ok();
    assert_eq!(upstream.hello().sni.as_deref(), Some("localhost"));
    let entry = gateway.access_log("/x").await;
    assert_eq!(entry["endpoint"], upstream.on_loopback().to_string(), "{entry:#}");
}
