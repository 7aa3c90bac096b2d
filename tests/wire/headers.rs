//! What happens to headers, paths and authorities on the way there and back.

use super::socket::{OK, Script, raw};
use crate::support::client::Client;
use crate::support::program::{Gateway, mapping};

#[tokio::test]
async fn hop_by_hop_headers_cross_neither_way() {
    let script = Script::answering(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nConnection: keep-alive, X-Mine, x-other\r\nX-Mine: 1\r\n\
         x-other: 2\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\nTe: gzip\r\n\
         x-kept: yes\r\nserver: upstream/1\r\n\r\nok",
    );
    let script = script.await;
    let gateway = script.gateway(&[]).await;
    let asked = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close, X-Secret\r\nconnection: te\r\nX-Secret: 1\r\n\
                 Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers, gzip\r\n\
                 X-Envoy-Internal: true\r\nx-envoy-expected-rq-timeout-ms: 1\r\nx-envoy-original-path: /forged\r\n\
                 x-envoy-retry-on: 5xx\r\nx-forwarded-client-cert: Hash=0\r\nx-envoy-external-address: 1.2.3.4\r\n\
                 HTTP2-Settings: AAMAAABk\r\nx-kept: yes\r\n\r\n";
    let answer = raw(gateway.address, asked).await;

    let request = script.request();
    assert_eq!(request.first_line(), "GET / HTTP/1.1");
    let id = request.values("x-request-id")[0].to_owned();
    assert_eq!(
        request.headers(),
        [
            "host: a.test",
            "te: trailers",
            "x-envoy-expected-rq-timeout-ms: 3000",
            "x-envoy-external-address: 127.0.0.1",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-proto: http",
            "x-kept: yes",
            &format!("x-request-id: {id}"),
        ]
    );

    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.lines().collect();
    lines.retain(|line| !line.starts_with("date: "));
    let time = lines
        .iter()
        .position(|line| line.starts_with("x-envoy-upstream-service-time: "));
    let time = lines.remove(time.unwrap_or_else(|| panic!("{head}")));
    time["x-envoy-upstream-service-time: ".len()..]
        .parse::<u64>()
        .unwrap();
    lines[1..].sort_unstable();
    assert_eq!(
        lines,
        [
            "HTTP/1.1 200 OK",
            "connection: close",
            "content-length: 2",
            "server: nuncio",
            "x-kept: yes",
        ]
    );
    assert_eq!(body, "ok");
}

#[tokio::test]
async fn the_client_is_told_to_the_upstream() {
    let script = Script::answering(OK).await;
    let gateway = script.gateway(&["timeout_ms: 4500"]).await;
    let asked = "GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-forwarded-for: 198.51.100.1\r\n\
                 x-forwarded-for: 198.51.100.2\r\nx-forwarded-proto: https\r\nx-request-id: mine\r\n\r\n";
    raw(gateway.address, asked).await;
    raw(gateway.address, asked).await;
    let requests = script.requests();
    let request = &requests[0];
    assert_eq!(
        request.values("x-forwarded-for"),
        ["198.51.100.1, 198.51.100.2, 127.0.0.1"]
    );
    assert_eq!(request.values("x-forwarded-proto"), ["http"]);
    assert_eq!(request.values("x-envoy-external-address"), ["127.0.0.1"]);
    assert_eq!(request.values("x-envoy-expected-rq-timeout-ms"), ["4500"]);
    assert_eq!(request.values("x-envoy-original-path"), [""; 0]);
    let ids: Vec<&str> = requests
        .iter()
        .flat_map(|request| request.values("x-request-id"))
        .collect();
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
    for id in ids {
        let groups: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12], "{id}");
    }
}

#[tokio::test]
async fn trusted_proxies_in_front_are_believed() {
    let script = Script::answering(OK).await;
    let listener = "---\napiVersion: getambassador.io/v3alpha1\nkind: Listener\nmetadata:\n  name: l\nspec:\n  \
                    port: $PORT\n  protocol: HTTP\n  securityModel: XFP\n  l7Depth: 1\n  hostBinding:\n    \
                    namespace:\n      from: ALL\n";
    let gateway = Gateway::start(format!("{}{listener}", script.mapping(&[]))).await;
    let asked = "GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-forwarded-for: 192.0.2.66, 198.51.100.1\r\n\
                 x-forwarded-proto: https\r\n\r\n";
    raw(gateway.address, asked).await;
    let request = script.request();
    assert_eq!(request.values("x-forwarded-proto"), ["https"]);
    assert_eq!(request.values("x-envoy-external-address"), ["198.51.100.1"]);
    assert_eq!(
        request.values("x-forwarded-for"),
        ["192.0.2.66, 198.51.100.1, 127.0.0.1"]
    );
}

