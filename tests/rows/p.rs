//! Versions, ALPN and HTTP: rows P.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, NamedGroup};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::origination;
use crate::support::certificates::{Certificates, Identity};
use crate::support::client::{Client, raw, request};
use crate::support::peer::{Tls, Upstream, answer_ok, read_head, serve_http};
use crate::support::program::Gateway;
use crate::support::refusal::{Refusal, assert_holds, name};
use crate::support::tls_bytes::{RECORD_HEADER, alert, answer_hello, swallow};

fn server() -> Identity {
    Certificates::new().server(&["a.test"])
}

/// No problem but that there is no Host, which is of no object.
async fn assert_no_problem(gateway: &Gateway) {
    let problems = gateway.problems().await;
    let of_objects = problems.iter().filter(|problem| !problem["object"].is_null());
    assert_eq!(of_objects.count(), 0, "{problems:#?}");
}

#[tokio::test]
async fn p1_each_version_is_spoken() {
    for (version, told) in [(&TLS12, "TLSv1.2"), (&TLS13, "TLSv1.3")] {
        let upstream = Tls::with(&server()).versions(&[version]).start().await;
        let gateway = origination(&upstream, &[], &[]).start().await;
        gateway.get("/x").await.assert_ok();
        let handshake = gateway.last_handshake("m").await;
        assert_eq!(
            (&handshake["outcome"], &handshake["version"], &handshake["sni"]),
            (&"ok".into(), &told.into(), &"a.test".into()),
            "{handshake:#}"
        );
        let entry = gateway.access_log("/x").await;
        assert_eq!(entry["upstream_tls"]["version"], told, "{entry:#}");
        let labels = [("outcome", "ok"), ("version", told), ("resumed", "false")];
        assert_eq!(
            gateway.count("nuncio_upstream_handshakes_total", &labels).await,
            1.0
        );
    }
}

/// A server that knows nothing above TLS 1.1 says so with an alert, or takes the hello for one of its own.
#[tokio::test]
async fn p2_tls_1_1_only_is_protocol_version() {
    const PROTOCOL_VERSION: u8 = 70;
    let mut server_hello = vec![22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
    server_hello.extend([7; 32]);
    server_hello.extend([0, 0, 0x2f, 0]);
    for answer in [alert(PROTOCOL_VERSION, 2).to_vec(), server_hello] {
        let upstream = Upstream::raw(move |stream| {
            let answer = answer.clone();
            async move { answer_hello(stream, &answer).await }
        });
        let upstream = upstream.await;
        let gateway = origination(&upstream, &[], &[]).start().await;
        let refusal = Refusal {
            reason: "protocol_version",
            message: &["version"],
            remedy: &["TLS 1.2 or 1.3", "TLS 1.1 and older are not spoken"],
        };
        refusal.assert_told(&gateway, "m", "/x").await;
    }
}

#[tokio::test]
async fn p2_rsa_key_exchange_only_is_no_shared_cipher() {
    const HANDSHAKE_FAILURE: u8 = 40;
    let upstream =
        Upstream::raw(|stream| async { answer_hello(stream, &alert(HANDSHAKE_FAILURE, 3)).await }).await;
    let gateway = origination(&upstream, &[], &[]).start().await;
    let refusal = Refusal {
        reason: "no_shared_cipher",
        message: &["cipher suite", "alert `handshake_failure`"],
        remedy: &["ECDHE", "RSA key exchange"],
    };
    refusal.assert_told(&gateway, "m", "/x").await;
}

/// A gRPC call as a server got it.
#[derive(Clone, Debug)]
struct Call {
    head: http::request::Parts,
    body: Bytes,
    trailers: HeaderMap,
}

type Calls = Arc<Mutex<Vec<Call>>>;

/// A server that speaks HTTP/2 only and answers `pong` with trailers `grpc-status: 0`.
async fn grpc_server(tls: Tls) -> (Upstream, Calls) {
    let calls = Calls::default();
    let seen = Arc::clone(&calls);
    let upstream = tls.start_with(move |stream, _| {
        let seen = Arc::clone(&seen);
        async move {
            let service = service_fn(move |request| answer_call(request, Arc::clone(&seen)));
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            // How the connection ends is the gateway's business.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        }
    });
    (upstream.await, calls)
}

/// A body whose length nobody is told.
struct Frames(VecDeque<Frame<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.get_mut().0.pop_front().map(Ok))
    }
}

