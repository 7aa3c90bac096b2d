//! Which Host and which Mapping a request comes to, and what insecure requests get.

use super::socket::{OK, Script, raw};
use crate::support::program::{Gateway, mapping};

fn host(name: &str, hostname: &str, action: &str) -> String {
    format!(
        "---\napiVersion: getambassador.io/v3alpha1\nkind: Host\nmetadata:\n  name: {name}\nspec:\n  \
         hostname: \"{hostname}\"\n  requestPolicy:\n    insecure:\n      action: {action}\n"
    )
}

fn listener(model: &str, depth: u32) -> String {
    format!(
        "---\napiVersion: getambassador.io/v3alpha1\nkind: Listener\nmetadata:\n  name: l\nspec:\n  port: $PORT\n  \
         protocol: HTTP\n  securityModel: {model}\n  l7Depth: {depth}\n  hostBinding:\n    namespace:\n      from: ALL\n"
    )
}

/// Status line and, where there is one, location of the answer.
async fn ask(gateway: &Gateway, host: &str, path: &str, more: &str) -> (String, Option<String>) {
    let asked = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{more}\r\n");
    let answer = raw(gateway.address, asked).await;
    let status = answer.lines().next().unwrap_or_default();
    let location = answer.lines().find_map(|line| line.strip_prefix("location: "));
    (
        status.trim_start_matches("HTTP/1.1 ").to_owned(),
        location.map(str::to_owned),
    )
}

#[tokio::test]
async fn the_most_exact_host_decides() {
    // Told apart by their answers.
    let named = async |status: &'static str| {
        Script::answering(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")).await
    };
    let (exact, suffix, all) = (
        named("200 OK").await,
        named("201 Created").await,
        named("202 Accepted").await,
    );
    let mapping = |name: &str, hostname: &str, script: &Script| {
        mapping(name, "/", &script.service(), &[])
            .replace("hostname: \"*\"", &format!("hostname: \"{hostname}\""))
    };
    let manifests = [
        host("exact", "a.test", "Route"),
        host("suffix", "*.test", "Route"),
        mapping("exact", "a.test", &exact),
        mapping("suffix", "*.test", &suffix),
        mapping("all", "*.b.test", &all),
    ];
    let gateway = Gateway::start(manifests.concat()).await;
    for (host, status) in [
        ("a.test", "200 OK"),
        ("A.TEST", "200 OK"),
        ("b.test", "201 Created"),
        ("x.y.test", "201 Created"),
        ("x.b.test", "202 Accepted"),
        ("test", "404 Not Found"),
        ("a.test:8080", "404 Not Found"),
        ("other", "404 Not Found"),
        ("", "404 Not Found"),
    ] {
        assert_eq!(ask(&gateway, host, "/", "").await.0, status, "{host}");
    }
}

#[tokio::test]
async fn a_request_without_a_route_is_answered_404() {
    let script = Script::answering(OK).await;
    let gateway = Gateway::start(mapping("m", "/api/", &script.service(), &[])).await;
    let answer = raw(
        gateway.address,
        "GET /apx HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    assert!(answer.contains("\r\nserver: nuncio\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "there is no body: {answer}");
    assert_eq!(script.upstream.connections().len(), 0);
}

#[tokio::test]
async fn insecure_requests_get_what_their_host_says() {
    let script = Script::answering(OK).await;
    let service = script.service();
    let manifests = [
        host("redirect", "redirect.test", "Redirect"),
        host("route", "route.test", "Route"),
        host("reject", "reject.test", "Reject"),
        mapping("m", "/api/", &service, &[]),
        mapping(
            "acme",
            "/.well-known/acme-challenge/",
            &service,
            &["rewrite: \"\""],
        ),
    ]
    .concat();
    let gateway = Gateway::start(&*manifests).await;
    let to = |location: &str| ("301 Moved Permanently".to_owned(), Some(location.to_owned()));
    let only = |status: &str| (status.to_owned(), None);

    assert_eq!(ask(&gateway, "route.test", "/api/x", "").await, only("200 OK"));
    assert_eq!(
        ask(&gateway, "reject.test", "/api/x", "").await,
        only("404 Not Found")
    );
    assert_eq!(
        ask(&gateway, "redirect.test", "/api/x?y=z", "").await,
        to("https://redirect.test/api/x?y=z")
    );
    // A client cannot talk its way in.
    let claim = "x-forwarded-proto: https\r\n";
    assert_eq!(
        ask(&gateway, "redirect.test", "/api/", claim).await,
        to("https://redirect.test/api/")
    );
    // Only what some Mapping matches is worth a redirect.
    assert_eq!(
        ask(&gateway, "redirect.test", "/other", "").await,
        only("404 Not Found")
    );
    for host in ["redirect.test", "reject.test"] {
        let challenge = ask(&gateway, host, "/.well-known/acme-challenge/token", "").await;
        assert_eq!(challenge, only("200 OK"), "{host}");
    }
    assert_eq!(script.requests().len(), 3);

    let gateway = Gateway::start(format!("{manifests}{}", listener("SECURE", 0))).await;
    for host in ["redirect.test", "reject.test"] {
        assert_eq!(ask(&gateway, host, "/api/", "").await, only("200 OK"), "{host}");
    }
    let gateway = Gateway::start(format!("{manifests}{}", listener("INSECURE", 1))).await;
    assert_eq!(
        ask(&gateway, "redirect.test", "/api/", claim).await,
        to("https://redirect.test/api/")
    );
    let gateway = Gateway::start(format!("{manifests}{}", listener("XFP", 1))).await;
    assert_eq!(
        ask(&gateway, "redirect.test", "/api/", claim).await,
        only("200 OK")
    );
    assert_eq!(
        ask(&gateway, "redirect.test", "/api/", "x-forwarded-proto: http\r\n").await,
        to("https://redirect.test/api/")
    );
    assert_eq!(
        ask(&gateway, "redirect.test", "/api/", "").await,
        to("https://redirect.test/api/")
    );
}

#[tokio::test]
async fn weights_are_roughly_kept() {
    let (few, most) = (Script::answering(OK).await, Script::answering(OK).await);
    let manifests = [
        mapping("few", "/", &few.service(), &["weight: 20"]),
        mapping("most", "/", &most.service(), &[]),
    ];
    let gateway = Gateway::start(manifests.concat()).await;
    let asked = "GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(999)
        + "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = raw(gateway.address, asked).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 1000);
    let (few, most) = (few.requests().len(), most.requests().len());
    assert_eq!(few + most, 1000);
    // Eight standard deviations to either side.
    assert!((100..300).contains(&few), "{few} of 1000 where 200 are due");
}