#[tokio::test]
async fn the_module_decides_on_ids_and_envoys_headers() {
    let script = Script::answering(OK).await;
    let module = "---\napiVersion: getambassador.io/v3alpha1\nkind: Module\nmetadata:\n  name: ambassador\nspec:\n  \
                  config:\n    preserve_external_request_id: true\n    suppress_envoy_headers: true\n    \
                  server_name: shop\n";
    let mapping = mapping("m", "/a/", &script.service(), &[]);
    let gateway = Gateway::start(format!("{mapping}{module}")).await;
    let asked = "GET /a/b HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-request-id: mine\r\n\r\n";
    let answer = raw(gateway.address, asked).await;
    assert_eq!(
        script.request().headers(),
        [
            "host: a",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-proto: http",
            "x-request-id: mine"
        ]
    );
    assert!(answer.contains("\r\nserver: shop\r\n"), "{answer}");
    assert!(!answer.contains("x-envoy"), "{answer}");
}

#[tokio::test]
async fn mappings_add_and_remove_headers() {
    let script = Script::answering(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-more: upstream\r\nx-instead: upstream\r\nx-gone: 1\r\n\
         server: upstream\r\n\r\nok",
    );
    let script = script.await;
    let lines = [
        "add_request_headers:",
        "  x-more: {value: gateway}",
        "  x-instead: {value: gateway, append: false}",
        "  x-new: plain",
        "  x-both: {value: added}",
        "remove_request_headers: [x-gone, x-both, x-envoy-expected-rq-timeout-ms]",
        "add_response_headers:",
        "  x-more: {value: gateway}",
        "  x-instead: {value: gateway, append: false}",
        "  x-new: plain",
        "  server: {value: mine}",
        "remove_response_headers: [x-gone, server]",
    ];
    let gateway = script.gateway(&lines).await;
    let asked = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-more: client\r\nx-instead: client\r\nx-gone: 1\r\n\r\n";
    let answer = raw(gateway.address, asked).await;
    let request = script.request();
    assert_eq!(request.values("x-more"), ["client", "gateway"]);
    assert_eq!(request.values("x-instead"), ["gateway"]);
    assert_eq!(request.values("x-new"), ["plain"]);
    for gone in ["x-gone", "x-both", "x-envoy-expected-rq-timeout-ms"] {
        assert_eq!(request.values(gone), [""; 0], "{gone}");
    }
    assert!(
        answer.contains("\r\nx-more: upstream\r\nx-more: gateway\r\n"),
        "{answer}"
    );
    assert!(answer.contains("\r\nx-instead: gateway\r\n"), "{answer}");
    assert!(answer.contains("\r\nx-new: plain\r\n"), "{answer}");
    assert!(!answer.contains("x-gone"), "{answer}");
    // Whatever a Mapping says, this is the gateway's own.
    assert_eq!(answer.matches("server: ").count(), 1, "{answer}");
    assert!(answer.contains("\r\nserver: nuncio\r\n"), "{answer}");
}

