//! Envoy beside the gateway, in front of the same upstream: what reaches the upstream of each request.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Result;
use super::files::Files;
use super::servers::{Proxy, envoy_proxy};
use crate::support::client::Client;
use crate::support::program::{Gateway, Running, mapping};
use crate::support::waiting::PATIENCE;
use crate::wire::socket::Script;

/// The two, and their upstream, which answers with the head of each request.
struct Pair {
    envoy: SocketAddr,
    gateway: Gateway,
    _running: (Script, Running, Files),
}

impl Pair {
    async fn start(proxy: Proxy) -> Result<Self> {
        let files = Files::new()?;
        let upstream = Script::each(|request| {
            let head = request.head.trim_end();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{head}", head.len());
            (answer, true)
        })
        .await;
        let (envoy, program) = envoy_proxy(proxy, upstream.upstream.address, &files).await?;
        let manifests = format!(
            "apiVersion: getambassador.io/v3alpha1\nkind: Listener\nmetadata: {{name: l}}\nspec:\n  port: $PORT\n  \
             protocol: HTTP\n  securityModel: XFP\n  l7Depth: {}\n  hostBinding: {{namespace: {{from: ALL}}}}\n\
             ---\napiVersion: getambassador.io/v3alpha1\nkind: Module\nmetadata: {{name: ambassador}}\nspec:\n  \
             config: {{merge_slashes: {}}}\n{}",
            proxy.trusted_hops,
            proxy.merge_slashes,
            mapping("m", "/", &upstream.service(), &["rewrite: \"\""]),
        );
        Ok(Self {
            envoy,
            gateway: Gateway::start(manifests).await,
            _running: (upstream, program, files),
        })
    }
}

/// The status, and the head that reached the upstream where one did.
async fn ask(address: SocketAddr, target: &[u8], headers: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = [
        b"GET ",
        target,
        b" HTTP/1.1\r\nhost: a\r\nconnection: close\r\n",
        headers.as_bytes(),
        b"\r\n",
    ];
    stream.write_all(&request.concat()).await?;
    let mut answer = Vec::new();
    // A reset after the answer is an end as well.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    let status: u16 = head.split(' ').nth(1).unwrap_or_default().parse()?;
    Ok((status, body.to_owned()))
}

/// The path that reached the upstream; a status where none did.
async fn path_through(address: SocketAddr, target: &[u8]) -> Result<String> {
    let (status, head) = ask(address, target, "").await?;
    if status != 200 {
        return Ok(status.to_string());
    }
    let path = head.split(' ').nth(1);
    Ok(path.ok_or("no request line")?.to_owned())
}

/// Where the gateway does something else on purpose.
fn on_purpose(target: &str) -> Option<(&'static str, &'static str)> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let refused = "400";
    Some(match target {
        "/x/%2e%2e;/a" | "/x/.%2e;/a" | "/x/%2E%2E;p=1/a" => (
            "/a",
            "Envoy looks for `..;` before it decodes; servlet containers after",
        ),
        "/x/..;\\a" => (
            "/a",
            "Envoy takes `\\a` for a parameter; the `\\` ends the segment",
        ),
        "http://a?b" => ("/?b", "an empty path is `/` (RFC 9110 section 4.2.3)"),
        "https://a/" => ("/", "a proxy in front may have taken TLS off"),
        "http://u@a/" | "http://u:p@a/x" => (refused, "RFC 9110 section 4.2.4: user information"),
        _ if path.contains(['<', '>', '`']) || query.contains(['<', '>', '"']) => (
            refused,
            "hyper knows no such characters in a URI, nor does RFC 3986",
        ),
        _ => return None,
    })
}

/// Spellings of paths: each byte alone, percent-encoded and not, and what stands in for slashes, dots and ends.
fn spellings() -> Vec<Vec<u8>> {
    let escaped = (0..=255_u8).map(|byte| format!("/x%{byte:02x}y").into_bytes());
    let upper = (0..=255_u8).map(|byte| format!("/x%{byte:02X}y").into_bytes());
    let plain = (0x21..=255_u8).map(|byte| [b"/x", &[byte][..], b"y"].concat());
    let listed = LISTED.iter().map(|text| text.as_bytes().to_vec());
    let raw = [&b"/caf\xc3\xa9"[..], b"/a/\xc0\xae", b"/a?\xff", b"/a\x7f"].map(<[u8]>::to_vec);
    let mut all: Vec<_> = escaped
        .chain(upper)
        .chain(plain)
        .chain(listed)
        .chain(raw)
        .collect();
    all.sort();
    all.dedup();
    all
}

