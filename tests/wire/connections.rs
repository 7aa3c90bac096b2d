//! Connections to upstreams: kept, shared, noticed when they die, and never mixed.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::socket::{OK, Script, message, next_message, raw};
use crate::support::certificates::Certificates;
use crate::support::client::{Client, request};
use crate::support::peer::{Tls, Upstream, read_head};
use crate::support::program::{Gateway, mapping, tls_context};
use crate::support::waiting::eventually;

/// RFC 9112 section 6.3: what arrives while no request waits is no answer to the next one.
#[tokio::test]
async fn an_answer_that_nobody_asked_for_ends_its_connection() {
    let (go, idle) = watch::channel(false);
    let upstream = Upstream::raw(move |mut stream: TcpStream| {
        let mut idle = idle.clone();
        async move {
            read_head(&mut stream).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
            idle.wait_for(|idle| *idle).await.unwrap();
            let forged = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged";
            // The gateway may have closed, which it must once this has come.
            let _ = stream.write_all(forged).await;
            let next = read_head(&mut stream).await;
            assert!(next.is_empty(), "the connection is used again: {next}");
        }
    })
    .await;
    let gateway = Gateway::start(mapping("m", "/", &format!("http://{}", upstream.address), &[])).await;
    assert_eq!(gateway.get("/x").await.text(), "ok");
    let waiting = async || {
        let endpoint = gateway.upstream_of("m").await["endpoints"][0].clone();
        (endpoint["idle"] == 1).then_some(())
    };
    eventually("the connection waits", waiting).await;
    go.send(true).unwrap();
    upstream.saw("the gateway has closed", |seen| seen.closed).await;
    assert_eq!(gateway.get("/x").await.text(), "ok");
    assert_eq!(upstream.connections().len(), 2);
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let script = Script::answering(OK).await;
    let gateway = script.gateway(&[]).await;
    for _ in 0..20 {
        // Each client connects anew; the upstream does not notice.
        assert_eq!(gateway.get("/").await.text(), "ok");
    }
    assert_eq!(
        (script.requests().len(), script.upstream.connections().len()),
        (20, 1)
    );
    let idle = eventually("the connection waits", async || {
        let endpoint = gateway.upstream_of("m").await["endpoints"][0].clone();
        (endpoint["idle"] == 1).then_some(endpoint)
    });
    assert_eq!(idle.await["active"], 0);
}

#[tokio::test]
async fn an_answer_that_closes_is_the_last_of_its_connection() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ] {
        let script = Script::answering(answer).await;
        let gateway = script.gateway(&[]).await;
        for _ in 0..3 {
            assert_eq!(gateway.get("/").await.text(), "ok");
        }
        assert_eq!(script.upstream.connections().len(), 3, "{answer}");
    }
}

#[tokio::test]
async fn an_idle_connection_that_the_peer_closed_is_not_used() {
    let script = Script::closing(OK).await;
    let gateway = script.gateway(&[]).await;
    for _ in 0..5 {
        assert_eq!(gateway.get("/").await.text(), "ok");
        let idle = async || gateway.upstream_of("m").await["endpoints"][0]["idle"].clone();
        eventually("its end is noticed", async || (idle().await == 0).then_some(())).await;
        // A POST is never sent twice, so it would fail on a connection that is gone.
        let answer = gateway.send(request(Method::POST, "a", "/", "body")).await;
        assert_eq!(answer.text(), "ok");
        eventually("its end is noticed", async || (idle().await == 0).then_some(())).await;
    }
    assert_eq!(script.requests().len(), 10);
}