#[tokio::test]
async fn paths_and_authorities_are_rewritten() {
    let script = Script::answering(OK).await;
    let service = script.service();
    let manifests = [
        mapping("plain", "/plain/", &service, &[]),
        mapping("kept", "/kept/", &service, &["rewrite: \"\""]),
        mapping(
            "other",
            "/other/",
            &service,
            &["rewrite: /new/", "host_rewrite: Up.test:8443"],
        ),
        mapping(
            "exact",
            "/exact",
            &service,
            &["prefix_exact: true", "rewrite: /whole"],
        ),
        mapping("pattern", "'/p/[0-9]+'", &service, &["prefix_regex: true"]),
        mapping(
            "regex",
            "/v",
            &service,
            &[
                "regex_rewrite:",
                "  pattern: '/v([0-9]+)/'",
                "  substitution: '/version/\\1/'",
            ],
        ),
    ];
    let gateway = Gateway::start(manifests.concat()).await;
    let cases = [
        ("/plain/a?q=1", "/a?q=1", Some("/plain/a?q=1")),
        ("/plain/", "/", Some("/plain/")),
        ("/kept/a?q=1", "/kept/a?q=1", None),
        ("/other/a?q", "/new/a?q", Some("/other/a?q")),
        ("/exact?x", "/whole?x", Some("/exact?x")),
        ("/p/12?x", "/?x", Some("/p/12?x")),
        ("/v2/x/v3/", "/version/2/x/version/3/", Some("/v2/x/v3/")),
        ("/kept/a/../b/./c", "/kept/b/c", None),
        ("/kept/%2e%2e/plain/x", "/x", Some("/plain/x")),
        ("/kept/%41%2F%zz", "/kept/A%2F%zz", None),
        ("/plain/%41?%41", "/A?%41", Some("/plain/A?%41")),
    ];
    for (asked, sent, original) in cases {
        let answer = raw(
            gateway.address,
            format!("GET {asked} HTTP/1.1\r\nhost: A.test\r\nconnection: close\r\n\r\n"),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{asked}: {answer}");
        let request = script.request();
        assert_eq!(request.first_line(), format!("GET {sent} HTTP/1.1"), "{asked}");
        let told = request.values("x-envoy-original-path");
        assert_eq!(told.first().copied(), original, "{asked}");
        let host = if asked.starts_with("/other") {
            "Up.test:8443"
        } else {
            "A.test"
        };
        assert_eq!(request.values("host"), [host], "{asked}");
    }
}

#[tokio::test]
async fn http2_requests_become_http1_ones() {
    let script = Script::answering(OK).await;
    let gateway = script.gateway(&[]).await;
    let mut client = Client::http2(gateway.address).await;
    let answer = client.get("a.test:81", "/x?y=z").await;
    assert_eq!(answer.header("server"), "nuncio");
    let request = script.request();
    assert_eq!(request.first_line(), "GET /x?y=z HTTP/1.1");
    assert_eq!(request.values("host"), ["a.test:81"]);
    assert_eq!(request.values("x-forwarded-proto"), ["http"]);
}

#[tokio::test]
async fn an_upstream_does_not_speak_in_the_gateways_name() {
    let script = Script::answering(
        "HTTP/1.1 503 No\r\nx-nuncio-reason: expired\r\nX-Nuncio-Other: 1\r\nx-envoy-upstream-service-time: 999999\r\n\
         server: nuncio\r\ntransfer-encoding: chunked\r\ntrailer: x-nuncio-reason, x-kept\r\n\r\n2\r\nok\r\n0\r\n\
         x-nuncio-reason: expired\r\nserver: other\r\nx-kept: yes\r\n\r\n",
    );
    let script = script.await;
    for module in [None, Some("suppress_envoy_headers: true")] {
        let module = module.map_or_else(String::new, |line| {
            format!(
                "---\napiVersion: getambassador.io/v3alpha1\nkind: Module\nmetadata:\n  name: ambassador\nspec:\n  \
                 config:\n    {line}\n"
            )
        });
        let gateway = Gateway::start(script.mapping(&[]) + &module).await;
        let mut client = Client::http2(gateway.address).await;
        let answer = client.get("a", "/").await;
        assert_eq!(answer.status, http::StatusCode::SERVICE_UNAVAILABLE);
        for name in ["x-nuncio-reason", "x-nuncio-other"] {
            assert!(!answer.headers.contains_key(name), "{answer:?}");
        }
        assert_ne!(answer.header("x-envoy-upstream-service-time"), "999999");
        assert_eq!(answer.headers.get_all("server").iter().count(), 1);
        assert_eq!(answer.trailers.len(), 1, "{answer:?}");
        assert_eq!(answer.trailers["x-kept"], "yes");
    }
}

#[tokio::test]
async fn a_client_takes_off_nothing_that_others_need() {
    let script = Script::answering(OK).await;
    let gateway = script.gateway(&[]).await;
    let asked = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close, authorization, cookie, x-request-id, x-mine\r\n\
                 connection: host, x-forwarded-for, x-forwarded-proto, x-envoy-external-address, content-length\r\n\
                 authorization: Bearer x\r\ncookie: a=b\r\nx-mine: 1\r\nx-forwarded-for: 198.51.100.1\r\n\r\n";
    raw(gateway.address, asked).await;
    let request = script.request();
    assert_eq!(request.values("host"), ["a"]);
    assert_eq!(request.values("authorization"), ["Bearer x"]);
    assert_eq!(request.values("cookie"), ["a=b"]);
    assert_eq!(request.values("x-forwarded-for"), ["198.51.100.1, 127.0.0.1"]);
    assert_eq!(request.values("x-forwarded-proto"), ["http"]);
    assert_eq!(request.values("x-envoy-external-address"), ["127.0.0.1"]);
    assert_eq!(request.values("x-request-id").len(), 1);
    assert_eq!(request.values("x-mine"), [""; 0]);
}
