//! What clients and operators are told when an upstream fails without TLS being at fault.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::socket::{Script, raw, rest};
use crate::support::certificates::Certificates;
use crate::support::client::Client;
use crate::support::peer::{Tls, Upstream, read_head};
use crate::support::program::{Gateway, mapping};
use crate::support::tls_bytes::reset;
use crate::support::waiting::eventually;

const GET: &str = "GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
const NEUTRAL: &str = "upstream connect error or disconnect/reset before headers";

/// Status, reason and body of the answer, and flags and reason in the log.
async fn told(gateway: &Gateway) -> (u16, String, String, String) {
    let answer = gateway.get("/x").await;
    let entry = gateway.access_log("/x").await;
    assert_eq!(entry["status"], answer.status.as_u16(), "{entry:#}");
    assert_eq!(entry["reason"], answer.reason(), "{entry:#}");
    assert!(
        entry["message"].as_str().is_some_and(|text| !text.is_empty()),
        "{entry:#}"
    );
    let metrics = gateway.admin("/metrics").await;
    let counted = format!("reason=\"{}\"", answer.reason());
    let lines = metrics.text().lines().filter(|line| line.contains(&counted));
    let counts: Vec<_> = lines
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(_, count)| count)
        .collect();
    assert_eq!(counts, ["1"], "{}", metrics.text());
    let flags = entry["flags"].as_str().unwrap_or_default().to_owned();
    (
        answer.status.as_u16(),
        answer.reason().to_owned(),
        answer.text().to_owned(),
        flags,
    )
}

fn expected(status: u16, reason: &str, body: &str, flags: &str) -> (u16, String, String, String) {
    (status, reason.to_owned(), body.to_owned(), flags.to_owned())
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_given_up_in_time() {
    let upstream = Upstream::raw(async |mut stream: TcpStream| {
        read_head(&mut stream).await;
        rest(&mut stream).await;
    });
    let upstream = upstream.await;
    let gateway = Gateway::start(mapping(
        "m",
        "/",
        &format!("http://{}", upstream.address),
        &["timeout_ms: 100"],
    ))
    .await;
    assert_eq!(
        told(&gateway).await,
        expected(504, "response_timeout", "upstream request timeout", "UT")
    );
    // Its connection is in the middle of an exchange and cannot be used again.
    gateway.get("/y").await;
    assert_eq!(upstream.connections().len(), 2);
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_cut() {
    let upstream = Upstream::raw(async |mut stream: TcpStream| {
        read_head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\npart")
            .await
            .unwrap();
        rest(&mut stream).await;
    });
    let upstream = upstream.await;
    let gateway = Gateway::start(mapping(
        "m",
        "/",
        &format!("http://{}", upstream.address),
        &["timeout_ms: 1000"],
    ))
    .await;
    let answer = raw(gateway.address, GET).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\npart"), "{answer}");
    let entry = gateway.access_log("/x").await;
    assert_eq!(
        (&entry["status"], &entry["flags"], &entry["reason"]),
        (&200.into(), &"UT".into(), &"response_timeout".into()),
        "{entry:#}"
    );
}

/// A client that does not read holds a connection of the upstream's, and not for longer than an upstream
/// that does not answer.
#[tokio::test]
async fn a_client_that_does_not_read_is_cut_when_the_time_is_over() {
    let endless = |upstream: TcpStream| async move {
        let mut upstream = upstream;
        read_head(&mut upstream).await;
        let _ = upstream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n")
            .await;
        let piece = [b'x'; 64 * 1024];
        while upstream.write_all(&piece).await.is_ok() {}
    };
    let upstream = Upstream::raw(endless).await;
    let gateway = Gateway::start(mapping(
        "m",
        "/",
        &format!("http://{}", upstream.address),
        &["timeout_ms: 1000"],
    ))
    .await;
    let mut stalled = TcpStream::connect(gateway.address).await.unwrap();
    stalled.write_all(GET.as_bytes()).await.unwrap();
    let entry = gateway.access_log("/x").await;
    assert_eq!(
        (&entry["flags"], &entry["reason"]),
        (&"UT".into(), &"response_timeout".into()),
        "{entry:#}"
    );

    let mut client = Client::http2(gateway.address).await;
    let request = http::Request::get("http://a/h2")
        .body(bytes::Bytes::new().into())
        .unwrap();
    let unread = client.start(request).await.unwrap();
    let entry = gateway.access_log("/h2").await;
    assert_eq!(
        (&entry["flags"], &entry["reason"]),
        (&"UT".into(), &"response_timeout".into()),
        "{entry:#}"
    );
    drop(unread);
    let free = async || (gateway.upstream_of("m").await["endpoints"][0]["active"] == 0).then_some(());
    eventually("no connection is held", free).await;
}

#[tokio::test]
async fn what_is_not_http_is_a_protocol_error() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.9\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        "\0\0\0\0\0\0\0\0\0\0",
    ] {
        let script = Script::closing(garbage).await;
        let gateway = script.gateway(&[]).await;
        assert_eq!(
            told(&gateway).await,
            expected(502, "upstream_protocol_error", NEUTRAL, "UPE"),
            "{garbage}"
        );
    }
}