/// An upstream that answers the first request of a connection and closes on the second, after it has read
/// its head: what a server does whose idle time ends just then.
async fn closing_on_the_second() -> (Upstream, Arc<AtomicUsize>) {
    let requests = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&requests);
    let upstream = Upstream::raw(move |mut stream: TcpStream| {
        let counted = Arc::clone(&counted);
        async move {
            message(&mut stream).await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            stream.write_all(OK.as_bytes()).await.unwrap();
            if !read_head(&mut stream).await.is_empty() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    (upstream.await, requests)
}

#[tokio::test]
async fn f5_a_request_that_met_a_closing_connection_is_sent_once_more_where_that_is_safe() {
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE] {
        let (upstream, requests) = closing_on_the_second().await;
        let gateway = Gateway::start(mapping("m", "/", &format!("http://{}", upstream.address), &[])).await;
        gateway.get("/first").await;
        let answer = gateway.send(request(method.clone(), "a", "/second", "")).await;
        assert_eq!(answer.status, StatusCode::OK, "{method}");
        // The first, the one that was lost, and the one that was answered.
        assert_eq!(requests.load(Ordering::SeqCst), 3, "{method}");
        assert_eq!(upstream.connections().len(), 2);
        let entry = gateway.access_log("/second").await;
        assert_eq!(
            (&entry["attempts"], &entry["status"]),
            (&2.into(), &200.into()),
            "{entry:#}"
        );
        assert_eq!(entry["reason"], serde_json::Value::Null, "{entry:#}");
    }
}

/// Where one idle connection is closing the others most likely are, too.
#[tokio::test]
async fn f5_the_second_try_takes_a_fresh_connection() {
    let (arrived, both) = watch::channel(0);
    let upstream = Upstream::raw(move |mut stream: TcpStream| {
        let (arrived, mut both) = (arrived.clone(), both.clone());
        async move {
            message(&mut stream).await.unwrap();
            arrived.send_modify(|arrived| *arrived += 1);
            both.wait_for(|arrived| *arrived >= 2).await.unwrap();
            stream.write_all(OK.as_bytes()).await.unwrap();
            read_head(&mut stream).await;
        }
    });
    let upstream = upstream.await;
    let gateway = Gateway::start(mapping("m", "/", &format!("http://{}", upstream.address), &[])).await;
    let address = gateway.address;
    let other = tokio::spawn(async move { Client::http1(address).await.get("a", "/other").await });
    gateway.get("/one").await;
    other.await.unwrap();
    let idle = async || (gateway.upstream_of("m").await["endpoints"][0]["idle"] == 2).then_some(());
    eventually("both wait", idle).await;
    assert_eq!(gateway.get("/second").await.text(), "ok");
    assert_eq!(upstream.connections().len(), 3);
}

#[tokio::test]
async fn f5_a_request_that_may_not_be_sent_twice_is_not() {
    let chunked = "POST /second HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
                   4\r\nbody\r\n0\r\n\r\n";
    let empty = "POST /second HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let put = "PUT /second HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbody";
    for asked in [chunked, empty, put] {
        let (upstream, requests) = closing_on_the_second().await;
        let gateway = Gateway::start(mapping("m", "/", &format!("http://{}", upstream.address), &[])).await;
        gateway.get("/first").await;
        let answer = raw(gateway.address, asked).await;
        assert!(
            answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
            "{answer}"
        );
        assert!(
            answer.contains("\r\nx-nuncio-reason: reset_before_response\r\n"),
            "{answer}"
        );
        assert!(
            answer.ends_with("\r\n\r\nupstream connect error or disconnect/reset before headers"),
            "{answer}"
        );
        assert_eq!(requests.load(Ordering::SeqCst), 2);
        let entry = gateway.access_log("/second").await;
        assert_eq!(
            (&entry["attempts"], &entry["flags"], &entry["reason"]),
            (&1.into(), &"UC".into(), &"reset_before_response".into()),
            "{entry:#}"
        );
    }
}

#[tokio::test]
async fn a_fresh_connection_that_dies_is_a_failure_at_once() {
    let upstream = Upstream::raw(async |mut stream: TcpStream| {
        read_head(&mut stream).await;
    });
    let upstream = upstream.await;
    let gateway = Gateway::start(mapping("m", "/", &format!("http://{}", upstream.address), &[])).await;
    let answer = gateway.get("/").await;
    assert_eq!(
        (answer.status.as_u16(), answer.reason()),
        (503, "reset_before_response")
    );
    assert_eq!(upstream.connections().len(), 1);
}

#[tokio::test]
async fn an_http2_connection_is_shared_and_its_end_is_noticed() {
    let server = Certificates::new().server(&["a.test"]);
    let upstream = Tls::with(&server).alpn(&["h2"]).start().await;
    let manifests = tls_context("c", &["alpn_protocols: h2"])
        + &mapping("m", "/", &format!("https://{}", upstream.address), &["tls: c"]);
    let gateway = Gateway::start(manifests).await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let address = gateway.address;
        asking.spawn(async move { Client::http1(address).await.get("a", "/").await });
    }
    for answer in asking.join_all().await {
        assert_eq!(answer.text(), "ok");
    }
    assert_eq!((upstream.requests().len(), upstream.connections().len()), (20, 1));
    let endpoint = async || gateway.upstream_of("m").await["endpoints"][0].clone();
    let waits = eventually("it waits", async || {
        Some(endpoint().await).filter(|e| e["active"] == 0)
    })
    .await;
    assert_eq!(
        waits["idle"], 1,
        "an HTTP/2 connection without streams is an idle connection"
    );
}