async fn answer_call(request: Request<Incoming>, calls: Calls) -> hyper::Result<Response<Frames>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    let body = body.to_bytes();
    calls.lock().unwrap().push(Call { head, body, trailers });
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("x-last", HeaderValue::from_static("word"));
    // Of unknown length, as answers of gRPC are.
    let frames = [Frame::data(Bytes::from("pong")), Frame::trailers(trailers)];
    let response = Response::builder()
        .header("content-type", "application/grpc")
        .header("trailer", "grpc-status, x-last");
    Ok(response.body(Frames(frames.into())).unwrap())
}

fn call(path: &str) -> Request<Full<Bytes>> {
    let request = Request::post(format!("http://gateway.test{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    request.body(Full::from("ping")).unwrap()
}

/// Calls twice by HTTP/2 and looks at both ends.
async fn assert_calls_succeed(gateway: &Gateway, upstream: &Upstream, calls: &Calls, alpn: Option<&str>) {
    let mut client = Client::http2(gateway.address).await;
    for path in ["/echo.Echo/One", "/echo.Echo/Two"] {
        let answer = client.send(call(path)).await.unwrap();
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, "pong"));
        assert_eq!(answer.trailers["grpc-status"], "0");
        assert_eq!(answer.trailers["x-last"], "word");
        let seen = calls.lock().unwrap().pop().unwrap();
        assert_eq!(
            (seen.head.uri.path(), &seen.body[..], seen.head.version),
            (path, &b"ping"[..], Version::HTTP_2)
        );
        assert_eq!(seen.head.headers["te"], "trailers");
        assert_eq!(seen.head.uri.scheme_str(), Some("https"));
    }
    let connections = upstream.connections();
    assert_eq!(connections.len(), 1, "both calls share a connection");
    assert_eq!(connections[0].session.as_ref().unwrap().alpn.as_deref(), alpn);
    assert_eq!(connections[0].hello.as_ref().unwrap().alpn[0], "h2");
    let handshake = gateway.last_handshake("m").await;
    assert_eq!(
        handshake["alpn"],
        alpn.map_or(Value::Null, Value::from),
        "{handshake:#}"
    );
}

#[tokio::test]
async fn p3_grpc_server_that_insists_on_h2_is_served() {
    let (upstream, calls) = grpc_server(Tls::with(&server()).alpn(&["h2"])).await;
    let gateway = origination(&upstream, &["grpc: true"], &[]).start().await;
    assert_calls_succeed(&gateway, &upstream, &calls, Some("h2")).await;
}

#[tokio::test]
async fn p4_grpc_server_without_alpn_is_spoken_to_in_h2() {
    let (upstream, calls) = grpc_server(Tls::with(&server()).alpn(&[])).await;
    let gateway = origination(&upstream, &["grpc: true"], &[]).start().await;
    assert_calls_succeed(&gateway, &upstream, &calls, None).await;
}