#[tokio::test]
async fn a_tls_server_spoken_to_in_cleartext_is_a_protocol_error() {
    let upstream = Tls::with(&Certificates::new().server(&["a.test"])).start().await;
    let gateway = Gateway::start(mapping("m", "/", &format!("http://{}", upstream.address), &[])).await;
    assert_eq!(
        told(&gateway).await,
        expected(502, "upstream_protocol_error", NEUTRAL, "UPE")
    );
    let entry = gateway.access_log("/x").await;
    assert!(entry["message"].as_str().unwrap().contains("TLS"), "{entry:#}");
}

#[tokio::test]
async fn a_service_without_endpoints_has_a_reason_of_its_own() {
    let service =
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: svc\nspec:\n  ports:\n  - port: 80\n";
    let gateway = Gateway::start(mapping("m", "/", "http://svc", &[]) + service).await;
    assert_eq!(
        told(&gateway).await,
        expected(503, "no_endpoints", "no healthy upstream", "UH")
    );
}

#[tokio::test]
async fn a_name_that_does_not_resolve_does_not_hold_up() {
    let manifest = mapping(
        "m",
        "/",
        "http://svc.invalid",
        &["connect_timeout_ms: 1000", "timeout_ms: 30000"],
    );
    let gateway = Gateway::start(manifest).await;
    let begun = Instant::now();
    assert_eq!(told(&gateway).await, expected(503, "dns_failed", NEUTRAL, "UF"));
    // Thirty times what it is given: this is about waiting for ever, not about speed.
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_closed_port_is_told_as_one() {
    let gateway = Gateway::start(mapping("m", "/", "http://127.0.0.1:1", &[])).await;
    assert_eq!(
        told(&gateway).await,
        expected(503, "connect_refused", NEUTRAL, "UF")
    );
    let entry = gateway.access_log("/x").await;
    assert_eq!(
        (&entry["endpoint"], &entry["attempts"]),
        (&"127.0.0.1:1".into(), &1.into()),
        "{entry:#}"
    );
    assert_eq!(entry["upstream"], "http://127.0.0.1:1", "{entry:#}");
}

#[tokio::test]
async fn reasons_are_shown_on_request_only() {
    let manifest = mapping("m", "/", "http://127.0.0.1:1", &[]);
    let gateway = Gateway::with(manifest).without_reasons().start().await;
    let answer = gateway.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, ""));
}

