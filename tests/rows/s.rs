//! Rows S: the server name that is sent, and the names that are verified.
//!
//! The rule of S13: without `sni`, `host_rewrite` and `verify.names`, the host of `service` may stand in
//! the certificate in any form by which a cluster knows it.

use std::net::SocketAddr;

use http::header::CONNECTION;
use http::{Method, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::certificates::{Certificates, Identity};
use crate::support::client::{Client, request};
use crate::support::peer::{Tls, Upstream};
use crate::support::program::{Gateway, Plan, in_namespace, mapping, tls_context};
use crate::support::waiting::eventually;

/// A Mapping `m` to `service`, which is reached as `host_and_port`, after one request; `ctx` sets `sni: c.test`.
async fn one(service: &str, host_and_port: &str, more: &[&str]) -> (Upstream, Gateway) {
    let upstream = any_tls().await;
    let plan = Gateway::with(mapping("m", "/", service, more) + &tls_context("ctx", &["sni: c.test"]));
    let gateway = plan.resolve(host_and_port, upstream.address).start().await;
    gateway.get("/").await.assert_ok();
    (upstream, gateway)
}

/// Any TLS server.
async fn any_tls() -> Upstream {
    Upstream::tls(&Identity::self_signed(&["a.test"], false)).await
}

fn sni(upstream: &Upstream) -> Option<String> {
    upstream.hello().sni
}

/// A Mapping at `/name/` whose peer is verified whole against `ca`; `more` are lines of its TLSContext,
/// which has the same name.
fn verified(name: &str, service: &str, more: &[&str]) -> String {
    let mut lines = vec!["ca_secret: ca", "verify: {mode: full}"];
    lines.extend(more);
    mapping(name, &format!("/{name}/"), service, &[&format!("tls: {name}")]) + &tls_context(name, &lines)
}

/// Asks `/name/`, which is refused for the peer's names; gives the message.
async fn mismatch(gateway: &Gateway, name: &str) -> String {
    gateway
        .get(&format!("/{name}/"))
        .await
        .assert_refused("name_mismatch");
    let handshake = gateway.last_handshake(name).await;
    assert_eq!(handshake["outcome"], "name_mismatch", "{handshake:#}");
    handshake["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn s1_the_host_of_service_is_the_server_name() {
    let (upstream, gateway) = one("https://a.test", "a.test:443", &[]).await;
    assert_eq!(sni(&upstream).as_deref(), Some("a.test"));
    assert_eq!(
        upstream.request().authority(),
        gateway.authority(),
        "Host is the client's"
    );
    assert_eq!(gateway.last_handshake("m").await["sni"], "a.test");
}

#[tokio::test]
async fn s2_host_rewrite_is_the_server_name() {
    let (upstream, _gateway) = one("https://a.test", "a.test:443", &["host_rewrite: b.test"]).await;
    assert_eq!(sni(&upstream).as_deref(), Some("b.test"));
    assert_eq!(upstream.request().authority(), "b.test");
}

#[tokio::test]
async fn s3_sni_wins_over_host_rewrite() {
    let more = ["host_rewrite: b.test", "tls: ctx"];
    let (upstream, _gateway) = one("https://a.test", "a.test:443", &more).await;
    assert_eq!(sni(&upstream).as_deref(), Some("c.test"));
    assert_eq!(upstream.request().authority(), "b.test");
}

#[tokio::test]
async fn s4_a_port_in_host_rewrite_stays_out_of_the_server_name() {
    let more = ["host_rewrite: b.test:8443"];
    let (upstream, _gateway) = one("https://a.test", "a.test:443", &more).await;
    assert_eq!(sni(&upstream).as_deref(), Some("b.test"));
    assert_eq!(upstream.request().authority(), "b.test:8443");
}

/// RFC 6066 allows no dot at the end, and servers in Go refuse it. The look-up stays absolute.
#[tokio::test]
async fn s5_a_trailing_dot_is_for_the_lookup_only() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.server(&["a.test"])).await;
    let manifests = verified("m", "https://a.test.", &[])
        + &mapping("looked-up", "/looked-up/", "https://b.test.", &[])
        + &ca.secret("ca");
    let plan = Gateway::with(manifests).resolve("a.test:443", upstream.address);
    let gateway = plan.start().await;
    gateway.get("/m/").await.assert_ok();
    assert_eq!(sni(&upstream).as_deref(), Some("a.test"));
    let looked_up = gateway.upstream_of("looked-up").await;
    assert_eq!(looked_up["resolve"]["dns"], "b.test.", "{looked_up:#}");
    assert_eq!(looked_up["tls"]["sni"]["value"], "b.test", "{looked_up:#}");
}