#[tokio::test]
async fn p5_grpc_server_that_picks_http_1_1_is_alpn_mismatch() {
    let upstream = Tls::with(&server()).alpn(&["http/1.1"]).start().await;
    let gateway = origination(&upstream, &["grpc: true"], &[]).start().await;
    let mut client = Client::http2(gateway.address).await;
    let answer = client.send(call("/echo.Echo/One")).await.unwrap();
    assert_eq!(
        (answer.status, answer.reason()),
        (StatusCode::SERVICE_UNAVAILABLE, "alpn_mismatch")
    );
    assert_eq!(answer.header("grpc-status"), "14", "UNAVAILABLE");
    assert_eq!(answer.header("content-type"), "application/grpc");
    let refusal = Refusal {
        reason: "alpn_mismatch",
        message: &["http/1.1", "h2"],
        remedy: &["spec.grpc"],
    };
    refusal.assert_recorded(&gateway, "m", "/echo.Echo/One").await;
    assert_eq!(upstream.hello().alpn, ["h2", "http/1.1"]);
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn p6_alpn_protocols_h2_speaks_h2_without_grpc() {
    let upstream = Tls::with(&server()).start().await;
    let gateway = origination(&upstream, &[], &["alpn_protocols: h2"]).start().await;
    gateway.get("/").await.assert_ok();
    assert_eq!(upstream.request().version, Version::HTTP_2);
    assert_eq!(upstream.hello().alpn, ["h2"]);
    assert_eq!(gateway.last_handshake("m").await["alpn"], "h2");

    let upstream = Tls::with(&server()).alpn(&["http/1.1"]).start().await;
    let gateway = origination(&upstream, &[], &["alpn_protocols: h2"]).start().await;
    let refusal = Refusal {
        reason: "alpn_mismatch",
        message: &["h2"],
        remedy: &["spec.alpn_protocols"],
    };
    refusal.assert_told(&gateway, "m", "/x").await;
}

#[tokio::test]
async fn p7_http_1_1_is_spoken_where_it_is_picked() {
    let context = ["alpn_protocols: \"h2, http/1.1\""];
    for (picks, version) in [("http/1.1", Version::HTTP_11), ("h2", Version::HTTP_2)] {
        let upstream = Tls::with(&server()).alpn(&[picks]).start().await;
        let gateway = origination(&upstream, &[], &context).start().await;
        gateway.get("/").await.assert_ok();
        assert_eq!(upstream.request().version, version);
        assert_eq!(upstream.hello().alpn, ["h2", "http/1.1"]);
        assert_eq!(gateway.last_handshake("m").await["alpn"], picks);
        assert_no_problem(&gateway).await;
    }
}

#[tokio::test]
async fn p8_without_alpn_http_1_1_is_spoken() {
    let upstream = Tls::with(&server()).alpn(&[]).start().await;
    for context in [&[][..], &["alpn_protocols: h2,http/1.1"]] {
        let gateway = origination(&upstream, &[], context).start().await;
        gateway.get("/").await.assert_ok();
        assert_eq!(upstream.request().version, Version::HTTP_11);
        assert_eq!(gateway.last_handshake("m").await["alpn"], Value::Null);
    }
    assert_eq!(offers(&upstream), [vec!["http/1.1"], vec!["h2", "http/1.1"]]);
}

/// What ALPN offered on each connection.
fn offers(upstream: &Upstream) -> Vec<Vec<String>> {
    let connections = upstream.connections().into_iter();
    connections.map(|seen| seen.hello.unwrap().alpn).collect()
}

/// Answers an upgrade in HTTP/1.1 with 101, sends its head through the tunnel and then echoes; in HTTP/2 it
/// answers 200 `ok`.
async fn websocket_server() -> Upstream {
    let tls = Tls::with(&server());
    tls.start_with(async |mut stream, record| {
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            return serve_http(stream, record, answer_ok()).await;
        }
        let head = read_head(&mut stream).await;
        let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        stream
            .write_all(format!("{answer}{head}").as_bytes())
            .await
            .unwrap();
        let (mut from, mut to) = tokio::io::split(stream);
        let _ = tokio::io::copy(&mut from, &mut to).await;
    })
    .await
}

