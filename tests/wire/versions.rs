//! What one version of HTTP allows and another writes otherwise.

use bytes::Bytes;
use h2::{Reason, RecvStream, server};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::floods::{GOAWAY, SETTINGS, frame};
use super::socket::{OK, Script, message, raw};
use crate::support::certificates::Certificates;
use crate::support::client::{Client, Response as Answer, request};
use crate::support::peer::{Tls, Upstream, answer_ok, serve_http};
use crate::support::program::{Gateway, mapping, tls_context};
use crate::support::waiting::eventually;

/// A client of HTTP/2 that decides on each frame.
pub(super) async fn http2(gateway: &Gateway) -> h2::client::SendRequest<Bytes> {
    let tcp = TcpStream::connect(gateway.address).await.unwrap();
    let (sender, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

pub(super) fn to(method: Method, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("http://a.test{path}"))
}

/// The whole of an HTTP/2 response.
pub(super) async fn whole(response: Response<RecvStream>) -> Answer {
    let (head, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend_from_slice(&data);
    }
    Answer {
        status: head.status,
        version: head.version,
        headers: head.headers,
        body: bytes.into(),
        trailers: body.trailers().await.unwrap().unwrap_or_default(),
    }
}

/// An upstream of HTTP/2 without TLS that does with each stream what `serve` does.
pub(super) async fn http2_upstream<F>(
    serve: impl Fn(Request<RecvStream>, server::SendResponse<Bytes>) -> F + Clone + Send + Sync + 'static,
) -> Upstream
where
    F: Future<Output = ()> + Send + 'static,
{
    Upstream::raw(move |tcp| {
        let serve = serve.clone();
        async move {
            let builder = server::Builder::new();
            let Ok(mut connection) = builder.handshake(tcp).await else {
                return;
            };
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(serve(request, respond));
            }
        }
    })
    .await
}

fn large(bytes: usize) -> HeaderMap {
    let value = HeaderValue::try_from("x".repeat(bytes)).unwrap();
    [(HeaderName::from_static("x-large"), value)]
        .into_iter()
        .collect()
}

#[tokio::test]
async fn cookie_crumbs_reach_http1_and_routes_as_one_field() {
    let script = Script::answering(OK).await;
    let by_cookie = mapping(
        "cookie",
        "/",
        &script.service(),
        &["rewrite: /found", "headers: {cookie: \"a=b; c=d; e=f\"}"],
    );
    let gateway = Gateway::start(script.mapping(&[]) + "---\n" + &by_cookie).await;
    let mut client = http2(&gateway).await;
    let request = to(Method::GET, "/x")
        .header("cookie", "a=b")
        .header("x-other", "1")
        .header("cookie", "c=d")
        .header("cookie", "e=f");
    let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    let request = script.request();
    assert_eq!(request.values("cookie"), ["a=b; c=d; e=f"]);
    assert_eq!(request.first_line(), "GET /foundx HTTP/1.1");
}

/// RFC 9113 section 8.1: a server that needs no more of the content may answer in full and then reset the stream
/// with NO_ERROR; a client must not discard the answer for that.
#[tokio::test]
async fn an_http2_answer_before_the_upload_ends_reaches_the_client() {
    const LARGE: usize = 8 << 20;
    let upstream = http2_upstream(async |request: Request<RecvStream>, mut respond| {
        let head = Response::builder().status(413).body(()).unwrap();
        let mut body = respond.send_response(head, false).unwrap();
        body.send_data("too big".into(), true).unwrap();
        // h2 resets a stream with NO_ERROR whose answer is complete and whose content nobody reads.
        drop(request);
    })
    .await;
    let service = format!("http://{}", upstream.address);
    let gateway = Gateway::start(mapping("m", "/", &service, &["grpc: true"])).await;
    let mut client = Client::http2(gateway.address).await;
    for _ in 0..5 {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let (mut read, mut write) = stream.split();
        let upload = async {
            let head = format!("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: {LARGE}\r\n\r\n");
            // The gateway may close before it has all.
            let _ = write.write_all(head.as_bytes()).await;
            let _ = write.write_all(&vec![b'a'; LARGE]).await;
        };
        let ((), answer) = tokio::join!(upload, message(&mut read));
        let answer = answer.expect("an answer");
        assert!(answer.first_line().starts_with("HTTP/1.1 413"), "{}", answer.head);
        assert_eq!(answer.body, "too big");

        let upload = request(Method::POST, "a", "http://a/x", vec![b'a'; LARGE]);
        let answer = client.send(upload).await.expect("an answer");
        assert_eq!((answer.status.as_u16(), answer.text()), (413, "too big"));
    }
    // The connection to the upstream outlives streams that are reset.
    assert_eq!(upstream.connections().len(), 1);
}

