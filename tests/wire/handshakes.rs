//! Handshakes with one upstream: a few at once, the others in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::certificates::Certificates;
use crate::support::client::{Client, Response};
use crate::support::peer::Upstream;
use crate::support::program::{Gateway, mapping, tls_context};
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
        + &mapping("m", "/", &service, &["tls: ctx"]);
    let plan = Gateway::with(manifests).args(&["--workers", "1"]);
    let gateway = plan.start().await;
    let asking = ask(&gateway, "/", 12);
    eventually("three are under way", async || {
        (upstream.connections().len() == 3).then_some(())
    })
    .await;
    close.send_replace(true);
    for answer in asking.join_all().await {
        assert_eq!(answer.header("x-nuncio-reason"), "reset_during_handshake");
    }
    assert_eq!(highest.load(Ordering::SeqCst), 3);
    assert_eq!(upstream.connections().len(), 12);
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