/// An HTTP/2 upstream that allows so many streams a connection, and answers `/held` when it is told to. Gives
/// the number of those that wait, too.
async fn allowing(streams: u32) -> (Upstream, watch::Sender<bool>, Arc<AtomicUsize>) {
    let held = Arc::<AtomicUsize>::default();
    let waiting = Arc::clone(&held);
    let (answer, told) = watch::channel(false);
    let server = Certificates::new().server(&["a.test"]);
    let upstream = Tls::with(&server).alpn(&["h2"]).start_with(move |stream, _| {
        let (waiting, told) = (Arc::clone(&waiting), told.clone());
        async move {
            let service = service_fn(move |request: http::Request<Incoming>| {
                let (waiting, mut told) = (Arc::clone(&waiting), told.clone());
                async move {
                    if request.uri().path() == "/held" {
                        waiting.fetch_add(1, Ordering::SeqCst);
                        told.wait_for(|told| *told).await.unwrap();
                    }
                    Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from("ok"))))
                }
            });
            let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            http2.max_concurrent_streams(streams);
            // How the connection ends is the gateway's business.
            let _ = http2.serve_connection(TokioIo::new(stream), service).await;
        }
    });
    (upstream.await, answer, held)
}

/// Neither does a stream wait for another where a connection more would do, nor is one opened that is not
/// needed.
#[tokio::test]
async fn an_http2_connection_carries_the_streams_that_its_peer_allows() {
    for (streams, requests, connections) in [(2, 5, 3), (300, 120, 1)] {
        let (upstream, answer, held) = allowing(streams).await;
        let manifests = tls_context("c", &["alpn_protocols: h2"])
            + &mapping("m", "/", &format!("https://{}", upstream.address), &["tls: c"]);
        let plan = Gateway::with(manifests).args(&["--workers", "1"]);
        let gateway = plan.start().await;
        // By its answer the gateway knows what the peer allows.
        assert_eq!(gateway.get("/").await.text(), "ok");
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..requests {
            let address = gateway.address;
            asking.spawn(async move { Client::http1(address).await.get("a", "/held").await });
        }
        let all_there = async || (held.load(Ordering::SeqCst) == requests).then_some(());
        eventually("all are there at once", all_there).await;
        assert_eq!(upstream.connections().len(), connections);
        answer.send_replace(true);
        assert!(asking.join_all().await.iter().all(|answer| answer.text() == "ok"));
    }
}