#[tokio::test]
async fn content_without_a_length_goes_on_whatever_the_method() {
    let script = Script::answering(OK).await;
    let gateway = script.gateway(&[]).await;
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "POST", "PROPFIND"] {
        let asked = format!(
            "{method} /1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
             7\r\nfind-me\r\n0\r\n\r\n"
        );
        raw(gateway.address, asked).await;
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut client = http2(&gateway).await;
        let request = to(method.clone(), "/2").body(()).unwrap();
        let (response, mut body) = client.send_request(request, false).unwrap();
        body.send_data("find-".into(), false).unwrap();
        body.send_data("me".into(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200, "{method}");
        let [.., first, second] = &script.requests()[..] else {
            panic!("two requests")
        };
        for (request, path) in [(first, "/1"), (second, "/2")] {
            assert_eq!(request.first_line(), format!("{method} {path} HTTP/1.1"));
            assert_eq!(request.body, "find-me", "{method}");
            assert_eq!(request.values("transfer-encoding"), ["chunked"], "{method}");
            assert_eq!(request.values("content-length"), [""; 0], "{method}");
        }
    }
}

#[tokio::test]
async fn a_method_that_expects_content_has_a_length_of_zero() {
    let script = Script::answering(OK).await;
    let gateway = script.gateway(&[]).await;
    let mut client = http2(&gateway).await;
    for (method, said) in [
        ("POST", &["0"][..]),
        ("PUT", &["0"]),
        ("PATCH", &["0"]),
        ("OPTIONS", &["0"]),
        ("PROPFIND", &["0"]),
        ("GET", &[]),
        ("HEAD", &[]),
        ("DELETE", &[]),
    ] {
        let asked = format!("{method} /1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        raw(gateway.address, asked).await;
        assert_eq!(
            script.request().values("content-length"),
            said,
            "{method}, HTTP/1.1"
        );
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = to(method.clone(), "/2").body(()).unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200, "{method}");
        assert_eq!(
            script.request().values("content-length"),
            said,
            "{method}, HTTP/2"
        );
    }
    let asked = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    raw(gateway.address, asked).await;
    assert_eq!(
        script.request().values("content-length"),
        ["0"],
        "as the client said"
    );
}

#[tokio::test]
async fn http2_lengths_that_agree_are_one_and_others_are_refused() {
    let script = Script::answering(OK).await;
    let gateway = script.gateway(&[]).await;
    let refused = Some(Reason::PROTOCOL_ERROR);
    for (lengths, body, outcome) in [
        (&["3", "3"][..], "abc", None),
        (&["3"], "abc", None),
        (&["3", "4"], "abc", refused),
        (&["3, 3"], "abc", refused),
        (&["+3"], "abc", refused),
        (&["three"], "abc", refused),
        (&["2"], "abc", refused),
        (&["4"], "abc", refused),
    ] {
        let before = script.requests().len();
        let mut client = http2(&gateway).await;
        let mut request = to(Method::POST, "/x");
        for length in lengths {
            request = request.header("content-length", *length);
        }
        let (response, mut stream) = client.send_request(request.body(()).unwrap(), false).unwrap();
        stream.send_data(body.into(), true).unwrap();
        match response.await {
            Ok(response) => {
                assert_eq!(
                    (response.status(), outcome),
                    (StatusCode::OK, None),
                    "{lengths:?}"
                );
                assert_eq!(script.request().values("content-length"), ["3"], "{lengths:?}");
                assert_eq!(script.request().body, "abc");
            }
            Err(error) => {
                assert_eq!(error.reason(), outcome, "{lengths:?}");
                // One that breaks off in the middle may have begun, and is not complete.
                let whole = script
                    .requests()
                    .iter()
                    .skip(before)
                    .any(|sent| sent.body == "abc");
                assert!(!whole, "{lengths:?}");
            }
        }
    }
}