#[tokio::test]
async fn s6_the_server_name_is_in_lower_case() {
    let (upstream, _gateway) = one("https://A.Test", "a.test:443", &[]).await;
    assert_eq!(sni(&upstream).as_deref(), Some("a.test"));
}

#[tokio::test]
async fn s7_an_international_name_is_sent_and_verified_as_its_a_label() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.server(&["xn--bcher-kva.test"])).await;
    let other = Upstream::tls(&ca.server(&["b.test"])).await;
    let manifests = verified("good", "https://bücher.test", &[])
        + &verified("bad", "https://bücher.test:8443", &[])
        + &ca.secret("ca");
    let plan = Gateway::with(manifests).resolve("bücher.test:443", upstream.address);
    let gateway = plan.resolve("bücher.test:8443", other.address).start().await;
    gateway.get("/good/").await.assert_ok();
    assert_eq!(sni(&upstream).as_deref(), Some("xn--bcher-kva.test"));
    let handshake = gateway.last_handshake("good").await;
    assert_eq!(
        handshake["verify"]["names"],
        json!(["xn--bcher-kva.test"]),
        "{handshake:#}"
    );
    mismatch(&gateway, "bad").await;
}

#[tokio::test]
async fn s8_an_address_is_no_server_name() {
    let (upstream, gateway) = one("https://10.0.0.5:8443", "10.0.0.5:8443", &[]).await;
    assert_eq!(sni(&upstream), None);
    // Not even an empty extension: 0x0000 is the number of server_name.
    assert!(!extensions(&upstream.last().bytes).contains(&0));
    assert_eq!(gateway.last_handshake("m").await["sni"], Value::Null);
}

/// The numbers of the extensions in a ClientHello, which begins the bytes of a connection.
fn extensions(bytes: &[u8]) -> Vec<u16> {
    let number = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    // Record header, handshake header, version and random; then a session id, cipher suites,
    // compression methods and the extensions, each behind its length.
    let mut at = 5 + 4 + 2 + 32;
    at += 1 + usize::from(bytes[at]);
    at += 2 + usize::from(number(at));
    at += 1 + usize::from(bytes[at]);
    let end = at + 2 + usize::from(number(at));
    at += 2;
    let mut found = Vec::new();
    while at < end {
        found.push(number(at));
        at += 4 + usize::from(number(at + 2));
    }
    found
}

#[tokio::test]
async fn s9_sni_names_an_address_that_is_connected_to() {
    let ca = Certificates::new();
    let (good, bad) = (
        Upstream::tls(&ca.server(&["a.test"])).await,
        Upstream::tls(&ca.server(&["10.0.0.5"])).await,
    );
    let context = ["sni: a.test", "ca_secret: ca"];
    let manifests = mapping("m", "/m/", "https://10.0.0.5", &["tls: ctx"])
        + &tls_context("ctx", &context)
        + &verified("good", "https://10.0.0.5", &["sni: a.test"])
        + &verified("bad", "https://10.0.0.5:8443", &["sni: a.test"])
        + &ca.secret("ca");
    let plan = Gateway::with(manifests).resolve("10.0.0.5:443", good.address);
    let gateway = plan.resolve("10.0.0.5:8443", bad.address).start().await;
    for name in ["m", "good"] {
        gateway.get(&format!("/{name}/")).await.assert_ok();
        assert_eq!(sni(&good).as_deref(), Some("a.test"));
        let verify = &gateway.last_handshake(name).await["verify"];
        assert_eq!(
            (&verify["result"], &verify["names"]),
            (&"ok".into(), &json!(["a.test"]))
        );
    }
    let message = mismatch(&gateway, "bad").await;
    assert!(
        message.contains("a.test") && message.contains("10.0.0.5"),
        "{message}"
    );
    assert_eq!(sni(&bad).as_deref(), Some("a.test"));
}

