//! What each path says.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::gateway::{CREDENTIAL, KEY, LEAF, snapshot};
use super::{Reply, Served};

fn told(reply: &Reply) -> (u16, &str) {
    (reply.status, &reply.body)
}

#[tokio::test]
async fn ready_only_once_a_configuration_serves() {
    let served = Served::new(None).await;
    let path = "/ambassador/v0/check_ready";
    assert_eq!(told(&served.get(path).await), (503, "nuncio is not ready\n"));
    served.snapshot.send_replace(Some(snapshot().into()));
    assert_eq!(
        told(&served.get(path).await),
        (200, "nuncio is ready and waiting\n")
    );
    served.proxy.ready.store(false, Ordering::Relaxed);
    assert_eq!(told(&served.get(path).await), (503, "nuncio is not ready\n"));
}

#[tokio::test]
async fn alive_from_the_start_and_until_a_worker_is_gone() {
    let served = Served::new(None).await;
    let path = "/ambassador/v0/check_alive";
    let reply = served.get(path).await;
    assert_eq!(told(&reply), (200, "nuncio is alive and well\n"));
    assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
    served.proxy.alive.store(false, Ordering::Relaxed);
    assert_eq!(told(&served.get(path).await), (503, "nuncio is not alive\n"));
}

#[tokio::test]
async fn metrics_are_the_proxys() {
    let served = Served::usual().await;
    let reply = served.get("/metrics").await;
    assert_eq!(reply.status, 200);
    assert!(
        reply.body.starts_with("nuncio_config_revision 42\n"),
        "{}",
        reply.body
    );
    assert!(
        reply.body.lines().any(|line| line == "nuncio_log_lost_total 7"),
        "{}",
        reply.body
    );
    assert_eq!(
        reply.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let unconfigured = Served::new(None).await.get("/metrics").await;
    assert_eq!(unconfigured.status, 200);
    assert!(unconfigured.body.starts_with("# no configuration yet\n"));
}

#[tokio::test]
async fn lists_are_not_empty_but_absent_before_the_first_configuration() {
    let served = Served::new(None).await;
    for path in ["problems", "routes", "upstreams", "certificates"] {
        assert_eq!(served.get(&format!("/api/v1/{path}")).await.status, 503, "{path}");
    }
    let reply = served.get("/ambassador/v0/diag/?json=true").await;
    assert_eq!(
        told(&reply),
        (
            503,
            "{\"error\":\"no configuration has been read yet; try again\"}\n"
        )
    );
}

#[tokio::test]
async fn problems_are_those_of_the_manifests_and_those_of_running() {
    let expected = json!({ "problems": [
        {
            "severity": "error", "reason": "unknown_tls_context", "message": "no TLSContext nosuch; create it",
            "object": { "kind": "Mapping", "namespace": "default", "name": "c" }, "field": "spec.tls",
            "file": "m.yaml", "line": 12, "column": 3
        },
        { "severity": "warning", "reason": "unknown_field", "message": "the file has no kind" },
        {
            "severity": "notice", "reason": "listener_opened", "message": "opened 8080",
            "object": { "kind": "Mapping", "namespace": "default", "name": "a" }, "field": "spec.tls"
        },
        {
            "severity": "error", "reason": "port_taken", "message": "another program holds port 8080; stop it",
            "object": { "kind": "Listener", "namespace": "default", "name": "http" }, "field": "spec.tls"
        },
    ] });
    assert_eq!(Served::usual().await.json("/api/v1/problems").await, expected);
}

/// Of one host; the other has the same.
fn routes_of(host: &str, insecure: &str) -> [Value; 2] {
    let shared = json!({
        "listener": "http-8080", "port": 8080, "host": host, "insecure": insecure,
        "precedence": 0, "prefix": "/a/", "prefix_exact": false, "prefix_regex": false, "case_sensitive": false,
        "method": "GET", "method_regex": false, "headers": {}, "regex_headers": {},
        "query_parameters": {}, "regex_query_parameters": {},
        "mappings": [
            {
                "kind": "Mapping", "namespace": "default", "name": "a", "share": 30,
                "upstream": "https://svc.test:443 (ctx.default)"
            },
            { "kind": "Mapping", "namespace": "default", "name": "b", "share": 70, "upstream": "http://[::1]:8080" },
        ],
        "upstreams": ["https://svc.test:443 (ctx.default)", "http://[::1]:8080"],
    });
    let odd = json!({
        "listener": "http-8080", "port": 8080, "host": host, "insecure": insecure,
        "precedence": -1, "hostname": "*.test",
        "prefix": "/x/[0-9]+", "prefix_exact": false, "prefix_regex": true, "case_sensitive": true,
        "method": "GET|PUT", "method_regex": true,
        "headers": { "authorization": "…", "x-exact": "1", "x-present": true },
        "regex_headers": { "x-api-key": "…", "x-regex": "a.*" },
        "query_parameters": { "access_token": "…", "q": "v" }, "regex_query_parameters": { "r": "w" },
        "mappings": [{
            "kind": "Mapping", "namespace": "default", "name": "c", "share": 100,
            "unresolved": { "reason": "tls_config_unresolved", "message": "no TLSContext nosuch" }
        }],
        "upstreams": [],
    });
    [shared, odd]
}

#[tokio::test]
async fn routes_stand_in_match_order_by_host() {
    let expected = [routes_of("*.test", "redirect"), routes_of("*", "route")].concat();
    assert_eq!(
        Served::usual().await.json("/api/v1/routes").await,
        json!({ "routes": expected })
    );
}

#[tokio::test]
async fn upstreams_tell_each_tls_setting_with_its_origin() {
    let context = json!({ "kind": "TLSContext", "namespace": "default", "name": "ctx" });
    let field = |name: &str| json!({ "field": { "object": context, "field": name } });
    let tls = json!({
        "origins_of": { "kind": "Mapping", "namespace": "default", "name": "a" },
        "enabled": { "value": true, "origin": { "field": {
            "object": { "kind": "Mapping", "namespace": "default", "name": "a" }, "field": "spec.service"
        } } },
        "context": context,
        "auto_sni": { "value": false, "origin": "built_in" },
        "sni": { "value": "svc.test", "origin": field("spec.sni") },
        "verify_mode": { "value": "full", "origin": { "environment": "NUNCIO_UPSTREAM_VERIFY_MODE" } },
        "verify_names": { "value": ["svc.test", "spiffe://a/b"], "origin": field("spec.verify.names") },
        "roots": {
            "value": { "bundle": { "certificates": 2, "sha256": "ab".repeat(32) }, "system": false },
            "origin": field("spec.ca_secret")
        },
        "crl": { "value": { "lists": 1, "sha256": "ef".repeat(32) }, "origin": field("spec.crl_secret") },
        "pins": {
            "value": ["sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="],
            "origin": field("spec.verify.pins")
        },
        "client_certificate": {
            "value": { "subject": "CN=client", "not_after": "2027-01-01T00:00:00Z", "sha256": LEAF, "chain": 2 },
            "origin": field("spec.secret")
        },
        "min_version": { "value": "TLSv1.3", "origin": field("spec.min_tls_version") },
        "max_version": { "value": "TLSv1.3", "origin": "built_in" },
        "cipher_suites": {
            "value": ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"],
            "origin": "built_in"
        },
        "groups": { "value": ["X25519"], "origin": field("spec.ecdh_curves") },
        "alpn": { "value": ["h2", "http/1.1"], "origin": { "module": "defaults.alpn" } },
    });
    let mut answer = Served::usual().await.json("/api/v1/upstreams").await;
    let shown = answer["upstreams"][0]["tls"].as_object_mut().unwrap();
    let others = shown.remove("other_origins").unwrap();
    assert_eq!(json!(shown), tls);
    let object = |kind, namespace, name| json!({ "kind": kind, "namespace": namespace, "name": name });
    assert_eq!(others.as_array().unwrap().len(), 1);
    assert_eq!(others[0]["mappings"], json!([object("Mapping", "default", "b")]));
    assert_eq!(
        others[0]["origins"]["context"],
        object("TLSContext", "team", "other")
    );
    assert_eq!(others[0]["origins"]["min_version"], field("spec.min_tls_version"));
}

#[tokio::test]
async fn upstreams_tell_how_their_endpoints_fare() {
    let handshake = json!({
        "outcome": "name_mismatch", "message": "the certificate is for a.test", "remedy": "set verify.names",
        "at": "2026-02-03T04:05:06Z", "sni": "svc.test", "version": "TLSv1.3",
        "cipher": "TLS_AES_128_GCM_SHA256", "group": "X25519", "alpn": null, "resumed": false,
        "duration_ms": 3.5, "client_certificate": { "requested": true, "sent": true },
        "verify": { "mode": "full", "result": "name_mismatch", "names": ["svc.test"] },
        "peer": [certificate("CN=peer", "aa"), certificate("CN=intermediate", "bb")],
    });
    let mut answer = Served::usual().await.json("/api/v1/upstreams").await;
    answer["upstreams"][0]["tls"] = json!("see above");
    let object = |name: &str| json!({ "kind": "Mapping", "namespace": "default", "name": name });
    let expected = json!({ "upstreams": [
        {
            "name": "https://svc.test:443 (ctx.default)", "mappings": [object("a"), object("b")],
            "address": "svc.test:443", "resolve": { "service": "svc.default:443" }, "http": "negotiated",
            "tls": "see above", "stale": true,
            "endpoints": [
                { "address": "10.0.0.1:443", "active": 2, "idle": 1, "last_handshake": handshake },
                { "address": "10.0.0.2:443", "active": 0, "idle": 1, "last_handshake": handshake },
            ],
            "failures": [
                { "reason": "name_mismatch", "count": 7 }, { "reason": "alert_received:unknown_ca", "count": 1 },
            ],
        },
        {
            "name": "http://[::1]:8080", "mappings": [object("b")],
            "address": "[::1]:8080", "resolve": { "fixed": ["[::1]:8080"] }, "http": "http/1.1",
            "tls": null, "stale": false, "endpoints": [], "failures": [],
        },
    ] });
    assert_eq!(answer, expected);
}

fn certificate(subject: &str, sha256: &str) -> Value {
    json!({
        "subject": subject, "issuer": "CN=ca", "sans": ["DNS:a.test"],
        "not_before": "2026-01-01T00:00:00Z", "not_after": "2027-01-01T00:00:00Z", "sha256": sha256,
        "pin": "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    })
}

#[tokio::test]
async fn certificates_are_those_loaded_and_those_that_peers_showed() {
    let entry = |role: &str, from: &str, subject: &str, sha256: &str| {
        let mut entry = certificate(subject, sha256);
        entry["role"] = role.into();
        entry["from"] = from.into();
        entry
    };
    let secret = "Secret s.default, tls.crt";
    let peer = "https://svc.test:443 (ctx.default), endpoint 10.0.0.1:443";
    let expected = json!({ "certificates": [
        entry("client", secret, "CN=client", LEAF),
        entry("ca", secret, "CN=ca", "cc"),
        entry("peer", peer, "CN=peer", "aa"),
        entry("peer", peer, "CN=intermediate", "bb"),
    ] });
    assert_eq!(Served::usual().await.json("/api/v1/certificates").await, expected);
}

#[tokio::test]
async fn diagnostics_have_the_references_keys() {
    let mut answer = Served::usual().await.json("/ambassador/v0/diag/?json=true").await;
    let groups = answer["groups"].take();
    let expected = json!({
        "system": {
            "version": "1.2.3", "hostname": "gateway-0", "ambassador_id": "default",
            "ambassador_namespace": "ambassador", "single_namespace": false, "mode": "file",
            "boot_time": "2023-11-14T22:13:20Z", "ready": true, "revision": 42
        },
        "errors": [
            ["c.default.1", "no TLSContext nosuch; create it"],
            ["http.default.1", "another program holds port 8080; stop it"],
        ],
        "notices": [
            { "level": "WARNING", "message": "the file has no kind" },
            { "level": "NOTICE", "message": "a.default.1: opened 8080" },
        ],
        "groups": null,
        "tlscontexts": [
            {
                "name": "ctx", "namespace": "default", "stale": true,
                "upstreams": ["https://svc.test:443 (ctx.default)"]
            },
            {
                "name": "other", "namespace": "team", "stale": true,
                "upstreams": ["https://svc.test:443 (ctx.default)"]
            },
        ],
    });
    assert_eq!(answer, expected);
    let keys: Vec<&String> = groups.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["a.default.1", "c.default.1"]);
    assert_eq!(groups["a.default.1"]["hosts"], json!(["*", "*.test"]));
    assert_eq!(groups["a.default.1"]["prefix"], "/a/");
    assert_eq!(groups["a.default.1"]["mappings"][1]["name"], "b");
}

#[tokio::test]
async fn a_filter_picks_one_key_of_the_diagnostics() {
    let served = Served::usual().await;
    let errors = served.json("/ambassador/v0/diag/?json=true&filter=errors").await;
    assert_eq!(
        errors[0],
        json!(["c.default.1", "no TLSContext nosuch; create it"])
    );
    assert_eq!(
        served.json("/ambassador/v0/diag/?json=true&filter=nosuch").await,
        Value::Null
    );
    assert!(
        served
            .json("/ambassador/v0/diag/?json=true&filter=")
            .await
            .is_object()
    );
}

#[tokio::test]
async fn without_json_the_page_lists_what_there_is() {
    let reply = Served::usual().await.get("/ambassador/v0/diag/").await;
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (200, Some("text/plain; charset=utf-8"))
    );
    assert!(
        reply
            .body
            .starts_with("nuncio 1.2.3 on gateway-0, ready\nrevision 42, errors 2, warnings 1, notices 1\n")
    );
    for path in [
        "/api/v1/problems",
        "/api/v1/upstreams",
        "/metrics",
        "/ambassador/v0/diag/?json=true",
    ] {
        assert!(reply.body.contains(path), "{path}");
    }
    let unconfigured = Served::new(None).await.get("/ambassador/v0/diag/").await;
    assert!(
        unconfigured.body.contains("not ready\nno configuration yet\n"),
        "{}",
        unconfigured.body
    );
}

#[tokio::test]
async fn json_is_laid_out_when_asked_for() {
    let served = Served::usual().await;
    let compact = served.get("/api/v1/routes").await.body;
    let pretty = served.get("/api/v1/routes?pretty").await.body;
    assert_eq!((compact.lines().count(), compact.ends_with('\n')), (1, true));
    assert!(pretty.starts_with("{\n  \"routes\": [\n"), "{pretty}");
    let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(value(&compact), value(&pretty));
}

#[tokio::test]
async fn k16_no_answer_holds_bytes_of_a_key() {
    let served = Served::usual().await;
    let hex = nuncio_model::hex(KEY);
    let text = std::str::from_utf8(KEY).unwrap();
    let decimal = KEY.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
    for path in [
        "/api/v1/problems",
        "/api/v1/routes",
        "/api/v1/upstreams",
        "/api/v1/certificates",
        "/ambassador/v0/diag/",
        "/ambassador/v0/diag/?json=true",
        "/metrics",
    ] {
        let body = served.get(path).await.body;
        assert!(
            !body.contains(text) && !body.contains(&hex) && !body.contains(&decimal),
            "{path}"
        );
        assert!(!body.contains(CREDENTIAL), "{path}");
        // A digest over the key says nothing today; it is nobody's business all the same.
        assert!(!body.contains(&"cd".repeat(32)), "{path}");
    }
}