/// Answers `/two/head/N` with a field of N bytes and `/two/trailers/N` with such trailers.
async fn sized_http2() -> Upstream {
    http2_upstream(async |request: Request<RecvStream>, mut respond| {
        let path = request.uri().path();
        let mut response = Response::new(());
        if let Some(bytes) = path.strip_prefix("/two/head/") {
            *response.headers_mut() = large(bytes.parse().unwrap());
        }
        let mut body = respond.send_response(response, false).unwrap();
        body.send_data("ok".into(), false).unwrap();
        let trailers = path.strip_prefix("/two/trailers/");
        let trailers = trailers.map_or_else(HeaderMap::new, |bytes| large(bytes.parse().unwrap()));
        body.send_trailers(trailers).unwrap();
    })
    .await
}

/// Answers `/one/head/N` with a field of N bytes.
async fn sized_http1() -> Script {
    Script::each(|request| {
        let bytes = request.first_line().split(['/', ' ']).nth(4).unwrap();
        let value = "x".repeat(bytes.parse().unwrap());
        (
            format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-large: {value}\r\n\r\nok"),
            true,
        )
    })
    .await
}

#[tokio::test]
async fn header_sections_have_one_limit_in_both_versions() {
    let (upstream, script) = (sized_http2().await, sized_http1().await);
    let two = mapping(
        "two",
        "/two/",
        &format!("http://{}", upstream.address),
        &["rewrite: \"\"", "grpc: true"],
    );
    let one = mapping("one", "/one/", &script.service(), &["rewrite: \"\""]);
    let gateway = Gateway::start(two + &one).await;
    let get = async |path: &str| {
        let mut client = http2(&gateway).await;
        let (response, _) = client
            .send_request(to(Method::GET, path).body(()).unwrap(), true)
            .unwrap();
        response.await
    };
    for bytes in [8_000, 20_000, 40_000, 60_000] {
        for version in ["one", "two"] {
            let answer = whole(get(&format!("/{version}/head/{bytes}")).await.unwrap()).await;
            assert_eq!(
                (answer.status.as_u16(), answer.header("x-large").len()),
                (200, bytes),
                "{version}"
            );
        }
        let answer = whole(get(&format!("/two/trailers/{bytes}")).await.unwrap()).await;
        assert_eq!(answer.trailers["x-large"].len(), bytes);
    }
    for bytes in [62_000, 100_000, 200_000] {
        for version in ["one", "two"] {
            let path = format!("/{version}/head/{bytes}");
            let answer = whole(get(&path).await.unwrap()).await;
            assert_eq!(
                (answer.status.as_u16(), answer.reason()),
                (502, "upstream_protocol_error"),
                "{path}"
            );
            let message = gateway.access_log(&path).await["message"]
                .as_str()
                .unwrap()
                .to_owned();
            assert!(
                message.contains("at most 61440 are allowed; the largest field is x-large"),
                "{message}"
            );
        }
        // Rather nothing than some of it.
        let path = format!("/two/trailers/{bytes}");
        // The reset may overtake the head.
        if let Ok(response) = get(&path).await {
            let mut body = response.into_body();
            while let Some(Ok(_)) = body.data().await {}
            assert!(body.trailers().await.is_err());
        }
        let entry = gateway.access_log(&path).await;
        assert_eq!(entry["reason"], "upstream_protocol_error", "{entry:#}");
        assert!(
            entry["message"].as_str().unwrap().contains("the trailers that"),
            "{entry:#}"
        );
    }
    assert_eq!(upstream.connections().len(), 1, "no other stream was harmed");
}

