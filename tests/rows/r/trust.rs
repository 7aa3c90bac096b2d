//! Row V20, and V19 through the gateway: what was connected under less trust.

use http::Method;

use super::originating;
use super::streams::{Talk, echoing};
use crate::support::certificates::Certificates;
use crate::support::client::{Client, request};
use crate::support::peer::{Tls, Upstream};
use crate::support::program::{Gateway, tls_context};
use crate::support::waiting::eventually;

/// A gateway that verifies nothing, with a connection that is busy and, by HTTP/1.1, one that is idle. The
/// context stands in `context.yaml`.
async fn unverified(upstream: &Upstream, alpn: &str, drain: u32) -> (Gateway, Talk) {
    let lines = ["tls: ctx", "timeout_ms: 0", "rewrite: \"\""];
    let plan = originating(upstream, &lines, &[]).file("context.yaml", &context(alpn, &[]));
    let gateway = plan.args(&["--drain-time", &drain.to_string()]).start().await;
    let mut talk = Talk::begin(&gateway).await;
    talk.echoes("before").await;
    gateway.get("/quick").await.assert_ok();
    (gateway, talk)
}

fn context(alpn: &str, lines: &[&str]) -> String {
    let alpn = format!("alpn_protocols: {alpn}");
    let mut all = vec![alpn.as_str()];
    all.extend(lines);
    tls_context("ctx", &all)
}

/// A CA that did not issue the upstream's certificate is given while connections are open.
#[tokio::test]
async fn v20_verification_that_is_switched_on_reaches_warm_connections() {
    for alpn in ["h2", "http/1.1"] {
        let tls = Tls::with(&Certificates::named("its own CA").server(&["a.test"]));
        let upstream = echoing(tls.alpn(&[alpn])).await;
        let (gateway, mut talk) = unverified(&upstream, alpn, 1).await;
        let connected = upstream.connections().len();
        let ca = Certificates::named("another CA").secret("ca");
        let strict = context(alpn, &["ca_secret: ca", "verify: {mode: full}"]);
        gateway.write("context.yaml", &(strict + &ca));
        gateway
            .get_until("/quick", |answer| answer.reason() == "unknown_issuer")
            .await;
        for _ in 0..3 {
            gateway.get("/quick").await.assert_refused("unknown_issuer");
        }
        talk.breaks_off().await;
        eventually("every connection of before closes", async || {
            let closed = |all: &[_]| all[..connected].iter().all(is_closed);
            upstream.look(closed).then_some(())
        })
        .await;
        gateway.get("/quick").await.assert_refused("unknown_issuer");
    }
}

fn is_closed(connection: &crate::support::peer::Connection) -> bool {
    connection.closed
}

/// What is idle does not wait for the drain time, and no request need come for it.
#[tokio::test]
async fn v20_idle_connections_of_less_trust_close_at_once() {
    let tls = Tls::with(&Certificates::named("its own CA").server(&["a.test"]));
    let upstream = echoing(tls.alpn(&["http/1.1"])).await;
    let (gateway, mut talk) = unverified(&upstream, "http/1.1", 600).await;
    assert_eq!(upstream.connections().len(), 2, "one is busy and one idle");
    let ca = Certificates::named("another CA").secret("ca");
    let strict = context("http/1.1", &["ca_secret: ca", "verify: {mode: full}"]);
    gateway.write("context.yaml", &(strict + &ca));
    eventually("the idle one closes", async || {
        upstream.look(|all| all[1].closed).then_some(())
    })
    .await;
    talk.echoes("after").await;
    assert!(!upstream.look(|all| all[0].closed));
    let mut client = Client::http1(gateway.address).await;
    let get = request(Method::GET, "a", "/quick", "");
    client.send(get).await.unwrap().assert_refused("unknown_issuer");
}

/// A ticket of the time when the CA was trusted is of no use when it is not.
#[tokio::test]
async fn v19_a_session_of_a_ca_that_is_removed_is_not_resumed() {
    let (old, new) = (Certificates::named("old CA"), Certificates::named("new CA"));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let tls = Tls::with(&old.server(&["a.test"])).versions(&[version]);
        let upstream = tls.answer(|_| {
            let close = http::Response::builder().header("connection", "close");
            close.body("ok".into()).unwrap()
        });
        let upstream = upstream.start().await;
        let plan = originating(&upstream, &[], &["ca_secret: ca"]);
        let bundle = |pem: &str| crate::support::certificates::secret("ca", &[("ca.crt", pem)]);
        let both = bundle(&(old.pem() + &new.pem()));
        let gateway = plan.file("ca.yaml", &both).start().await;
        for resumed in [false, true] {
            gateway.get("/").await.assert_ok();
            assert_eq!(gateway.last_handshake("m").await["resumed"], resumed);
        }
        gateway.write("ca.yaml", &bundle(&new.pem()));
        gateway
            .get_until("/", |answer| answer.reason() == "unknown_issuer")
            .await;
        let served = upstream.requests().len();
        gateway.get("/").await.assert_refused("unknown_issuer");
        assert_eq!(upstream.requests().len(), served);
        let last = upstream.last();
        assert!(last.session.is_none(), "{version:?}: {last:?}");
    }
}
