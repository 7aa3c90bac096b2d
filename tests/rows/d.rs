//! Rows D: deciding whether and how to speak TLS.

use http::StatusCode;

use crate::support::certificates::{Certificates, Identity};
use crate::support::peer::{Tls, Upstream, read_head};
use crate::support::program::{Gateway, mapping, tls_context};
use crate::support::waiting::eventually;

/// Any TLS server.
async fn any_tls() -> Upstream {
    Upstream::tls(&Identity::self_signed(&["svc"], false)).await
}

/// `service` is TLS to port 443 of `svc`, and port 80 stays alone.
async fn assert_tls_on_443(service: &str) {
    let (upstream, port_80) = (any_tls().await, any_tls().await);
    let plan = Gateway::with(mapping("m", "/", service, &[]));
    let plan = plan.resolve("svc:443", upstream.address);
    let gateway = plan.resolve("svc:80", port_80.address).start().await;
    gateway.get("/").await.assert_ok();
    assert_eq!(upstream.hello().sni.as_deref(), Some("svc"));
    assert!(upstream.last().session.is_some());
    port_80.assert_untouched().await;
    assert_eq!(gateway.upstream_of("m").await["address"], "svc:443");
}

#[tokio::test]
async fn d1_https_defaults_to_443() {
    assert_tls_on_443("https://svc").await;
}

#[tokio::test]
async fn d2_the_case_of_the_scheme_does_not_matter() {
    assert_tls_on_443("HTTPS://svc").await;
    assert_tls_on_443("hTTpS://svc").await;
}

#[tokio::test]
async fn d3_a_context_alone_means_tls_to_443() {
    let (upstream, port_80) = (any_tls().await, any_tls().await);
    let manifests = mapping("m", "/", "svc", &["tls: ctx"]) + &tls_context("ctx", &["sni: x.test"]);
    let plan = Gateway::with(manifests).resolve("svc:443", upstream.address);
    let gateway = plan.resolve("svc:80", port_80.address).start().await;
    gateway.get("/").await.assert_ok();
    assert_eq!(upstream.hello().sni.as_deref(), Some("x.test"));
    port_80.assert_untouched().await;
    let problems = gateway.problems().await;
    let ours = |problem: &serde_json::Value| {
        ["Mapping", "TLSContext"]
            .iter()
            .any(|kind| problem["object"]["kind"] == *kind)
    };
    assert!(!problems.iter().any(ours), "{problems:#?}");
}

#[tokio::test]
async fn d4_a_context_wins_over_http() {
    let (upstream, port_80) = (any_tls().await, any_tls().await);
    let manifests = mapping("m", "/", "http://svc", &["tls: ctx"]) + &tls_context("ctx", &["sni: x.test"]);
    let plan = Gateway::with(manifests).resolve("svc:443", upstream.address);
    let gateway = plan.resolve("svc:80", port_80.address).start().await;
    gateway.get("/").await.assert_ok();
    assert_eq!(upstream.hello().sni.as_deref(), Some("x.test"));
    port_80.assert_untouched().await;
    let problem = gateway.problem("Mapping m.default", "tls_over_http").await;
    assert_eq!(
        (&problem["severity"], &problem["field"]),
        (&"notice".into(), &"spec.service".into()),
        "{problem:#}"
    );
}

#[tokio::test]
async fn d5_port_443_without_https_is_cleartext_and_told() {
    let upstream = any_tls().await;
    // Some servers send no alert.
    let closing = Upstream::raw(async |mut stream| {
        read_head(&mut stream).await;
    });
    let closing = closing.await;
    let manifests = mapping("m", "/", "svc:443", &[]) + &mapping("closing", "/closing/", "closing:443", &[]);
    let plan = Gateway::with(manifests).resolve("svc:443", upstream.address);
    let gateway = plan.resolve("closing:443", closing.address).start().await;
    gateway
        .get("/closing/")
        .await
        .assert_refused("reset_before_response");
    let entry = gateway.access_log("/closing/").await;
    assert!(entry["message"].as_str().unwrap().contains("closed"), "{entry:#}");
    let answer = gateway.get("/x").await;
    assert_eq!(
        (answer.status, answer.reason()),
        (StatusCode::BAD_GATEWAY, "upstream_protocol_error")
    );
    let sent = upstream.last().bytes;
    assert!(sent.starts_with(b"GET /x HTTP/1.1\r\n"), "{sent:?}");
    let entry = gateway.access_log("/x").await;
    let message = entry["message"].as_str().unwrap();
    assert!(message.contains("TLS"), "{entry:#}");
    assert!(entry["upstream_tls"].is_null(), "{entry:#}");
    let problem = gateway.problem("Mapping m.default", "cleartext_to_443").await;
    assert_eq!(problem["severity"], "warning", "{problem:#}");
    let message = problem["message"].as_str().unwrap();
    assert!(message.contains("port 443 without https://"), "{message}");
}