#[tokio::test]
async fn an_http2_head_over_the_limit_harms_no_other_stream() {
    let script = Script::answering(OK).await;
    let gateway = script.gateway(&[]).await;
    let mut client = http2(&gateway).await;
    let (slow, mut upload) = client
        .send_request(to(Method::POST, "/slow").body(()).unwrap(), false)
        .unwrap();
    let crumbs = |count: usize| (0..count).map(|n| (HeaderName::from_static("cookie"), HeaderValue::from(n)));
    let fields =
        |count: usize| (0..count).map(|n| (HeaderName::from_static("x-field"), HeaderValue::from(n)));
    let cases: [(&str, String, HeaderMap, u16, &str); 7] = [
        ("1", "/1".to_owned(), large(60_000), 200, ""),
        (
            "2",
            "/2".to_owned(),
            large(62_000),
            431,
            "the largest field is x-large",
        ),
        (
            "3",
            "/3".to_owned(),
            large(200_000),
            431,
            "at most 61440 are allowed",
        ),
        ("4", "/4".to_owned(), fields(99).collect(), 200, ""),
        (
            "5",
            "/5".to_owned(),
            fields(101).collect(),
            431,
            "101 fields, at most 100 are allowed",
        ),
        ("6", "/6".to_owned(), crumbs(150).collect(), 200, ""),
        (
            "7",
            format!("/{}", "7".repeat(62_000)),
            HeaderMap::new(),
            414,
            "the request target has 62001 bytes",
        ),
    ];
    for (name, path, headers, status, words) in cases {
        let mut request = to(Method::GET, &path).body(()).unwrap();
        *request.headers_mut() = headers;
        let (response, _) = client.send_request(request, true).unwrap();
        let answer = whole(response.await.unwrap()).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        assert!(answer.text().contains(words), "{name}: {}", answer.text());
        if status != 200 {
            let entry = gateway.access_log(&path).await;
            assert_eq!(
                (&entry["flags"], entry["message"].as_str()),
                (&"DPE".into(), Some(answer.text()))
            );
        }
    }
    upload.send_data("done".into(), true).unwrap();
    assert_eq!(whole(slow.await.unwrap()).await.text(), "ok");
    assert_eq!(script.requests().last().unwrap().body, "done");
}

#[tokio::test]
async fn trailers_of_a_request_reach_the_upstream_or_none_of_it_does() {
    let (seen, mut trailers) = tokio::sync::mpsc::channel(8);
    let upstream = http2_upstream(move |request: Request<RecvStream>, mut respond| {
        let seen = seen.clone();
        async move {
            let mut body = request.into_body();
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
            }
            let _ = seen
                .send(body.trailers().await.map_err(|error| error.reason()))
                .await;
            let _ = respond.send_response(Response::new(()), true);
        }
    })
    .await;
    let service = format!("http://{}", upstream.address);
    let gateway = Gateway::start(mapping("m", "/", &service, &["grpc: true"])).await;
    let chunked = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n";
    raw(gateway.address, chunked).await;
    let sent = trailers.recv().await.unwrap().unwrap().unwrap();
    assert_eq!(sent["x-sum"], "1");
    let mut client = http2(&gateway).await;
    for bytes in [40_000, 62_000] {
        let request = to(Method::POST, "/x").body(()).unwrap();
        let (response, mut body) = client.send_request(request, false).unwrap();
        body.send_data("abc".into(), false).unwrap();
        body.send_trailers(large(bytes)).unwrap();
        let answer = response.await.unwrap();
        let seen = trailers.recv().await.unwrap();
        if bytes == 40_000 {
            assert_eq!(
                (answer.status().as_u16(), seen.unwrap().unwrap()["x-large"].len()),
                (200, bytes)
            );
        } else {
            assert_eq!((answer.status().as_u16(), seen.is_err()), (400, true));
        }
    }
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream
        .write_all(b"GET /still HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(
        message(&mut stream).await.unwrap().first_line(),
        "HTTP/1.1 200 OK"
    );
}