/// Decision 20: another client certificate is another identity.
#[tokio::test]
async fn a_changed_certificate_takes_a_new_connection_and_closes_the_idle_one() {
    let ca = Certificates::new();
    let upstream = Tls::with(&ca.server(&["a.test"]))
        .client_ca(&ca.pem(), true)
        .start()
        .await;
    let (one, other) = (ca.client("one"), ca.client("other"));
    let manifests = tls_context("c", &["secret: mine"]) + &mapping("m", "/", "https://a.test", &["tls: c"]);
    let plan = Gateway::with(manifests).file("secret.yaml", &one.secret("mine"));
    let gateway = plan.resolve("a.test:443", upstream.address).start().await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/").await.text(), "ok");
    }
    assert_eq!(upstream.connections().len(), 1);

    // The same bytes again are no change.
    gateway.write("secret.yaml", &format!("# touched\n{}", one.secret("mine")));
    gateway.write("secret.yaml", &other.secret("mine"));
    gateway
        .get_until("/", |_| {
            let connections = upstream.connections();
            connections.get(1).is_some_and(|new| !new.requests.is_empty())
        })
        .await;
    let shown: Vec<_> = upstream
        .connections()
        .into_iter()
        .map(|connection| connection.session.unwrap().client.unwrap())
        .collect();
    assert_eq!(
        shown,
        [one.chain_der()[0].to_vec(), other.chain_der()[0].to_vec()]
    );
    assert!(
        !upstream.last().session.unwrap().resumed,
        "a session of the old identity is not resumed"
    );
    let closed = async || upstream.connections()[0].closed.then_some(());
    eventually("the idle connection of the old identity closes", closed).await;
    assert_eq!(gateway.get("/").await.text(), "ok");
    assert_eq!(upstream.connections().len(), 2);
    assert!(!upstream.last().closed);
}

/// A TLSContext by another name is the same upstream on the wire; what is told of it is told of the new name.
#[tokio::test]
async fn a_renamed_context_keeps_connections_and_counts_under_its_new_name() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.server(&["a.test"])).await;
    let called = |name: &str| {
        let tls = format!("tls: {name}");
        tls_context(name, &["min_tls_version: v1.2"]) + &mapping("m", "/", "https://a.test", &[&tls])
    };
    let plan = Gateway::with(called("before")).args(&["--workers", "1"]);
    let gateway = plan.resolve("a.test:443", upstream.address).start().await;
    gateway.get("/").await.assert_ok();
    gateway.write("gateway.yaml", &gateway.manifests().replace("before", "after"));
    let responses = async |context: &str| {
        let name = format!("https://a.test:443 ({context}.default)");
        let labels = [("upstream", &*name), ("code", "200")];
        gateway.count("nuncio_upstream_requests_total", &labels).await
    };
    eventually("responses are counted under the new name", async || {
        gateway.get("/").await.assert_ok();
        (responses("after").await > 0.0).then_some(())
    })
    .await;
    let counted = responses("before").await;
    gateway.get("/").await.assert_ok();
    assert_eq!(responses("before").await, counted, "and no more under the old");
    let labels = [
        ("upstream", "https://a.test:443 (after.default)"),
        ("outcome", "ok"),
    ];
    let handshakes = gateway.count("nuncio_upstream_handshakes_total", &labels).await;
    assert_eq!((handshakes, upstream.connections().len()), (1.0, 1));
}

