//! Endpoints whose handshakes fail: rows F8, F9 and F10.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::rows::s::service;
use crate::support::certificates::Certificates;
use crate::support::client::Client;
use crate::support::peer::Upstream;
use crate::support::program::{Gateway, mapping, tls_context};
use crate::support::refusal::assert_holds;
use crate::support::tls_bytes::{read_record, reset};
use crate::support::waiting::eventually;

/// Between two lines of the log about the same failure.
const LOG_PAUSE: Duration = Duration::from_secs(30);

/// A Mapping `m` to `https://svc`, which is these pods, verified against this authority.
fn verifying(ca: &Certificates, pods: &[SocketAddr]) -> String {
    ca.secret("ca")
        + &tls_context("ctx", &["ca_secret: ca", "sni: a.test", "verify: {mode: full}"])
        + &mapping("m", "/", "https://svc", &["tls: ctx"])
        + &service("svc", pods)
}

/// An upstream that is one of two, whichever is chosen.
async fn switched(first: SocketAddr, second: SocketAddr) -> (Upstream, watch::Sender<bool>) {
    let (choose, chosen) = watch::channel(false);
    let upstream = Upstream::raw(move |mut near: TcpStream| {
        let address = if *chosen.borrow() { second } else { first };
        async move {
            let mut far = TcpStream::connect(address).await.unwrap();
            // How it ends is theirs to say.
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }
    });
    (upstream.await, choose)
}

async fn avoided(gateway: &Gateway, reason: &str) -> f64 {
    let labels = [("reason", reason)];
    gateway
        .count("nuncio_upstream_handshakes_avoided_total", &labels)
        .await
}

async fn handshakes(gateway: &Gateway, outcome: &str) -> f64 {
    let labels = [("outcome", outcome)];
    gateway.count("nuncio_upstream_handshakes_total", &labels).await
}

fn handshake_of(upstream: &Value, address: SocketAddr) -> &Value {
    let endpoints = upstream["endpoints"].as_array().unwrap();
    let endpoint = endpoints
        .iter()
        .find(|endpoint| endpoint["address"] == address.to_string());
    &endpoint.unwrap_or_else(|| panic!("no {address} in {upstream:#}"))["last_handshake"]
}

#[tokio::test]
async fn f8_one_bad_endpoint_of_three_is_passed_over() {
    let ca = Certificates::new();
    let good = ca.server(&["a.test"]);
    let (one, bad) = (
        Upstream::tls(&good).await,
        Upstream::tls(&ca.server(&["b.test"])).await,
    );
    let other = Upstream::tls(&good).await;
    let pods = [one.address, bad.address, other.address];
    let gateway = Gateway::start(verifying(&ca, &pods)).await;
    let mut asked = 0;
    eventually("the bad one is passed over", async || {
        for _ in 0..6 {
            let path = format!("/{asked}");
            gateway.get(&path).await.assert_ok();
            let entry = gateway.access_log(&path).await;
            assert_ne!(entry["endpoint"], bad.address.to_string(), "{entry:#}");
            asked += 1;
        }
        (avoided(&gateway, "name_mismatch").await > 0.0).then_some(())
    })
    .await;
    assert_eq!(bad.requests().len(), 0);
    assert!(!one.requests().is_empty() && !other.requests().is_empty());

    // What it did is counted and told, although no request failed.
    let refused = bad.connections().len();
    assert!(refused > 0 && refused < asked, "{refused} of {asked}");
    assert_eq!(handshakes(&gateway, "name_mismatch").await, refused as f64);
    let upstream = gateway.upstream_of("m").await;
    let failures = &upstream["failures"][0];
    assert_eq!(
        (&failures["reason"], &failures["count"]),
        (&"name_mismatch".into(), &refused.into()),
        "{upstream:#}"
    );
    assert_eq!(handshake_of(&upstream, bad.address)["outcome"], "name_mismatch");
    for address in [one.address, other.address] {
        assert_eq!(handshake_of(&upstream, address)["outcome"], "ok");
    }
}