#[tokio::test]
async fn s10_an_address_is_verified_against_ip_sans() {
    let ca = Certificates::new();
    let good = Upstream::tls(&ca.server(&["10.0.0.5"])).await;
    let bad = Upstream::tls(&ca.server(&["a.test", "10.0.0.6"])).await;
    let manifests = verified("good", "https://10.0.0.5", &[])
        + &verified("bad", "https://10.0.0.5:8443", &[])
        + &ca.secret("ca");
    let plan = Gateway::with(manifests).resolve("10.0.0.5:443", good.address);
    let gateway = plan.resolve("10.0.0.5:8443", bad.address).start().await;
    gateway.get("/good/").await.assert_ok();
    assert_eq!(sni(&good), None);
    let message = mismatch(&gateway, "bad").await;
    for name in ["10.0.0.5", "a.test", "10.0.0.6"] {
        assert!(message.contains(name), "{message}");
    }
    assert!(bad.requests().is_empty());
}

#[tokio::test]
async fn s11_ipv6_connects_without_sni_and_is_verified_against_ip_sans() {
    let ca = Certificates::new();
    let good = Upstream::tls(&ca.server(&["2001:db8::1"])).await;
    let bad = Upstream::tls(&ca.server(&["2001:db8::2"])).await;
    let manifests = verified("good", "https://[2001:db8::1]:8443", &[])
        // The same address, written at length.
        + &verified("long", "https://[2001:DB8:0:0:0:0:0:1]:8443", &[])
        + &verified("bad", "https://[2001:db8::1]:8444", &[])
        + &ca.secret("ca");
    let plan = Gateway::with(manifests).resolve("[2001:db8::1]:8443", good.address);
    let gateway = plan.resolve("[2001:db8::1]:8444", bad.address).start().await;
    gateway.get("/good/").await.assert_ok();
    gateway.get("/long/").await.assert_ok();
    assert_eq!(sni(&good), None);
    let message = mismatch(&gateway, "bad").await;
    assert!(
        message.contains("2001:db8::1") && message.contains("2001:db8::2"),
        "{message}"
    );
}

/// A Service of this name whose port 443 leads to these pods.
pub fn service(name: &str, pods: &[SocketAddr]) -> String {
    let mut text = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  ports:\n  - {{port: 443, \
         targetPort: 8443}}\n---\napiVersion: v1\nkind: Endpoints\nmetadata:\n  name: {name}\nsubsets:\n"
    );
    for pod in pods {
        text.push_str(&format!(
            "- addresses: [{{ip: {}}}]\n  ports: [{{port: {}}}]\n",
            pod.ip(),
            pod.port()
        ));
    }
    text
}

#[tokio::test]
async fn s12_the_address_of_a_pod_is_never_the_server_name() {
    let (one, other) = (any_tls().await, any_tls().await);
    let manifests = mapping("m", "/", "https://svc", &["resolver: kubernetes-endpoint"])
        + &service("svc", &[one.address, other.address]);
    let gateway = Gateway::start(in_namespace("apps", &manifests)).await;
    let asked = eventually("both pods are asked", async || {
        gateway.get("/").await.assert_ok();
        (!one.requests().is_empty() && !other.requests().is_empty()).then_some(())
    });
    asked.await;
    for pod in [&one, &other] {
        for connection in pod.connections() {
            assert_eq!(connection.hello.unwrap().sni.as_deref(), Some("svc.apps"));
        }
    }
}

/// The forms of a Service `svc` in namespace `ns`.
const FORMS: [&str; 4] = ["svc", "svc.ns", "svc.ns.svc", "svc.ns.svc.cluster.local"];

