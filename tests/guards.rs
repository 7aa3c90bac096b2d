//! What guards requests and is not supported lets none of them pass.

use http::StatusCode;

use crate::support::client::Response;
use crate::support::peer::Upstream;
use crate::support::program::{Gateway, finish, mapping};

const AUTH: &str = "---\napiVersion: getambassador.io/v3alpha1\nkind: AuthService\nmetadata: {name: auth}\n\
    spec: {auth_service: auth}\n";

fn module(config: &str) -> String {
    format!(
        "---\napiVersion: getambassador.io/v3alpha1\nkind: Module\nmetadata: {{name: ambassador}}\nspec:\n  \
         config: {config}\n"
    )
}

#[tokio::test]
async fn an_auth_service_lets_only_bypassing_mappings_pass() {
    let upstream = Upstream::cleartext().await;
    let service = format!("http://{}", upstream.address);
    let manifests = mapping("guarded", "/guarded/", &service, &[])
        + &mapping("open", "/open/", &service, &["bypass_auth: true"])
        + AUTH;
    let gateway = Gateway::with(manifests).start().await;
    let refused = gateway.get("/guarded/").await;
    refused.assert_refused("filter_unresolved");
    gateway.get("/open/").await.assert_ok();
    assert_eq!(gateway.get("/nothing/").await.status, StatusCode::NOT_FOUND);
    assert_eq!(upstream.requests().len(), 1);
    let problem = gateway
        .problem("AuthService auth.default", "filter_unresolved")
        .await;
    assert_eq!(problem["severity"], "error", "{problem:#}");
}

/// They come before routes: in the reference, too, also what no Mapping matches is asked for its address.
#[tokio::test]
async fn address_lists_let_no_request_pass() {
    let upstream = Upstream::cleartext().await;
    let service = format!("http://{}", upstream.address);
    for config in [
        "{ip_allow: [{peer: 127.0.0.1}]}",
        "{ip_deny: [{peer: 10.0.0.1}]}",
        "{ip_alow: [{peer: 127.0.0.1}]}",
    ] {
        let manifests = mapping("m", "/m/", &service, &["bypass_auth: true"]) + &module(config);
        let gateway = Gateway::with(manifests).start().await;
        gateway.get("/m/").await.assert_refused("filter_unresolved");
        gateway.get("/nothing/").await.assert_refused("filter_unresolved");
    }
    upstream.assert_untouched().await;
}

#[tokio::test]
async fn a_filter_policy_lets_what_it_exempts_pass() {
    const POLICY: &str = "---\napiVersion: getambassador.io/v3alpha1\nkind: FilterPolicy\nmetadata: {name: p}\nspec:\n  \
        rules:\n  - {host: '*', path: /m/open/*, filters: null}\n  - {host: '*', path: /m/*, filters: [{name: jwt}]}\n";
    let upstream = Upstream::cleartext().await;
    let service = format!("http://{}", upstream.address);
    let manifests = mapping("m", "/m/", &service, &[]) + &mapping("other", "/other/", &service, &[]) + POLICY;
    let gateway = Gateway::with(manifests).start().await;
    for path in ["/m/", "/m/x?y", "/m/open/../x", "/m/open/%2e%2e/x"] {
        gateway.get(path).await.assert_refused("filter_unresolved");
    }
    gateway.get("/m/open/x").await.assert_ok();
    gateway.get("/other/").await.assert_ok();
}

/// A guard that comes while requests are served holds from the next request on, and goes with its object.
#[tokio::test]
async fn a_guard_comes_and_goes_with_its_object() {
    let upstream = Upstream::cleartext().await;
    let manifests = mapping("m", "/m/", &format!("http://{}", upstream.address), &[]);
    let gateway = Gateway::start(manifests).await;
    gateway.get("/m/").await.assert_ok();
    gateway.write("auth.yaml", AUTH);
    let refused = |response: &Response| response.status == StatusCode::SERVICE_UNAVAILABLE;
    gateway
        .get_until("/m/", refused)
        .await
        .assert_refused("filter_unresolved");
    gateway.remove("auth.yaml");
    gateway
        .get_until("/m/", |response| !refused(response))
        .await
        .assert_ok();
}

#[test]
fn explain_and_check_say_what_guards() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.yaml");
    std::fs::write(&file, mapping("m", "/m/", "http://svc", &[]) + AUTH).unwrap();
    let path = file.to_str().unwrap();
    let check = finish(&["check", path]);
    assert_eq!(check.status, 1, "{}", check.stdout);
    assert!(
        check.stdout.contains("error[filter_unresolved]"),
        "{}",
        check.stdout
    );
    let explain = finish(&["explain", "http://localhost/m/", "--config", path]);
    assert_eq!(explain.status, 1, "{}", explain.stdout);
    assert!(
        explain.stdout.contains("503 filter_unresolved"),
        "{}",
        explain.stdout
    );
}

/// Each carries traffic or guards it, so that nobody may overlook that it is gone.
#[test]
fn strict_fails_on_what_is_lost() {
    for (version, kind, name) in [
        ("getambassador.io/v3alpha1", "FilterPolicy", "x"),
        ("getambassador.io/v3alpha1", "Filter", "x"),
        ("getambassador.io/v3alpha1", "TCPMapping", "x"),
        ("getambassador.io/v3alpha1", "RateLimitService", "x"),
        ("getambassador.io/v3alpha1", "LogService", "x"),
        ("getambassador.io/v3alpha1", "TracingService", "x"),
        ("getambassador.io/v3alpha1", "Module", "tls"),
        ("getambassador.io/v3alpha1", "Mappping", "x"),
        ("getambassador.io/v3alpha2", "Mapping", "x"),
        ("ambassador/v0", "Mapping", "x"),
        ("networking.k8s.io/v1", "Ingress", "x"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.yaml");
        let manifest = format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: {name}\n  annotations: \
             {{kubernetes.io/ingress.class: ambassador}}\nspec: {{}}\n"
        );
        std::fs::write(&file, manifest).unwrap();
        let check = finish(&["check", "--strict", file.to_str().unwrap()]);
        assert_eq!(check.status, 1, "{kind} of {version}: {}", check.stdout);
    }
}
