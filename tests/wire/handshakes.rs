//! Handshakes with one upstream: a few at once, the others in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::support::certificates::Certificates;
use crate::support::client::{Client, Response};
use crate::support::peer::{Tls, Upstream, read_head};
use crate::support::program::{Gateway, mapping, tls_context};
use crate::support::refusal::assert_holds;
use crate::support::waiting::eventually;

/// Sets how many handshakes may be under way.
fn most(handshakes: usize) -> String {
    format!(
        "---\napiVersion: getambassador.io/v3alpha1\nkind: Module\nmetadata:\n  name: ambassador\nspec:\n  \
         config:\n    upstream_max_handshakes: {handshakes}\n"
    )
}

/// An upstream that takes the hello and says nothing until it is told to close. Gives the most
/// connections that it ever had open at once, too.
async fn silent() -> (Upstream, watch::Sender<bool>, Arc<AtomicUsize>) {
    let (open, highest) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let seen = Arc::clone(&highest);
    let (close, closing) = watch::channel(false);
    let upstream = Upstream::raw(move |stream: TcpStream| {
        let (open, highest, mut closing) = (Arc::clone(&open), Arc::clone(&highest), closing.clone());
        async move {
            highest.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            closing.wait_for(|close| *close).await.unwrap();
            // Before the gateway can notice and begin another.
            open.fetch_sub(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    (upstream.await, close, seen)
}

/// Asks for a path so many times at once, each on a connection of its own.
fn ask(gateway: &Gateway, path: &'static str, times: usize) -> JoinSet<Response> {
    let mut asking = JoinSet::new();
    for _ in 0..times {
        let address = gateway.address;
        asking.spawn(async move { Client::http1(address).await.get("gateway.test", path).await });
    }
    asking
}

#[tokio::test]
async fn no_more_than_the_limit_are_under_way() {
    let (upstream, close, highest) = silent().await;
    let service = format!("https://{}", upstream.address);
    let manifests = most(3)
        + &tls_context("ctx", &["ecdh_curves: [X25519]"])
        + &mapping(
            "m",
            "/",
            &service,
            &["tls: ctx", "connect_timeout_ms: 60000", "timeout_ms: 0"],
        );
    let plan = Gateway::with(manifests).args(&["--workers", "1"]);
    let gateway = plan.start().await;
    let Client::Http2(mut sender) = Client::http2(gateway.address).await else {
        unreachable!("that is what was asked for");
    };
    let mut asking = JoinSet::new();
    for _ in 0..12 {
        let request = http::Request::get("http://gateway.test/");
        asking.spawn(sender.send_request(request.body(Full::<Bytes>::default()).unwrap()));
    }
    eventually("three are under way", async || {
        (upstream.connections().len() == 3).then_some(())
    })
    .await;
    close.send_replace(true);
    for answer in asking.join_all().await {
        assert_eq!(
            answer.unwrap().headers()["x-nuncio-reason"],
            "reset_during_handshake"
        );
    }
    assert_eq!(highest.load(Ordering::SeqCst), 3);
    assert_eq!(upstream.connections().len(), 12);
}

/// The first connection is answered when that is asked for, the others never come to a handshake.
#[tokio::test]
async fn who_waits_for_a_handshake_takes_a_connection_that_comes_free() {
    let ca = Certificates::new();
    let config = Tls::with(&ca.server(&["a.test"])).config();
    let (answer, answering) = watch::channel(false);
    let connected = Arc::<AtomicUsize>::default();
    let upstream = Upstream::raw(move |stream: TcpStream| {
        let (config, mut answering) = (Arc::clone(&config), answering.clone());
        let first = connected.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if !first {
                return std::future::pending().await;
            }
            let mut stream = TlsAcceptor::from(config).accept(stream).await.unwrap();
            while read_head(&mut stream).await.ends_with("\r\n\r\n") {
                answering.wait_for(|answer| *answer).await.unwrap();
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                stream.write_all(answer).await.unwrap();
            }
        }
    })
    .await;
    let lines = ["connect_timeout_ms: 60000", "timeout_ms: 0", "tls: ctx"];
    // Small hellos, so that no second one goes beside a stalled one.
    let manifests =
        tls_context("ctx", &["ecdh_curves: [X25519]"]) + &mapping("m", "/", "https://a.test", &lines);
    let plan = Gateway::with(manifests).args(&["--workers", "1"]);
    let gateway = plan.resolve("a.test:443", upstream.address).start().await;
    let asking = ask(&gateway, "/", 2);
    eventually("the second has a handshake of its own", async || {
        (upstream.connections().len() == 2).then_some(())
    })
    .await;
    answer.send_replace(true);
    let answers = asking.join_all().await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
}

#[tokio::test]
async fn who_waits_longer_than_the_connect_timeout_overflows() {
    let (upstream, close, _) = silent().await;
    let service = format!("https://{}", upstream.address);
    let patient = mapping(
        "patient",
        "/patient/",
        &service,
        &["connect_timeout_ms: 60000", "timeout_ms: 0", "tls: ctx"],
    );
    let lines = ["connect_timeout_ms: 200", "tls: ctx"];
    let hasty = mapping("hasty", "/hasty/", &service, &lines);
    // A hello that is small anyway: no second one goes beside it (decision 19).
    let context = tls_context("ctx", &["ecdh_curves: [X25519]"]);
    let plan = Gateway::with(most(1) + &context + &patient + &hasty).args(&["--workers", "1"]);
    let gateway = plan.start().await;
    let asking = ask(&gateway, "/patient/", 1);
    eventually("one is under way", async || {
        (upstream.connections().len() == 1).then_some(())
    })
    .await;

    let answer = gateway.get("/hasty/").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header("x-nuncio-reason"), "overflow");
    assert_eq!(upstream.connections().len(), 1);
    close.send_replace(true);
    assert_eq!(
        asking.join_all().await[0].header("x-nuncio-reason"),
        "reset_during_handshake"
    );
}

#[tokio::test]
async fn a_burst_on_a_cold_upstream_is_answered_in_full() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.server(&["a.test"])).await;
    let manifests = most(2) + &mapping("m", "/", "https://a.test", &[]);
    let plan = Gateway::with(manifests).args(&["--workers", "1"]);
    let gateway = plan.resolve("a.test:443", upstream.address).start().await;
    let answers = ask(&gateway, "/", 100).join_all().await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
    assert_eq!(upstream.requests().len(), 100);
}