/// How an upstream of HTTP/2 says that it requires HTTP/1.1.
#[derive(Clone, Copy)]
enum Says {
    /// Of a stream.
    Reset,
    /// Of its connection, with the stream that is under way as the last that it looked at.
    GoAway,
    /// Of its connection, where it looked at none.
    GoAwayBefore,
}

/// A TLS upstream that answers `ok` over HTTP/1.1, and requires that over HTTP/2.
async fn requires_http1(says: Says) -> Upstream {
    let server = Certificates::new().server(&["a.test"]);
    let tls = Tls::with(&server).start_with(move |mut stream, record| async move {
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return serve_http(stream, record, answer_ok()).await;
        }
        if matches!(says, Says::GoAwayBefore) {
            let code = u32::from(Reason::HTTP_1_1_REQUIRED).to_be_bytes();
            let go_away = frame(GOAWAY, 0, 0, &[[0; 4], code].concat());
            let said = [frame(SETTINGS, 0, 0, &[]), go_away].concat();
            // The request first: before it the gateway would have nothing that it could ask for again.
            let mut greeting = [0; 24 + 9 * 3];
            stream.read_exact(&mut greeting).await.unwrap();
            stream.write_all(&said).await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
            return;
        }
        let mut connection = server::handshake(stream).await.unwrap();
        let mut kept = Vec::new();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            if matches!(says, Says::Reset) {
                respond.send_reset(Reason::HTTP_1_1_REQUIRED);
                continue;
            }
            connection.abrupt_shutdown(Reason::HTTP_1_1_REQUIRED);
            kept.push((request, respond));
        }
    });
    tls.await
}

async fn gateway_to(upstream: &Upstream, context: &str, lines: &[&str]) -> Gateway {
    let mut all = vec!["tls: ctx", "rewrite: \"\""];
    all.extend(lines);
    let mapping = mapping("m", "/", "https://a.test", &all);
    let plan = Gateway::with(tls_context("ctx", &[context]) + &mapping);
    plan.resolve("a.test:443", upstream.address).start().await
}

#[tokio::test]
async fn an_upstream_that_requires_http1_gets_it() {
    for says in [Says::Reset, Says::GoAway, Says::GoAwayBefore] {
        http1_is_spoken(requires_http1(says).await).await;
    }
}

async fn http1_is_spoken(upstream: Upstream) {
    let gateway = gateway_to(&upstream, "alpn_protocols: h2,http/1.1", &[]).await;
    gateway.get("/1").await.assert_ok();
    let offered: Vec<_> = upstream
        .connections()
        .into_iter()
        .filter_map(|one| one.hello)
        .collect();
    assert_eq!(
        offered.last().unwrap().alpn,
        ["http/1.1"],
        "nothing else is offered"
    );
    let before = offered.len();
    // It is remembered, also for a request whose body is gone when the answer comes.
    let posted = "POST /2 HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc";
    let answer = raw(gateway.address, posted).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert_eq!(upstream.request().body, "abc");
    assert!(
        upstream
            .connections()
            .iter()
            .skip(before)
            .all(|one| { one.hello.as_ref().is_some_and(|hello| hello.alpn == ["http/1.1"]) })
    );
    let entry = gateway.access_log("/1").await;
    assert_eq!(
        (&entry["attempts"], &entry["status"]),
        (&2.into(), &200.into()),
        "{entry:#}"
    );
}

#[tokio::test]
async fn a_body_that_was_not_begun_goes_over_http1() {
    let upstream = requires_http1(Says::Reset).await;
    let gateway = gateway_to(&upstream, "alpn_protocols: h2,http/1.1", &[]).await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    let head = "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    upstream
        .saw("a connection for HTTP/1.1", |one| {
            one.hello.as_ref().is_some_and(|hello| hello.alpn == ["http/1.1"])
        })
        .await;
    client.write_all(b"abc").await.unwrap();
    assert_eq!(message(&mut client).await.unwrap().body, "ok");
    assert_eq!(upstream.request().body, "abc");
}