/// Decision 20: what is busy finishes on the old connection, and nothing new joins it.
#[tokio::test]
async fn a_busy_connection_of_an_old_identity_finishes_and_closes() {
    for alpn in ["h2", "http/1.1"] {
        let ca = Certificates::new();
        let (go, wait) = watch::channel(false);
        let (asked, mut seen) = watch::channel(0);
        let upstream = Tls::with(&ca.server(&["a.test"]))
            .client_ca(&ca.pem(), true)
            .alpn(&[alpn]);
        let upstream = upstream.answer_later(move |request| {
            let mut wait = wait.clone();
            let quick = request.uri.path() == "/quick";
            asked.send_modify(|asked| *asked += usize::from(!quick));
            async move {
                wait.wait_for(|go| *go || quick).await.unwrap();
                http::Response::new("late".into())
            }
        });
        let upstream = upstream.start().await;
        let manifests = tls_context("c", &["secret: mine", &format!("alpn_protocols: {alpn}")])
            + &mapping(
                "m",
                "/",
                "https://a.test",
                &["tls: c", "timeout_ms: 0", "rewrite: \"\""],
            );
        // Tells which configuration serves without a word to the upstream.
        let told = Script::answering(OK).await;
        let edit = |name: &str| {
            let mark = format!("  x-mark: {name}");
            let lines = ["add_response_headers:", &mark];
            ca.client(name).secret("mine") + &mapping("told", "/told/", &told.service(), &lines)
        };
        let plan = Gateway::with(manifests).file("edit.yaml", &edit("one"));
        let gateway = plan.resolve("a.test:443", upstream.address).start().await;
        let mut first = Client::http1(gateway.address).await;
        let slow = tokio::spawn(async move { first.get("a", "/slow").await });
        seen.wait_for(|asked| *asked == 1).await.unwrap();
        // By HTTP/1.1 this takes a second connection, which is idle from now on.
        assert_eq!(gateway.get("/quick").await.text(), "late");
        let old = upstream.connections().len();
        assert_eq!(old, if alpn == "h2" { 1 } else { 2 });
        gateway.write("edit.yaml", &edit("other"));
        gateway
            .get_until("/told/", |answer| answer.header("x-mark") == "other")
            .await;
        let idle_closed = async || {
            let connections = upstream.connections();
            connections[1..old].iter().all(|c| c.closed).then_some(())
        };
        eventually("what is idle closes although a request is in flight", idle_closed).await;

        let mut second = Client::http1(gateway.address).await;
        let new = tokio::spawn(async move { second.get("a", "/new").await });
        seen.wait_for(|asked| *asked == 2).await.unwrap();
        assert_eq!(upstream.connections().len(), old + 1, "{alpn}");
        assert!(!upstream.connections()[0].closed, "{alpn}");
        go.send(true).unwrap();
        assert_eq!(
            (slow.await.unwrap().text(), new.await.unwrap().text()),
            ("late", "late")
        );
        let closed = async || upstream.connections()[0].closed.then_some(());
        eventually("the old connection closes", closed).await;
        assert!(!upstream.last().closed, "{alpn}");
    }
}

#[tokio::test]
async fn more_connections_than_the_limit_are_an_overflow() {
    let (go, wait) = watch::channel(false);
    let (asked, mut seen) = watch::channel(0_usize);
    let upstream = Upstream::raw(move |mut stream: TcpStream| {
        let (mut wait, asked) = (wait.clone(), asked.clone());
        async move {
            while next_message(&mut stream).await.is_some() {
                asked.send_modify(|asked| *asked += 1);
                wait.wait_for(|go| *go).await.unwrap();
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        }
    });
    let upstream = upstream.await;
    let service = format!("http://{}", upstream.address);
    let manifest = mapping("m", "/", &service, &["timeout_ms: 0"]);
    let gateway = Gateway::with(manifest).args(&["--workers", "2"]).start().await;
    let mut clients = Vec::new();
    for _ in 0..1024 {
        let mut client = TcpStream::connect(gateway.address).await.unwrap();
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        clients.push(client);
    }
    seen.wait_for(|asked| *asked == 1024).await.unwrap();
    let answer = gateway.get("/over").await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, "overflow"));
    let entry = gateway.access_log("/over").await;
    assert_eq!(entry["flags"], "UO", "{entry:#}");
    go.send(true).unwrap();
    for client in &mut clients {
        assert_eq!(message(client).await.unwrap().body, "ok");
    }
    assert_eq!(gateway.get("/").await.status, StatusCode::OK);
}