#[tokio::test]
async fn p9_upgrade_takes_a_connection_for_http_1_1_only() {
    let upstream = websocket_server().await;
    let mapping = ["allow_upgrade: [websocket]"];
    let context = ["alpn_protocols: \"h2, http/1.1\""];
    let gateway = origination(&upstream, &mapping, &context).start().await;
    // There is an HTTP/2 connection before, and it must not be taken.
    gateway.get("/before").await.assert_ok();

    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    let asked = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";
    client.write_all(asked.as_bytes()).await.unwrap();
    let answer = read_head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.contains("upgrade: websocket\r\n"), "{answer}");
    let head = read_head(&mut client).await;
    assert!(head.starts_with("GET /chat HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("upgrade: websocket\r\n"), "{head}");
    assert!(
        head.contains("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
        "{head}"
    );
    client.write_all(b"bytes both ways").await.unwrap();
    let mut echo = [0; 15];
    client.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"bytes both ways");
    drop(client);

    let entry = gateway.access_log("/chat").await;
    assert_eq!(
        (&entry["status"], &entry["bytes_in"]),
        (&101.into(), &15.into()),
        "{entry:#}"
    );
    assert_eq!(offers(&upstream), [vec!["h2", "http/1.1"], vec!["http/1.1"]]);
    gateway.get("/after").await.assert_ok();
    assert_eq!(upstream.connections().len(), 2, "HTTP/2 goes on where it was");
}

/// A gateway in front of an upstream that speaks HTTP/2.
async fn in_front_of_h2(upstream: &Upstream, http10: bool) -> Gateway {
    let module = format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: Module\nmetadata:\n  name: ambassador\nspec:\n  config:\n    \
         enable_http10: {http10}\n"
    );
    let plan = origination(upstream, &[], &["alpn_protocols: h2"]);
    plan.file("module.yaml", &module).start().await
}

