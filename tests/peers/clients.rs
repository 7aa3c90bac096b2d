//! curl and h2load as clients of the gateway.

use std::net::SocketAddr;

use serde_json::Value;

use super::Result;
use super::files::Files;
use super::foreign::{curl, run};
use super::gateway::{handshakes, in_front_of, url};
use super::servers::{self, Kind, Setup};
use super::upstreams::verified;
use crate::support::program::Gateway;
use crate::support::program::{Running, nuncio};

/// Our own test upstream, which tells what came in; the client is what is foreign here.
async fn echo(files: &Files, alpn: &str) -> (SocketAddr, Running) {
    let (chain, key) = (files.path("server.pem"), files.path("server.key"));
    let listen = ["echo", "--listen", "127.0.0.1:0"];
    let mut program = Running::start(nuncio(
        [
            &listen[..],
            &["--tls-cert", &chain, "--tls-key", &key, "--alpn", alpn],
        ]
        .concat(),
    ));
    let address = program.printed("address of the echo", address).await;
    (address, program)
}

/// The address in a line such as `listening on https://127.0.0.1:8443`.
fn address(line: &str) -> Option<SocketAddr> {
    line.split_whitespace().find_map(|word| {
        word.trim_start_matches("https://")
            .trim_end_matches('/')
            .parse()
            .ok()
    })
}

async fn gateway(files: &Files, upstream: SocketAddr, alpn: &str, more: &[&str]) -> Gateway {
    let [ca, mode] = verified(files);
    in_front_of(upstream, &[&ca, &mode, &format!("alpn_protocols: {alpn}")], more).await
}

/// A file of five million bytes: more than any buffer on the way.
fn large_file(files: &Files) -> Result<(String, usize)> {
    let content = "0123456789".repeat(500_000);
    Ok((files.write("upload", &content)?, content.len()))
}

#[tokio::test]
async fn curl_speaks_http_1_1_and_http_2_with_prior_knowledge() -> Result {
    let files = Files::new()?;
    let (upstream, _echo) = echo(&files, "http/1.1").await;
    let gateway = gateway(&files, upstream, "http/1.1", &[]).await;
    for (flag, version) in [("--http1.1", "HTTP/1.1"), ("--http2-prior-knowledge", "HTTP/2")] {
        let answer = curl(&[flag, "--header", "x-asked: yes", &url(&gateway, "/some/path?q=1")])?;
        assert_eq!(
            (answer.status, answer.version.as_str()),
            (200, version),
            "{answer:?}"
        );
        let seen: Value = serde_json::from_str(&answer.body)?;
        assert_eq!(seen["path"], "/some/path?q=1", "{seen:#}");
        assert_eq!(seen["headers"]["x-asked"][0], "yes", "{seen:#}");
        assert_eq!(seen["http_version"], "HTTP/1.1", "{seen:#}");
    }
    Ok(())
}

#[tokio::test]
async fn p10_curl_is_told_to_continue_before_a_large_upload() -> Result {
    let files = Files::new()?;
    let (path, length) = large_file(&files)?;
    for alpn in ["http/1.1", "h2"] {
        let (upstream, _echo) = echo(&files, alpn).await;
        let gateway = gateway(&files, upstream, alpn, &[]).await;
        let url = url(&gateway, "/upload");
        let upload = [
            "--expect100-timeout",
            "20",
            "--header",
            "Expect: 100-continue",
            "--upload-file",
            &path,
        ];
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let answer = curl(&[&upload[..], &[version, &url]].concat())?;
            assert_eq!(answer.status, 200, "{version} to {alpn}: {answer:?}");
            let seen: Value = serde_json::from_str(&answer.body)?;
            assert_eq!(seen["body_bytes"], length, "{version} to {alpn}: {seen:#}");
            assert_eq!(seen["method"], "PUT");
            if version == "--http1.1" {
                assert_eq!(answer.interim, [100], "{version} to {alpn}: {answer:?}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn curl_gets_a_large_answer_whole() -> Result {
    let files = Files::new()?;
    for alpn in ["http/1.1", "h2"] {
        let (upstream, _echo) = echo(&files, alpn).await;
        let gateway = gateway(&files, upstream, alpn, &[]).await;
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let answer = curl(&[version, &url(&gateway, "/bytes/5000000")])?;
            assert_eq!(
                (answer.status, answer.body.len()),
                (200, 5_000_000),
                "{version} to {alpn}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn p9_curl_upgrades_to_websocket() -> Result {
    let files = Files::new()?;
    let (upstream, _echo) = echo(&files, "h2,http/1.1").await;
    let gateway = gateway(&files, upstream, "h2, http/1.1", &["allow_upgrade: [websocket]"]).await;
    let headers = files.path("headers");
    // curl 7 does not speak WebSocket: it waits for the end of a body, which never comes, and ends with 28.
    let outcome = run(
        "curl",
        &[
            "--silent",
            "--http1.1",
            "--max-time",
            "2",
            "--dump-header",
            &headers,
            "--output",
            "/dev/null",
            "--header",
            "Connection: Upgrade",
            "--header",
            "Upgrade: websocket",
            "--header",
            "Sec-WebSocket-Version: 13",
            "--header",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            &url(&gateway, "/socket"),
        ],
    );
    let head = std::fs::read_to_string(&headers)?.to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head} {outcome:?}");
    assert!(head.contains("upgrade: websocket"), "{head}");
    // RFC 6455, section 1.3: the answer to this very key.
    assert!(
        head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{head}"
    );
    Ok(())
}

/// 2,000 requests by h2load: none may fail.
async fn loads(kind: Kind, upstream_h2: bool, client: &[&str]) -> Result {
    let files = Files::new()?;
    let setup = Setup {
        h2: upstream_h2,
        close: false,
        ..Setup::default()
    };
    let server = servers::start(kind, setup, &files).await?;
    let alpn = if upstream_h2 { "h2" } else { "http/1.1" };
    let gateway = gateway(&files, server.address, alpn, &[]).await;

    let url = url(&gateway, "/");
    let output = run(
        "h2load",
        &[&["-n", "2000", "-c", "20", "-T", "30"], client, &[&url]].concat(),
    )?;
    let whole = "2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout";
    assert!(output.contains(whole), "{output}");
    assert!(output.contains("2000 2xx"), "{output}");
    let handshakes = handshakes(&gateway, "").await?;
    assert!(
        handshakes <= 200.0,
        "connections are kept: {handshakes} handshakes for 2,000 requests"
    );
    Ok(())
}

#[tokio::test]
async fn h2load_gets_every_answer_over_http_1_1() -> Result {
    loads(Kind::Nginx, false, &["--h1"]).await
}

#[tokio::test]
async fn h2load_gets_every_answer_over_http_2() -> Result {
    loads(Kind::Haproxy, false, &["-m", "10"]).await
}

#[tokio::test]
async fn h2load_gets_every_answer_from_an_h2_upstream() -> Result {
    loads(Kind::Envoy, true, &["-m", "10"]).await
}

#[tokio::test]
async fn h2load_gets_every_answer_from_an_h2_upstream_over_http_1_1() -> Result {
    loads(Kind::Caddy, true, &["--h1"]).await
}
