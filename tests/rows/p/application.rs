//! What is spoken over TLS once ALPN has decided: rows P3 to P5, P9 and P10.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::origination;
use super::{offers, server};
use crate::support::client::{Client, raw};
use crate::support::peer::{Tls, Upstream, answer_ok, read_head, serve_http};
use crate::support::program::{Gateway, Plan};
use crate::support::refusal::Refusal;

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

/// In front of an upstream that is spoken to in HTTP/2.
fn in_front_of_h2(upstream: &Upstream) -> Plan {
    origination(upstream, &[], &["alpn_protocols: h2"])
}

#[tokio::test]
async fn p10_http_1_0_clients_are_served_unless_they_are_kept_out() {
    let (upstream, calls) = grpc_server(Tls::with(&server())).await;
    let gateway = in_front_of_h2(&upstream).start().await;
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

    let module = "apiVersion: getambassador.io/v3alpha1\nkind: Module\nmetadata:\n  name: ambassador\nspec:\n  \
                  config:\n    enable_http10: false\n";
    let plan = in_front_of_h2(&upstream).file("module.yaml", module);
    let gateway = plan.start().await;
    let answer = raw(gateway.address, "GET /b HTTP/1.0\r\nhost: a.test\r\n\r\n").await;
    assert!(answer.contains(" 426 Upgrade Required\r\n"), "{answer}");
    assert!(calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn p10_trailers_cross_both_ways() {
    let (upstream, calls) = grpc_server(Tls::with(&server())).await;
    let gateway = in_front_of_h2(&upstream).start().await;

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
    let gateway = in_front_of_h2(&upstream).start().await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    let head = "POST /a HTTP/1.1\r\nhost: a.test\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(read_head(&mut client).await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"ping").await.unwrap();
    let answer = read_head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let seen = calls.lock().unwrap().pop().unwrap();
    assert_eq!(
        (&seen.body[..], &seen.head.headers["expect"]),
        (&b"ping"[..], &HeaderValue::from_static("100-continue"))
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
    let gateway = in_front_of_h2(&upstream).start().await;
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