#[tokio::test]
async fn p10_http_1_0_clients_are_served_where_they_are_let_in() {
    let (upstream, calls) = grpc_server(Tls::with(&server())).await;
    let gateway = in_front_of_h2(&upstream, true).await;
    let answer = raw(gateway.address, "GET /a HTTP/1.0\r\nhost: a.test\r\n\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    // HTTP/1.0 knows no chunks and no trailers: the end of the connection is that of the body.
    assert!(!head.contains("transfer-encoding"), "{answer}");
    assert_eq!(body, "pong");
    let seen = calls.lock().unwrap().pop().unwrap();
    assert_eq!(
        (seen.head.version, seen.head.uri.to_string().as_str()),
        (Version::HTTP_2, "https://a.test/a")
    );
    let entry = gateway.access_log("/a").await;
    assert_eq!(
        (&entry["protocol"], &entry["status"]),
        (&"HTTP/1.0".into(), &200.into()),
        "{entry:#}"
    );

    let gateway = in_front_of_h2(&upstream, false).await;
    let answer = raw(gateway.address, "GET /b HTTP/1.0\r\nhost: a.test\r\n\r\n").await;
    assert!(answer.contains(" 426 Upgrade Required\r\n"), "{answer}");
    assert!(calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn p10_trailers_cross_both_ways() {
    let (upstream, calls) = grpc_server(Tls::with(&server())).await;
    let gateway = in_front_of_h2(&upstream, false).await;

    // HTTP/1.1 by the byte: trailers of the request in chunked coding, those of the answer because of `te`.
    let asked = "POST /a HTTP/1.1\r\nhost: a.test\r\nte: trailers\r\nconnection: te, close\r\ntrailer: x-sum\r\n\
                 transfer-encoding: chunked\r\n\r\n4\r\nping\r\n0\r\nx-sum: 42\r\n\r\n";
    let answer = raw(gateway.address, asked).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\n4\r\npong\r\n0\r\n"), "{answer}");
    assert!(
        answer.ends_with("grpc-status: 0\r\nx-last: word\r\n\r\n"),
        "{answer}"
    );
    let seen = calls.lock().unwrap().pop().unwrap();
    assert_eq!(
        (&seen.body[..], &seen.trailers["x-sum"]),
        (&b"ping"[..], &HeaderValue::from_static("42"))
    );

    // HTTP/2, trailers of the request included.
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("43"));
    let body = Full::<Bytes>::from("ping").with_trailers(async { Some(Ok(trailers)) });
    let body = body.boxed();
    let request = Request::post("http://a.test/b").header("te", "trailers");
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let answer = sender.send_request(request.body(body).unwrap()).await.unwrap();
    let answer = answer.into_body().collect().await.unwrap();
    assert_eq!(answer.trailers().unwrap()["x-last"], "word");
    let seen = calls.lock().unwrap().pop().unwrap();
    assert_eq!(
        (&seen.body[..], &seen.trailers["x-sum"]),
        (&b"ping"[..], &HeaderValue::from_static("43"))
    );
}

#[tokio::test]
async fn p10_client_that_waits_for_100_continue_is_told_to() {
    let (upstream, calls) = grpc_server(Tls::with(&server())).await;
    let gateway = in_front_of_h2(&upstream, false).await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    let head = "POST /a HTTP/1.1\r\nhost: a.test\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(read_head(&mut client).await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"ping").await.unwrap();
    let answer = read_head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let seen = calls.lock().unwrap().pop().unwrap();
    assert_eq!(
        (&seen.body[..], seen.head.headers.get("expect")),
        (&b"ping"[..], None)
    );
}

#[tokio::test]
async fn p10_answers_without_a_body_have_none() {
    let tls = Tls::with(&server()).answer(|seen| {
        let response = Response::builder();
        let response = match seen.uri.path() {
            "/204" => response.status(204),
            // The length of what a GET without conditions would have got.
            "/304" => response
                .status(304)
                .header("content-length", "1234")
                .header("etag", "\"1\""),
            _ => return Response::new(Full::from("ok")),
        };
        response.body(Full::default()).unwrap()
    });
    let upstream = tls.start().await;
    let gateway = in_front_of_h2(&upstream, false).await;
    // One connection: a body that is not there, or one byte too many, would spoil what follows.
    let mut client = Client::http1(gateway.address).await;
    for (path, status) in [("/204", 204), ("/304", 304), ("/204", 204), ("/200", 200)] {
        let answer = client.get("a.test", path).await;
        assert_eq!(answer.status.as_u16(), status);
        assert_eq!(answer.text(), if status == 200 { "ok" } else { "" });
    }
    for (path, status) in [("/204", "204 No Content"), ("/304", "304 Not Modified")] {
        let asked = format!("GET {path} HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n");
        let answer = raw(gateway.address, asked).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "no body: {answer}");
        assert!(!answer.contains("transfer-encoding"), "{answer}");
        let length = answer.contains("content-length");
        assert!(!length || path == "/304", "RFC 9110 section 8.6: {answer}");
    }
    let mut client = Client::http2(gateway.address).await;
    for (path, status) in [("/204", 204), ("/304", 304), ("/200", 200)] {
        let answer = client.get("a.test", path).await;
        assert_eq!(answer.status.as_u16(), status);
        assert_eq!(answer.text(), if status == 200 { "ok" } else { "" });
    }
    assert_eq!(upstream.connections().len(), 1);
}

#[tokio::test]
async fn p11_group_of_equal_preference_is_offered_whole() {
    const GROUP: &str = "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]";
    let context = format!("cipher_suites: [\"{GROUP}\"]");
    let suites = [
        (
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        ),
        (
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        ),
    ];
    for (suite, told) in suites {
        let tls = Tls::with(&server()).versions(&[&TLS12]).cipher_suites(&[suite]);
        let upstream = tls.start().await;
        let gateway = origination(&upstream, &[], &[&context]).start().await;
        gateway.get("/").await.assert_ok();
        assert_eq!(gateway.last_handshake("m").await["cipher"], told);
        let offered = upstream.hello().cipher_suites;
        let offered: Vec<_> = offered
            .iter()
            .filter(|suite| suite.starts_with("TLS_ECDHE"))
            .collect();
        assert_eq!(offered, suites.map(|(_, name)| name));
        assert_no_problem(&gateway).await;
        let view = gateway.upstream_of("m").await["tls"]["cipher_suites"].clone();
        assert_holds(&view["value"].to_string().into(), &suites.map(|(_, name)| name));
    }
}

#[tokio::test]
async fn p12_unknown_suite_beside_a_known_one_is_a_warning() {
    let tls = Tls::with(&server()).versions(&[&TLS12]);
    let upstream = tls.start().await;
    let context = ["cipher_suites: [ECDHE-ECDSA-AES128-GCM-SHA265, ECDHE-ECDSA-AES256-GCM-SHA384]"];
    let gateway = origination(&upstream, &[], &context).start().await;
    gateway.get("/").await.assert_ok();
    assert_eq!(
        gateway.last_handshake("m").await["cipher"],
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    );
    let problem = gateway.problem("TLSContext ctx.default", "unknown_name").await;
    assert_eq!(
        (&problem["severity"], &problem["field"]),
        (&"warning".into(), &"spec.cipher_suites".into()),
        "{problem:#}"
    );
    assert_holds(
        &problem["message"],
        &["ECDHE-ECDSA-AES128-GCM-SHA265", "ECDHE-ECDSA-AES128-GCM-SHA256"],
    );
}

#[tokio::test]
async fn p12_only_unknown_suites_make_the_context_unusable() {
    let upstream = Tls::with(&server()).start().await;
    let context = ["cipher_suites: [ECDHE-ECDSA-AES128-GCM-SHA265]"];
    let gateway = origination(&upstream, &[], &context).start().await;
    gateway.get("/x").await.assert_refused("tls_config_unresolved");
    let entry = gateway.access_log("/x").await;
    assert_eq!(entry["reason"], "tls_config_unresolved", "{entry:#}");
    assert_holds(&entry["message"], &["ctx", "spec.cipher_suites"]);
    let problem = gateway.problem("TLSContext ctx.default", "no_cipher_suite").await;
    assert_eq!(
        (&problem["severity"], &problem["field"]),
        (&"error".into(), &"spec.cipher_suites".into()),
        "{problem:#}"
    );
    upstream.assert_untouched().await;
}

#[tokio::test]
async fn p13_another_hello_for_another_group_is_counted_and_no_failure() {
    let tls = Tls::with(&server()).groups(&[NamedGroup::secp256r1]);
    let upstream = tls.versions(&[&TLS13]).start().await;
    let gateway = origination(&upstream, &[], &[]).start().await;
    gateway.get("/").await.assert_ok();
    let handshake = gateway.last_handshake("m").await;
    assert_eq!(
        (&handshake["outcome"], &handshake["group"]),
        (&"ok".into(), &"secp256r1".into())
    );
    let upstream = gateway.upstream_of("m").await;
    let label = ("upstream", name(&upstream));
    assert_eq!(
        gateway.count("nuncio_upstream_handshakes_total", &[label]).await,
        1.0
    );
    assert_eq!(
        gateway
            .count("nuncio_upstream_hello_retries_total", &[label])
            .await,
        1.0
    );
    assert_eq!(gateway.count("nuncio_upstream_failures_total", &[]).await, 0.0);
}

/// Something on the way that loses a ClientHello of more than one segment.
async fn stalls_on_large_hello(tls: Tls) -> Upstream {
    const SEGMENT: usize = 1400;
    let acceptor = TlsAcceptor::from(tls.config());
    Upstream::raw(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut header = [0; RECORD_HEADER];
            // The first bytes of a connection arrive together.
            let peeked = stream.peek(&mut header).await;
            assert_eq!(peeked.ok(), Some(RECORD_HEADER));
            if usize::from(u16::from_be_bytes([header[3], header[4]])) > SEGMENT - RECORD_HEADER {
                return swallow(stream).await;
            }
            let mut stream = acceptor.accept(stream).await.unwrap();
            read_head(&mut stream).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    })
    .await
}