/// One upstream for the certificate of each name.
async fn named(ca: &Certificates, names: &[&str]) -> Vec<Upstream> {
    let mut upstreams = Vec::new();
    for name in names {
        upstreams.push(Upstream::tls(&ca.server(&[name])).await);
    }
    upstreams
}

/// Leads ports of `host`, from `first` on, to these upstreams.
fn reach(mut plan: Plan, host: &str, first: u16, upstreams: &[Upstream]) -> Plan {
    for (port, upstream) in (first..).zip(upstreams) {
        plan = plan.resolve(&format!("{host}:{port}"), upstream.address);
    }
    plan
}

#[tokio::test]
async fn s13_a_service_is_verified_by_any_of_its_cluster_forms() {
    let ca = Certificates::new();
    let upstreams = named(&ca, &FORMS).await;
    let strangers = named(&ca, &["svc.other.svc.cluster.local", "other", "ns", "svc.ns.pod"]).await;
    // A Mapping in `ns` qualifies a bare host itself, and `svc.ns` means a Service only where there is one.
    let hosts = ["svc", "svc.ns", "svc.ns.svc", "svc.ns.svc.cluster.local."];
    let mut manifests = service("svc", &[]) + &ca.secret("ca");
    for (number, host) in hosts.iter().enumerate() {
        for port in 1000..1004 {
            let name = |kind: &str| format!("{kind}{number}-{port}");
            manifests += &verified(&name("good"), &format!("https://{host}:{port}"), &[]);
            manifests += &verified(&name("bad"), &format!("https://{host}:{}", port + 1000), &[]);
        }
    }
    let mut plan = Gateway::with(in_namespace("ns", &manifests));
    for host in FORMS {
        plan = reach(plan, host, 1000, &upstreams);
        plan = reach(plan, host, 2000, &strangers);
    }
    let gateway = plan.start().await;
    for number in 0..hosts.len() {
        for port in 1000..1004 {
            let answer = gateway.get(&format!("/good{number}-{port}/")).await;
            assert_eq!((answer.reason(), answer.text()), ("", "ok"), "{number} {port}");
            mismatch(&gateway, &format!("bad{number}-{port}")).await;
        }
    }
    let names = &gateway.last_handshake("good0-1003").await["verify"]["names"];
    let mut names: Vec<&str> = names
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    names.sort_unstable();
    assert_eq!(names, FORMS);
}

/// The other half of the rule: what was chosen by a field, and what is a name of the world, stands alone.
#[tokio::test]
async fn s13_only_the_host_of_service_has_cluster_forms() {
    let ca = Certificates::new();
    let full = Upstream::tls(&ca.server(&["svc.default.svc.cluster.local"])).await;
    let part = Upstream::tls(&ca.server(&["a"])).await;
    let manifests = verified("host", "https://svc", &[])
        + &verified("sni", "https://svc", &["sni: svc.default"])
        + &mapping(
            "rewrite",
            "/rewrite/",
            "https://svc",
            &["tls: host", "host_rewrite: svc"],
        )
        + &tls_context(
            "names",
            &["ca_secret: ca", "verify: {mode: full, names: [svc.default]}"],
        )
        + &mapping("names", "/names/", "https://svc", &["tls: names"])
        + &verified("world", "https://a.test", &[])
        + &ca.secret("ca");
    let plan = Gateway::with(manifests).resolve("svc:443", full.address);
    let gateway = plan.resolve("a.test:443", part.address).start().await;
    gateway.get("/host/").await.assert_ok();
    for name in ["sni", "rewrite", "names", "world"] {
        mismatch(&gateway, name).await;
    }
}

/// Without Service objects the namespace that a Mapping adds to its bare host still is one.
#[tokio::test]
async fn s13_a_bare_host_in_another_namespace_has_cluster_forms() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.server(&["svc.apps.svc.cluster.local"])).await;
    let manifests = verified("m", "https://svc", &[]) + &ca.secret("ca");
    let plan = Gateway::with(in_namespace("apps", &manifests));
    let gateway = plan.resolve("svc.apps:443", upstream.address).start().await;
    gateway.get("/m/").await.assert_ok();
    assert_eq!(sni(&upstream).as_deref(), Some("svc.apps"));
}