#[tokio::test]
async fn grpc_clients_are_told_in_their_own_words() {
    let gateway = Gateway::start(mapping("m", "/", "http://127.0.0.1:1", &[])).await;
    let mut client = Client::http2(gateway.address).await;
    let request =
        http::Request::post("http://a/pkg.Service/Call").header("content-type", "application/grpc+proto");
    let answer = client
        .send(request.body(bytes::Bytes::new().into()).unwrap())
        .await
        .unwrap();
    assert_eq!(
        (answer.header("grpc-status"), answer.header("grpc-message")),
        ("14", NEUTRAL)
    );
    assert_eq!(answer.header("content-type"), "application/grpc");
    assert_eq!(answer.reason(), "connect_refused");
    assert_eq!(answer.text(), "");
}

#[tokio::test]
async fn f6_a_whole_body_needs_no_good_bye() {
    let server = Certificates::new().server(&["a.test"]);
    let upstream = Tls::with(&server)
        .alpn(&["http/1.1"])
        .start_with(async |mut stream, _| {
            read_head(&mut stream).await;
            stream.write_all(super::socket::OK.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            // The socket closes; TLS does not.
        });
    let upstream = upstream.await;
    let gateway = Gateway::start(mapping("m", "/", &format!("https://{}", upstream.address), &[])).await;
    for _ in 0..3 {
        let answer = raw(gateway.address, GET).await;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("ok"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn f7_a_body_that_is_cut_off_is_no_whole_body() {
    let answers = [
        "HTTP/1.1 200 OK\r\n\r\nthe first half",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\ne\r\nthe first half\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 28\r\n\r\nthe first half",
    ];
    for answer in answers {
        let server = Certificates::new().server(&["a.test"]);
        let upstream = Tls::with(&server)
            .alpn(&["http/1.1"])
            .start_with(move |mut stream, _| async move {
                read_head(&mut stream).await;
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
            });
        let upstream = upstream.await;
        let gateway = Gateway::start(mapping("m", "/", &format!("https://{}", upstream.address), &[])).await;
        let got = raw(gateway.address, GET).await;
        assert!(got.contains("the first half"), "{got}");
        // Neither a last chunk nor a length that is kept.
        assert!(!got.ends_with("0\r\n\r\n"), "{got}");
        let whole = got.contains("content-length: 14");
        assert!(
            got.contains("transfer-encoding: chunked") || (got.contains("content-length: 28") && !whole),
            "{got}"
        );
        let entry = gateway.access_log("/x").await;
        assert_eq!(
            (&entry["status"], &entry["flags"]),
            (&200.into(), &"UC".into()),
            "{entry:#}"
        );

        let mut client = Client::http2(gateway.address).await;
        let request = http::Request::get("http://a/h2")
            .body(bytes::Bytes::new().into())
            .unwrap();
        assert!(
            client.send(request).await.is_err(),
            "HTTP/2 clients are told by a reset"
        );
    }
}

#[tokio::test]
async fn a_clean_end_of_a_body_without_length_is_the_end() {
    let server = Certificates::new().server(&["a.test"]);
    let upstream = Tls::with(&server)
        .alpn(&["http/1.1"])
        .start_with(async |mut stream, _| {
            read_head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\n\r\nall of it")
                .await
                .unwrap();
            stream.shutdown().await.unwrap();
        });
    let upstream = upstream.await;
    let gateway = Gateway::start(mapping("m", "/", &format!("https://{}", upstream.address), &[])).await;
    let got = raw(gateway.address, GET).await;
    assert!(got.ends_with("\r\n9\r\nall of it\r\n0\r\n\r\n"), "{got}");
}

/// The reset may come while the gateway still looks whether the connection stands: that is told no differently.
#[tokio::test]
async fn one_that_resets_as_soon_as_it_accepts_was_reached() {
    let upstream = Upstream::raw(async |stream: TcpStream| reset(stream)).await;
    let tls = mapping("tls", "/tls/", &format!("https://{}", upstream.address), &[]);
    let gateway = Gateway::start(tls).await;
    for _ in 0..50 {
        gateway
            .get("/tls/")
            .await
            .assert_refused("reset_during_handshake");
    }
}