#[tokio::test]
async fn paths_reach_the_upstream_as_behind_envoy() -> Result {
    let pair = Pair::start(Proxy::default()).await?;
    let all = spellings();
    assert!(all.len() >= 200, "{} spellings", all.len());
    let mut wrong = Vec::new();
    for target in all {
        let envoy = path_through(pair.envoy, &target).await?;
        let ours = path_through(pair.gateway.address, &target).await?;
        let text = String::from_utf8_lossy(&target).into_owned();
        match on_purpose(&text) {
            None if envoy == ours => {}
            None => wrong.push(format!("{text}: Envoy {envoy}, nuncio {ours}")),
            Some((expected, why)) if expected != ours || envoy == ours => {
                wrong.push(format!(
                    "{text}: Envoy {envoy}, nuncio {ours}, not {expected} ({why})"
                ));
            }
            Some(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn merged_slashes_reach_the_upstream_as_behind_envoy() -> Result {
    let pair = Pair::start(Proxy {
        merge_slashes: true,
        ..Proxy::default()
    })
    .await?;
    for target in LISTED.iter().filter(|target| target.contains("//")) {
        if on_purpose(target).is_some() {
            continue;
        }
        let envoy = path_through(pair.envoy, target.as_bytes()).await?;
        let ours = path_through(pair.gateway.address, target.as_bytes()).await?;
        // Envoy leaves two slashes where there is nothing else.
        let expected = if envoy == "//" { "/" } else { &envoy };
        assert_eq!(ours, expected, "{target}");
    }
    Ok(())
}

#[tokio::test]
async fn http2_has_the_paths_of_http1() -> Result {
    let pair = Pair::start(Proxy::default()).await?;
    let mut http2 = Client::http2(pair.gateway.address).await;
    for target in spellings() {
        // What our client can say over HTTP/2, which has no fragments and no other forms of targets.
        let Ok(text) = String::from_utf8(target) else {
            continue;
        };
        let sayable = text.starts_with('/') && !text.contains('#');
        if !sayable || http::uri::PathAndQuery::try_from(&*text).is_err() {
            continue;
        }
        let ours = path_through(pair.gateway.address, text.as_bytes()).await?;
        let answer = http2.get("a", &text).await;
        let path = match answer.status.as_u16() {
            200 => answer
                .text()
                .split(' ')
                .nth(1)
                .ok_or("no request line")?
                .to_owned(),
            status => status.to_string(),
        };
        assert_eq!(path, ours, "{text}");
    }
    Ok(())
}

/// Headers that a client may send, and that a proxy on the way may believe.
const HEADERS: &[&str] = &[
    "forwarded",
    "traceparent",
    "via",
    "x-b3-traceid",
    "x-client-trace-id",
    "x-envoy-attempt-count",
    "x-envoy-auth-partial-body",
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-external-address",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-is-timeout-retry",
    "x-envoy-max-retries",
    "x-envoy-original-dst-host",
    "x-envoy-original-path",
    "x-envoy-original-url",
    "x-envoy-overloaded",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-service-time",
    "x-envoy-upstream-stream-duration-ms",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-nuncio-reason",
    "x-real-ip",
    "x-request-id",
];

/// Those that the gateway takes off beside the ones that Envoy does.
const OURS_ALONE: &[&str] = &[
    // Envoy's router writes these two for the upstream, and Envoy's filter for an AuthService the third.
    "x-envoy-attempt-count",
    "x-envoy-is-timeout-retry",
    "x-envoy-auth-partial-body",
    // Envoy does not know it.
    "x-nuncio-reason",
];

#[tokio::test]
async fn a_client_says_no_more_than_behind_envoy() -> Result {
    let value = |name: &str| match name {
        "x-forwarded-for" => "198.51.100.7",
        "x-forwarded-proto" => "https",
        "x-forwarded-port" => "7",
        _ => "forged",
    };
    let headers: String = HEADERS
        .iter()
        .map(|name| format!("{name}: {}\r\n", value(name)))
        .collect();
    for trusted_hops in [0, 1] {
        let pair = Pair::start(Proxy {
            trusted_hops,
            ..Proxy::default()
        })
        .await?;
        let (_, behind_envoy) = ask(pair.envoy, b"/", &headers).await?;
        let (_, behind_us) = ask(pair.gateway.address, b"/", &headers).await?;
        for name in HEADERS {
            let line = format!("{name}: {}", value(name));
            let keeps = |head: &str| head.lines().any(|found| found == line);
            let expected = keeps(&behind_envoy) && !OURS_ALONE.contains(name);
            assert_eq!(
                keeps(&behind_us),
                expected,
                "{line}\n{behind_envoy}\n\n{behind_us}"
            );
        }
        for name in ["x-envoy-external-address", "x-forwarded-proto"] {
            let find = |head: &str| {
                head.lines()
                    .find(|line| line.starts_with(name))
                    .map(str::to_owned)
            };
            assert_eq!(find(&behind_us), find(&behind_envoy), "{trusted_hops} hops");
        }
    }
    Ok(())
}

#[rustfmt::skip]
const LISTED: &[&str] = &[
    "/", "/admin", "/a/b", "/a/b/", "/a//b", "//a", "//", "///", "/.", "/..", "/./", "/../", "/a/.",
    "/a/..", "/a/./b", "/a/../b", "/a/b/..", "/a/b/../", "/a/../../b", "/../a", "/../../..", "/...",
    "/a/...", "/a/.../b", "/.hidden", "/a/.b", "/a/..b", "/a/b.", "/a/b..", "/a..b/c", "/.a/..b",
    "/a//../b", "/a/b//..", "/a/..//b", "//../a", "/a/./../b", "/./a", "/.//a", "/a/.//b", "/%2e",
    "/%2E", "/%2e%2e", "/%2E%2E/a", "/.%2e/a", "/%2e./a", "/a/%2e/b", "/a/%2e%2e/b", "/a/%2E%2e/b",
    "/a/%2e%2e", "/a/.%2e", "/a/%2e.", "/a/%2e", "/%2e%2e%2e", "/a/%2e%2e%2fb", "/a%2f..%2fb",
    "/a/..%2fb", "/a/%2e%2e%5cb", "/a/..%5cb", "/%2Fx", "\\x", "/\\x", "/\\\\x", "/a\\..\\b",
    "/a\\.\\b", "/a/\\b", "/a\\/b", "/a\\", "/..\\a", "/a/..\\b", "/a\\..", "/a\\%2e%2e\\b",
    "/x/..;/a", "/..;/a", "/x/..;", "/x/.;/a", "/x/..;jsessionid=1/a", "/x/;/a", "/x;a=b/../c",
    "/x/..;a/../b", "/x/..;\\a", "/x/%2e%2e;/a", "/x/..%3b/a", "/x/..%3Ba=1/b", "/x/.;a/b",
    "/x/...;/a", "/;/a", "/x/.%2e;/a", "/;", "/..;", "/.;", "/a;b", "/a;/b", "/x/;../a",
    "/x/..;;/a", "/x/..;..;/a", "/%2e%2e%3b/a", "/x/..;/..;/a", "/x//..;/a", "/x/.;",
    "/x/y/..;/..;a/z", "/%", "/%1", "/%zz", "/%2", "/a%", "/a%4", "/%%", "/%%41", "/%4%31", "/%a",
    "/a%g1b", "/%1g", "/%u0041", "/%%35%63", "/%2%65", "/%2%45%2e", "/%%32%65", "/%25%32%65",
    "/%2e%", "/%7", "/a/%2e%/b", "/%252e", "/%252e%252e/a", "/%255c", "/%252f", "/%25252e",
    "/x/%252e%252e/y", "/%2500", "/%25", "/%2525", "/%2541", "/%61", "/%41", "/%7e", "/%7E", "/%2d",
    "/%5f", "/%30", "/%61dmin", "/admi%6e", "/%61%64%6d%69%6e", "/x/../%61dmin",
    "/x/%2e%2e/%61dmin", "/caf%C3%A9", "/caf%c3%a9", "/%C0%AE", "/%c0%ae%c0%ae/", "/%E2%80%AE",
    "/%ff", "/%e9", "/a%00b", "/%00", "/a/%00", "/a?%00", "/a?x=%00", "/a%2500", "/%00/../a",
    "/a#b", "/#", "/a#", "/a?b#c", "/a?#", "/a%23b", "/a?b=%23", "/a/..#/b", "#", "#a", "/a?b",
    "/a?", "/?", "/?a", "/a?b?c", "/a?../b", "/a/../b?c/../d", "/a?%61", "/a?%2e%2e", "/a?b\\c",
    "/a?;", "/..?a", "/a/..?", "/a/%2e%2e?x=%2e", "/a//b?c//d", "/a?b=c&d=e", "/a?%zz", "/a?%20x",
    "/?/../a", "/a?\"", "/a?<>", "/a?`{}|^", "*", "a", "a/b", "?a", "?", ".", "..", "../a", "%2fa",
    "%2e", "%61", "http://a/", "http://a", "http://a/b", "http://a?b", "http://a/%61",
    "http://a/x/../y", "http://a/x/..;/y", "http://a/x#y", "http://a#y", "https://a/", "ftp://a/",
    "ws://a/", "HTTP://a/", "http://A/", "http://b/", "http:///a", "http:a", "http:/a",
    "http://a:80/", "http://u@a/", "http://u:p@a/x", "http://a\\b", "http://a/\\b", "//a/b", "a:80",
    "a:443", "//a@b/", "file:///etc", "javascript:1", "http://a//b", "http://a/..", "http://[::1]/",
    "http://a:b/", "http://a%20b/", "mailto:x", "unix:/x", "://a/", "/x/%2E%2E;p=1/a",
];
