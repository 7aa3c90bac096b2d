//! One reading of a path: what a Mapping matches is what is sent upstream, on HTTP/1.1 and HTTP/2 alike.

use http::StatusCode;

use super::socket::{OK, Script, raw};
use crate::support::client::Client;
use crate::support::program::{Gateway, finish, mapping};

/// Everything goes to the upstream as it came, but `/admin`, which is not to be reached.
async fn guarded(script: &Script) -> Gateway {
    let guard = mapping("guard", "/admin", "https://127.0.0.1:9", &["tls: nothere"]);
    Gateway::start(script.mapping(&[]) + &guard).await
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
}

#[tokio::test]
async fn a_guard_sees_every_spelling_of_its_path() {
    let script = Script::answering(OK).await;
    let gateway = guarded(&script).await;
    let spellings = [
        "/admin",
        "/x/../admin",
        "/%61dmin",
        "/admi%6E/users",
        "/%61%64%6d%69%6e",
        "/x/%2e%2E/%61dmin",
        "/x/..;/admin",
        "/x/..;a=b/%61dmin",
        "/x/%2e%2e;/admin",
        "/x\\..\\admin",
        "/\\../admin",
        "/./admin",
        "/../admin",
        "/%2e/admin",
        "/.;/admin",
    ];
    let mut http2 = Client::http2(gateway.address).await;
    for path in spellings {
        let answer = raw(gateway.address, get(path)).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{path}: {answer}");
        let answer = raw(gateway.address, get(&format!("http://a{path}"))).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "http://a{path}: {answer}");
        let answer = http2.get("a", path).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
    }
    assert_eq!(script.requests().len(), 0);
}

#[tokio::test]
async fn the_path_that_matched_is_the_path_that_is_sent() {
    let script = Script::answering(OK).await;
    let gateway = guarded(&script).await;
    let mut http2 = Client::http2(gateway.address).await;
    for (asked, sent) in [
        ("/", "/"),
        ("/?x=%61", "/?x=%61"),
        ("/%7Euser/%2Fx%2f?%2e", "/~user/%2Fx%2f?%2e"),
        ("/a/./b/../c", "/a/c"),
        ("/a//b", "/a//b"),
        ("/a\\b?c\\d", "/a/b?c\\d"),
        ("/%252e%252e/a", "/%252e%252e/a"),
        ("/%2%65", "/%252e"),
        ("/%zz%", "/%zz%"),
        ("/x;y=z/..a", "/x;y=z/..a"),
        ("/a|b", "/a%7Cb"),
    ] {
        let answer = raw(gateway.address, get(asked)).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{asked}: {answer}");
        let expected = format!("GET {sent} HTTP/1.1");
        assert_eq!(script.request().first_line(), expected, "{asked}");
        http2.get("a", asked).await.assert_ok();
        assert_eq!(script.request().first_line(), expected, "{asked} by HTTP/2");
    }
}

#[tokio::test]
async fn targets_with_two_readings_are_refused() {
    let script = Script::answering(OK).await;
    let gateway = guarded(&script).await;
    for target in [
        "/a%00b",
        "/caf\u{e9}",
        "/a?caf\u{e9}",
        "/a#b",
        "/a?b#",
        "http://a/b#c",
        "http://a#",
        "ftp://a/b",
        "ws://a/",
        "://a/",
        "http://u@a/",
        "http://a:b/",
        "*",
        "a",
        "a:80",
        "..",
        "?a",
    ] {
        let answer = raw(gateway.address, get(target)).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{target}: {answer}");
    }
    let mut http2 = Client::http2(gateway.address).await;
    for path in ["/a%00b", "/caf\u{e9}", "/a?caf\u{e9}"] {
        let answer = http2.get("a", path).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
    }
    assert_eq!(script.requests().len(), 0);
}

#[tokio::test]
async fn targets_of_other_forms_have_one_reading() {
    let script = Script::answering(OK).await;
    let gateway = guarded(&script).await;
    for (target, sent) in [
        ("http://a", "/"),
        ("http://a?b", "/?b"),
        ("http://a/%61/../b", "/b"),
        ("https://a/b", "/b"),
        ("HTTP://a/b", "/b"),
    ] {
        let answer = raw(gateway.address, get(target)).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{target}: {answer}");
        assert_eq!(script.request().first_line(), format!("GET {sent} HTTP/1.1"));
    }
    let asked = "OPTIONS * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = raw(gateway.address, asked).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "no Mapping has it: {answer}");
}

#[tokio::test]
async fn a_rewrite_makes_no_dot_segment() {
    let script = Script::answering(OK).await;
    let service = script.service();
    let manifests = [
        mapping("prefix", "/files", &service, &["rewrite: /public/"]),
        mapping(
            "regex",
            "/v",
            &service,
            &["regex_rewrite: {pattern: '/v/(.*)/~', substitution: '/\\1/.'}"],
        ),
    ];
    let gateway = Gateway::start(manifests.concat()).await;
    for path in ["/files../secret", "/files..;/secret", "/v/a/~./b", "/v/a/~"] {
        let answer = raw(gateway.address, get(path)).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
    }
    assert_eq!(script.requests().len(), 0);
    raw(gateway.address, get("/files..x?/../y")).await;
    assert_eq!(script.request().first_line(), "GET /public/..x?/../y HTTP/1.1");
}

#[tokio::test]
async fn the_module_merges_and_refuses_slashes() {
    let script = Script::answering(OK).await;
    let module = "---\napiVersion: getambassador.io/v3alpha1\nkind: Module\nmetadata:\n  name: ambassador\nspec:\n  \
                  config:\n    merge_slashes: true\n    reject_requests_with_escaped_slashes: true\n";
    let gateway = Gateway::start(script.mapping(&[]) + module).await;
    for path in ["/a%2Fb", "/a%5cb"] {
        let answer = raw(gateway.address, get(path)).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
    }
    raw(gateway.address, get("//a//../%61///b/?x=//%2F")).await;
    assert_eq!(script.request().first_line(), "GET /a/a/b/?x=//%2F HTTP/1.1");
}

#[tokio::test]
async fn explain_reads_paths_as_the_gateway_does() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.yaml");
    let manifests = mapping("root", "/", "http://127.0.0.1:9", &["rewrite: \"\""])
        + &mapping("admin", "/admin", "http://127.0.0.1:9", &["rewrite: \"\""]);
    std::fs::write(&file, manifests).unwrap();
    let explain = |path: &str| {
        let url = format!("http://a:8080{path}");
        finish(&["explain", &url, "--config", &file.display().to_string()])
    };
    let explained = explain("/x/..;/%61dmin");
    assert!(explained.stdout.contains("admin.default"), "{explained:?}");
    let explained = explain("/a%00");
    assert_eq!(explained.status, 1, "{explained:?}");
    assert!(explained.stdout.contains("`%00`"), "{explained:?}");
}