#[tokio::test]
async fn an_upstream_that_requires_http1_where_that_cannot_be_is_told() {
    let upstream = requires_http1(Says::GoAway).await;
    for (context, lines) in [
        ("alpn_protocols: h2", &[][..]),
        ("alpn_protocols: h2,http/1.1", &["grpc: true"]),
    ] {
        let gateway = gateway_to(&upstream, context, lines).await;
        gateway.get("/x").await;
        let entry = gateway.access_log("/x").await;
        assert_eq!(entry["reason"], "reset_before_response", "{entry:#}");
        let message = entry["message"].as_str().unwrap();
        assert!(
            message.contains("requires HTTP/1.1 for it (HTTP_1_1_REQUIRED)"),
            "{message}"
        );
        assert_eq!(entry["attempts"], 1, "{entry:#}");
    }
}

/// RFC 9113 section 6.8: what a peer that goes away has begun it still answers; what comes later goes elsewhere.
#[tokio::test]
async fn requests_after_a_goaway_take_another_connection() {
    let (go_on, told) = tokio::sync::watch::channel(false);
    let upstream = Upstream::raw(move |tcp| {
        let told = told.clone();
        async move {
            let mut connection = server::handshake(tcp).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let mut told = told.clone();
                if request.uri().path() == "/1" {
                    connection.graceful_shutdown();
                    tokio::spawn(async move {
                        told.wait_for(|told| *told).await.unwrap();
                        respond.send_response(Response::new(()), true).unwrap();
                    });
                } else {
                    respond.send_response(Response::new(()), true).unwrap();
                }
            }
        }
    })
    .await;
    let service = format!("http://{}", upstream.address);
    let lines = ["grpc: true", "rewrite: \"\""];
    let gateway = Gateway::start(mapping("m", "/", &service, &lines)).await;
    let mut client = http2(&gateway).await;
    let mut post = |path: &str| {
        let request = to(Method::POST, path).body(()).unwrap();
        client.send_request(request, true).unwrap().0
    };
    let first = post("/1");
    eventually("a second connection", async || {
        assert_eq!(post("/2").await.unwrap().status(), 200);
        (upstream.connections().len() == 2).then_some(())
    })
    .await;
    go_on.send(true).unwrap();
    assert_eq!(first.await.unwrap().status(), 200);
}

/// RFC 9113 section 8.1 lets NO_ERROR stand behind a whole answer only.
#[tokio::test]
async fn a_reset_with_no_error_completes_no_answer() {
    let upstream = http2_upstream(async |_: Request<RecvStream>, mut respond| {
        let head = Response::builder().header("content-length", 4).body(()).unwrap();
        let mut body = respond.send_response(head, false).unwrap();
        body.send_data("ab".into(), false).unwrap();
        // The data goes out first.
        tokio::task::yield_now().await;
        body.send_reset(Reason::NO_ERROR);
    })
    .await;
    let service = format!("http://{}", upstream.address);
    let lines = ["grpc: true", "rewrite: \"\""];
    let gateway = Gateway::start(mapping("m", "/", &service, &lines)).await;
    let answer = raw(gateway.address, "GET /x HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(!answer.ends_with("\r\n\r\nabcd"), "{answer}");
    let entry = gateway.access_log("/x").await;
    assert_eq!(entry["flags"], "UC", "{entry:#}");
}

#[tokio::test]
async fn the_gateways_own_answer_to_head_has_no_content_over_http2() {
    let script = Script::answering(OK).await;
    let gateway = Gateway::start(script.mapping(&["host: b.test"])).await;
    let mut client = http2(&gateway).await;
    for method in [Method::GET, Method::HEAD] {
        let mut request = to(method.clone(), "/x").body(()).unwrap();
        // Its path cannot be read.
        *request.uri_mut() = "http://a.test/%00".parse().unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        let answer = whole(response.await.unwrap()).await;
        assert_eq!(answer.status, 400);
        assert_ne!(answer.header("content-length"), "");
        assert_ne!(answer.header("date"), "");
        assert_eq!(answer.header("connection"), "");
        assert_eq!(answer.body.is_empty(), method == Method::HEAD, "{method}");
    }
}