/// What a reset is about is not known, so each that happens is told; once so many happened that they are expected,
/// nobody is sent there while another endpoint serves.
#[tokio::test]
async fn f8_an_endpoint_that_resets_without_end_is_passed_over_too() {
    let ca = Certificates::new();
    let good = Upstream::tls(&ca.server(&["a.test"])).await;
    let bad = Upstream::raw(async |mut stream: TcpStream| {
        read_record(&mut stream).await;
        reset(stream);
    });
    let bad = bad.await;
    let gateway = Gateway::start(verifying(&ca, &[good.address, bad.address])).await;
    let mut asked = 0;
    eventually("the bad one is passed over", async || {
        asked += 1;
        let path = format!("/{asked}");
        if gateway.get(&path).await.status != 200 {
            let entry = gateway.access_log(&path).await;
            let message = entry["message"].as_str().unwrap();
            assert!(
                !message.contains("remembered"),
                "another endpoint serves: {message}"
            );
        }
        (avoided(&gateway, "reset_during_handshake").await > 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn f8_a_mended_endpoint_serves_again() {
    let ca = Certificates::new();
    let (bad, good) = (ca.server(&["b.test"]), ca.server(&["a.test"]));
    let (bad, good) = (Upstream::tls(&bad).await, Upstream::tls(&good).await);
    let (upstream, mend) = switched(bad.address, good.address).await;
    let gateway = Gateway::start(verifying(&ca, &[upstream.address])).await;
    gateway.get("/0").await.assert_refused("name_mismatch");
    mend.send_replace(true);
    // From memory at first, and not for long.
    let answer = gateway.get_until("/1", |answer| answer.status == 200).await;
    answer.assert_ok();
    let before = avoided(&gateway, "name_mismatch").await;
    gateway.get("/2").await.assert_ok();
    let endpoint = &gateway.upstream_of("m").await["endpoints"][0];
    assert_eq!(endpoint.get("remembered"), None, "{endpoint:#}");
    assert_eq!(
        avoided(&gateway, "name_mismatch").await,
        before,
        "it is forgotten"
    );
}

#[tokio::test]
async fn f9_every_endpoint_bad_is_told_as_what_tls_says() {
    let ca = Certificates::new();
    let bad = ca.server(&["b.test"]);
    let (one, other) = (Upstream::tls(&bad).await, Upstream::tls(&bad).await);
    let gateway = Gateway::start(verifying(&ca, &[one.address, other.address])).await;
    gateway.get("/0").await.assert_refused("name_mismatch");
    let entry = gateway.access_log("/0").await;
    assert_holds(&entry["message"], &["b.test"]);
    assert!(
        !one.connections().is_empty() && !other.connections().is_empty(),
        "both are asked"
    );

    let mut number = 0;
    let told = eventually("an answer from memory", async || {
        number += 1;
        let path = format!("/{number}");
        gateway.get(&path).await.assert_refused("name_mismatch");
        let entry = gateway.access_log(&path).await;
        let message = entry["message"].as_str().unwrap().to_owned();
        message.contains("remembered").then_some(entry)
    });
    let entry = told.await;
    assert_holds(
        &entry["message"],
        &["b.test", "the next handshake is not before", "UTC"],
    );
    assert_eq!((&entry["status"], &entry["flags"]), (&503.into(), &"UF".into()));
    // How it looked on the wire can still be seen.
    let upstream = gateway.upstream_of("m").await;
    for address in [one.address, other.address] {
        let handshake = handshake_of(&upstream, address);
        assert_eq!(handshake["outcome"], "name_mismatch");
        assert_eq!(handshake["peer"][0]["sans"][0], "DNS:b.test", "{handshake:#}");
    }
    // And until when it is not looked at again: what the message says.
    let shown = eventually("it is remembered", async || {
        number += 1;
        gateway
            .get(&format!("/{number}"))
            .await
            .assert_refused("name_mismatch");
        let upstream = gateway.upstream_of("m").await;
        let endpoints = upstream["endpoints"].as_array().unwrap().clone();
        endpoints
            .into_iter()
            .find(|endpoint| !endpoint["remembered"].is_null())
    });
    let remembered = &shown.await["remembered"];
    assert_eq!(remembered["reason"], "name_mismatch", "{remembered}");
    let until = remembered["until"].as_str().unwrap();
    let format = &time::format_description::well_known::Rfc3339;
    assert!(time::OffsetDateTime::parse(until, format).is_ok(), "{until}");
    let asked = one.connections().len() + other.connections().len();
    assert_eq!(handshakes(&gateway, "name_mismatch").await, asked as f64);
}

/// File descriptors that the gateway has open.
fn descriptors(gateway: &Gateway) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", gateway.program.id()))
        .unwrap()
        .count()
}

/// GETs so many times, on so many connections at once. Gives the reasons.
async fn ask(gateway: &Gateway, times: usize, at_once: usize) -> Vec<String> {
    let mut asking = JoinSet::new();
    for _ in 0..at_once {
        let (address, authority) = (gateway.address, gateway.authority());
        asking.spawn(async move {
            let mut client = Client::http1(address).await;
            let mut reasons = Vec::new();
            for _ in 0..times / at_once {
                reasons.push(client.get(&authority, "/").await.reason().to_owned());
            }
            reasons
        });
    }
    asking.join_all().await.concat()
}

/// Lines about failed connections, and the failures that they stand for so far.
fn logged(gateway: &Gateway, reason: &str) -> Vec<String> {
    let mut lines = gateway.program.stderr();
    lines.retain(|line| line.contains("no connection: ") && line.contains(reason));
    lines
}

#[tokio::test]
async fn f10_failures_that_repeat_cost_few_handshakes() {
    const REQUESTS: usize = 400;
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.server(&["b.test"])).await;
    let gateway = Gateway::start(verifying(&ca, &[upstream.address])).await;
    let started = Instant::now();
    let reasons = ask(&gateway, REQUESTS, 40).await;
    assert_eq!(reasons.len(), REQUESTS);
    assert!(
        reasons.iter().all(|reason| reason == "name_mismatch"),
        "{reasons:?}"
    );
    // Each request is a handshake or was answered from memory.
    let asked = upstream.connections().len();
    assert_eq!(
        avoided(&gateway, "name_mismatch").await,
        (REQUESTS - asked) as f64
    );
    // Those that began before the first came back, and then one a pause.
    let pauses = started.elapsed().as_millis() / 187;
    assert!(asked as u128 <= 16 + 1 + pauses, "{asked} handshakes");
    assert_holds(
        &Value::from(logged(&gateway, "name_mismatch").join("\n")),
        &["https://svc", "b.test"],
    );
}

#[tokio::test]
async fn f10_failing_handshakes_leave_nothing_behind() {
    const REQUESTS: usize = 400;
    let most = Arc::new(std::sync::Mutex::new((0, 0)));
    let seen = Arc::clone(&most);
    // What a reset is about is not known, so it is remembered only when many come in a row.
    let upstream = Upstream::raw(move |mut stream: TcpStream| {
        let most = Arc::clone(&most);
        async move {
            {
                let mut most = most.lock().unwrap();
                most.0 += 1;
                most.1 = most.1.max(most.0);
            }
            read_record(&mut stream).await;
            most.lock().unwrap().0 -= 1;
            reset(stream);
        }
    });
    let upstream = upstream.await;
    let manifests =
        tls_context("ctx", &["ecdh_curves: [X25519]"]) + &mapping("m", "/", "https://a.test", &["tls: ctx"]);
    let plan = Gateway::with(manifests).resolve("a.test:443", upstream.address);
    let gateway = plan.start().await;
    let started = Instant::now();
    // What is opened once and kept, such as by the allocator or the resolver, is there before.
    ask(&gateway, 20, 20).await;
    let before = descriptors(&gateway);
    let reasons = ask(&gateway, REQUESTS, 40).await;
    assert!(
        reasons.iter().all(|reason| reason == "reset_during_handshake"),
        "{reasons:?}"
    );
    // Each request is a handshake or was answered from memory.
    let asked = upstream.connections().len();
    let avoided = avoided(&gateway, "reset_during_handshake").await;
    assert_eq!(avoided, (REQUESTS + 20 - asked) as f64);
    // Those in a row, those that were under way then, and one a pause.
    let pauses = started.elapsed().as_millis() / 187;
    assert!(asked as u128 <= 32 + 16 + pauses, "{asked} handshakes");
    assert!(
        seen.lock().unwrap().1 <= 16,
        "handshakes at once: {}",
        seen.lock().unwrap().1
    );
    eventually("its descriptors are closed", async || {
        (descriptors(&gateway) <= before).then_some(())
    })
    .await;

    let lines = logged(&gateway, "reset_during_handshake");
    let pauses = started.elapsed().as_secs() / LOG_PAUSE.as_secs();
    assert!(
        !lines.is_empty() && lines.len() as u64 <= 1 + pauses,
        "{lines:#?}"
    );
    assert!(lines[0].contains("https://a.test:443"), "{lines:#?}");
    assert!(!lines[0].contains("left_out"), "none before it: {lines:#?}");
    assert!(
        lines[0].contains("check that TLS is spoken on this port"),
        "{lines:#?}"
    );
}