#[tokio::test]
async fn p14_stall_on_a_large_hello_is_hinted_at_and_ended_without_post_quantum() {
    let upstream = stalls_on_large_hello(Tls::with(&server()).alpn(&[])).await;
    let timeout = ["connect_timeout_ms: 1000"];
    let gateway = origination(&upstream, &timeout, &["ecdh_curves: [X25519, P-256]"]);
    let gateway = gateway.start().await;
    gateway.get("/").await.assert_ok();
    assert_eq!(gateway.last_handshake("m").await["group"], "X25519");

    let gateway = origination(&upstream, &timeout, &["ecdh_curves: [X25519MLKEM768, X25519]"]);
    let gateway = gateway.start().await;
    let refusal = Refusal {
        reason: "handshake_timeout",
        message: &["did not answer the TLS hello in time"],
        remedy: &[
            "stalls on a large TLS hello",
            "set spec.ecdh_curves to [X25519, P-256]",
        ],
    };
    refusal.assert_told(&gateway, "m", "/x").await;
}

#[tokio::test]
async fn p15_certificate_that_is_asked_for_and_missing() {
    let ca = Certificates::new();
    for version in [&TLS12, &TLS13] {
        let tls = || Tls::with(&ca.server(&["a.test"])).versions(&[version]);
        let upstream = tls().client_ca(&ca.pem(), false).start().await;
        let gateway = origination(&upstream, &[], &[]).start().await;
        gateway.get("/").await.assert_ok();
        let handshake = gateway.last_handshake("m").await;
        let asked = serde_json::json!({"requested": true, "sent": false});
        assert_eq!(
            (&handshake["outcome"], &handshake["client_certificate"]),
            (&"ok".into(), &asked)
        );

        let upstream = tls().client_ca(&ca.pem(), true).start().await;
        let gateway = origination(&upstream, &[], &[]).start().await;
        let refusal = Refusal {
            reason: "client_cert_required",
            message: &["client certificate", "alert"],
            remedy: &["set spec.secret"],
        };
        let handshake = refusal.assert_told(&gateway, "m", "/x").await;
        assert_eq!(handshake["client_certificate"], asked, "{handshake:#}");
        assert!(upstream.requests().is_empty());
    }
}