/// A TLS upstream that answers the first hello, and later ones one by one, each when so many wait; after a hundred
/// it answers all. Gives the most that ever waited.
async fn answering_when_waited_for(tls: Tls, waiting: usize) -> (Upstream, Arc<AtomicUsize>) {
    let config = tls.config();
    let (open, highest) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let seen = Arc::clone(&highest);
    let met = Arc::<AtomicUsize>::default();
    let answers = Arc::new(Semaphore::new(1));
    let upstream = Upstream::raw(move |stream: TcpStream| {
        let (config, open, answers) = (Arc::clone(&config), Arc::clone(&open), Arc::clone(&answers));
        let now = open.fetch_add(1, Ordering::SeqCst) + 1;
        highest.fetch_max(now, Ordering::SeqCst);
        answers.add_permits(usize::from(now >= waiting));
        if met.fetch_add(1, Ordering::SeqCst) == 100 {
            answers.add_permits(1000);
        }
        async move {
            answers.acquire().await.unwrap().forget();
            // Before the gateway can notice and begin another.
            open.fetch_sub(1, Ordering::SeqCst);
            if let Ok(mut stream) = TlsAcceptor::from(config).accept(stream).await {
                while read_head(&mut stream).await.ends_with("\r\n\r\n") {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
                    if stream.write_all(answer).await.is_err() {
                        break;
                    }
                }
            }
        }
    });
    (upstream.await, seen)
}