#[tokio::test]
async fn d6_tls_to_a_cleartext_port_is_refused_at_once() {
    let upstream = Upstream::cleartext().await;
    let manifests = mapping("m", "/", "https://svc:80", &["connect_timeout_ms: 50000"]);
    let plan = Gateway::with(manifests).resolve("svc:80", upstream.address);
    let gateway = plan.start().await;
    gateway.get("/").await.assert_refused("not_tls");
    let handshake = gateway.last_handshake("m").await;
    assert_eq!(handshake["outcome"], "not_tls", "{handshake:#}");
    let message = handshake["message"].as_str().unwrap();
    assert!(message.contains("HTTP/1.1 400"), "{handshake:#}");
    assert!(
        handshake["duration_ms"].as_f64().unwrap() <= 1000.0,
        "{handshake:#}"
    );
    assert_eq!(upstream.connections().len(), 1, "one try");
    assert!(upstream.requests().is_empty());
}

/// `service` with a `tls` that names nothing: 503, and no byte to either port; the neighbour serves.
async fn assert_unresolved(service: &str) {
    let (upstream, port_80, other) = (any_tls().await, Upstream::cleartext().await, any_tls().await);
    let manifests = mapping("m", "/m/", service, &["tls: nosuch"])
        + &mapping("other", "/other/", &format!("https://{}", other.address), &[]);
    let plan = Gateway::with(manifests).resolve("svc:443", upstream.address);
    let gateway = plan.resolve("svc:80", port_80.address).start().await;
    gateway.get("/m/").await.assert_refused("tls_config_unresolved");
    let entry = gateway.access_log("/m/").await;
    assert_eq!(
        (&entry["reason"], &entry["flags"], &entry["mapping"]),
        (&"tls_config_unresolved".into(), &"UF".into(), &"m.default".into()),
        "{entry:#}"
    );
    gateway.get("/other/").await.assert_ok();
    upstream.assert_untouched().await;
    port_80.assert_untouched().await;
    let problem = gateway
        .problem("Mapping m.default", "tls_config_unresolved")
        .await;
    assert_eq!(
        (&problem["severity"], &problem["field"]),
        (&"error".into(), &"spec.tls".into()),
        "{problem:#}"
    );
    assert!(
        problem["message"].as_str().unwrap().contains("nosuch"),
        "{problem:#}"
    );
}

#[tokio::test]
async fn d7_a_missing_context_is_no_plaintext() {
    assert_unresolved("svc").await;
}

#[tokio::test]
async fn d8_a_missing_context_is_no_handshake_without_it() {
    assert_unresolved("https://svc").await;
}

/// The metric of problems that are errors.
async fn errors(gateway: &Gateway) -> f64 {
    gateway
        .count("nuncio_config_problems", &[("severity", "error")])
        .await
}