#[tokio::test]
async fn s14_a_wildcard_stands_for_one_label() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.server(&["*.test"])).await;
    let hosts = [("one", "a.test"), ("two", "a.b.test"), ("none", "test")];
    let mut manifests = ca.secret("ca");
    for (name, host) in hosts {
        manifests += &verified(name, &format!("https://{host}"), &[]);
    }
    let mut plan = Gateway::with(manifests);
    for (_, host) in hosts {
        plan = plan.resolve(&format!("{host}:443"), upstream.address);
    }
    let gateway = plan.start().await;
    gateway.get("/one/").await.assert_ok();
    for name in ["two", "none"] {
        let message = mismatch(&gateway, name).await;
        assert!(message.contains("*.test"), "{message}");
    }
    assert_eq!(upstream.requests().len(), 1);
}

/// The rule of S15: with `auto_host_rewrite` the Host is the name by which the endpoint was found, as in Envoy
/// without port; the server name is what is configured, which is the host of `service`.
#[tokio::test]
async fn s15_the_host_follows_the_endpoint_and_the_server_name_the_configured_host() {
    let (one, other) = (any_tls().await, any_tls().await);
    let member = |name: &str, service: &str, more: &[&str]| {
        mapping(name, "/", service, &[&["auto_host_rewrite: true"], more].concat())
    };
    let manifests = member("one", "https://a.test:8443", &["weight: 50"])
        + &member("other", "https://b.test", &["tls: ctx"])
        + &tls_context("ctx", &["sni: c.test"]);
    let plan = Gateway::with(manifests).resolve("a.test:8443", one.address);
    let gateway = plan.resolve("b.test:443", other.address).start().await;
    let asked = eventually("both are asked", async || {
        gateway.get("/").await.assert_ok();
        (one.requests().len() > 1 && other.requests().len() > 1).then_some(())
    });
    asked.await;
    for (upstream, host, server_name) in [(&one, "a.test", "a.test"), (&other, "b.test", "c.test")] {
        for connection in upstream.connections() {
            assert_eq!(connection.hello.unwrap().sni.as_deref(), Some(server_name));
            for request in connection.requests {
                assert_eq!(request.authority(), host);
            }
        }
    }
}

/// Endpoints of a Service have addresses and no names: the Service's own name goes for theirs.
#[tokio::test]
async fn s15_endpoints_without_names_are_called_by_their_service() {
    let (one, other) = (any_tls().await, any_tls().await);
    let manifests = mapping("m", "/", "https://svc", &["auto_host_rewrite: true"])
        + &service("svc", &[one.address, other.address]);
    let gateway = Gateway::start(in_namespace("apps", &manifests)).await;
    for _ in 0..2 {
        gateway.get("/").await.assert_ok();
    }
    for pod in [&one, &other] {
        assert_eq!(pod.request().authority(), "svc.apps");
        assert_eq!(sni(pod).as_deref(), Some("svc.apps"));
    }
}

/// A Mapping `m` of any host to `https://svc.test`, which is `upstream`; `auto_sni` is on in its TLSContext,
/// which has these further lines.
fn by_request(upstream: &Upstream, context: &[&str]) -> Plan {
    let lines = [&["auto_sni: true"], context].concat();
    let manifests = mapping("m", "/", "https://svc.test", &["tls: ctx"]) + &tls_context("ctx", &lines);
    Gateway::with(manifests).resolve("svc.test:443", upstream.address)
}

/// GETs `/` of a host, whatever that is.
async fn ask(gateway: &Gateway, host: &str) -> crate::support::client::Response {
    gateway.send(request(Method::GET, host, "/", "")).await
}