#[tokio::test]
async fn p16_refused_client_certificate_is_never_a_reset() {
    let (ca, stranger) = (Certificates::new(), Certificates::named("stranger"));
    let tls = Tls::with(&ca.server(&["a.test"])).versions(&[&TLS13]);
    let upstream = tls.client_ca(&ca.pem(), true).start().await;
    let plan = origination(&upstream, &[], &["secret: client"]);
    let plan = plan.file("secret.yaml", &stranger.client("nobody").secret("client"));
    let gateway = plan.start().await;
    let refusal = Refusal {
        reason: "client_cert_rejected",
        message: &["refused the client certificate", "alert"],
        remedy: &["spec.secret"],
    };
    let megabyte = Bytes::from(vec![b'x'; 1024 * 1024]);
    // The alert races the request; a few tries show both orders.
    for n in 0..10 {
        let get = format!("/get/{n}");
        let handshake = refusal.assert_told(&gateway, "m", &get).await;
        let sent = serde_json::json!({"requested": true, "sent": true});
        assert_eq!(handshake["client_certificate"], sent, "{handshake:#}");
        let post = format!("/post/{n}");
        let answer = gateway
            .send(request(Method::POST, "a", &post, megabyte.clone()))
            .await;
        answer.assert_refused("client_cert_rejected");
        refusal.assert_recorded(&gateway, "m", &post).await;
    }
    assert!(upstream.requests().is_empty());
    assert_eq!(upstream.connections().len(), 20, "none was tried again");
}
