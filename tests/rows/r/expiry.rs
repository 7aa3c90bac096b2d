//! What is told of certificates that end, before and after, and what is not told any more once they are gone.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::Value;
use time::{Duration, OffsetDateTime};
use tokio::sync::watch;

use crate::support::certificates::{Certificates, Identity, leaf};
use crate::support::client::Client;
use crate::support::peer::{Recorded, Tls, serve_http};
use crate::support::program::{Gateway, finish, mapping, object_of, tls_context};
use crate::support::waiting::eventually;

/// Long enough to be looked at while it is valid.
const SHORT: Duration = Duration::seconds(8);

/// So far from now, as certificates write it.
fn in_a_while(while_: Duration) -> OffsetDateTime {
    (OffsetDateTime::now_utc() + while_)
        .replace_nanosecond(0)
        .unwrap()
}

fn client(ca: &Certificates, begin: OffsetDateTime, end: OffsetDateTime) -> Identity {
    let mut params = leaf("me", &[]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    (params.not_before, params.not_after) = (begin, end);
    ca.issue(&params)
}

fn years_ago() -> OffsetDateTime {
    in_a_while(Duration::days(-900))
}

fn server(ca: &Certificates, end: OffsetDateTime) -> Identity {
    let mut params = leaf("a.test", &["a.test"]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    (params.not_before, params.not_after) = (years_ago(), end);
    ca.issue(&params)
}

#[expect(clippy::cast_precision_loss, reason = "as metrics have it")]
fn seconds(time: OffsetDateTime) -> f64 {
    time.unix_timestamp() as f64
}

/// Waits for a problem of this object and reason, and gives its message.
async fn told(gateway: &Gateway, object: &str, reason: &str) -> String {
    eventually(&format!("{reason} of {object}"), async || {
        let all = gateway.problems().await;
        let mut found = all.iter().filter(|problem| object_of(problem) == object);
        let found = found.find(|problem| problem["reason"] == reason)?;
        assert_eq!(found["severity"], "warning", "{found:#}");
        Some(found["message"].as_str()?.to_owned())
    })
    .await
}

/// Waits until nothing is told of certificates that end.
async fn quiet(gateway: &Gateway) {
    eventually("no problem is left", async || {
        let all = gateway.problems().await;
        let about = |problem: &Value| problem["reason"].as_str().unwrap().contains("certificate_");
        (!all.iter().any(about)).then_some(())
    })
    .await;
}

type Answered = Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>;

/// `/held` is answered when it is released, `/once` is the last on its connection.
fn answer(released: watch::Receiver<bool>) -> Arc<dyn Fn(&Recorded) -> Answered + Send + Sync> {
    Arc::new(move |request: &Recorded| {
        let (path, mut released) = (request.uri.path().to_owned(), released.clone());
        Box::pin(async move {
            if path == "/held" {
                released.wait_for(|released| *released).await.unwrap();
            }
            let mut response = Response::builder();
            if path == "/once" {
                response = response.header("connection", "close");
            }
            response.body(Full::from("ok")).unwrap()
        })
    })
}

#[tokio::test]
async fn r9_a_peer_that_expires_keeps_its_connections_and_gets_no_new_ones() {
    let ca = Certificates::new();
    let (release, released) = watch::channel(false);
    let answer = answer(released);
    let tls = |identity: &Identity| Tls::with(identity).alpn(&["http/1.1"]);
    let serve = move |stream, record| serve_http(stream, record, Arc::clone(&answer));
    let (upstream, settings) = tls(&ca.server(&["a.test"])).start_changing(serve).await;
    let plan = super::originating(&upstream, &["timeout_ms: 0"], &["ca_secret: ca"]);
    let gateway = plan.file("ca.yaml", &ca.secret("ca")).start().await;
    let end = in_a_while(SHORT);
    settings.to(&tls(&server(&ca, end)));

    let address = gateway.address;
    let held = tokio::spawn(async move { Client::http1(address).await.get("a", "/held").await });
    let warm = upstream
        .saw("a connection", |connection| connection.session.is_some())
        .await;
    let message = told(&gateway, "Mapping m.default", "upstream_certificate_expires").await;
    for part in [
        "`CN=a.test`",
        "https://a.test:443",
        "within 7 days",
        "renew it on the upstream",
    ] {
        assert!(message.contains(part), "no {part} in {message}");
    }
    let labels = [("upstream", "https://a.test:443 (ctx.default)")];
    let metric = "nuncio_upstream_peer_not_after_seconds";
    assert_eq!(
        gateway.count(metric, &labels).await.to_bits(),
        seconds(end).to_bits()
    );
    let warnings = gateway
        .count("nuncio_config_problems", &[("severity", "warning")])
        .await;
    assert_eq!(warnings.to_bits(), 1.0_f64.to_bits(), "the warning is counted");

    // The first connection is taken, so each of these needs one of its own.
    let refused = gateway.get_until("/once", |answer| {
        if answer.reason().is_empty() {
            answer.assert_ok();
        }
        !answer.reason().is_empty()
    });
    refused.await.assert_refused("expired");
    assert!(OffsetDateTime::now_utc() > end, "not before its end");
    let message = told(&gateway, "Mapping m.default", "upstream_certificate_expired").await;
    assert!(
        message.contains("new connections are refused as `expired`"),
        "{message}"
    );
    assert_eq!(
        gateway.count(metric, &labels).await.to_bits(),
        seconds(end).to_bits()
    );

    release.send_replace(true);
    held.await.unwrap().assert_ok();
    gateway.get("/").await.assert_ok();
    gateway.get("/once").await.assert_ok();
    let on_it = |request: &Recorded| request.uri.path().to_owned();
    let all = upstream.connections();
    let same = all
        .iter()
        .find(|connection| connection.from == warm.from)
        .unwrap();
    let paths: Vec<String> = same.requests.iter().map(on_it).collect();
    assert_eq!(paths, ["/held", "/", "/once"], "the warm connection went on");
    gateway.get("/once").await.assert_refused("expired");
}

#[tokio::test]
async fn r9_certificates_of_ours_are_warned_of_before_they_expire() {
    let ca = Certificates::new();
    let end = in_a_while(SHORT);
    let manifests = tls_context("ctx", &["secret: me"])
        + &mapping("m", "/", "https://a.test", &["tls: ctx"])
        + &client(&ca, years_ago(), end).secret("me");
    let gateway = Gateway::start(manifests).await;
    let soon = told(&gateway, "Mapping m.default", "certificate_expires").await;
    for part in [
        "client certificate `CN=me`",
        "TLSContext ctx.default",
        "Secret me.default",
        "within 7 days",
    ] {
        assert!(soon.contains(part), "no {part} in {soon}");
    }
    told(&gateway, "TLSContext ctx.default", "certificate_expires").await;
    // Nobody touches a file from here on.
    let over = told(&gateway, "Mapping m.default", "certificate_expired").await;
    assert!(OffsetDateTime::now_utc() > end, "not before its end");
    assert!(over.contains("expired at"), "{over}");
    told(&gateway, "Secret me.default", "certificate_expired").await;
    let labels = [("namespace", "default"), ("secret", "me"), ("role", "client")];
    let metric = gateway
        .count("nuncio_certificate_not_after_seconds", &labels)
        .await;
    assert_eq!(metric.to_bits(), seconds(end).to_bits());
}

#[tokio::test]
async fn v16_a_certificate_of_ours_that_becomes_valid_is_not_told_any_more() {
    let ca = Certificates::new();
    let (begin, end) = (in_a_while(SHORT), in_a_while(Duration::days(900)));
    let manifests = tls_context("ctx", &["secret: me"])
        + &mapping("m", "/", "https://a.test", &["tls: ctx"])
        + &client(&ca, begin, end).secret("me");
    let gateway = Gateway::start(manifests).await;
    told(&gateway, "Secret me.default", "certificate_not_yet_valid").await;
    quiet(&gateway).await;
    assert!(OffsetDateTime::now_utc() >= begin, "not before its time");
}

/// `check` compiles as the gateway does.
#[test]
fn r9_check_tells_of_certificates_that_expire_soon() {
    let ca = Certificates::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("manifests.yaml");
    let module = "---\napiVersion: getambassador.io/v3alpha1\nkind: Module\nmetadata:\n  name: ambassador\nspec:\n  \
                  config:\n    certificate_expiry_warning_days: ";
    let check = |end: Duration, days: &str| {
        let mut manifests = tls_context("ctx", &["secret: me"])
            + &mapping("m", "/", "https://a.test", &["tls: ctx"])
            + &client(&ca, years_ago(), in_a_while(end)).secret("me");
        if !days.is_empty() {
            manifests += &format!("{module}{days}\n");
        }
        std::fs::write(&file, manifests).unwrap();
        let finished = finish(&["check", "--strict", "--format", "json", file.to_str().unwrap()]);
        let printed: Value = serde_json::from_str(&finished.stdout).unwrap();
        let problems = printed["problems"].as_array().unwrap();
        let expires = problems
            .iter()
            .filter(|problem| problem["reason"] == "certificate_expires");
        let messages: Vec<String> = expires
            .map(|problem| format!("{} {}", object_of(problem), problem["message"]))
            .collect();
        (finished.status, messages)
    };
    let (month, week) = (Duration::days(29), Duration::days(6));
    for (end, days, within) in [
        (month, "", "30 days"),
        (week, "", "7 days"),
        (month, "[60]", "60 days"),
    ] {
        let (status, messages) = check(end, days);
        assert_eq!((status, messages.len()), (1, 2), "{messages:?}");
        assert!(
            messages
                .iter()
                .all(|message| message.contains(&format!("within {within} (in "))),
            "{messages:?}"
        );
    }
    for (end, days) in [(Duration::days(31), ""), (month, "7"), (week, "0"), (week, "[]")] {
        assert_eq!(check(end, days), (0, Vec::new()), "{end} {days}");
    }
}

/// Every certificate of this role, by its subject.
async fn listed(gateway: &Gateway, role: &str) -> Vec<String> {
    let all = gateway.admin_json("/api/v1/certificates").await;
    let of_role = all["certificates"].as_array().unwrap().iter();
    let of_role = of_role.filter(|certificate| certificate["role"] == role);
    of_role
        .map(|certificate| certificate["sha256"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn r13_what_is_removed_is_not_told_of_any_more() {
    let ca = Certificates::new();
    let upstream = Tls::with(&server(&ca, in_a_while(Duration::days(5))))
        .start()
        .await;
    let objects = |client: &Identity| {
        mapping("m", "/m/", "https://a.test", &["tls: ctx"])
            + &tls_context("ctx", &["secret: me", "ca_secret: ca"])
            + &client.secret("me")
    };
    let old = client(&ca, years_ago(), in_a_while(Duration::days(-5)));
    let end = in_a_while(Duration::days(500));
    let new = client(&ca, years_ago(), end);
    let plan = Gateway::with(ca.secret("ca")).resolve("a.test:443", upstream.address);
    let gateway = plan.file("objects.yaml", &objects(&old)).start().await;
    gateway.get("/m/").await.assert_ok();
    told(&gateway, "Mapping m.default", "certificate_expired").await;
    told(&gateway, "Mapping m.default", "upstream_certificate_expires").await;
    let before = (listed(&gateway, "client").await, listed(&gateway, "peer").await);
    assert_eq!((before.0.len(), before.1.len()), (1, 1), "{before:?}");

    let metric = "nuncio_certificate_not_after_seconds";
    gateway.write("objects.yaml", &objects(&new));
    eventually("the new certificate counts", async || {
        (gateway.count(metric, &[("secret", "me")]).await.to_bits() == seconds(end).to_bits()).then_some(())
    })
    .await;
    let after = listed(&gateway, "client").await;
    assert_eq!(after.len(), 1, "{after:?}");
    assert_ne!(after, before.0);

    // The new identity has had no handshake yet.
    gateway.get("/m/").await.assert_ok();
    told(&gateway, "Mapping m.default", "upstream_certificate_expires").await;

    gateway.write("objects.yaml", &mapping("other", "/other/", "http://b.test", &[]));
    eventually("no certificate is left", async || {
        let all = gateway.admin_json("/api/v1/certificates").await;
        (all["certificates"] == serde_json::json!([])).then_some(())
    })
    .await;
    quiet(&gateway).await;
    let page = gateway.admin("/metrics").await;
    for name in [metric, "nuncio_upstream_peer_not_after_seconds"] {
        assert!(!page.text().contains(name), "{name} in {}", page.text());
    }
}

/// A dashboard would take a counter that begins again for a restart.
#[tokio::test]
async fn counters_of_an_upstream_outlive_its_certificates() {
    let ca = Certificates::new();
    let upstream = Tls::with(&ca.server(&["a.test"]))
        .client_ca(&ca.pem(), true)
        .start()
        .await;
    let plan = super::originating(&upstream, &[], &["secret: me"]);
    let gateway = plan
        .file("secret.yaml", &ca.client("first").secret("me"))
        .start()
        .await;
    let labels = [
        ("upstream", "https://a.test:443 (ctx.default)"),
        ("outcome", "ok"),
    ];
    let handshakes = async || gateway.count("nuncio_upstream_handshakes_total", &labels).await;
    gateway.get("/").await.assert_ok();
    for round in 1..4_u8 {
        let before = upstream.connections().len();
        assert!(handshakes().await >= f64::from(round), "in round {round}");
        gateway.write("secret.yaml", &ca.client("another").secret("me"));
        let revision = format!("nuncio_config_revision {}", round + 1);
        eventually("the new certificate is published", async || {
            gateway
                .admin("/metrics")
                .await
                .text()
                .contains(&revision)
                .then_some(())
        })
        .await;
        assert!(
            handshakes().await >= f64::from(round),
            "nothing is lost before the first use"
        );
        gateway
            .get_until("/", |_| {
                let new = &upstream.connections()[before..];
                new.iter().any(|connection| !connection.requests.is_empty())
            })
            .await;
    }
    assert!(handshakes().await >= 4.0);
}