/// The rule of S16: with `auto_sni` the server name is the authority that is sent, and a name has connections of
/// its own.
#[tokio::test]
async fn s16_a_connection_carries_requests_of_its_own_server_name_only() {
    const HOSTS: [&str; 2] = ["a.test", "b.test"];
    let upstream = any_tls().await;
    let plan = by_request(&upstream, &["alpn_protocols: h2"]);
    let gateway = plan.args(&["--workers", "2"]).start().await;
    let mut clients = JoinSet::new();
    for number in 0..8 {
        let address = gateway.address;
        clients.spawn(async move {
            let mut client = Client::http2(address).await;
            for request in 0..25 {
                let host = HOSTS[(number + request) % 2];
                client.get(host, &format!("/{host}")).await.assert_ok();
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let mut seen = [0; 2];
    for connection in upstream.connections() {
        let sni = connection.hello.unwrap().sni.unwrap();
        assert_eq!(connection.session.unwrap().alpn.as_deref(), Some("h2"));
        for request in connection.requests {
            assert_eq!(request.authority(), sni);
            assert_eq!(request.uri.path(), format!("/{sni}"));
            seen[HOSTS.iter().position(|host| *host == sni).unwrap()] += 1;
        }
    }
    assert_eq!(seen, [100, 100]);
    // What clients write is in no label.
    let metrics = gateway.admin("/metrics").await;
    assert!(
        metrics
            .text()
            .contains("upstream=\"https://svc.test:443 (ctx.default)\"")
    );
    for host in HOSTS {
        assert!(!metrics.text().contains(host), "{}", metrics.text());
    }
    let shown = gateway.upstream_of("m").await;
    let origin = &shown["tls"]["auto_sni"]["origin"];
    assert_eq!(shown["tls"]["auto_sni"]["value"], true, "{shown:#}");
    assert!(origin.to_string().contains("spec.auto_sni"), "{origin}");
    assert_eq!(shown["endpoints"].as_array().unwrap().len(), 1, "{shown:#}");
    assert_ne!(shown["endpoints"][0]["last_handshake"], Value::Null, "{shown:#}");
}

#[tokio::test]
async fn s16_the_server_name_is_the_name_to_verify() {
    let ca = Certificates::new();
    let upstream = Upstream::tls(&ca.server(&["a.test"])).await;
    let own = ["ca_secret: ca", "verify: {mode: full}"];
    let named = ["ca_secret: ca", "verify: {mode: full, names: [a.test]}"];
    for (context, b_is_fine) in [(own, false), (named, true)] {
        let mut plan = by_request(&upstream, &context);
        plan = plan.file("ca.yaml", &ca.secret("ca"));
        let gateway = plan.start().await;
        for _ in 0..2 {
            ask(&gateway, "a.test").await.assert_ok();
            let other = ask(&gateway, "b.test").await;
            if b_is_fine {
                other.assert_ok();
            } else {
                other.assert_refused("name_mismatch");
            }
            // A request without a name is verified by the host of `service`, not by nothing.
            assert_eq!(ask(&gateway, "a..test").await.reason().is_empty(), b_is_fine);
        }
    }
}

/// A ticket is for the name that it came with.
#[tokio::test]
async fn s16_a_session_is_resumed_for_its_own_server_name_only() {
    let closing = |_: &_| {
        let answer = Response::builder().header(CONNECTION, "close");
        answer.body(Full::from("ok")).unwrap()
    };
    let identity = Identity::self_signed(&["a.test"], false);
    let upstream = Tls::with(&identity).alpn(&[]).answer(closing).start().await;
    let gateway = by_request(&upstream, &[]).start().await;
    for host in ["a.test", "a.test", "b.test", "b.test", "a.test"] {
        ask(&gateway, host).await.assert_ok();
    }
    let resumed: Vec<_> = upstream
        .connections()
        .into_iter()
        .map(|connection| connection.session.unwrap().resumed)
        .collect();
    assert_eq!(resumed, [false, true, false, true, true]);
}

/// Clients choose the names, so what is kept of them has a limit.
#[tokio::test]
async fn s16_so_many_names_are_kept_and_no_more() {
    let upstream = any_tls().await;
    let gateway = by_request(&upstream, &[]).start().await;
    for number in 0..300 {
        ask(&gateway, &format!("{number}.test")).await.assert_ok();
    }
    let few = eventually("the connections of the oldest names are closed", async || {
        let open = |all: &[crate::support::peer::Connection]| all.iter().filter(|one| !one.closed).count();
        Some(upstream.look(open)).filter(|open| *open <= 256)
    });
    assert_eq!(few.await, 256);
    // The first name is one like any other again.
    ask(&gateway, "0.test").await.assert_ok();
    assert_eq!(sni(&upstream).as_deref(), Some("0.test"));
}

#[tokio::test]
async fn s16_connections_of_a_name_end_with_the_settings_they_were_made_with() {
    let upstream = any_tls().await;
    let gateway = by_request(&upstream, &[]).start().await;
    for host in ["a.test", "b.test"] {
        ask(&gateway, host).await.assert_ok();
    }
    let changed = "auto_sni: true\n  max_tls_version: v1.2";
    gateway.write(
        "manifests.yaml",
        &gateway.manifests().replace("auto_sni: true", changed),
    );
    let closed = eventually("the old connections are closed", async || {
        let all_closed = |all: &[crate::support::peer::Connection]| all.iter().all(|one| one.closed);
        upstream.look(all_closed).then_some(())
    });
    closed.await;
    ask(&gateway, "a.test").await.assert_ok();
    let last = upstream.last();
    assert_eq!(last.hello.unwrap().sni.as_deref(), Some("a.test"));
    assert_eq!(last.session.unwrap().version, "TLSv1_2");
}

#[tokio::test]
async fn s16_the_authority_that_is_sent_decides() {
    let upstream = any_tls().await;
    let manifests = mapping(
        "rewritten",
        "/r/",
        "https://svc.test",
        &["tls: ctx", "host_rewrite: B.test:8443"],
    ) + &mapping(
        "auto",
        "/a/",
        "https://svc.test",
        &["tls: ctx", "auto_host_rewrite: true"],
    ) + &tls_context("ctx", &["auto_sni: true"]);
    let plan = Gateway::with(manifests).resolve("svc.test:443", upstream.address);
    let gateway = plan.start().await;
    for (path, name) in [("/r/", "b.test"), ("/a/", "svc.test")] {
        gateway.get(path).await.assert_ok();
        assert_eq!(sni(&upstream).as_deref(), Some(name));
    }
}

/// Whatever a client writes there: a name that TLS can carry, or none.
#[tokio::test]
async fn s17_any_host_header_is_a_server_name_or_none() {
    let upstream = any_tls().await;
    let gateway = by_request(&upstream, &[]).start().await;
    let long = format!("{}.test", "a.".repeat(148));
    assert!(long.len() > 300);
    for (host, name) in [
        ("a.test:443", Some("a.test")),
        ("A.TEST.", Some("a.test")),
        ("a_b._c.test", Some("a_b._c.test")),
        ("", None),
        (&long, None),
        ("10.0.0.5:443", None),
        ("[2001:db8::1]:443", None),
        ("a..test", None),
        ("-a.test", None),
        ("*.test", None),
        (":443", None),
        ("a%00.test", None),
    ] {
        ask(&gateway, host).await.assert_ok();
        let asked = upstream.connections().into_iter().find(|connection| {
            let authority = |request: &crate::support::peer::Recorded| request.authority() == host;
            connection.requests.iter().any(authority)
        });
        assert_eq!(asked.unwrap().hello.unwrap().sni.as_deref(), name, "{host}");
    }
    ask(&gateway, "a@b.test").await;
    ask(&gateway, "last.test").await.assert_ok();
}

#[tokio::test]
async fn s16_sni_and_auto_sni_are_an_error_of_the_context() {
    let upstream = any_tls().await;
    let gateway = by_request(&upstream, &["sni: c.test"]).start().await;
    ask(&gateway, "a.test")
        .await
        .assert_refused("tls_config_unresolved");
    let problem = gateway
        .problem("TLSContext ctx.default", "conflicting_fields")
        .await;
    assert_eq!(problem["field"], "spec.auto_sni", "{problem:#}");
    assert!(
        problem["message"]
            .as_str()
            .unwrap()
            .ends_with("remove one of them")
    );
    upstream.assert_untouched().await;
}
