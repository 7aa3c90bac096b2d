//! curl and h2load as clients of the gateway.

use std::net::SocketAddr;

use serde_json::Value;

use crate::Result;
use crate::curl::{curl, run};
use crate::files::Files;
use crate::gateway::{Gateway, Spec};
use crate::process::Process;
use crate::servers::{self, Kind, Setup};
use crate::upstreams::verified;

/// Our own test upstream, which tells what came in; the client is what is foreign here.
struct Echo {
    address: SocketAddr,
    _process: Process,
}

fn echo(files: &Files, alpn: &str) -> Result<Echo> {
    let (chain, key) = (files.path("server.pem"), files.path("server.key"));
    let arguments = [
        "echo",
        "--listen",
        "127.0.0.1:0",
        "--tls-cert",
        &chain,
        "--tls-key",
        &key,
        "--alpn",
        alpn,
    ];
    let mut process = Process::start(env!("CARGO_BIN_EXE_nuncio"), &arguments, &[])?;
    let address = process.wait_for("line with its address", |text| {
        text.split_whitespace()
            .map(|word| {
                word.trim_start_matches("https://")
                    .trim_end_matches(['/', '.', ','])
            })
            .find_map(|word| word.parse().ok())
    })?;
    Ok(Echo {
        address,
        _process: process,
    })
}

fn gateway(files: &Files, upstream: SocketAddr, alpn: &str, mapping: &str) -> Result<Gateway> {
    let tls = verified(files) + &format!("alpn_protocols: {alpn}\n");
    Gateway::start(files, upstream, Spec { tls: &tls, mapping })
}

/// A file of five million bytes: more than any buffer on the way.
fn large_file(files: &Files) -> Result<(String, usize)> {
    let content = "0123456789".repeat(500_000);
    Ok((
        files.write("upload", &content)?.display().to_string(),
        content.len(),
    ))
}

#[test]
fn curl_speaks_http_1_1_and_http_2_with_prior_knowledge() -> Result {
    let files = Files::new()?;
    let echo = echo(&files, "http/1.1")?;
    let gateway = gateway(&files, echo.address, "http/1.1", "")?;
    for (flag, version) in [("--http1.1", "HTTP/1.1"), ("--http2-prior-knowledge", "HTTP/2")] {
        let answer = curl(&[flag, "--header", "x-asked: yes", &gateway.url("/some/path?q=1")])?;
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

#[test]
fn p10_curl_is_told_to_continue_before_a_large_upload() -> Result {
    let files = Files::new()?;
    let (path, length) = large_file(&files)?;
    for alpn in ["http/1.1", "h2"] {
        let echo = echo(&files, alpn)?;
        let gateway = gateway(&files, echo.address, alpn, "")?;
        let url = gateway.url("/upload");
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

#[test]
fn curl_gets_a_large_answer_whole() -> Result {
    let files = Files::new()?;
    for alpn in ["http/1.1", "h2"] {
        let echo = echo(&files, alpn)?;
        let gateway = gateway(&files, echo.address, alpn, "")?;
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let answer = curl(&[version, &gateway.url("/bytes/5000000")])?;
            assert_eq!(
                (answer.status, answer.body.len()),
                (200, 5_000_000),
                "{version} to {alpn}"
            );
        }
    }
    Ok(())
}

#[test]
fn p9_curl_upgrades_to_websocket() -> Result {
    let files = Files::new()?;
    let echo = echo(&files, "h2,http/1.1")?;
    let gateway = gateway(&files, echo.address, "h2, http/1.1", "allow_upgrade: [websocket]")?;
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
            &gateway.url("/socket"),
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
fn loads(kind: Kind, upstream_h2: bool, client: &[&str]) -> Result {
    let files = Files::new()?;
    let setup = Setup {
        h2: upstream_h2,
        close: false,
        ..Setup::default()
    };
    let server = servers::start(kind, setup, &files)?;
    let alpn = if upstream_h2 { "h2" } else { "http/1.1" };
    let gateway = gateway(&files, server.address, alpn, "")?;

    let url = gateway.url("/");
    let output = run(
        "h2load",
        &[&["-n", "2000", "-c", "20", "-T", "30"], client, &[&url]].concat(),
    )?;
    let whole = "2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout";
    assert!(output.contains(whole), "{output}");
    assert!(output.contains("2000 2xx"), "{output}");
    let handshakes = gateway.counter("nuncio_upstream_handshakes_total", &[])?;
    assert!(
        handshakes <= 200.0,
        "connections are kept: {handshakes} handshakes for 2,000 requests"
    );
    Ok(())
}

#[test]
fn h2load_gets_every_answer_over_http_1_1() -> Result {
    loads(Kind::Nginx, false, &["--h1"])
}

#[test]
fn h2load_gets_every_answer_over_http_2() -> Result {
    loads(Kind::Haproxy, false, &["-m", "10"])
}

#[test]
fn h2load_gets_every_answer_from_an_h2_upstream() -> Result {
    loads(Kind::Envoy, true, &["-m", "10"])
}

#[test]
fn h2load_gets_every_answer_from_an_h2_upstream_over_http_1_1() -> Result {
    loads(Kind::Caddy, true, &["--h1"])
}