#[tokio::test]
async fn d9_a_deleted_context_serves_on_until_the_restart() {
    let ca = Certificates::new();
    let client = ca.client("it's me");
    let upstream = Tls::with(&ca.server(&["x.test"])).client_ca(&ca.pem(), true);
    let upstream = upstream.start().await;
    let port_80 = any_tls().await;
    let manifests = mapping("bare", "/bare/", "svc", &["tls: ctx"])
        + &mapping("https", "/https/", "https://svc", &["tls: ctx"]);
    let context = tls_context("ctx", &["secret: me", "ca_secret: ca", "sni: x.test"]);
    let plan = |context: &str| {
        let plan = Gateway::with(manifests.clone()).file("context.yaml", context);
        let plan = plan.file("secrets.yaml", &(client.secret("me") + &ca.secret("ca")));
        let plan = plan.resolve("svc:443", upstream.address);
        plan.resolve("svc:80", port_80.address)
    };

    let gateway = plan(&context).start().await;
    gateway.get("/bare/").await.assert_ok();
    assert_eq!(errors(&gateway).await, 0.0);
    assert_eq!(gateway.upstream_of("bare").await["stale"], false);

    gateway.remove("context.yaml");
    eventually("both Mappings are stale", async || {
        let (bare, https) = (
            gateway.upstream_of("bare").await,
            gateway.upstream_of("https").await,
        );
        (bare["stale"] == true && https["stale"] == true).then_some(())
    })
    .await;
    for path in ["/bare/", "/https/"] {
        gateway.get(path).await.assert_ok();
        let seen = upstream.last();
        assert_eq!(seen.hello.unwrap().sni.as_deref(), Some("x.test"));
        assert_eq!(
            seen.session.unwrap().client.as_deref(),
            Some(&client.chain_der()[0][..])
        );
    }
    for mapping in ["Mapping bare.default", "Mapping https.default"] {
        let problem = gateway.problem(mapping, "stale").await;
        assert_eq!(problem["severity"], "error", "{problem:#}");
    }
    assert_eq!(errors(&gateway).await, 2.0);

    let before = upstream.connections().len();
    drop(gateway);
    let restarted = plan("").start().await;
    for path in ["/bare/", "/https/"] {
        let answer = restarted.get(path).await;
        answer.assert_refused("tls_config_unresolved");
    }
    assert_eq!(upstream.connections().len(), before);
    port_80.assert_untouched().await;
}

#[tokio::test]
async fn d10_a_context_of_an_sni_alone_counts() {
    let upstream = any_tls().await;
    let manifests = mapping("m", "/", "https://svc", &["tls: ctx"]) + &tls_context("ctx", &["sni: x.test"]);
    let plan = Gateway::with(manifests).resolve("svc:443", upstream.address);
    let gateway = plan.start().await;
    gateway.get("/").await.assert_ok();
    assert_eq!(upstream.hello().sni.as_deref(), Some("x.test"));
}

#[tokio::test]
async fn d11_a_context_of_a_ca_alone_verifies_and_offers_no_certificate() {
    let (ca, stranger) = (Certificates::new(), Certificates::new());
    let good = Tls::with(&ca.server(&["svc"])).client_ca(&ca.pem(), false);
    let (good, bad) = (
        good.start().await,
        Upstream::tls(&stranger.server(&["svc"])).await,
    );
    let manifests = mapping("good", "/good/", "https://svc", &["tls: ctx"])
        + &mapping("bad", "/bad/", "https://svc:8443", &["tls: ctx"])
        + &tls_context("ctx", &["ca_secret: ca"])
        + &ca.secret("ca");
    let plan = Gateway::with(manifests).resolve("svc:443", good.address);
    let gateway = plan.resolve("svc:8443", bad.address).start().await;
    gateway.get("/good/").await.assert_ok();
    assert_eq!(good.last().session.unwrap().client, None);
    let handshake = gateway.last_handshake("good").await;
    let certificate = &handshake["client_certificate"];
    assert_eq!(
        (&certificate["requested"], &certificate["sent"]),
        (&true.into(), &false.into()),
        "{handshake:#}"
    );
    gateway.get("/bad/").await.assert_refused("unknown_issuer");
}

#[tokio::test]
async fn d12_a_context_of_a_lowest_version_alone_raises_the_highest() {
    let identity = Identity::self_signed(&["svc"], false);
    let new = Tls::with(&identity).versions(&[&rustls::version::TLS13]);
    let old = Tls::with(&identity).versions(&[&rustls::version::TLS12]);
    let (new, old) = (new.start().await, old.start().await);
    let manifests = mapping("new", "/new/", "https://svc", &["tls: ctx"])
        + &mapping("old", "/old/", "https://svc:8443", &["tls: ctx"])
        + &tls_context("ctx", &["min_tls_version: v1.3"]);
    let plan = Gateway::with(manifests).resolve("svc:443", new.address);
    let gateway = plan.resolve("svc:8443", old.address).start().await;
    gateway.get("/new/").await.assert_ok();
    assert_eq!(new.last().session.unwrap().version, "TLSv1_3");
    gateway.get("/old/").await.assert_refused("protocol_version");
}