#[tokio::test]
async fn five_hundred_requests_at_once_on_a_cold_http_1_1_upstream_keep_to_the_limit() {
    /// Of the Module, where it does not say otherwise.
    const LIMIT: usize = 16;
    // Where HTTP/2 is offered, too, the first handshake shows that there is nothing to share.
    for alpn in ["http/1.1", "h2,http/1.1"] {
        let tls = Tls::with(&Certificates::new().server(&["a.test"])).alpn(&["http/1.1"]);
        let (upstream, highest) = answering_when_waited_for(tls, LIMIT).await;
        let lines = ["connect_timeout_ms: 60000", "timeout_ms: 60000", "tls: ctx"];
        let alpn = format!("alpn_protocols: \"{alpn}\"");
        let manifests = tls_context("ctx", &["ecdh_curves: [X25519]", &alpn])
            + &mapping("m", "/", "https://a.test", &lines);
        let plan = Gateway::with(manifests).resolve("a.test:443", upstream.address);
        let gateway = plan.start().await;
        let answers = ask(&gateway, "/", 500).join_all().await;
        answers.iter().for_each(Response::assert_ok);
        assert_eq!(highest.load(Ordering::SeqCst), LIMIT, "{alpn}");
    }
}

#[tokio::test]
async fn five_hundred_requests_at_once_on_a_cold_http_2_upstream_take_two_handshakes_at_most() {
    let upstream = Upstream::tls(&Certificates::new().server(&["a.test"])).await;
    let lines = ["connect_timeout_ms: 60000", "timeout_ms: 60000", "grpc: true"];
    let plan = Gateway::with(mapping("m", "/", "https://a.test", &lines));
    let gateway = plan.resolve("a.test:443", upstream.address).start().await;
    let answers = ask(&gateway, "/", 500).join_all().await;
    answers.iter().for_each(Response::assert_ok);
    assert_eq!(upstream.requests().len(), 500);
    let connections = upstream.connections().len();
    assert!(connections <= 2, "{connections} connections");
}

#[tokio::test]
async fn who_waits_for_a_handshake_to_share_is_told_what_became_of_it() {
    let (upstream, close, _) = silent().await;
    let service = format!("https://{}", upstream.address);
    let context = tls_context("ctx", &["ecdh_curves: [X25519]"]);
    let patient = [
        "grpc: true",
        "connect_timeout_ms: 60000",
        "timeout_ms: 0",
        "tls: ctx",
    ];
    let hasty = ["grpc: true", "connect_timeout_ms: 200", "tls: ctx"];
    let manifests = context
        + &mapping("patient", "/patient/", &service, &patient)
        + &mapping("hasty", "/hasty/", &service, &hasty);
    let gateway = Gateway::start(manifests).await;
    let asking = ask(&gateway, "/patient/", 20);
    eventually("one is under way", async || {
        (upstream.connections().len() == 1).then_some(())
    })
    .await;

    // It has less time than the one that it waits for.
    assert_eq!(gateway.get("/hasty/").await.reason(), "handshake_timeout");
    let message = gateway.access_log("/hasty/").await["message"].clone();
    assert_holds(
        &message,
        &["that this request would share was still under way after 200 ms"],
    );
    assert_eq!(upstream.connections().len(), 1);

    // Those that waited hear of its end, and do not find out one by one.
    close.send_replace(true);
    for answer in asking.join_all().await {
        assert_eq!(answer.reason(), "reset_during_handshake");
    }
    let connections = upstream.connections().len();
    assert!(connections <= 2, "{connections} connections");
}

#[tokio::test]
async fn all_who_wait_for_a_silent_http_2_upstream_are_told_handshake_timeout() {
    let (upstream, _close, _) = silent().await;
    let service = format!("https://{}", upstream.address);
    let lines = ["grpc: true", "connect_timeout_ms: 1000", "tls: ctx"];
    let manifests = tls_context("ctx", &["ecdh_curves: [X25519]"]) + &mapping("m", "/", &service, &lines);
    let gateway = Gateway::start(manifests).await;
    for answer in ask(&gateway, "/", 20).join_all().await {
        assert_eq!(answer.reason(), "handshake_timeout");
    }
}