/// A context with these lines is an error of `reason` at `field` that says `hint`; its Mapping sends
/// nothing, and the others serve.
async fn assert_unusable(lines: &[&str], reason: &str, field: &str, hint: &str) {
    let (upstream, other) = (any_tls().await, any_tls().await);
    let manifests = mapping("m", "/m/", "https://svc", &["tls: ctx"])
        + &mapping("other", "/other/", "https://other", &["tls: good"])
        + &tls_context("ctx", lines)
        + &tls_context("good", &["min_tls_version: v1.3"]);
    let plan = Gateway::with(manifests).resolve("svc:443", upstream.address);
    let gateway = plan.resolve("other:443", other.address).start().await;
    gateway.get("/m/").await.assert_refused("tls_config_unresolved");
    gateway.get("/other/").await.assert_ok();
    upstream.assert_untouched().await;
    let problem = gateway.problem("TLSContext ctx.default", reason).await;
    assert_eq!(
        (&problem["severity"], &problem["field"]),
        (&"error".into(), &field.into()),
        "{problem:#}"
    );
    let message = problem["message"].as_str().unwrap();
    assert!(message.contains(hint), "{message}");
    gateway
        .problem("Mapping m.default", "tls_config_unresolved")
        .await;
}

#[tokio::test]
async fn d13_a_lowest_version_above_the_highest_is_an_error_of_that_context() {
    let lines = ["min_tls_version: v1.3", "max_tls_version: v1.2"];
    let field = "spec.min_tls_version";
    assert_unusable(&lines, "conflicting_fields", field, "above `max_tls_version`").await;
}

#[tokio::test]
async fn d14_a_badly_spelt_version_is_an_error_and_not_ignored() {
    let lines = ["max_tls_version: \"1.3\""];
    assert_unusable(&lines, "bad_value", "spec.max_tls_version", "`v1.3`").await;
}

/// Termination is not built yet, which a notice says; towards upstreams the context works whole.
#[tokio::test]
async fn d15_a_context_for_termination_works_for_origination() {
    let ca = Certificates::new();
    let client = ca.client("it's me");
    let upstream = Tls::with(&ca.server(&["svc"])).client_ca(&ca.pem(), true);
    let upstream = upstream.start().await;
    let lines = [
        "hosts: [gateway.test]",
        "secret: me",
        "cert_required: true",
        "redirect_cleartext_from: 8080",
    ];
    let manifests =
        mapping("m", "/", "https://svc", &["tls: ctx"]) + &tls_context("ctx", &lines) + &client.secret("me");
    let plan = Gateway::with(manifests).resolve("svc:443", upstream.address);
    let gateway = plan.start().await;
    gateway.get("/").await.assert_ok();
    assert_eq!(
        upstream.last().session.unwrap().client.as_deref(),
        Some(&client.chain_der()[0][..])
    );
    let problems = gateway.problems().await;
    let told = |reason: &str, field: &str| {
        problems.iter().any(|problem| {
            problem["severity"] == "notice" && problem["reason"] == reason && problem["field"] == field
        })
    };
    assert!(told("no_effect_upstream", "spec.cert_required"), "{problems:#?}");
    assert!(
        told("no_effect_upstream", "spec.redirect_cleartext_from"),
        "{problems:#?}"
    );
    assert!(told("not_supported_yet", "spec.hosts"), "{problems:#?}");
}

#[tokio::test]
async fn d16_two_mappings_of_one_service_keep_their_certificates_apart() {
    let ca = Certificates::new();
    let clients = [ca.client("a"), ca.client("b")];
    let upstream = Tls::with(&ca.server(&["svc"])).client_ca(&ca.pem(), true);
    let upstream = upstream.start().await;
    let mut manifests = String::new();
    for (name, client) in ["a", "b"].into_iter().zip(&clients) {
        let lines = [&*format!("tls: {name}"), "rewrite: \"\""];
        manifests += &mapping(name, &format!("/{name}/"), "https://svc", &lines);
        manifests += &tls_context(name, &[&format!("secret: {name}")]);
        manifests += &client.secret(name);
    }
    let plan = Gateway::with(manifests).resolve("svc:443", upstream.address);
    let gateway = plan.start().await;
    // In turn, so that connections and tickets of the one are there when the other connects.
    for _ in 0..3 {
        gateway.get("/a/").await.assert_ok();
        gateway.get("/b/").await.assert_ok();
    }
    let mut answered = 0;
    for connection in upstream.connections() {
        let shown = connection.session.unwrap().client.unwrap();
        for request in connection.requests {
            let expected = &clients[usize::from(request.uri.path() == "/b/")];
            assert_eq!(shown, expected.chain_der()[0].as_ref(), "{}", request.uri);
            answered += 1;
        }
    }
    assert_eq!(answered, 6);
}

#[tokio::test]
async fn d17_each_half_of_a_canary_keeps_its_scheme_sni_and_host() {
    const REQUESTS: usize = 60;
    let (new, old) = (any_tls().await, Upstream::cleartext().await);
    let manifests = mapping(
        "new",
        "/",
        "https://new",
        &["weight: 50", "host_rewrite: new.test"],
    ) + &mapping("old", "/", "http://old", &["host_rewrite: old.test"]);
    let plan = Gateway::with(manifests).resolve("new:443", new.address);
    let gateway = plan.resolve("old:80", old.address).start().await;
    for _ in 0..REQUESTS {
        gateway.get("/").await.assert_ok();
    }
    for (upstream, host) in [(&new, "new.test"), (&old, "old.test")] {
        let requests = upstream.requests();
        assert!(!requests.is_empty(), "{host}");
        assert!(requests.iter().all(|request| request.authority() == host));
    }
    assert_eq!(new.requests().len() + old.requests().len(), REQUESTS);
    let mut hellos = new.connections().into_iter().map(|seen| seen.hello.unwrap());
    assert!(hellos.all(|hello| hello.sni.as_deref() == Some("new.test")));
    let mut in_the_clear = old.connections().into_iter();
    assert!(in_the_clear.all(|seen| seen.bytes.starts_with(b"GET / HTTP/1.1\r\n")));
}

#[tokio::test]
async fn d19_what_follows_the_port_is_not_used_and_told() {
    let upstream = any_tls().await;
    let plan = Gateway::with(mapping("m", "/m/", "https://svc/path?x", &[]));
    let gateway = plan.resolve("svc:443", upstream.address).start().await;
    gateway.get("/m/y").await.assert_ok();
    let request = upstream.request();
    assert_eq!(request.uri, "/y");
    assert_eq!(upstream.hello().sni.as_deref(), Some("svc"));
    let problem = gateway.problem("Mapping m.default", "service_too_long").await;
    assert_eq!(
        (&problem["severity"], &problem["field"]),
        (&"notice".into(), &"spec.service".into()),
        "{problem:#}"
    );
}

#[tokio::test]
async fn d20_a_port_out_of_range_makes_only_that_mapping_invalid() {
    let (other, default_port) = (any_tls().await, any_tls().await);
    let manifests = mapping("m", "/m/", "https://svc:99999", &[])
        + &mapping("other", "/other/", &format!("https://{}", other.address), &[]);
    let plan = Gateway::with(manifests).resolve("svc:443", default_port.address);
    let gateway = plan.start().await;
    gateway.get("/m/").await.assert_refused("service_invalid");
    gateway.get("/other/").await.assert_ok();
    default_port.assert_untouched().await;
    let problem = gateway.problem("Mapping m.default", "service_invalid").await;
    assert_eq!(
        (&problem["severity"], &problem["field"]),
        (&"error".into(), &"spec.service".into()),
        "{problem:#}"
    );
    assert!(
        problem["message"].as_str().unwrap().contains("99999"),
        "{problem:#}"
    );
}
